from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from appliance.kernel.errors import Conflict
from appliance.kernel.process import Outcome
from installer.package_state import is_interrupted, mend

_GOOD = "Package: a\nStatus: install ok installed\n\nPackage: b\nStatus: deinstall ok config-files\n"


def dpkg(root: Path, status: str) -> Path:
    folder = root / "var" / "lib" / "dpkg"
    (folder / "updates").mkdir(parents=True)
    (folder / "status").write_text(status)
    return folder


class Machine:
    """dpkg and apt, as they are seen from outside."""

    def __init__(self, root: Path, *, dpkg_can: bool = True, complete: bool = True, apt_can: bool = True) -> None:
        self.ran: list[str] = []
        self._status = root / "var" / "lib" / "dpkg" / "status"
        self._dpkg_can, self._complete, self._apt_can = dpkg_can, complete, apt_can

    def run(self, argv: Sequence[str]) -> Outcome:
        match argv[0], argv[-1]:
            case "dpkg", _:
                assert "--configure" in argv
                self.ran.append("configure")
                done = self._dpkg_can
            case "apt-get", "check":
                self.ran.append("check")
                return Outcome(status=0 if self._complete else 100, stdout="", stderr="unmet dependencies")
            case _:
                assert "--fix-broken" in argv
                self.ran.append("fix")
                done = self._apt_can
        if done:
            self._status.write_text(_GOOD)
        return Outcome(status=0 if done else 1, stdout="", stderr="dpkg: error\ndisk is broken\n")


def test_a_machine_in_order_is_left_alone(tmp_path: Path) -> None:
    dpkg(tmp_path, _GOOD)
    machine = Machine(tmp_path)
    assert not mend(tmp_path, run=machine.run)
    assert machine.ran == ["check"]


@pytest.mark.parametrize("state", ["half-installed", "half-configured", "unpacked", "triggers-pending"])
def test_half_set_up_packages_are_ended(tmp_path: Path, state: str) -> None:
    dpkg(tmp_path, f"{_GOOD}\nPackage: c\nStatus: install ok {state}\n")
    machine = Machine(tmp_path)
    assert mend(tmp_path, run=machine.run)
    assert machine.ran == ["configure", "check"]


def test_what_dpkg_lacks_apt_brings(tmp_path: Path) -> None:
    dpkg(tmp_path, "Package: c\nStatus: install ok unpacked\n")
    machine = Machine(tmp_path, dpkg_can=False)
    assert mend(tmp_path, run=machine.run)
    assert machine.ran == ["configure", "fix"]


def test_what_a_package_needs_and_a_full_disk_kept_out_is_brought(tmp_path: Path) -> None:
    dpkg(tmp_path, _GOOD)
    machine = Machine(tmp_path, complete=False)
    assert mend(tmp_path, run=machine.run)
    assert machine.ran == ["check", "fix"]


def test_record_that_was_not_merged_counts(tmp_path: Path) -> None:
    folder = dpkg(tmp_path, _GOOD)
    (folder / "updates" / "tmp.i").touch()
    assert not is_interrupted(tmp_path)
    (folder / "updates" / "0001").touch()
    assert is_interrupted(tmp_path)


def test_what_neither_can_end_is_told(tmp_path: Path) -> None:
    dpkg(tmp_path, "Package: c\nStatus: install ok half-configured\n")
    machine = Machine(tmp_path, dpkg_can=False, apt_can=False)
    with pytest.raises(Conflict, match="disk is broken"):
        mend(tmp_path, run=machine.run)
