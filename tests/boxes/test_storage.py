"""The encrypted volume of an installed box, with a TPM, a Tang server and real reboots: every loss of the guide.

The tests share one machine and run in the order of this file; each leaves it open and with all its slots.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.boxes.conftest import Rig
from tests.boxes.encrypted_box import (
    DISK,
    MISTYPED,
    MOUNT,
    EncryptedBox,
    InstalledMachine,
    start_encrypted_box,
    start_other_box,
)
from tests.boxes.rig.installation import Bundle, again

pytestmark = [pytest.mark.boxes, pytest.mark.timeout(4 * 3600)]

_TOKEN = f"cryptsetup open --test-passphrase --token-only --token-type systemd-tpm2 {DISK}"
_OTHER_RECOVERY = "-".join(["jklnrtuv"] * 8)
_CLOSE = "systemctl stop srv-intramuros.mount 'systemd-cryptsetup@intramuros\\x2ddata.service'"


@pytest.fixture(scope="module")
def box(make_rig: Callable[[], Rig], bundle: Bundle, machine_installed: InstalledMachine) -> Iterator[EncryptedBox]:
    """The installed machine, started again while Tang is down."""
    rig = make_rig()
    try:
        made = start_encrypted_box(rig, bundle, machine_installed)
        yield made
        made.tang.stop()
    finally:
        rig.remove()


def test_check_mode_on_a_fresh_box_writes_nothing_to_the_disk(machine_installed: InstalledMachine) -> None:
    report = machine_installed.report
    assert report["fresh_check"]["failed"] == 0
    assert report["blank_after_check"]


def test_tpm_opens_at_a_reboot(box: EncryptedBox) -> None:
    box.wait(f"mountpoint -q {MOUNT}")
    box.wait("systemctl is-active --quiet intramuros-data-open.service")
    assert "intramuros-data" not in box.sh("ls /run/issue.d /run/motd.d").out
    options = box.sh(f"findmnt -no OPTIONS {MOUNT}").out
    assert {"nodev", "nosuid", "noexec"} <= set(options.strip().split(","))
    box.sh(f"echo kept > {MOUNT}/kept; sync")
    box.tang.start()
    assert box.alerts("--prove") == set()


def test_second_run_after_a_reboot_changes_nothing_and_check_mode_is_clean(box: EncryptedBox) -> None:
    box.mount_medium()
    said, _ = again(box.machine)
    assert "  changed " not in said.out + said.err, said.err
    assert box.play("--check", "--diff")["changed"] == 0


def test_wrong_key_is_no_proof_although_the_tpm_would_open(box: EncryptedBox) -> None:
    wrong = box.key("wrong wrong wrong")
    assert box.sh(f"cryptsetup open --test-passphrase --key-file {wrong} {DISK}").ok  # the trap
    assert box.storage("recovery", "--recovery-key-file", box.key(MISTYPED), check=False).status == 5
    assert box.storage("recovery", *box.with_recovery()).ok


def test_tang_opens_when_the_tpm_is_another_one_and_reseal_brings_it_back(box: EncryptedBox) -> None:
    box.restart(other_tpm=True)
    box.wait(f"mountpoint -q {MOUNT}")
    assert box.alerts("--prove") == {"tpm2_fails"}
    bare = box.key(box.recovery, "bare")
    box.sh(f"truncate --size=-1 {bare}")  # that program takes the line break for a part of the key
    naive = f"systemd-cryptenroll --unlock-key-file={bare} --wipe-slot=tpm2"
    assert box.sh(f"{naive} --tpm2-device=auto --tpm2-pcrs=7 {DISK}").ok  # the other trap: it did nothing
    assert not box.sh(_TOKEN, check=False).ok
    box.storage("reseal", *box.with_recovery())
    assert box.sh(_TOKEN).ok
    assert box.alerts("--prove") == set()


def test_with_both_gone_the_box_is_up_and_locked_and_the_recovery_key_opens_it(box: EncryptedBox) -> None:
    box.restart(tang=False, other_tpm=True)
    box.wait("systemctl is-active --quiet ssh.service")
    assert not box.mounted()
    assert not box.sh("systemctl is-active emergency.target rescue.target", check=False).ok
    assert "storage unlock" in box.sh("cat /run/issue.d/90-intramuros-data.issue /run/motd.d/90-intramuros-data").out
    assert "locked" in box.alerts()
    assert box.storage("unlock", "--key-file", box.key("wrong wrong wrong"), check=False).status == 5
    assert box.storage("unlock", "--key-file", box.key(MISTYPED), check=False).status == 5
    box.storage("unlock", "--key-file", box.key(box.recovery))
    box.wait("systemctl is-active --quiet intramuros-data-open.service")
    assert box.sh(f"cat {MOUNT}/kept").out == "kept\n"
    box.tang.start()
    box.storage("reseal", *box.with_recovery())
    assert box.alerts("--prove") == set()


def test_destroyed_header_is_restored_only_with_the_recovery_key(box: EncryptedBox) -> None:
    box.sh(_CLOSE)
    box.sh(f"dd if=/dev/zero of={DISK} bs=1M count=16 conv=fsync")
    assert box.alerts() == {"header_damaged"}
    name = ("--name", "intramuros-data")
    mistyped = box.storage("restore-header", *name, "--recovery-key-file", box.key(MISTYPED), check=False)
    assert mistyped.status == 5
    assert box.alerts() == {"header_damaged"}
    box.storage("restore-header", *name, *box.with_recovery())
    box.storage("unlock", "--key-file", box.key(box.passphrase))
    assert box.sh(f"cat {MOUNT}/kept").out == "kept\n"
    assert box.alerts("--prove") == set()


def test_each_key_is_rotated_and_the_old_one_opens_nothing(box: EncryptedBox) -> None:
    new = box.key("another long passphrase", "new")
    box.storage("rotate", "passphrase", *box.with_recovery(), "--new-file", new)
    box.passphrase = "another long passphrase"
    new = box.key(_OTHER_RECOVERY, "new")
    box.storage("rotate", "recovery", *box.with_recovery(), "--new-file", new)
    assert box.storage("recovery", *box.with_recovery(), check=False).status == 5
    box.recovery = _OTHER_RECOVERY
    box.tang.make_keys()
    box.storage("rotate", "tang", *box.with_recovery(), "--tang", f"{box.tang.url}={box.tang.thumbprint}")
    for old in box.tang.keys.glob(".*.jwk"):
        old.unlink()
    assert box.alerts("--prove") == set()


def test_tang_server_with_another_key_is_not_trusted(box: EncryptedBox) -> None:
    wrong = f"{box.tang.url}={'A' * 43}"
    assert box.storage("rotate", "tang", *box.with_recovery(), "--tang", wrong, check=False).status == 6
    assert box.storage("rotate", "tang", *box.with_recovery(), "--tang", f"{box.tang.url}=", check=False).status == 2
    box.storage("rotate", "tang", *box.with_recovery(), "--tang", f"{box.tang.url}={box.tang.thumbprint}")
    assert box.alerts("--prove") == set()


def test_change_of_the_volume_key_goes_on_after_kill_9_and_a_power_cut(box: EncryptedBox) -> None:
    box.sh(f"head -c 64M /dev/urandom > {MOUNT}/big; sha256sum {MOUNT}/big > {MOUNT}/sum; sync")
    half_way = "online-reencrypt"
    words = ["rotate", "volume-key", *box.with_recovery(), "--passphrase-file", box.key(box.passphrase, "present")]
    box.sh(
        f"""setsid intramuros storage {" ".join(words)} > /run/out 2>&1 < /dev/null &
moving() {{ cryptsetup luksDump --dump-json-metadata {DISK} | grep -q in-reencryption; }}
for i in $(seq 600); do moving && break; sleep 0.2; done
sleep 4; pkill -9 -f 'storage rotate volume-key'; pkill -9 -x cryptsetup; true"""
    )
    assert "unfinished" in box.alerts()
    assert half_way in box.sh(f"cryptsetup luksDump {DISK}").out
    assert box.sh(f"sha256sum --check {MOUNT}/sum").ok
    assert box.storage("reseal", *box.with_recovery(), check=False).status == 4
    box.machine.kill()
    box.machine.start(settled=False)
    box.wait(f"mountpoint -q {MOUNT}")  # Tang opens both keys
    assert half_way in box.sh(f"cryptsetup luksDump {DISK}").out
    assert box.sh(f"sha256sum --check {MOUNT}/sum").ok
    words = ["rotate", "volume-key", *box.with_recovery(), "--passphrase-file", box.key(box.passphrase, "present")]
    box.storage(*words, timeout=1800)
    assert half_way not in box.sh(f"cryptsetup luksDump {DISK}").out
    assert box.sh(f"sha256sum --check {MOUNT}/sum").ok
    assert box.alerts("--prove") == set()


def test_disk_in_another_box_stays_shut(box: EncryptedBox, machine_installed: InstalledMachine) -> None:
    box.machine.stop()
    box.tang.stop()
    other = start_other_box(box, machine_installed)
    other.sh("until systemctl is-active --quiet ssh.service; do sleep 1; done", timeout=900)
    assert other.sh(f"cryptsetup isLuks {DISK}").ok
    assert not other.sh(_TOKEN, check=False).ok
    assert not other.sh(f"clevis luks unlock -d {DISK}", check=False).ok
    assert not other.sh("ls /dev/mapper/ | grep -v control", check=False).ok
