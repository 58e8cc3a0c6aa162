"""The verifier against every kind of tampering, with trails that the product itself wrote."""

from __future__ import annotations

import ast
import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from appliance.audit import verify_audit
from appliance.audit.chain import (
    AuditEvent,
    AuditHead,
    Checkpoint,
    export_lines,
    genesis,
    next_event,
    sign_checkpoint,
)
from appliance.audit.verify_audit import UnreadableTrail, Verdict, main, read_public_key, verify_lines
from appliance.kernel.canonical import canonical_json
from appliance.kernel.signing_key import SigningKey

INSTANCE = "01J00000000000000000000000"
KEY = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
OTHER_KEY = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33))))
AT = "2026-08-01T10:00:00.000000Z"
DETAILS: list[dict[str, Any]] = [{}, {"model": "tri@3", "é": "\u2028", "loss": 0.25}, {"files": [1, None, True]}]

Shape = tuple[int, frozenset[int]]


def build(
    count: int, signed: frozenset[int] = frozenset(), *, key: SigningKey = KEY, salt: str = ""
) -> tuple[list[AuditEvent], list[Checkpoint]]:
    """Return a trail of `count` events with a checkpoint after each seq in `signed`."""
    head: AuditHead = genesis(INSTANCE)
    events: list[AuditEvent] = []
    checkpoints: list[Checkpoint] = []
    for number in range(1, count + 1):
        event = next_event(
            head,
            at=AT,
            actor=f"user-{number % 3}",
            action="model.promote",
            target=f"tri@{number}{salt}",
            phase="done",
            detail=DETAILS[number % 3],
        )
        head = event.head
        events.append(event)
        if number in signed:
            checkpoints.append(sign_checkpoint(key, INSTANCE, head, AT))
    return events, checkpoints


def lines_of(events: list[AuditEvent], checkpoints: list[Checkpoint], *, key: SigningKey = KEY) -> list[str]:
    return list(
        export_lines(
            instance=INSTANCE,
            public_key=key.public_bytes,
            exported_at=AT,
            events=events,
            checkpoints=checkpoints,
        )
    )


def trail(count: int, *signed: int, salt: str = "") -> list[str]:
    return lines_of(*build(count, frozenset(signed), salt=salt))


def verify(lines: list[str], **options: Any) -> Verdict:
    return verify_lines(lines, public_key=KEY.public_bytes, **options)


def is_checkpoint(line: str) -> bool:
    return line.startswith('{"checkpoint"')


shapes = st.integers(1, 9).flatmap(
    lambda count: st.tuples(st.just(count), st.frozensets(st.integers(1, count), min_size=1, max_size=3))
)


def test_an_untouched_trail_verifies() -> None:
    verdict = verify(trail(7, 3, 5))
    assert verdict.ok
    assert (verdict.events, verdict.checkpoints, verdict.signed_seq, verdict.unsigned) == (7, 2, 5, 2)
    assert verdict.head == build(7)[0][-1].hash
    assert verdict.key_pinned


def test_an_empty_trail_verifies_and_says_that_nothing_is_signed() -> None:
    verdict = verify(trail(0))
    assert verdict.ok
    assert (verdict.events, verdict.head) == (0, genesis(INSTANCE).hash)
    assert "no event is signed" in verify_audit.describe(verdict)


def test_the_rules_are_those_of_the_kernel() -> None:
    value = {"b": [1.5, None, "é\u2028"], "a": {"z": True, "y": "\n"}}
    assert verify_audit.canonical(value) == canonical_json(value)


def test_the_format_is_the_documented_one() -> None:
    """Computed once with hashlib alone: fails when hashing or signing changes, which would orphan every export."""
    header, event, checkpoint = trail(1, 1)
    assert json.loads(header) == {
        "format": "intramuros-audit/1",
        "instance": INSTANCE,
        "public_key": "A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=",
        "exported_at": AT,
    }
    assert json.loads(event)["prev"] == "5af947f7e9d0089a57cae7c3edf14516177ded0eeb8ec5c09c292187fab3fe86"
    assert json.loads(event)["hash"] == "261d371c92da5c09420a9f8594b2b52c138e39701a43c84daf215cda17aff0c9"
    assert json.loads(checkpoint)["checkpoint"]["signature"] == (
        "8JKZf0c4TVwlhlktX8ZwVIxZSC08Wrl1iLDwp87BwW7UkxLiHPzYNgUUdB1sElKVR3h2JVxtFgU4rnkWMH/sCQ=="
    )


@settings(max_examples=150, deadline=None)
@given(shapes, st.data())
def test_changing_any_character_of_an_event_or_checkpoint_is_detected(shape: Shape, data: st.DataObject) -> None:
    lines = trail(shape[0], *shape[1])
    number = data.draw(st.integers(1, len(lines) - 1))
    text = lines[number][:-1]
    position = data.draw(st.integers(0, len(text) - 1))
    replacement = data.draw(st.sampled_from(["", " ", "0", "1", "a", "A", "=", "\\", '"', "é", "\udcff", "{"]))
    assume(replacement != text[position])
    lines[number] = text[:position] + replacement + text[position + 1 :] + "\n"
    verdict = verify(lines)
    assert not verdict.ok
    assert verdict.problem.startswith(f"line {number + 1}: ")


@settings(max_examples=100, deadline=None)
@given(shapes, st.data())
def test_changing_a_field_and_its_own_hash_is_detected(shape: Shape, data: st.DataObject) -> None:
    """The tamperer who knows the rules, but repairs one event only; a later line or signature gives him away."""
    events, checkpoints = build(*shape)
    index = data.draw(st.integers(0, max(shape[1]) - 1))
    old = events[index]
    field = data.draw(st.sampled_from(["at", "actor", "action", "target", "phase", "prev"]))
    fields: dict[str, Any] = {name: getattr(old, name) for name in AuditEvent.__dataclass_fields__}
    fields[field] += "x"
    fields["hash"] = verify_audit.event_hash(fields)
    events[index] = AuditEvent(**fields)
    assert not verify(lines_of(events, checkpoints)).ok


@settings(max_examples=100, deadline=None)
@given(shapes, st.data())
def test_rewriting_consistently_from_any_signed_event_is_detected(shape: Shape, data: st.DataObject) -> None:
    """The tamperer who recomputes every later hash, without the signing key."""
    count, signed = shape
    kept = data.draw(st.integers(0, max(signed) - 1))
    events, checkpoints = build(count, signed)
    head = events[kept - 1].head if kept else genesis(INSTANCE)
    forged: list[AuditEvent] = []
    for event in events[kept:]:
        forged.append(next_event(head, at=AT, actor="nobody", action=event.action, target="x", phase="done", detail={}))
        head = forged[-1].head
    lines = lines_of(events[:kept] + forged, checkpoints)
    assert verify(lines).code == "rewritten"
    own = [sign_checkpoint(OTHER_KEY, INSTANCE, ([*events[:kept], *forged])[c.seq - 1].head, AT) for c in checkpoints]
    assert verify(lines_of(events[:kept] + forged, own)).code in ("key", "rewritten")


@settings(max_examples=100, deadline=None)
@given(shapes, st.data())
def test_removing_any_signed_event_is_detected(shape: Shape, data: st.DataObject) -> None:
    events, checkpoints = build(*shape)
    del events[data.draw(st.integers(0, max(shape[1]) - 1))]
    assert not verify(lines_of(events, checkpoints)).ok


@settings(max_examples=100, deadline=None)
@given(shapes, st.data())
def test_exchanging_any_two_events_is_detected(shape: Shape, data: st.DataObject) -> None:
    lines = trail(shape[0], *shape[1])
    places = [number for number, line in enumerate(lines) if number and not is_checkpoint(line)]
    assume(len(places) > 1)
    first, second = data.draw(st.lists(st.sampled_from(places), min_size=2, max_size=2, unique=True))
    lines[first], lines[second] = lines[second], lines[first]
    assert not verify(lines).ok


@settings(max_examples=100, deadline=None)
@given(shapes, st.data())
def test_inserting_an_event_is_detected(shape: Shape, data: st.DataObject) -> None:
    """Either a copy of an event, or a fresh well-formed one, anywhere before the last signature."""
    lines = trail(shape[0], *shape[1])
    last_checkpoint = max(number for number, line in enumerate(lines) if is_checkpoint(line))
    place = data.draw(st.integers(1, last_checkpoint))
    events = [line for line in lines[1:] if not is_checkpoint(line)]
    before = [json.loads(line) for line in lines[1:place] if not is_checkpoint(line)]
    head = AuditHead(seq=before[-1]["seq"], hash=before[-1]["hash"]) if before else genesis(INSTANCE)
    fresh = next_event(head, at=AT, actor="mallory", action="key.create", target="x", phase="done", detail={})
    fresh_line = lines_of([fresh], [])[1]
    lines.insert(place, data.draw(st.sampled_from([*events, fresh_line])))
    assert not verify(lines).ok


@settings(max_examples=60, deadline=None)
@given(shapes, st.integers(0, 5), st.data())
def test_after_the_last_checkpoint_only_a_cut_or_a_full_rewrite_passes(
    shape: Shape, tail: int, data: st.DataObject
) -> None:
    """States what is promised for the unsigned tail: a hole shows, a shorter tail does not, --after shows both."""
    signed = max(shape[1])
    events, checkpoints = build(signed + tail, frozenset({signed}))
    original = verify(lines_of(events, checkpoints))
    assert (original.ok, original.unsigned) == (True, tail)
    kept = data.draw(st.integers(signed, signed + tail))
    shortened = lines_of(events[:kept], checkpoints)
    assert verify(shortened).ok
    assert verify(shortened).unsigned == kept - signed
    if kept < signed + tail:
        assert verify(shortened, after=original).code == "shorter"
        assert verify(shortened, expect_head=original.head).code == "head"
    if kept + 1 < signed + tail:
        assert verify(lines_of(events[:kept] + events[kept + 1 :], checkpoints)).code == "order"


@pytest.mark.parametrize("removed", [0, 1])
def test_removing_a_checkpoint_hides_nothing_that_a_later_one_signs(removed: int) -> None:
    events, checkpoints = build(4, frozenset({2, 4}))
    del checkpoints[removed]
    verdict = verify(lines_of(events, checkpoints))
    assert verdict.ok
    assert verdict.unsigned == (0 if removed == 0 else 2)


def test_a_cut_that_leaves_the_checkpoint_behind_is_named() -> None:
    events, checkpoints = build(6, frozenset({6}))
    verdict = verify(lines_of(events[:4], checkpoints))
    assert verdict.code == "missing"
    assert "signs event 6, but the trail stops at event 4" in verdict.problem


def test_a_fork_after_the_previous_export_is_detected() -> None:
    previous = verify(trail(5, 2))
    assert verify(trail(8, 2), after=previous).ok
    # The same first two, signed events; the unsigned rest was rewritten consistently.
    events, checkpoints = build(2, frozenset({2}))
    head = events[-1].head
    for _ in range(6):
        events.append(next_event(head, at=AT, actor="x", action="y", target="z", phase="done", detail={}))
        head = events[-1].head
    forked = lines_of(events, checkpoints)
    assert verify(forked).ok
    assert verify(forked, after=previous).code == "forked"


def test_a_full_rewrite_with_the_signing_key_shows_only_against_an_earlier_export() -> None:
    previous = verify(trail(5, 5))
    rewritten = trail(5, 5, salt="'")
    assert verify(rewritten).ok
    assert verify(rewritten, after=previous).code == "forked"
    assert verify(rewritten, expect_head=previous.head).code == "head"


def test_a_broken_or_foreign_previous_export_is_refused() -> None:
    lines = trail(3, 3)
    broken = verify([*lines[:2], lines[3]])
    assert verify(lines, after=broken).code == "previous"
    foreign = [line.replace(INSTANCE, "another") for line in trail(0)]
    assert verify(lines, after=verify(foreign)).code == "instance"


def test_the_key_of_the_previous_export_is_pinned() -> None:
    previous = verify_lines(trail(2, 2))
    other = lines_of(*build(2, frozenset({2}), key=OTHER_KEY), key=OTHER_KEY)
    assert verify_lines(other).ok
    assert verify_lines(other, after=previous).code == "key"


def test_another_signer_is_refused_when_the_key_is_pinned() -> None:
    other = lines_of(*build(3, frozenset({3}), key=OTHER_KEY), key=OTHER_KEY)
    assert verify(other).code == "key"
    verdict = verify_lines(other)
    assert verdict.ok
    assert not verdict.key_pinned
    assert "compare it" in verify_audit.describe(verdict)


def test_a_checkpoint_of_another_instance_is_refused() -> None:
    events, _ = build(2)
    stolen = sign_checkpoint(KEY, "another", events[-1].head, AT)
    assert verify(lines_of(events, [stolen])).code == "signature"


def test_the_time_of_a_checkpoint_is_signed() -> None:
    lines = trail(1, 1)
    lines[2] = lines[2].replace("2026-08-01", "2026-07-01")
    assert verify(lines).code == "signature"


@pytest.mark.parametrize(
    "line",
    [
        '{"a":1,"a":1}',
        "[]",
        "[" * 100_000,
        '{"a":NaN}',
        '{"a":1e999}',
        '{"checkpoint":[]}',
        "",
        '{"checkpoint":{"at":"","hash":"","key_id":"","seq":true,"signature":""}}',
    ],
)
def test_a_malformed_line_is_broken_not_a_crash(line: str) -> None:
    assert verify([*trail(1), line + "\n"]).code == "malformed"


@pytest.mark.parametrize("header", ["", "hello\n", "{}\n", '{"format":"intramuros-audit/1"}\n'])
def test_something_else_is_unreadable(header: str) -> None:
    with pytest.raises(UnreadableTrail):
        verify([header])


def test_another_format_version_is_unreadable() -> None:
    lines = [line.replace("intramuros-audit/1", "intramuros-audit/2") for line in trail(1)]
    with pytest.raises(UnreadableTrail, match="audit/2"):
        verify(lines)


def test_line_endings_of_a_mail_programme_do_no_harm() -> None:
    assert verify([line.replace("\n", "\r\n") for line in trail(3, 3)]).ok


def test_the_key_is_read_from_pem_base64_and_file(tmp_path: Path) -> None:
    pem = tmp_path / "key.pem"
    pem.write_text(KEY.public_pem)
    text = tmp_path / "key.txt"
    text.write_text(KEY.public_base64 + "\n")
    for argument in (str(pem), str(text), KEY.public_base64):
        assert read_public_key(argument) == KEY.public_bytes
    rsa = generate_private_key(65537, 2048).public_key()
    pem.write_bytes(rsa.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    for bad in (str(pem), "c2hvcnQ=", "no-such-file.pem"):
        with pytest.raises(UnreadableTrail):
            read_public_key(bad)


def test_the_command_runs_alone_and_says_ok(tmp_path: Path) -> None:
    """The file is copied out of the package and run isolated: no import of ours can help it."""
    script = tmp_path / "verify_audit.py"
    script.write_text(Path(verify_audit.__file__).read_text())
    export = tmp_path / "trail.jsonl"
    export.write_text("".join(trail(4, 3)))
    done = subprocess.run(
        [sys.executable, "-I", str(script), str(export), "--public-key", KEY.public_base64],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "signs events 1 to 3" in done.stdout
    assert "1 after the last checkpoint: chained, not signed" in done.stdout


def test_exit_statuses_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = trail(4, 4)
    good, cut, other = tmp_path / "good.jsonl", tmp_path / "cut.jsonl", tmp_path / "other.txt"
    good.write_text("".join(lines))
    cut.write_text("".join([*lines[:3], *lines[4:]]))
    other.write_bytes(b"\xff\xfe not ours")
    previous = tmp_path / "previous.jsonl"
    previous.write_text("".join(trail(2, 2)))
    head = build(4)[0][-1].hash
    assert main([str(good), "--json", "--after", str(previous), "--expect-head", head.upper()]) == 0
    assert json.loads(capsys.readouterr().out)["events"] == 4
    assert main([str(cut), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["code"] == "order"
    assert main([str(cut)]) == 1
    assert "event 3 is missing before event 4" in capsys.readouterr().out
    for unreadable in (other, tmp_path / "absent.jsonl"):
        assert main([str(unreadable)]) == 2
        assert "UNREADABLE" in capsys.readouterr().err
    assert main([str(other), "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["code"] == "unreadable"


def test_the_file_is_python_3_9_and_imports_nothing_of_ours() -> None:
    tree = ast.parse(Path(verify_audit.__file__).read_text(), feature_version=(3, 9))
    names = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert names - set(sys.stdlib_module_names) == {"cryptography"}


def test_a_second_spelling_of_a_signature_is_refused() -> None:
    """The last base64 digit of 64 bytes carries four unused bits; ignoring them would admit 16 spellings."""
    lines = trail(1, 1)
    signature = json.loads(lines[2])["checkpoint"]["signature"]
    twin = signature[:-3] + chr(ord(signature[-3]) + 1) + "=="
    assert base64.b64decode(twin) == base64.b64decode(signature)
    lines[2] = lines[2].replace(signature, twin)
    assert verify(lines).code == "signature"
