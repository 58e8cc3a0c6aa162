from __future__ import annotations

import subprocess

import pytest

from appliance.kernel.errors import Conflict, NotFound, Unavailable
from installer.storage import cryptsetup, setup, slots
from installer.storage.header import Purpose, read_header
from installer.storage.proof import prove_passphrase, prove_recovery
from installer.storage.setup import Secrets
from installer.storage.table import read_table
from tests.unit.installer.storage.luks_image import OTHER_RECOVERY, PASSPHRASE, RECOVERY, Image


def purposes(image: Image) -> list[str]:
    return sorted(slot.purpose for slot in read_header(image.device).slots)


def test_a_set_up_ends_with_the_asked_slots_and_without_its_own_key(blank: Image) -> None:
    assert blank.format() == (f"formatted {blank.device}", f"opened {blank.device}")
    assert purposes(blank) == [Purpose.BOOTSTRAP]
    assert not read_table(blank.places.table).ready
    blank.fill()
    assert purposes(blank) == [Purpose.PASSPHRASE, Purpose.RECOVERY]
    assert prove_recovery(blank.device, blank.key(RECOVERY))
    assert prove_passphrase(blank.device, blank.key(PASSPHRASE))
    assert not blank.places.bootstrap_key.exists()
    table = read_table(blank.places.table)
    assert table.ready
    assert {record.purpose for record in table.slots if record.proven} == {"passphrase", "recovery"}
    assert [copy.path for copy in table.copies] == [str(blank.places.header_backup)]


def test_the_recovery_slot_is_one_that_systemd_knows(ready: Image) -> None:
    listed = subprocess.run(["systemd-cryptenroll", str(ready.device)], capture_output=True, text=True, check=True)
    assert "recovery" in listed.stdout
    assert "password" in listed.stdout


def test_a_second_run_changes_nothing_and_needs_no_secret(ready: Image) -> None:
    before = ready.device.read_bytes()[: 16 << 20]
    assert ready.fill(Secrets()) == ()
    assert setup.foresee(ready.volume, ready.request(), ready.places, images=True) == ()
    assert ready.device.read_bytes()[: 16 << 20] == before


def test_without_a_recovery_key_no_set_up_ends(blank: Image) -> None:
    blank.format()
    with pytest.raises(Conflict, match="recovery key"):
        blank.fill(blank.given(recovery=None))
    assert Purpose.BOOTSTRAP in purposes(blank)
    assert not read_table(blank.places.table).ready


def test_an_interrupted_set_up_goes_on_with_its_key(blank: Image) -> None:
    blank.format()
    uuid = read_header(blank.device).uuid
    assert blank.format() == (f"opened {blank.device}",)
    assert read_header(blank.device).uuid == uuid


def test_a_set_up_whose_key_was_lost_begins_anew(blank: Image) -> None:
    blank.format()
    uuid = read_header(blank.device).uuid
    blank.places.bootstrap_key.unlink()  # a restart empties /run
    blank.format()
    assert read_header(blank.device).uuid != uuid
    blank.fill()
    assert read_table(blank.places.table).ready


@pytest.mark.parametrize(
    "foreign",
    [
        ["mkfs.ext4", "-q", "-F"],
        [
            "cryptsetup",
            "--batch-mode",
            "luksFormat",
            "--pbkdf-force-iterations",
            "4",
            "--pbkdf-memory",
            "32",
            "--key-file",
            "/etc/hostname",
        ],
    ],
)
def test_disk_that_took_the_name_of_an_interrupted_set_ups_one_is_refused(blank: Image, foreign: list[str]) -> None:
    blank.format()
    with blank.device.open("r+b") as stream:
        stream.write(b"\0" * (16 << 20))
    subprocess.run([*foreign, str(blank.device)], check=True)
    before = blank.device.read_bytes()
    with pytest.raises(Conflict) as caught:
        blank.format()
    assert caught.value.code == "storage.device_not_empty"
    with pytest.raises(Conflict) as caught:
        setup.foresee(blank.volume, blank.request(), blank.places, images=True)
    assert caught.value.code == "storage.device_not_empty"
    assert blank.device.read_bytes() == before


def test_what_an_interrupted_set_up_left_is_cleared(blank: Image) -> None:
    blank.format()
    unlock = blank.places.bootstrap_key
    stray, cost = blank.key("half enrolled key"), blank.volume.cost.random
    cryptsetup.add_key(blank.volume, slot=0, unlock=unlock, new=stray, cost=cost)  # killed before its token came
    blank.fill()
    assert purposes(blank) == [Purpose.PASSPHRASE, Purpose.RECOVERY]
    assert not any(cryptsetup.slot_opens(blank.device, slot.number, stray) for slot in read_header(blank.device).slots)


def test_a_new_recovery_key_after_an_interruption_replaces_the_first(blank: Image) -> None:
    blank.format()
    slots.add_recovery(blank.volume, unlock=blank.places.bootstrap_key, new=blank.key(OTHER_RECOVERY))
    blank.fill()
    assert purposes(blank) == [Purpose.PASSPHRASE, Purpose.RECOVERY]
    assert prove_recovery(blank.device, blank.key(RECOVERY))


def test_a_ready_volume_is_never_formatted(ready: Image) -> None:
    with ready.device.open("r+b") as stream:
        stream.write(b"\0" * (16 << 20))
    with pytest.raises(Conflict) as caught:
        ready.format(ready.given(), wipe=str(ready.device))
    assert caught.value.code == "storage.header_destroyed"


def test_a_box_set_up_anew_adopts_its_old_volume_by_the_recovery_key(ready: Image) -> None:
    uuid = read_header(ready.device).uuid
    ready.places.table.unlink()
    assert ready.format(ready.given())[0].startswith("adopted")
    table = read_table(ready.places.table)
    assert table.ready
    assert table.uuid == uuid


def test_without_its_key_an_old_volume_is_refused(ready: Image) -> None:
    ready.places.table.unlink()
    with pytest.raises(Conflict, match="crypto_LUKS"):
        ready.format()


def test_a_slot_asked_for_later_needs_a_key_and_gets_one(ready: Image) -> None:
    header = read_header(ready.device)
    proof = prove_recovery(ready.device, ready.key(RECOVERY))
    slots.remove_slot(ready.volume, header.of(Purpose.PASSPHRASE)[0], proof=proof)
    with pytest.raises(Unavailable):
        ready.fill(Secrets())
    assert "filled a slot for passphrase" in ready.fill()


def test_another_disk_in_its_place_is_noticed(ready: Image) -> None:
    subprocess.run(["cryptsetup", "luksUUID", "--batch-mode", "--uuid", "11111111-1111-4111-8111-111111111111",
                    str(ready.device)], check=True)  # fmt: skip
    with pytest.raises(Conflict, match="holds volume 11111111"):
        ready.format()


def test_a_disk_that_is_not_there_is_named(blank: Image) -> None:
    blank.device.unlink()
    with pytest.raises(NotFound):
        blank.format()
