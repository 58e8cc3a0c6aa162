"""The growing end of the trail."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.audit.chain import AuditEvent, AuditHead, export_lines, genesis, next_event, sign_checkpoint
from appliance.audit.verify_audit import verify_lines
from appliance.kernel.errors import BadInput
from appliance.kernel.signing_key import SigningKey

KEY = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(32)))
AT = "2026-08-01T10:00:00.000000Z"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def record(head: AuditHead, detail: dict[str, Any], *, phase: str = "intent") -> AuditEvent:
    return next_event(head, at=AT, actor="ada", action="key.create", target="k", phase=phase, detail=detail)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.dictionaries(st.text(), json_values, max_size=3), max_size=5), st.text(max_size=5))
def test_whatever_is_recorded_verifies(details: list[dict[str, Any]], instance: str) -> None:
    head = genesis(instance)
    events = []
    for detail in details:
        event = record(head, detail)
        # Storage hands the detail back through JSON.
        events.append(
            AuditEvent(
                **{name: json.loads(json.dumps(getattr(event, name))) for name in AuditEvent.__dataclass_fields__}
            )
        )
        head = event.head
    lines = export_lines(
        instance=instance,
        public_key=KEY.public_bytes,
        exported_at=AT,
        events=events,
        checkpoints=[sign_checkpoint(KEY, instance, head, AT)],
    )
    verdict = verify_lines(lines, public_key=KEY.public_bytes)
    assert verdict.ok, verdict.problem
    assert (verdict.events, verdict.unsigned) == (len(details), 0)


def test_detail_is_what_a_reader_of_the_store_will_get() -> None:
    event = record(genesis("i"), {"files": (1, 2), "map": {2: "b", 10: "a"}})
    assert event.detail == {"files": [1, 2], "map": {"2": "b", "10": "a"}}
    again = record(genesis("i"), event.detail)
    assert again.hash == event.hash


@pytest.mark.parametrize("detail", [{"x": float("nan")}, {"x": object()}, {"x": "\ud800"}, {1: "a", "1": "b"}])
def test_what_has_no_canonical_form_is_refused(detail: dict[str, Any]) -> None:
    with pytest.raises(BadInput) as caught:
        record(genesis("i"), detail)
    assert caught.value.code == "audit.not_recordable"


def test_an_unknown_phase_is_refused() -> None:
    with pytest.raises(BadInput):
        record(genesis("i"), {}, phase="maybe")


def test_the_same_facts_after_another_head_have_another_hash() -> None:
    first = record(genesis("i"), {})
    assert record(first.head, {}).hash != first.hash
    assert record(genesis("j"), {}).hash != first.hash
