"""Looks at the device that is to hold the data, and refuses everything that might be somebody's.

Only `storage.wipe`, naming the very same device, lets a device with signatures or data be overwritten; what is mounted
or in use is refused even then.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from appliance.kernel.errors import BadInput, Conflict, NotFound, StorageFailure, storage_errors
from appliance.kernel.process import run

SMALLEST = 64 << 20
_SAMPLE = 1 << 20
_SAMPLES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What is on a device: its size (bytes), signatures by name, whether other bytes were found, who uses it."""

    size: int
    signatures: tuple[str, ...]
    data: bool
    users: tuple[str, ...]

    @property
    def blank(self) -> bool:
        """Whether nothing would be lost."""
        return not (self.signatures or self.data or self.users)


def inspect(device: Path, *, images: bool = False) -> Findings:
    """Look at a device without changing it. `images` accepts a regular file. Raises NotFound or BadInput."""
    try:
        mode = device.stat().st_mode
    except FileNotFoundError as error:
        raise NotFound(
            "storage.no_device", f"There is no device {device}.", hint="Names of disks: ls -l /dev/disk/by-id/"
        ) from error
    if not (stat.S_ISBLK(mode) or (images and stat.S_ISREG(mode))):
        raise BadInput("storage.no_block_device", f"{device} is no block device.")
    with storage_errors(f"reading {device}"):
        size, data = _read(device)
    return Findings(
        size=size,
        signatures=_signatures(device),
        data=data,
        users=_users(device) if stat.S_ISBLK(mode) else (),
    )


def require_usable(device: Path, findings: Findings, *, wipe: str, named: str) -> None:
    """Refuse a device that may not be formatted. `named`: as the answers name it. Raises BadInput or Conflict."""
    if findings.size < SMALLEST:
        raise BadInput("storage.too_small", f"{device} has {findings.size >> 20} MiB; {SMALLEST >> 20} are needed.")
    if findings.users:
        raise Conflict(
            "storage.device_in_use",
            f"{device} is in use: {', '.join(findings.users)}.",
            hint="Give an unused device. Nothing lets a mounted one be formatted.",
        )
    if findings.blank:
        return
    found = ", ".join(findings.signatures) or "data without a signature"
    if not wipe:
        raise Conflict(
            "storage.device_not_empty",
            f"{device} is not empty: {found}.",
            hint=f'Check that nobody needs it. Then name it in the answers: [storage] wipe = "{named}"',
        )
    if wipe != named:
        raise Conflict(
            "storage.wipe_other",
            f"The answers allow wiping {wipe}, but the device is {named}; both names must be the same.",
        )


def wipe_signatures(device: Path) -> None:
    """Remove the signatures of a device and of its partitions, so that none of them comes back to life."""
    for each in (*_partitions(device), device):
        outcome = run(["wipefs", "--all", "--quiet", str(each)], timeout=60)
        if outcome.status != 0:
            raise StorageFailure("storage.wipefs", f"{each} could not be wiped: {outcome.stderr.strip()}")


def file_system(device: Path) -> str:
    """Return the type of the file system on a device; empty when there is none."""
    outcome = run(["blkid", "--probe", "--match-tag", "TYPE", "--output", "value", str(device)], timeout=60)
    return outcome.stdout.strip()


def make_file_system(device: Path, kind: str) -> None:
    """Make an empty ext4 or xfs. Raises StorageFailure."""
    label = "intramuros"
    argv = {
        "ext4": ["mkfs.ext4", "-q", "-F", "-m", "1", "-L", label, str(device)],
        "xfs": ["mkfs.xfs", "-q", "-L", label, str(device)],
    }[kind]
    outcome = run(argv, timeout=3600)
    if outcome.status != 0:
        raise StorageFailure("storage.mkfs", f"{argv[0]} failed on {device}: {outcome.stderr.strip()[-200:]}")


def _read(device: Path) -> tuple[int, bool]:
    """Return the size and whether the beginning, the end or a sample between has a byte other than zero."""
    with device.open("rb", buffering=0) as stream:
        size = stream.seek(0, os.SEEK_END)
        for offset in _offsets(size):
            stream.seek(offset)
            if any(stream.read(_SAMPLE)):
                return size, True
    return size, False


def _offsets(size: int) -> Iterator[int]:
    last = max(size - _SAMPLE, 0)
    yield from range(0, min(last + 1, 16 << 20), _SAMPLE)
    step = max(last // _SAMPLES, _SAMPLE)
    yield from range(16 << 20, last, step)
    yield last


def _signatures(device: Path) -> tuple[str, ...]:
    outcome = run(["wipefs", "--no-act", "--json", str(device)], timeout=60)
    if outcome.status != 0:
        raise StorageFailure("storage.wipefs", f"{device} could not be examined: {outcome.stderr.strip()}")
    listed = msgspec.json.decode(outcome.stdout)["signatures"] if outcome.stdout.strip() else []
    return tuple(sorted({item["type"] for item in listed}))


def _users(device: Path) -> tuple[str, ...]:
    """Name the mount points, mappings and swap areas that lie on the device or on a partition of it."""
    users = []
    for node in _tree(_lsblk(device)):
        users += [f"mounted on {point}" for point in node.get("mountpoints") or [] if point]
        if node.get("type") not in ("disk", "part", "loop", "rom"):
            users.append(f"{node.get('type')} {node.get('name')}")
    return tuple(users)


def _partitions(device: Path) -> list[Path]:
    nodes = list(_tree(_lsblk(device))) if stat.S_ISBLK(device.stat().st_mode) else []
    return [
        Path(node["path"]) for node in nodes if node.get("type") == "part" and Path(node["path"]) != device.resolve()
    ]


def _lsblk(device: Path) -> Mapping[str, Any]:
    outcome = run(["lsblk", "--json", "--output", "NAME,PATH,TYPE,MOUNTPOINTS", str(device)], timeout=60)
    if outcome.status != 0:
        raise StorageFailure("storage.lsblk", f"{device} could not be examined: {outcome.stderr.strip()}")
    top: Mapping[str, Any] = msgspec.json.decode(outcome.stdout)["blockdevices"][0]
    return top


def _tree(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield node
    for child in node.get("children", ()):
        yield from _tree(child)
