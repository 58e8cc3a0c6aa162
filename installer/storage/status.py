"""The volume at a glance: is it open, what opens it, and what somebody should do about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.kernel.errors import NotFound
from installer.storage import header_backup, journal, tang, tpm
from installer.storage.header import Header, Purpose, Slot, read_header
from installer.storage.keyfiles import KeyFiles
from installer.storage.table import Table, read_table
from installer.storage.volume import Places, Volume


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Something to be done, with a stable code."""

    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """State is one of open, locked, no_device, header_damaged, setup_unfinished."""

    state: str
    table: Table
    header: Header | None
    alerts: tuple[Alert, ...]
    opens: Mapping[int, bool]


def volume_of(table: Table, *, by_uuid: Path = Path("/dev/disk/by-uuid")) -> Volume:
    """Return the volume of the table: by the header's UUID, or where it was when the header is gone."""
    named = by_uuid / table.uuid
    return Volume(device=named if named.exists() else Path(table.device), mount=Path(table.mount), name=table.name)


def look(volume: Volume, places: Places, *, keys: KeyFiles | None = None, swaps: Sequence[str] | None = None) -> Status:
    """Look at the volume. With `keys`, TPM and Tang are asked to open it, which changes nothing."""
    swaps = clear_swaps() if swaps is None else swaps
    table = read_table(places.table)
    if not volume.device.exists():
        return Status(state="no_device", table=table, header=None, alerts=(_absent(table),), opens={})
    try:
        header = read_header(volume.device)
    except NotFound:
        return Status(state="header_damaged", table=table, header=None, alerts=(_damaged(table),), opens={})
    is_open = volume.mapping(places).exists()
    state = ("open" if is_open else "locked") if table.ready else "setup_unfinished"
    opens = {slot.number: _opens(volume, slot, keys) for slot in header.slots if _automatic(slot)} if keys else {}
    alerts = (
        *_alerts_of_state(state, volume),
        *(() if journal.pending(places) else _alerts_of_slots(table, header, opens)),  # half-way, nothing agrees
        *_alerts_of_work(places, header),
        *(Alert(code="swap", message=f"Memory, and keys in it, may reach the disk in clear: {name}") for name in swaps),
    )
    return Status(state=state, table=table, header=header, alerts=tuple(alerts), opens=opens)


def clear_swaps() -> tuple[str, ...]:
    """Return the swap areas that are not encrypted mappings (proc(5), swaps; the mapping's UUID tells its kind)."""
    names = [line.split()[0] for line in Path("/proc/swaps").read_text().splitlines()[1:]]
    return tuple(name for name in names if not _is_encrypted(Path(name).resolve()))


def _is_encrypted(device: Path) -> bool:
    kind = Path("/sys/class/block") / device.name / "dm/uuid"
    return kind.exists() and kind.read_text().startswith("CRYPT-")


def _automatic(slot: Slot) -> bool:
    return slot.purpose in (Purpose.TPM2, Purpose.TANG)


def _opens(volume: Volume, slot: Slot, keys: KeyFiles) -> bool:
    return tpm.opens(volume.device) if slot.purpose is Purpose.TPM2 else tang.opens(volume.device, slot, keys)


def _absent(table: Table) -> Alert:
    return Alert(code="no_device", message=f"The disk {table.device} with volume {table.uuid} is not there.")


def _damaged(table: Table) -> Alert:
    return Alert(
        code="header_damaged",
        message=f"{table.device} has no readable header. Bring it back: intramuros storage restore-header",
    )


def _alerts_of_state(state: str, volume: Volume) -> list[Alert]:
    if state == "locked":
        return [Alert(code="locked", message=f"{volume.mount} is locked. Open it: intramuros storage unlock")]
    if state == "setup_unfinished":
        return [Alert(code="setup_unfinished", message="The set-up did not end. Run the installation again.")]
    return []


def _alerts_of_slots(table: Table, header: Header, opens: Mapping[int, bool]) -> list[Alert]:
    alerts = []
    known = {record.fingerprint for record in table.slots}
    for slot in header.slots:
        if table.ready and slot.purpose is Purpose.BOOTSTRAP:
            alerts.append(Alert(code="bootstrap", message=f"Slot {slot.number} still holds the set-up's key."))
        elif table.ready and slot.fingerprint not in known:
            alerts.append(
                Alert(code="unknown_slot", message=f"Slot {slot.number} ({slot.purpose}) was filled past us.")
            )
    present = {slot.fingerprint for slot in header.slots}
    for record in table.slots:
        if record.fingerprint not in present:
            alerts.append(
                Alert(code="lost_slot", message=f"Slot {record.slot} ({record.purpose}) was emptied past us.")
            )
    if table.ready and not header.of(Purpose.RECOVERY):
        alerts.append(Alert(code="no_recovery", message="No recovery key opens the volume."))
    for number, works in opens.items():
        asked = header.slot(number)
        if asked is not None and not works:
            remedy = "reseal" if asked.purpose is Purpose.TPM2 else "rotate tang"
            text = f"Slot {number} ({asked.purpose}) does not open the volume now: intramuros storage {remedy}"
            alerts.append(Alert(code=f"{asked.purpose}_fails", message=text))
    return alerts + _alerts_of_copies(table, header)


def _alerts_of_copies(table: Table, header: Header) -> list[Alert]:
    if not table.ready:
        return []
    old = header_backup.outdated(table, header)
    alerts = [
        Alert(
            code="old_copy",
            message=f"The copy of the header at {copy.path} opens with keys that were replaced. Destroy it, then: "
            f"intramuros storage backup-header --destroyed {copy.path}",
        )
        for copy in old
    ]
    if len(table.copies) == len(old):
        alerts.append(Alert(code="no_copy", message="No current copy of the header: intramuros storage backup-header"))
    return alerts


def _alerts_of_work(places: Places, header: Header) -> list[Alert]:
    operation = journal.pending(places)
    alerts = []
    if operation is not None:
        text = f"Interrupted on {operation.at[:19]}; run it again: intramuros storage {operation.kind}"
        alerts.append(Alert(code="unfinished", message=text))
    if header.reencrypting and operation is None:
        alerts.append(
            Alert(code="reencrypting", message="A change of the volume key did not end: cryptsetup reencrypt.")
        )
    return alerts
