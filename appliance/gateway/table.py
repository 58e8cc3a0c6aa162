"""The routing table: all the gateway knows of the appliance, one JSON document written by the daemon.

The daemon replaces `paths.gateway_table` in one step and sends SIGHUP; the gateway reads it and never writes it. It
holds addresses and hashes, no secret. Invariant: the gateway always serves from a whole, valid table; a broken
document keeps the old one in force.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from appliance.kernel.durable import write_file
from appliance.kernel.errors import BadInput, NotFound
from appliance.kernel.sharing import shared_mode

TABLE_MODE = 0o600
OBSTACLE_SECONDS = 10.0
"""how long an obstacle stands before the daemon tries again"""

Revision = Annotated[int, msgspec.Meta(ge=1)]


class Listen(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the gateway listens, and the files it proves itself with."""

    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8443
    """0 takes any free port; the one taken is told by `/state`."""
    certificate: str
    """path of the leaf certificate (PEM), followed by the chain if there is one"""
    key: str
    """path of its private key (PEM); the same file where both are replaced in one step"""
    client_authorities: str = ""
    """path of the authorities (PEM) whose certificates clients must show; empty asks for none"""
    client_revocations: str = ""
    """path of their revocation lists (PEM)"""


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one client may take. Sizes are bytes, durations are seconds."""

    body_limit: Annotated[int, msgspec.Meta(ge=1024)] = 1 << 20
    concurrency: Annotated[int, msgspec.Meta(ge=1)] = 64
    key_concurrency: Annotated[int, msgspec.Meta(ge=1)] = 32
    slow_client_timeout: Annotated[float, msgspec.Meta(gt=0)] = 60.0
    drain_timeout: Annotated[float, msgspec.Meta(gt=0)] = 600.0
    """how long streams may go on after SIGTERM"""
    load_timeout: Annotated[float, msgspec.Meta(gt=0)] = 60.0
    """how long a request waits for a model that is being brought into memory"""


class Route(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The revision that new requests for one deployment name go to."""

    revision: Revision
    socket: str
    """path of the engine's Unix socket"""
    model_ref: str
    """`name@version`"""
    digest: str
    """SHA-256 of the model version, hexadecimal"""
    created: int
    """epoch seconds, as `/v1/models` tells it"""
    kind: str = "generate"
    """what the model makes of a text, hence which addresses may use it"""
    categories: dict[str, str] = {}
    """label -> category of `/v1/moderations`; empty when the deployment does not moderate"""
    parked: bool = False
    """not in memory: requests wait until it is, see `Limits.load_timeout`"""
    obstacle: str = ""
    """why it cannot be brought into memory now; requests are refused at once with this"""
    shortens: bool = False
    """whether its vectors keep their meaning when they are cut (`dimensions`)"""
    adapter: str = ""
    """the engine's LoRA adapter that this name means; empty is the model as it is"""


class KeyEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An API key that counts. A revoked key is simply absent."""

    id: str
    hash: str
    """SHA-256 of the secret, hexadecimal"""
    name: str
    expires_at: float | None = None
    """epoch seconds; null never expires"""
    models: tuple[str, ...] = ()
    """deployment names it may use; empty means all"""
    priority: Literal["interactive", "normal", "batch"] = "interactive"
    """class of its requests in an engine's queue"""
    share_group: str = ""
    """keys that name the same group use each other's cached prefixes; empty shares with nobody"""


class RoutingTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole document."""

    listen: Listen
    limits: Limits = Limits()
    routes: dict[str, Route] = {}
    keys: tuple[KeyEntry, ...] = ()


def encode_table(table: RoutingTable) -> bytes:
    """Return the document's bytes: JSON with sorted keys, so that equal tables are equal files."""
    return msgspec.json.format(msgspec.json.encode(table, order="sorted"), indent=2) + b"\n"


def decode_table(data: bytes, *, source: str) -> RoutingTable:
    """Parse a document. Raises BadInput that names `source` and the field at fault."""
    try:
        table = msgspec.json.decode(data, type=RoutingTable)
    except msgspec.DecodeError as error:
        raise BadInput("gateway.table", f"{source} is not a routing table: {error}.") from error
    identifiers = [key.id for key in table.keys]
    if len(set(identifiers)) != len(identifiers):
        raise BadInput("gateway.table", f"{source} names an API key twice.")
    return table


def write_table(path: Path, table: RoutingTable) -> None:
    """Replace the document in one step, readable by its owner alone, or on a box also by the gateway's group.

    Raises OSError.
    """
    write_file(path, encode_table(table), mode=shared_mode(path.parent, private=TABLE_MODE, shared=0o640), exact=True)


def read_table(path: Path) -> RoutingTable:
    """Read and parse the document. Raises NotFound or BadInput."""
    return decode_table(read_document(path), source=str(path))


def read_document(path: Path) -> bytes:
    """Return the document's bytes. Raises NotFound or OSError."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise NotFound(
            "gateway.table_missing",
            f"There is no routing table at {path}.",
            hint="The daemon writes it; start the appliance first.",
        ) from error


def stamp(path: Path) -> tuple[int, int, int] | None:
    """Return what changes whenever the document is replaced (inode, mtime in ns, size); None if unseen."""
    try:
        status = os.stat(path)  # noqa: PTH116 - called every second; Path.stat costs three times as much
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
