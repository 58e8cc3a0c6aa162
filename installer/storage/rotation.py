"""Replacing what opens the volume: passphrase, recovery key, Tang servers' key, TPM seal.

Each follows one pattern: prove the recovery key, write the journal, fill a new slot and prove it, empty the old one,
write the table, take the header's backup anew. Killed anywhere, the same command goes on: the header says how far it
came, the journal what was there before. Only the TPM is emptied first, because it may have one slot at the most.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from appliance.kernel.clock import to_text, utc_now
from appliance.kernel.errors import Forbidden
from installer.storage import header_backup, journal, slots
from installer.storage.header import Purpose, Slot, read_header
from installer.storage.keyfiles import KeyFiles
from installer.storage.proof import RecoveryProof, prove_recovery
from installer.storage.table import read_table, recorded, write_table
from installer.storage.tang import TangServer, add_tang, check_servers
from installer.storage.volume import Places, Volume

_ROTATE_RECOVERY = "rotate recovery"


def rotate_passphrase(volume: Volume, places: Places, *, recovery: Path, new: Path) -> Slot:
    """Replace the typed passphrase."""
    proof = prove_recovery(volume.device, recovery)
    return _replace(
        volume,
        places,
        "rotate passphrase",
        Purpose.PASSPHRASE,
        proof,
        add=lambda: (slots.add_passphrase(volume, unlock=recovery, new=new), proof),
    )


def rotate_recovery(volume: Volume, places: Places, *, recovery: Path, new: Path) -> Slot:
    """Replace the recovery key by one that was shown and typed back already.

    `recovery` is the present one. After an interruption the old one may be gone already: then the new one counts too.
    """

    def add() -> tuple[Slot, RecoveryProof]:
        slot = slots.add_recovery(volume, unlock=recovery, new=new)
        return slot, prove_recovery(volume.device, new)

    try:
        proof = prove_recovery(volume.device, recovery)
    except Forbidden:
        interrupted = journal.pending(places)
        if interrupted is None or interrupted.kind != _ROTATE_RECOVERY:
            raise
        proof = prove_recovery(volume.device, new)
    return _replace(volume, places, _ROTATE_RECOVERY, Purpose.RECOVERY, proof, add=add)


def rotate_tang(
    volume: Volume, places: Places, servers: Sequence[TangServer], *, recovery: Path, keys: KeyFiles
) -> Slot:
    """Bind to the servers anew: other servers, or the same after they changed their keys."""
    check_servers(servers)
    proof = prove_recovery(volume.device, recovery)
    slot = _replace(
        volume,
        places,
        "rotate tang",
        Purpose.TANG,
        proof,
        add=lambda: (add_tang(volume, servers, unlock=recovery, keys=keys, run_folder=places.run), proof),
    )
    write_table(places.table, msgspec.structs.replace(read_table(places.table), tang=tuple(servers)))
    return slot


def reseal(volume: Volume, places: Places, *, recovery: Path) -> Slot:
    """Seal to the TPM as it is now: after a change of firmware, of Secure Boot's keys, or of the TPM itself."""
    proof = prove_recovery(volume.device, recovery)
    operation = journal.begin(places, "reseal", read_header(volume.device), replacing=Purpose.TPM2)
    for slot in read_header(volume.device).slots:
        if slot.purpose is Purpose.TPM2 or slot.fingerprint not in operation.slots:
            slots.remove_slot(volume, slot, proof=proof)
    new = slots.add_tpm(volume, unlock=recovery)
    _settle(volume, places, proven=(new.number, proof.slot))
    return new


def _replace(
    volume: Volume,
    places: Places,
    kind: str,
    purpose: Purpose,
    proof: RecoveryProof,
    *,
    add: Callable[[], tuple[Slot, RecoveryProof]],
) -> Slot:
    header = read_header(volume.device)
    operation = journal.begin(places, kind, header, replacing=purpose)
    old = [slot for slot in header.slots if slot.fingerprint in operation.old]
    strays = [slot for slot in header.slots if slot.fingerprint not in operation.slots]
    arrived = [slot for slot in strays if slot.purpose is purpose]
    if arrived and (proof.fingerprint == arrived[0].fingerprint or (operation.old and not old)):
        new = arrived[0]  # an interrupted command had filled it, and it was proven then or is now
        strays.remove(new)
    else:
        new = None
    for slot in strays:
        slots.remove_slot(volume, slot, proof=proof)
    if new is None:
        new, proof = add()
    for slot in old:
        slots.remove_slot(volume, slot, proof=proof)
    _settle(volume, places, proven=(new.number, proof.slot))
    return new


def _settle(volume: Volume, places: Places, *, proven: Sequence[int]) -> None:
    """Write down what the header has now, take its backup anew, and close the journal."""
    table = recorded(read_table(places.table), read_header(volume.device), at=to_text(utc_now()), proven=proven)
    write_table(places.table, table)
    header_backup.refresh(volume, places)
    journal.end(places)
