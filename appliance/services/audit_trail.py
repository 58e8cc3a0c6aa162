"""Writes the audit trail: each event hash-chained to the last inside the caller's own transaction.

An acknowledged change and its event are therefore one commit: neither exists without the other. Checkpoints are
signed every `every` events, on request and at shutdown. How hashes and signatures are made is in appliance.audit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from sqlalchemy import Connection, func, insert, select

from appliance.audit.chain import (
    AuditEvent,
    AuditHead,
    Checkpoint,
    export_lines,
    genesis,
    next_event,
    sign_checkpoint,
)
from appliance.kernel.clock import Clock, to_text
from appliance.kernel.signing_key import SigningKey
from appliance.store.database import Database
from appliance.store.schema import audit_checkpoints, audit_events


class AuditTrail:
    """The append-only trail of one appliance."""

    def __init__(self, *, instance: str, key: SigningKey, clock: Clock, every: int) -> None:
        self.instance = instance
        self.key = key
        self._clock = clock
        self._every = every

    def append(
        self,
        connection: Connection,
        *,
        actor: str,
        action: str,
        target: str,
        phase: str,
        detail: Mapping[str, object],
    ) -> None:
        """Add one event to the open write transaction, and a checkpoint when enough have gathered."""
        event = next_event(
            self.head(connection),
            at=to_text(self._clock()),
            actor=actor,
            action=action,
            target=target,
            phase=phase,
            detail=dict(detail),
        )
        connection.execute(insert(audit_events).values(**dataclasses.asdict(event)))
        if event.seq - self._signed(connection) >= self._every:
            self._sign(connection, event.head)

    def sign_head(self, database: Database) -> None:
        """Sign a checkpoint over the newest event unless it is signed already."""
        with database.write() as connection:
            head = self.head(connection)
            if head.seq > self._signed(connection):
                self._sign(connection, head)

    def head(self, connection: Connection) -> AuditHead:
        """Return the newest event's number and hash."""
        row = connection.execute(
            select(audit_events.c.seq, audit_events.c.hash).order_by(audit_events.c.seq.desc()).limit(1)
        ).first()
        return AuditHead(seq=row.seq, hash=row.hash) if row else genesis(self.instance)

    def export(self, connection: Connection) -> list[str]:
        """Return the whole trail as the lines that the stand-alone verifier reads."""
        events = connection.execute(select(audit_events).order_by(audit_events.c.seq)).mappings()
        signed = connection.execute(select(audit_checkpoints).order_by(audit_checkpoints.c.seq)).mappings()
        return list(
            export_lines(
                instance=self.instance,
                public_key=self.key.public_bytes,
                exported_at=to_text(self._clock()),
                events=[AuditEvent(**row) for row in events],
                checkpoints=[Checkpoint(**row) for row in signed],
            )
        )

    def _sign(self, connection: Connection, head: AuditHead) -> None:
        checkpoint = sign_checkpoint(self.key, self.instance, head, to_text(self._clock()))
        connection.execute(insert(audit_checkpoints).values(**dataclasses.asdict(checkpoint)))

    def _signed(self, connection: Connection) -> int:
        return int(connection.execute(select(func.max(audit_checkpoints.c.seq))).scalar() or 0)
