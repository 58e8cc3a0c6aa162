from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.kernel.errors import Conflict, Forbidden
from installer.storage import header_backup, journal, rotation, slots
from installer.storage.header import Purpose, read_header
from installer.storage.proof import prove_passphrase, prove_recovery
from installer.storage.table import read_table
from installer.storage.volume_key import rotate_volume_key
from tests.unit.installer.storage.killing import status_of_killed
from tests.unit.installer.storage.luks_image import OTHER_RECOVERY, PASSPHRASE, RECOVERY, Image

NEW = "another long passphrase"


def rotate_passphrase(image: Image) -> None:
    rotation.rotate_passphrase(image.volume, image.places, recovery=image.key(RECOVERY), new=image.key(NEW))


def rotate_recovery(image: Image, recovery: str = RECOVERY) -> None:
    key, new = image.key(recovery), image.key(OTHER_RECOVERY)
    rotation.rotate_recovery(image.volume, image.places, recovery=key, new=new)


def rotate_volume(image: Image) -> None:
    rotate_volume_key(
        image.volume,
        image.places,
        recovery=image.key(RECOVERY),
        passphrase=image.key(PASSPHRASE),
        keys=image.keys,
    )


def settled(image: Image) -> None:
    """Whatever was done: one slot for each purpose, table and backup as the header, nothing unfinished."""
    header = read_header(image.device)
    assert sorted(slot.purpose for slot in header.slots) == [Purpose.PASSPHRASE, Purpose.RECOVERY]
    table = read_table(image.places.table)
    assert {record.fingerprint for record in table.slots} == {slot.fingerprint for slot in header.slots}
    assert not header_backup.outdated(table, header)
    assert read_header(image.places.header_backup).slots == header.slots
    assert journal.pending(image.places) is None


def test_a_new_passphrase_opens_and_the_old_one_no_longer_does(ready: Image) -> None:
    rotate_passphrase(ready)
    assert prove_passphrase(ready.device, ready.key(NEW))
    with pytest.raises(Forbidden):
        prove_passphrase(ready.device, ready.key(PASSPHRASE))
    settled(ready)


def test_a_new_recovery_key_opens_and_the_old_one_no_longer_does(ready: Image) -> None:
    rotate_recovery(ready)
    assert prove_recovery(ready.device, ready.key(OTHER_RECOVERY))
    with pytest.raises(Forbidden):
        prove_recovery(ready.device, ready.key(RECOVERY))
    settled(ready)


def test_with_a_wrong_recovery_key_nothing_is_touched(ready: Image) -> None:
    before = read_header(ready.device)
    with pytest.raises(Forbidden):
        rotate_recovery(ready, recovery=OTHER_RECOVERY)
    assert read_header(ready.device) == before
    assert journal.pending(ready.places) is None


def test_a_passphrase_is_no_recovery_key(ready: Image) -> None:
    with pytest.raises(Forbidden):
        prove_recovery(ready.device, ready.key(PASSPHRASE))


@pytest.mark.parametrize(
    ("rotate", "act"),
    [
        *((rotate_passphrase, act) for act in ("luksAddKey", "--wipe-slot", "luksHeaderBackup")),
        *((rotate_recovery, act) for act in ("luksAddKey", "token import", "--wipe-slot", "luksHeaderBackup")),
        *((rotate_volume, act) for act in ("--init-only", "--resume-only", "luksHeaderBackup")),
    ],
)
@pytest.mark.parametrize("moment", ["before", "during", "after"])
def test_killed_at_any_act_the_same_command_goes_on(
    ready: Image, rotate: Callable[[Image], None], act: str, moment: str, tmp_path: Path
) -> None:
    assert status_of_killed(lambda: rotate(ready), act=act, moment=moment, tools=tmp_path / "tools") == -signal.SIGKILL
    assert journal.pending(ready.places) is not None
    rotate(ready)
    settled(ready)


def test_another_operation_waits_for_the_interrupted_one(ready: Image) -> None:
    journal.begin(ready.places, "rotate passphrase", read_header(ready.device), replacing=Purpose.PASSPHRASE)
    with pytest.raises(Conflict, match="rotate passphrase"):
        rotate_recovery(ready)


def test_after_an_interruption_the_new_recovery_key_counts_too(ready: Image) -> None:
    header = read_header(ready.device)
    journal.begin(ready.places, "rotate recovery", header, replacing=Purpose.RECOVERY)
    slots.add_recovery(ready.volume, unlock=ready.key(RECOVERY), new=ready.key(OTHER_RECOVERY))
    rotate_recovery(ready, recovery=OTHER_RECOVERY)
    assert prove_recovery(ready.device, ready.key(OTHER_RECOVERY))
    settled(ready)


def test_no_slot_is_emptied_without_a_proof_of_another_one(ready: Image) -> None:
    proof = prove_recovery(ready.device, ready.key(RECOVERY))
    recovery = read_header(ready.device).of(Purpose.RECOVERY)[0]
    with pytest.raises(Conflict, match="no other recovery key"):
        slots.remove_slot(ready.volume, recovery, proof=proof)
    rotate_recovery(ready)  # the proof is of a slot that is gone now
    passphrase = read_header(ready.device).of(Purpose.PASSPHRASE)[0]
    with pytest.raises(Conflict, match="no other recovery key"):
        slots.remove_slot(ready.volume, passphrase, proof=proof)


def test_a_new_volume_key_keeps_every_way_in(ready: Image) -> None:
    before = read_header(ready.device)
    rotate_volume(ready)
    after = read_header(ready.device)
    assert after.volume_key != before.volume_key
    assert prove_passphrase(ready.device, ready.key(PASSPHRASE))
    assert prove_recovery(ready.device, ready.key(RECOVERY))
    settled(ready)


def test_a_new_volume_key_with_a_wrong_passphrase_changes_nothing(ready: Image) -> None:
    before = read_header(ready.device)
    with pytest.raises(Conflict, match="does not open slot"):
        rotate_volume_key(
            ready.volume,
            ready.places,
            recovery=ready.key(RECOVERY),
            passphrase=ready.key(NEW),
            keys=ready.keys,
        )
    assert read_header(ready.device) == before
