"""What a service needs: the open appliance, and who is calling. Composed once by the daemon, passed as an argument."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Connection

from appliance.access.roles import Role, may
from appliance.catalog.blobs import BlobStore
from appliance.kernel.clock import Clock
from appliance.kernel.errors import Forbidden
from appliance.kernel.paths import StatePaths
from appliance.kernel.settings import Settings
from appliance.services.audit_trail import AuditTrail
from appliance.store.database import Database


class Doorbell:
    """Wakes whoever reconciles (job runner, deployer) after a change was committed. Rings are merged."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[], None]] = []
        self._lock = threading.Lock()

    def listen(self, wake: Callable[[], None]) -> None:
        """Register a thread-safe callback."""
        with self._lock:
            self._listeners.append(wake)

    def ring(self) -> None:
        """Wake every listener."""
        with self._lock:
            listeners = tuple(self._listeners)
        for wake in listeners:
            wake()


@dataclass(frozen=True, slots=True, kw_only=True)
class Appliance:
    """One open state directory and everything that lives as long as the daemon."""

    paths: StatePaths
    settings: Settings
    database: Database
    blobs: BlobStore
    trail: AuditTrail
    clock: Clock
    instance: str
    started_at: str
    code_digest: str
    doorbell: Doorbell = field(default_factory=Doorbell)
    adopting: threading.Lock = field(default_factory=threading.Lock)
    """Held from the adoption of blobs until rows name them, and while unnamed blobs are deleted. Taken before a
    transaction, never inside one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The Unix user behind a control connection, or a part of the appliance acting by itself."""

    user: str
    uid: int
    roles: frozenset[Role]


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One call: the appliance, the caller, and the campaign that makes it when it is not the caller in person."""

    appliance: Appliance
    caller: Caller
    campaign: str = ""

    def authorise(self, action: str, target: str) -> None:
        """Raise Forbidden, already audited, unless one of the caller's roles allows the action."""
        if may(self.caller.roles, action):
            return
        message = f"{self.caller.user} may not {action} {target}."
        with self.appliance.database.write() as connection:
            self.record(connection, action, target, phase="refused", why="role")
        raise Forbidden("access.role", message, hint="Ask an administrator for a role that may; roles are Unix groups.")

    def record(
        self, connection: Connection, action: str, target: str, *, phase: str = "done", **detail: object
    ) -> None:
        """Append an audit event to the caller's open transaction."""
        self.appliance.trail.append(
            connection, actor=self.caller.user, action=action, target=target, phase=phase, detail=detail
        )

    @property
    def state_root(self) -> Path:
        """The state directory."""
        return self.appliance.paths.root
