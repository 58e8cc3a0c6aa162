"""The operation that has begun and not ended, written down before its first act: a killed command can be gone on with.

One at a time: a lock keeps two commands apart, the record keeps another operation away from one that was interrupted.
What has been done is read from the header, not from here: the record says what was there before.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import msgspec

from appliance.kernel.clock import to_text, utc_now
from appliance.kernel.durable import fsync_directory, write_file
from appliance.kernel.errors import Conflict, IntegrityFailure, Unavailable, storage_errors
from installer.storage.header import Header, Purpose
from installer.storage.volume import Places


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """What was begun, when, and the header's fingerprints before: its slots, those to be replaced, the volume key."""

    kind: str
    at: str
    uuid: str
    slots: tuple[str, ...] = ()
    old: tuple[str, ...] = ()
    purposes: tuple[str, ...] = ()
    volume_key: str = ""


def pending(places: Places) -> Operation | None:
    """Return the interrupted operation, if there is one. Raises IntegrityFailure."""
    try:
        return msgspec.json.decode(places.journal.read_bytes(), type=Operation)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise IntegrityFailure("storage.journal", f"{places.journal} cannot be read: {error}.") from error


def begin(places: Places, kind: str, header: Header, *, replacing: Purpose | None = None) -> Operation:
    """Record that `kind` begins, or return the interrupted one of this kind. Raises Conflict for another."""
    found = pending(places)
    if found is not None and found.uuid == header.uuid:
        if found.kind != kind:
            raise Conflict(
                "storage.unfinished",
                f"An earlier command did not end: {found.kind}, begun {found.at[:19]}.",
                hint=f"Run it again first, it goes on where it stopped: intramuros storage {found.kind}",
            )
        return found
    operation = Operation(
        kind=kind,
        at=to_text(utc_now()),
        uuid=header.uuid,
        slots=tuple(slot.fingerprint for slot in header.slots),
        old=tuple(slot.fingerprint for slot in header.slots if slot.purpose is replacing),
        purposes=tuple(sorted({slot.purpose.value for slot in header.slots})),
        volume_key=header.volume_key,
    )
    record(places, operation)
    return operation


def record(places: Places, operation: Operation) -> None:
    """Write the operation down before its first act."""
    with storage_errors("writing the storage journal"):
        places.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_file(places.journal, msgspec.json.encode(operation), mode=0o600)


def end(places: Places) -> None:
    """Forget the operation: it is complete."""
    with storage_errors("closing the storage journal"), suppress(FileNotFoundError):
        places.journal.unlink()
        fsync_directory(places.state)


@contextmanager
def exclusively(places: Places) -> Iterator[None]:
    """Keep other storage commands out. Raises Unavailable when one is at work."""
    with storage_errors("locking the volume"):
        places.run.mkdir(mode=0o700, parents=True, exist_ok=True)
        stream = (places.run / "lock").open("ab")
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Unavailable("storage.locked", "Another storage command is at work on this box.") from error
        yield
