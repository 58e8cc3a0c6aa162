"""The gateway from the daemon's side: what it is started with, the routing table it reads, and what it reports."""

from __future__ import annotations

import asyncio
import http.client
import socket
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Row, select

from appliance.api.types import UnitView
from appliance.daemon.supervisor import UnitSpec
from appliance.gateway.state import GatewayState
from appliance.gateway.table import KeyEntry, Limits, Listen, Route, RoutingTable, encode_table, write_table
from appliance.kernel.canonical import sha256_hex
from appliance.kernel.clock import from_text
from appliance.kernel.paths import StatePaths
from appliance.services.context import Appliance, Context
from appliance.services.serving_options import options_of
from appliance.store.schema import api_keys, deployments, models, revisions

_TIMEOUT = 2.0


def gateway_spec(appliance: Appliance) -> UnitSpec:
    """Return how the gateway is run."""

    async def is_ready() -> bool:
        return await asyncio.to_thread(gateway_state, appliance.paths) is not None

    return UnitSpec(
        name="gateway",
        argv=(sys.executable, "-I", "-m", "appliance.gateway.main", "--state", str(appliance.paths.root)),
        is_ready=is_ready,
    )


def gateway_view(paths: StatePaths) -> UnitView:
    """Return the gateway that systemd runs, as far as its private socket tells."""
    state = gateway_state(paths)
    if state is None:
        return UnitView(name="gateway", state="down", detail="its private socket does not answer", since="")
    return UnitView(
        name="gateway",
        state="draining" if state.draining else "ready",
        pid=state.pid,
        since=state.since,
        memory_bytes=state.memory_bytes,
    )


def link_gateway_socket(paths: StatePaths, target: Path) -> None:
    """Let the state's own name of the gateway's private socket lead to where that really is. Raises OSError."""
    link = paths.gateway_socket
    if link.is_symlink() and link.readlink() == target:
        return
    temporary = link.with_name(f".{link.name}.new")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(link)


def publish_table(ctx: Context, parked: Mapping[int, str] | None = None) -> None:
    """Write the routing table if it differs from the one on disk. `parked`: see `build_table`."""
    path = ctx.appliance.paths.gateway_table
    table = build_table(ctx, parked)
    if not path.exists() or path.read_bytes() != encode_table(table):
        write_table(path, table)


def build_table(ctx: Context, parked: Mapping[int, str] | None = None) -> RoutingTable:
    """Return routes, keys and limits as the database and the settings have them now.

    `parked` are the revisions that are not in memory, each with the obstacle that keeps it out, or nothing.
    """
    parked = parked or {}
    settings, paths = ctx.appliance.settings, ctx.appliance.paths
    with ctx.appliance.database.read() as connection:
        routes = connection.execute(
            select(deployments.c.name, revisions, models.c.name.label("model"), models.c.version, models.c.digest)
            .join(revisions, revisions.c.number == deployments.c.live_revision)
            .join(models, models.c.id == revisions.c.model_id)
            .where(deployments.c.removed_at == "")
        ).all()
        keys = connection.execute(select(api_keys).where(api_keys.c.revoked_at == "").order_by(api_keys.c.id)).all()
    return RoutingTable(
        listen=Listen(
            host=settings.host,
            port=settings.port,
            certificate=settings.tls_file or str(paths.leaf_certificate),
            key=settings.tls_file or str(paths.leaf_key),
            client_authorities=settings.client_authorities,
            client_revocations=settings.client_revocations,
        ),
        limits=Limits(
            body_limit=settings.body_limit,
            concurrency=settings.concurrency,
            key_concurrency=settings.key_concurrency,
            slow_client_timeout=settings.slow_client_timeout,
            drain_timeout=settings.drain_timeout,
            load_timeout=settings.load_timeout,
        ),
        routes={name: route for row in routes for name, route in _routes(paths, row, parked)},
        keys=tuple(
            KeyEntry(
                id=row.id,
                hash=row.hash,
                name=row.name,
                expires_at=_epoch(row.expires_at),
                models=tuple(row.models),
                priority=row.priority,
                share_group=row.share_group,
            )
            for row in keys
        ),
    )


def _routes(paths: StatePaths, row: Row[Any], parked: Mapping[int, str]) -> Iterator[tuple[str, Route]]:
    """Yield the names under which a live revision is asked: its own, and one for each adapter."""
    options = options_of(row)
    plain = Route(
        revision=row.number,
        socket=str(paths.worker_socket(row.number)),
        model_ref=f"{row.model}@{row.version}",
        digest=row.digest,
        created=int(from_text(row.at).timestamp()),
        kind=options.kind,
        categories=options.categories,
        shortens=options.shortens,
        parked=row.number in parked,
        obstacle=parked.get(row.number, ""),
    )
    yield row.deployment, plain
    for label, entry in options.adapters.items():
        named = msgspec.structs.replace(plain, model_ref=entry.ref, digest=entry.digest, adapter=label)
        yield f"{row.deployment}:{label}", named


def gateway_state(paths: StatePaths) -> GatewayState | None:
    """Ask the gateway's private socket; None while nobody answers there."""
    connection = _UnixConnection(paths.gateway_socket)
    try:
        connection.request("GET", "/state")
        return msgspec.json.decode(connection.getresponse().read(), type=GatewayState)
    except (OSError, http.client.HTTPException, msgspec.DecodeError):
        return None
    finally:
        connection.close()


def gateway_holds(paths: StatePaths, revision: int) -> bool:
    """Tell whether requests are, or may yet come, on a revision that the table on disk no longer names."""
    state = gateway_state(paths)
    if state is None:
        return False
    if state.table != sha256_hex(paths.gateway_table.read_bytes()):
        return True
    held = state.revisions.get(str(revision))
    return held is not None and held.active > 0


def _epoch(text: str) -> float | None:
    return from_text(text).timestamp() if text else None


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket, with the standard library alone."""

    def __init__(self, path: Path) -> None:
        super().__init__("gateway", timeout=_TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
