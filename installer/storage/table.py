"""`/etc/intramuros/luks.json`: the volume for people and monitors. What each slot is for, since when, its fingerprint.

Not a secret and not an authority: the header is. A slot that is in one and not in the other was changed past us, and
`status` says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from appliance.kernel.durable import write_file
from appliance.kernel.errors import IntegrityFailure, NotFound, storage_errors
from installer.storage.header import Header
from installer.storage.tang import TangServer


class SlotRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One slot. `since` and `proven` are RFC 3339 in UTC: when it was filled, and when it last opened the volume."""

    slot: int
    purpose: str
    fingerprint: str
    since: str
    proven: str


class HeaderCopy(msgspec.Struct, frozen=True, kw_only=True):
    """A copy of the header that exists somewhere, and the digest of the slots that it opens with."""

    path: str
    at: str
    sha256: str
    slots: str
    volume_key: str


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole table. `ready` is false until a set-up has ended with a proven recovery key."""

    schema: int = 1
    uuid: str
    device: str
    name: str
    mount: str
    ready: bool
    volume_key: str = ""
    slots: tuple[SlotRecord, ...] = ()
    copies: tuple[HeaderCopy, ...] = ()
    tang: tuple[TangServer, ...] = ()


def read_table(path: Path) -> Table:
    """Read the table. Raises NotFound (no encrypted volume here) or IntegrityFailure."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Table)
    except FileNotFoundError as error:
        raise NotFound(
            "storage.no_volume",
            "This box has no encrypted data volume.",
            hint='The answers decide that at installation: [storage] mode = "luks".',
        ) from error
    except msgspec.DecodeError as error:
        raise IntegrityFailure("storage.table", f"{path} cannot be read: {error}.") from error


def write_table(path: Path, table: Table) -> None:
    """Replace the table in one step."""
    with storage_errors(f"writing {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, msgspec.json.format(msgspec.json.encode(table), indent=2) + b"\n", mode=0o644)


def recorded(table: Table, header: Header, *, at: str, proven: Sequence[int] = ()) -> Table:
    """Return the table as the header is now; slots that did not change keep their dates. `proven`: numbers of slots."""
    before = {record.fingerprint: record for record in table.slots}
    slots = []
    for slot in header.slots:
        old = before.get(slot.fingerprint)
        slots.append(
            SlotRecord(
                slot=slot.number,
                purpose=slot.purpose.value,
                fingerprint=slot.fingerprint,
                since=old.since if old else at,
                proven=at if slot.number in proven else (old.proven if old else ""),
            )
        )
    return msgspec.structs.replace(table, slots=tuple(slots), volume_key=header.volume_key)
