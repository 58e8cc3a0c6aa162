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


def never(argv: Sequence[str]) -> Outcome:
    raise AssertionError(argv)


def test_a_machine_in_order_is_left_alone(tmp_path: Path) -> None:
    assert not mend(tmp_path, run=never)
    dpkg(tmp_path, _GOOD)
    assert not mend(tmp_path, run=never)


@pytest.mark.parametrize("state", ["half-installed", "half-configured", "unpacked", "triggers-pending"])
def test_half_set_up_packages_are_ended(tmp_path: Path, state: str) -> None:
    dpkg(tmp_path, f"{_GOOD}\nPackage: c\nStatus: install ok {state}\n")
    ran: list[Sequence[str]] = []

    def run(argv: Sequence[str]) -> Outcome:
        ran.append(argv)
        return Outcome(status=0, stdout="", stderr="")

    assert mend(tmp_path, run=run)
    assert [argv[0] for argv in ran] == ["dpkg"]
    assert "--configure" in ran[0]


def test_what_dpkg_lacks_apt_brings(tmp_path: Path) -> None:
    dpkg(tmp_path, "Package: c\nStatus: install ok unpacked\n")
    ran: list[str] = []

    def run(argv: Sequence[str]) -> Outcome:
        ran.append(argv[0])
        return Outcome(status=int(argv[0] == "dpkg"), stdout="", stderr="")

    assert mend(tmp_path, run=run)
    assert ran == ["dpkg", "apt-get"]


def test_record_that_was_not_merged_counts(tmp_path: Path) -> None:
    folder = dpkg(tmp_path, _GOOD)
    (folder / "updates" / "tmp.i").touch()
    assert not is_interrupted(tmp_path)
    (folder / "updates" / "0001").touch()
    assert is_interrupted(tmp_path)


def test_what_dpkg_cannot_end_is_told(tmp_path: Path) -> None:
    dpkg(tmp_path, "Package: c\nStatus: install ok half-configured\n")
    with pytest.raises(Conflict, match="disk is broken"):
        mend(tmp_path, run=lambda argv: Outcome(status=1, stdout="", stderr="dpkg: error\ndisk is broken\n"))
