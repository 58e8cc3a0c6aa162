"""The growing end of the audit trail, as pure functions: head + facts -> event, head + key -> checkpoint.

Storage belongs to the caller: it must append an event and move the head in one transaction. How things are hashed
and signed is defined in `verify_audit` alone, so what is written here verifies there.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from appliance.audit import verify_audit
from appliance.kernel.errors import BadInput
from appliance.kernel.signing_key import SigningKey


class Phase(StrEnum):
    """Where in its life the recorded action is."""

    INTENT = "intent"
    DONE = "done"
    FAILED = "failed"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditHead:
    """The newest event's number and hash; (0, genesis) before the first."""

    seq: int
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """One link. `at` is RFC 3339 text in UTC; `detail` is a JSON object without prompts, answers or keys."""

    seq: int
    at: str
    actor: str
    action: str
    target: str
    phase: str
    detail: dict[str, Any]
    prev: str
    hash: str

    @property
    def head(self) -> AuditHead:
        """The head once this event is stored."""
        return AuditHead(seq=self.seq, hash=self.hash)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A signature (base64) over a head, which vouches for every event up to it."""

    seq: int
    hash: str
    at: str
    key_id: str
    signature: str


def genesis(instance: str) -> AuditHead:
    """Return the head of an empty trail."""
    return AuditHead(seq=0, hash=verify_audit.genesis_hash(instance))


def next_event(
    head: AuditHead, *, at: str, actor: str, action: str, target: str, phase: str, detail: Mapping[str, Any]
) -> AuditEvent:
    """Return the event that follows `head`. Raises BadInput when the fields have no canonical JSON."""
    try:
        fields: dict[str, Any] = {
            "seq": head.seq + 1,
            "at": at,
            "actor": actor,
            "action": action,
            "target": target,
            "phase": Phase(phase).value,
            # Encoded once and parsed back, so that what is hashed is what any later reader gets from storage.
            "detail": json.loads(verify_audit.canonical(dict(detail))),
            "prev": head.hash,
        }
        return AuditEvent(**fields, hash=verify_audit.event_hash(fields))
    except (ValueError, TypeError, RecursionError) as error:
        raise BadInput("audit.not_recordable", f"The event {action!r} cannot be recorded: {error}.") from error


def sign_checkpoint(key: SigningKey, instance: str, head: AuditHead, at: str) -> Checkpoint:
    """Return a signed checkpoint of `head`."""
    message = verify_audit.checkpoint_message(instance=instance, seq=head.seq, hash=head.hash, at=at)
    signature = base64.b64encode(key.sign(message)).decode("ascii")
    return Checkpoint(seq=head.seq, hash=head.hash, at=at, key_id=key.key_id, signature=signature)


def export_lines(
    *,
    instance: str,
    public_key: bytes,
    exported_at: str,
    events: Iterable[AuditEvent],
    checkpoints: Iterable[Checkpoint],
) -> Iterator[str]:
    """Yield the export, one line (with its newline) at a time. Events and checkpoints come in order of `seq`.

    A checkpoint whose event is not among `events` is yielded at the end, where verification reports it.
    """
    header = {
        "format": verify_audit.FORMAT,
        "instance": instance,
        "public_key": base64.b64encode(public_key).decode("ascii"),
        "exported_at": exported_at,
    }
    yield _line(header)
    waiting = iter(checkpoints)
    checkpoint = next(waiting, None)
    for event in events:
        while checkpoint is not None and checkpoint.seq < event.seq:
            yield _checkpoint_line(checkpoint)
            checkpoint = next(waiting, None)
        yield _event_line(event)
    while checkpoint is not None:
        yield _checkpoint_line(checkpoint)
        checkpoint = next(waiting, None)


def _event_line(event: AuditEvent) -> str:
    return _line({name: getattr(event, name) for name in AuditEvent.__dataclass_fields__})


def _checkpoint_line(checkpoint: Checkpoint) -> str:
    return _line({"checkpoint": {name: getattr(checkpoint, name) for name in Checkpoint.__dataclass_fields__}})


def _line(document: dict[str, Any]) -> str:
    return verify_audit.canonical(document).decode("utf-8") + "\n"
