"""Snapshots, the recorder and the rollback on a small tree: what a run changed comes back, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from appliance.kernel.errors import Conflict, IntegrityFailure
from appliance.kernel.process import Outcome
from installer.harden import rollback
from installer.harden.changes import PhaseChanges, compare
from installer.harden.snapshot import Snapshot, read_object, read_snapshot, take, write_snapshot


def _run(argv: Sequence[str]) -> Outcome:
    return Outcome(status=1 if argv[0] == "nft" else 0, stdout="", stderr="")


class Machine:
    """A small machine below a folder."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.objects = folder / "objects"
        self.kept = folder / "kept"
        for path in ("etc/ssh", "etc/cron.d", "proc/sys/fs", "usr/share/pam-configs"):
            (self.root / path).mkdir(parents=True)
        self.write("etc/ssh/sshd_config", "Port 22\n")
        self.write("etc/motd", "hello\n")
        (self.root / "etc/localtime").symlink_to("/usr/share/zoneinfo/UTC")

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def snapshot(self) -> Snapshot:
        return take(self.objects, root=self.root, run=_run)

    def harden(self) -> PhaseChanges:
        """Do what a run does, between two snapshots."""
        before = self.snapshot()
        self.write("etc/ssh/sshd_config", "Port 22\nAllowGroups admin\n", 0o600)
        self.write("etc/sysctl.d/99.conf", "fs.a = 1\n")
        (self.root / "etc/motd").unlink()
        (self.root / "etc/cron.d").chmod(0o700)
        (self.root / "etc/localtime").unlink()
        (self.root / "etc/localtime").symlink_to("/usr/share/zoneinfo/Europe/Paris")
        return compare(before, self.snapshot(), phase="access", at="", succeeded=True)

    def roll_back(self, changes: PhaseChanges, *, force: bool = False) -> int:
        plan = rollback.plan_rollback(changes, rollback.present(self.root))
        rollback.require_unchanged(plan, force=force)
        return rollback.restore_files(plan, objects=self.objects, kept=self.kept, root=self.root)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_everything_a_run_changed_comes_back(machine: Machine) -> None:
    before = machine.snapshot()
    changes = machine.harden()
    assert machine.roll_back(changes) == 6
    assert machine.snapshot() == before
    assert rollback.verify(changes, rollback.present(machine.root)) == []


def test_what_the_run_did_not_touch_stays(machine: Machine) -> None:
    changes = machine.harden()
    machine.write("etc/mine", "mine\n")
    machine.write("etc/sysctl.d/mine.conf", "fs.b = 1\n")
    machine.roll_back(changes)
    assert (machine.root / "etc/mine").read_text() == "mine\n"
    assert (machine.root / "etc/sysctl.d/mine.conf").exists()


def test_file_that_somebody_changed_since_is_refused_by_name(machine: Machine) -> None:
    changes = machine.harden()
    machine.write("etc/ssh/sshd_config", "Port 2222\n", 0o600)
    with pytest.raises(Conflict, match="/etc/ssh/sshd_config"):
        machine.roll_back(changes)
    assert not (machine.root / "etc/motd").exists()


def test_force_keeps_a_copy_of_what_somebody_changed(machine: Machine) -> None:
    changes = machine.harden()
    machine.write("etc/ssh/sshd_config", "Port 2222\n", 0o600)
    machine.roll_back(changes, force=True)
    assert (machine.root / "etc/ssh/sshd_config").read_text() == "Port 22\n"
    assert (machine.kept / "etc/ssh/sshd_config").read_text() == "Port 2222\n"


def test_name_that_is_no_text_is_kept_and_comes_back(machine: Machine, tmp_path: Path) -> None:
    """A file of another encoding, as an old system leaves it, must not end the installation."""
    name = os.fsdecode(b"caf\xe9.conf")
    odd, link = machine.root / "etc" / name, machine.root / "etc/odd"
    odd.write_text("before\n")
    link.symlink_to(name)
    before = machine.snapshot()
    write_snapshot(tmp_path / "before.json", before)
    assert read_snapshot(tmp_path / "before.json") == before
    odd.write_text("after\n")
    link.unlink()
    changes = compare(before, machine.snapshot(), phase="ground", at="", succeeded=True)
    changes = msgspec.json.decode(msgspec.json.encode(changes), type=PhaseChanges)
    assert machine.roll_back(changes) == 2
    assert odd.read_text() == "before\n"
    assert link.readlink() == Path(name)
    assert rollback.verify(changes, rollback.present(machine.root)) == []


def test_killed_rollback_is_called_again(machine: Machine) -> None:
    before = machine.snapshot()
    changes = machine.harden()
    plan = rollback.plan_rollback(changes, rollback.present(machine.root))
    half = rollback.Plan(
        restore=plan.restore[:3],
        foreign=(),
        done=0,
        purge=(),
        missing=(),
        parameters=(),
        table=None,
        table_changes=False,
    )
    rollback.restore_files(half, objects=machine.objects, kept=machine.kept, root=machine.root)
    assert machine.roll_back(changes) == 3
    assert machine.snapshot() == before


def test_objects_are_private_and_kept_once(machine: Machine) -> None:
    first = machine.snapshot()
    count = sum(1 for path in machine.objects.rglob("*") if path.is_file())
    assert machine.snapshot() == first
    files = [path for path in machine.objects.rglob("*") if path.is_file()]
    assert len(files) == count
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


def test_damaged_object_is_refused(machine: Machine) -> None:
    digest = machine.snapshot().entries["/etc/motd"].digest
    stored = machine.objects / digest[:2] / digest[2:]
    stored.write_text("something else")
    with pytest.raises(IntegrityFailure, match="damaged"):
        read_object(machine.objects, digest)
    stored.unlink()
    with pytest.raises(IntegrityFailure, match="missing"):
        read_object(machine.objects, digest)


def test_owner_and_mode_are_part_of_the_change(machine: Machine) -> None:
    changes = machine.harden()
    machine.roll_back(changes)
    status = (machine.root / "etc/ssh/sshd_config").stat()
    assert (status.st_mode & 0o777, status.st_uid) == (0o644, os.getuid())


def test_same_content_keeps_its_hard_links_and_attributes(machine: Machine) -> None:
    """Where a run set mode and owner alone, the file itself stays: it may have an access list."""
    file, twin = machine.root / "etc/ssh/sshd_config", machine.root / "etc/ssh/twin"
    twin.hardlink_to(file)
    before = machine.snapshot()
    file.chmod(0o600)
    number = file.stat().st_ino
    machine.roll_back(compare(before, machine.snapshot(), phase="ground", at="", succeeded=True))
    assert machine.snapshot() == before
    assert (file.stat().st_ino, file.stat().st_nlink) == (number, 2)


def test_runtime_that_cannot_go_back_is_named(machine: Machine) -> None:
    changes = machine.harden()
    plan = rollback.plan_rollback(changes, rollback.present(machine.root))
    locked = rollback.Plan(
        restore=plan.restore,
        foreign=(),
        done=0,
        purge=(),
        missing=("telnet",),
        parameters=(("kernel.kexec_load_disabled", "0"),),
        table=None,
        table_changes=False,
    )

    def refusing(argv: Sequence[str]) -> Outcome:
        return Outcome(status=1 if argv[0] == "sysctl" else 0, stdout="", stderr="")

    assert rollback.restore_runtime(locked, refusing) == [
        "kernel parameter kernel.kexec_load_disabled goes back to '0' at the next boot"
    ]
    assert rollback.purge_packages(locked, refusing) == (
        (),
        ["package telnet was removed by the run; install it again"],
    )
