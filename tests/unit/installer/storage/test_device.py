from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

import pytest

from appliance.kernel.errors import BadInput, Conflict, NotFound
from installer.storage.device import Findings, inspect, require_usable, wipe_signatures

BLANK = Findings(size=1 << 30, signatures=(), data=False, users=())


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    file = tmp_path / "disk"
    with file.open("wb") as stream:
        stream.truncate(80 << 20)
    return file


def test_an_empty_device_is_blank(disk: Path) -> None:
    found = inspect(disk, images=True)
    assert found.blank
    assert found.size == 80 << 20


@pytest.mark.parametrize("offset", [0, 1 << 20, 15 << 20, (80 << 20) - 1])
def test_a_single_byte_at_the_beginning_or_end_is_data(disk: Path, offset: int) -> None:
    with disk.open("r+b") as stream:
        stream.seek(offset)
        stream.write(b"x")
    assert inspect(disk, images=True).data


def test_a_file_system_is_named(disk: Path) -> None:
    subprocess.run(["mkfs.ext4", "-q", "-F", str(disk)], check=True)
    assert inspect(disk, images=True).signatures == ("ext4",)
    wipe_signatures(disk)
    assert inspect(disk, images=True).signatures == ()


def test_a_file_is_no_device(disk: Path) -> None:
    with pytest.raises(BadInput, match="no block device"):
        inspect(disk)


def test_a_missing_device_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no device"):
        inspect(tmp_path / "sdz")


def usable(wipe: str = "", **changes: object) -> None:
    named = "/dev/disk/by-id/a"
    require_usable(Path(named), dataclasses.replace(BLANK, **changes), wipe=wipe, named=named)  # type: ignore[arg-type]


def test_blank_is_usable_and_what_is_not_has_to_be_named_exactly() -> None:
    usable()
    with pytest.raises(Conflict, match=r"not empty: ext4, gpt"):
        usable(signatures=("ext4", "gpt"))
    with pytest.raises(Conflict, match="data without a signature"):
        usable(data=True)
    with pytest.raises(Conflict, match="both names must be the same"):
        usable("/dev/disk/by-id/b", data=True)
    usable("/dev/disk/by-id/a", data=True)


def test_what_is_in_use_is_refused_although_it_is_named() -> None:
    with pytest.raises(Conflict, match="mounted on /"):
        usable("/dev/disk/by-id/a", users=("mounted on /",))


def test_a_device_too_small_for_a_header_is_refused() -> None:
    with pytest.raises(BadInput, match="64 are needed"):
        usable(size=1 << 20)
