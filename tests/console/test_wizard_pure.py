"""What the wizard knows without a terminal: its table, its judge, its notes on disk, what it offers and follows."""

from __future__ import annotations

import string
import tomllib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.kernel.errors import BadInput, IntramurosError, StorageFailure
from installer.answer_rules import contradictions
from installer.answers import Answers, check_answers
from installer.events import Failed, Note, PhaseDone, PhaseSkipped, PhaseStarted, Progress, TaskDone
from tests.console.fake_installer import SSH_KEY, FakeInstaller
from tui.install.answer_file import asked_fields, document_of, load, save, texts_of, to_toml, value_of
from tui.install.confirm import TypedBack, two_of
from tui.install.fields import NOT_ASKED, Kind, fields, generated_keys, sections
from tui.install.judge import judge
from tui.install.keys import TABLE, at
from tui.install.offers import admin_networks, empty_disks, keys, name_servers
from tui.install.progress import Running, after
from tui.install.real import span
from tui.install.visit import Visit

GOOD = {
    **{key: field.default for key, field in fields().items()},
    "hostname": "box-7",
    "admin.user": "pat",
    "admin.authorized_keys": SSH_KEY,
    "network.admin": "192.0.2.0/24",
}
ADDRESSES = [
    {"addr_info": [{"local": "127.0.0.1", "prefixlen": 8}]},
    {"addr_info": [{"local": "192.0.2.9", "prefixlen": 24}, {"local": "fe80::1", "prefixlen": 64}]},
]


def test_table_has_every_key_of_the_answer_file_once() -> None:
    asked = [field.key for section in sections() for field in section.fields]
    assert len(asked) == len(set(asked))
    assert set(asked) | NOT_ASKED == set(generated_keys())


def test_every_question_explains_itself() -> None:
    for field in fields().values():
        assert field.help.endswith("."), field.key
        assert 0 < len(field.label) <= 18, field.key
        assert field.label[0].isupper() or field.label.startswith("sudo")


def test_defaults_are_right_and_the_judge_is_the_installer() -> None:
    verdict = judge(GOOD)
    assert verdict.faults == {}
    assert verdict.answers == check_answers(document_of(GOOD, asked_fields(GOOD)), name="x")
    assert {doubt.key for doubt in verdict.doubts} >= {"storage.mode", "network.ntp"}


@pytest.mark.parametrize(
    ("key", "text", "told"),
    [
        ("hostname", "a b", "must be letters"),
        ("ssh.port", "99999", "must be a whole number from 1 to 65535"),
        ("ssh.port", "²", "must be a whole number"),
        ("profile", "lax", "must be baseline or strict"),
        ("app.enabled", "maybe", "must be yes or no"),
        ("admin.user", "root", "root is an account of the system"),
        ("network.dns", "192.0.2.1, nonsense", "entry 2: "),
        ("lifeline.probe_from", "10.0.0.1", "lies in no network of network.admin"),
        ("backup.schedule", "a\x01", "control character"),
        ("storage.mount", "/etc", "/etc belongs to the system"),
    ],
)
def test_fault_stands_at_its_field(key: str, text: str, told: str) -> None:
    faults = judge({**GOOD, key: text}).faults
    assert len(faults) == 1
    assert told in next(iter(faults.values()))
    assert key in faults or key == "backup.schedule"


def test_one_bad_field_hides_no_other() -> None:
    texts = {**GOOD, "hostname": "", "network.admin": "10.0.0.1/8", "storage.mode": "luks", "ssh.port": "x"}
    assert set(judge(texts).faults) == {"hostname", "network.admin", "storage.device", "storage.unlock", "ssh.port"}


def test_what_is_not_asked_is_not_answered() -> None:
    texts = {**GOOD, "storage.device": "/dev/vdb", "storage.unlock": "tang", "tls.certificate": "/c.pem"}
    assert judge(texts).faults == {}
    document = document_of(texts, asked_fields(texts))
    assert "device" not in document["storage"]
    assert "certificate" not in document["tls"]


@given(st.dictionaries(st.sampled_from(sorted(fields())), st.text(max_size=40), max_size=8))
def test_judge_survives_anything_and_never_lets_a_contradiction_through(texts: dict[str, str]) -> None:
    verdict = judge({**GOOD, **texts})
    assert (verdict.answers is None) == bool(verdict.faults)
    if verdict.answers is not None:
        assert not contradictions(verdict.answers)


@given(st.dictionaries(st.sampled_from(sorted(fields())), st.text(max_size=60), max_size=8))
def test_what_was_typed_comes_back(texts: dict[str, str]) -> None:
    document = document_of(texts, fields().values())
    back = texts_of(tomllib.loads(to_toml(document).encode(errors="replace").decode()))
    for key in back:
        if fields()[key].kind is Kind.TEXT and not any("\ud800" <= letter <= "\udfff" for letter in texts[key]):
            assert back[key] == texts[key].strip()


def test_draft_is_private_and_survives_its_reader(tmp_path: Path) -> None:
    draft = tmp_path / "wizard" / "draft.toml"
    assert load(draft) is None
    save(draft, {**GOOD, "ssh.port": "ninety"})
    assert draft.stat().st_mode & 0o777 == 0o600
    assert draft.parent.stat().st_mode & 0o777 == 0o700
    back = load(draft)
    assert back is not None
    assert back["ssh.port"] == "ninety"
    assert back["admin.authorized_keys"] == SSH_KEY
    draft.write_text("a = [")
    with pytest.raises(BadInput, match="damaged"):
        load(draft)
    draft.unlink()
    draft.mkdir()
    with pytest.raises(StorageFailure):
        load(draft)


def test_answer_file_is_one_that_the_installer_reads() -> None:
    luks = {
        **GOOD,
        "storage.mode": "luks",
        "storage.device": "/dev/vdb",
        "storage.unlock": "tang, passphrase",
        "network.tang": "192.0.2.8",
        "storage.tang_servers": "http://192.0.2.8:7500 " + "a" * 43,
    }
    text = to_toml(document_of(luks, asked_fields(luks)))
    answers = check_answers(tomllib.loads(text), name="x")
    assert answers.storage.tang_servers[0].url == "http://192.0.2.8:7500"
    assert answers.storage.unlock == ("tang", "passphrase")
    assert answers == judge(luks).answers
    assert texts_of(tomllib.loads(text))["storage.tang_servers"] == luks["storage.tang_servers"]


def test_values_keep_what_they_cannot_be() -> None:
    port = fields()["ssh.port"]
    assert value_of(port, "22") == 22
    assert value_of(port, "99999999999999") == "99999999999999"
    assert value_of(fields()["app.enabled"], "perhaps") == "perhaps"


def test_groups_of_the_key_are_compared_without_case_and_blanks() -> None:
    typed = TypedBack("aaa-bbb-ccc", lambda count: (1, count))
    assert typed.right(" AAA", "c c c")
    assert not typed.right("aaa", "bbb")
    assert not typed.right("", "")
    for _ in range(20):
        first, second = two_of(8)
        assert 1 <= first < second <= 8


def test_progress_adds_up() -> None:
    state = Running()
    for event in (
        PhaseStarted(phase="a", title="First", number=1, phases=2, tasks=3),
        TaskDone(phase="a", role="r", task="t", outcome="changed"),
        TaskDone(phase="a", role="r", task="u", outcome="ok"),
        Progress(phase="a", fraction=0.5, eta_seconds=9.0),
        Progress(phase="a", fraction=0.4),
        PhaseDone(phase="a", seconds=0.2, ok=1, changed=1, skipped=0),
        PhaseSkipped(phase="a", reason="ended before the interruption"),
        PhaseStarted(phase="b", title="Second", number=2, phases=2, tasks=1),
        Failed(phase="b", line="no space"),
        Note(text="told"),
    ):
        state = after(state, event)
    assert [(phase.name, phase.state) for phase in state.phases] == [("a", "done"), ("b", "failed")]
    assert (state.changed, state.fraction, state.told) == (1, 0.5, 6)
    assert state.failed is not None
    state = after(state, PhaseStarted(phase="b", title="Second", number=2, phases=2, tasks=1))
    assert state.failed is None
    for number in range(2000):
        state = after(state, Note(text=str(number)))
    assert len(state.log) == 500


def test_offers_are_read_from_the_systems_own_words() -> None:
    assert admin_networks(ADDRESSES, "") == ("192.0.2.0/24",)
    assert admin_networks(ADDRESSES, "192.0.2.77") == ("192.0.2.0/24", "192.0.2.77/32")
    assert admin_networks(ADDRESSES, "2001:db8::5") == ("2001:db8::5/128",)
    assert admin_networks(None, "") == ()
    assert name_servers("# x\nnameserver 127.0.0.53\nnameserver\nnameserver 192.0.2.1\nsearch a\n") == ("192.0.2.1",)
    assert keys([f"# x\n{SSH_KEY}\ncommand=x {SSH_KEY}\n", f"{SSH_KEY}\n"]) == (SSH_KEY,)
    disks = {
        "blockdevices": [
            {"path": "/dev/vda", "type": "disk", "size": 9, "children": [{}]},
            {"path": "/dev/vdb", "type": "disk", "size": 9, "mountpoints": [None]},
            {"path": "/dev/vdc", "type": "disk", "size": 9, "fstype": "ext4"},
            {"path": "/dev/vdd", "type": "disk", "size": 9, "ro": True},
            {"path": "/dev/vde", "type": "disk", "size": 0},
            {"path": "/dev/zram0", "type": "disk", "size": 9},
            {"path": "/dev/sr0", "type": "rom", "size": 9},
        ]
    }
    assert empty_disks(disks, {"/dev/vdb": "/dev/disk/by-id/data"}) == ("/dev/disk/by-id/data",)
    assert empty_disks(None, {}) == ()


def test_leaving_before_the_first_look_keeps_what_was_typed_before(tmp_path: Path) -> None:
    draft = tmp_path / "draft.toml"
    first = Visit(FakeInstaller(), draft)
    first.look()
    first.set("hostname", "box-9")
    first.save()
    Visit(FakeInstaller(), draft).save()
    again = Visit(FakeInstaller(), draft)
    again.look()
    assert again.texts["hostname"] == "box-9"


def test_damaged_draft_is_looked_at_again(tmp_path: Path) -> None:
    draft = tmp_path / "draft.toml"
    draft.write_text("= [")
    visit = Visit(FakeInstaller(), draft)
    with pytest.raises(IntramurosError):
        visit.look()
    hosts = [visit.machine.host]
    draft.unlink()
    visit.look()
    hosts.append(visit.machine.host)
    assert [bool(host) for host in hosts] == [False, True]  # the checks look again while they know no machine
    visit.set("hostname", "box-9")


def test_certificate_is_for_the_name_that_the_box_gets(tmp_path: Path) -> None:
    fake = FakeInstaller()
    fake.suggestions |= {"hostname": ("debian",), "tls.names": ("debian, 192.0.2.7",)}
    fake.suggestions |= {"lifeline.probe_from": ("192.0.2.77",)}
    visit = Visit(fake, tmp_path / "draft.toml")
    visit.look()
    assert visit.texts["tls.names"] == "debian, 192.0.2.7"
    assert visit.texts["lifeline.probe_from"] == ""  # where the person is when it begins
    for text in ("", "b", "box.example"):
        visit.set("hostname", text)
    assert visit.texts["tls.names"] == "box.example, 192.0.2.7"
    visit.set("tls.names", "models.example")
    visit.set("hostname", "box-8")
    assert visit.texts["tls.names"] == "models.example"


def test_spans_of_systemd() -> None:
    assert span("1h 2min 3.5s") == pytest.approx(3723.5)
    assert span("250ms") == pytest.approx(0.25)
    assert span("infinity\n") == 0.0


def test_no_key_has_two_meanings_and_danger_is_upper_case() -> None:
    for stage in {stage for key in TABLE for stage in key.stages}:
        pressed = [name for key in at(stage) for name in key.keys]
        assert len(pressed) == len(set(pressed)), stage
        for key in at(stage):
            assert key.help.endswith(".")
            if key.danger >= 2:
                assert all(name.isupper() for name in key.keys)
                assert not {name.lower() for name in key.keys} & set(pressed)
        text = sum(len(f"{key.name} {key.label}  ") for key in at(stage) if key.bar)
        assert text <= 78, stage
    assert set(string.ascii_letters) >= {name for key in TABLE for name in key.keys if len(name) == 1}


def test_answers_have_what_the_harmless_ones_stand_for() -> None:
    required = {field.key for field in fields().values() if field.required}
    assert required == {"hostname", "admin.user", "admin.authorized_keys", "network.admin"}
    assert issubclass(Answers, msgspec.Struct)
