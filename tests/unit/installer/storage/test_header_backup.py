from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from appliance.kernel.errors import BadInput, Conflict, Forbidden, IntegrityFailure, NotFound
from installer.storage import header_backup, rotation
from installer.storage.header import read_header
from installer.storage.proof import prove_passphrase, prove_recovery
from installer.storage.status import look
from installer.storage.table import read_table
from installer.storage.volume_key import rotate_volume_key
from tests.unit.installer.storage.luks_image import OTHER_RECOVERY, PASSPHRASE, RECOVERY, Image


def destroy_header(image: Image) -> None:
    with image.device.open("r+b") as stream:
        stream.write(b"\0" * (16 << 20))


def codes(image: Image) -> set[str]:
    return {alert.code for alert in look(image.volume, image.places, swaps=()).alerts}


def test_a_destroyed_header_comes_back(ready: Image) -> None:
    before = read_header(ready.device)
    destroy_header(ready)
    assert codes(ready) == {"header_damaged"}
    header_backup.restore(ready.volume, ready.places, ready.places.header_backup, recovery=ready.key(RECOVERY))
    assert read_header(ready.device) == before
    assert prove_passphrase(ready.device, ready.key(PASSPHRASE))


def test_nothing_is_restored_with_a_wrong_recovery_key(ready: Image) -> None:
    destroy_header(ready)
    copy = ready.places.header_backup
    with pytest.raises(Forbidden):
        header_backup.restore(ready.volume, ready.places, copy, recovery=ready.key(OTHER_RECOVERY))
    with pytest.raises(NotFound):
        read_header(ready.device)


def test_the_copy_is_private_and_its_digest_is_recorded(ready: Image) -> None:
    copy = read_table(ready.places.table).copies[0]
    assert ready.places.header_backup.stat().st_mode & 0o777 == 0o600
    assert copy.sha256 == hashlib.sha256(ready.places.header_backup.read_bytes()).hexdigest()


def test_an_old_copy_is_called_out_of_date_until_it_is_destroyed(ready: Image, tmp_path: Path) -> None:
    elsewhere = tmp_path / "stick.luks"
    header_backup.carry_out(ready.volume, ready.places, elsewhere)
    assert codes(ready) == {"locked"}
    key, new = ready.key(RECOVERY), ready.key(OTHER_RECOVERY)
    rotation.rotate_recovery(ready.volume, ready.places, recovery=key, new=new)
    assert codes(ready) == {"locked", "old_copy"}
    assert prove_recovery(elsewhere, key), "an old copy opens with a key that was taken back: so it must go"
    header_backup.forget(ready.places, str(elsewhere))
    assert not elsewhere.exists()
    assert codes(ready) == {"locked"}


def test_a_copy_from_before_a_change_of_the_volume_key_is_refused(ready: Image, tmp_path: Path) -> None:
    elsewhere = tmp_path / "stick.luks"
    header_backup.carry_out(ready.volume, ready.places, elsewhere)
    key, passphrase = ready.key(RECOVERY), ready.key(PASSPHRASE)
    rotate_volume_key(ready.volume, ready.places, recovery=key, passphrase=passphrase, keys=ready.keys)
    destroy_header(ready)
    with pytest.raises(Conflict) as caught:
        header_backup.restore(ready.volume, ready.places, elsewhere, recovery=key)
    assert caught.value.code == "storage.copy_old_key"
    header_backup.restore(ready.volume, ready.places, ready.places.header_backup, recovery=key)


def test_the_copy_of_another_volume_is_refused(ready: Image, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(ready.places.header_backup.read_bytes())
    new = "11111111-1111-4111-8111-111111111111"
    subprocess.run(["cryptsetup", "luksUUID", "--batch-mode", "--uuid", new, str(other)], check=True)
    with pytest.raises(Conflict, match="not of"):
        header_backup.check_copy(other, read_table(ready.places.table))


def test_a_damaged_copy_is_refused(ready: Image, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    damaged.write_bytes(b"\0" * (16 << 20))
    with pytest.raises(IntegrityFailure):
        header_backup.check_copy(damaged, read_table(ready.places.table))


def test_a_copy_overwrites_nothing_and_never_lies_on_the_volume(ready: Image, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="exists"):
        header_backup.carry_out(ready.volume, ready.places, ready.device)
    ready.volume.mount.mkdir()
    with pytest.raises(BadInput, match="on the volume itself"):
        header_backup.carry_out(ready.volume, ready.places, ready.volume.mount / "copy")


def test_a_slot_filled_or_emptied_past_us_is_seen(ready: Image) -> None:
    first = read_header(ready.device).slots[0]
    subprocess.run(
        ["cryptsetup", "luksAddKey", "--batch-mode", "--key-file", str(ready.key(RECOVERY)), "--pbkdf", "pbkdf2",
         "--pbkdf-force-iterations", "1000", str(ready.device), str(ready.key("somebody's key"))],
        check=True,
    )  # fmt: skip
    assert "unknown_slot" in codes(ready)
    subprocess.run(["systemd-cryptenroll", f"--wipe-slot={first.number}", str(ready.device)], check=True)
    assert "lost_slot" in codes(ready)


def test_swap_in_clear_is_called_out(ready: Image) -> None:
    found = look(ready.volume, ready.places, swaps=("/dev/vda5",))
    assert "swap" in {alert.code for alert in found.alerts}
