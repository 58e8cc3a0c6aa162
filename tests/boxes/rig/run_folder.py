"""One folder per test run: everything a run makes lies below it or carries its name, so that the next run can clean up.

The folder's lock is held as long as the run lives. A folder whose lock is free belongs to a run that was killed: its
processes, mounts, cgroups and network namespaces are found by the folder's path and name, and removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.boxes.rig.commands import run

NAME = "imb"
"""What network namespaces and machines of the rig begin with."""
_CGROUPS = Path("/sys/fs/cgroup")
_PATIENCE = 20.0


@contextmanager
def run_folder(cache: Path) -> Iterator[Path]:
    """Make the folder of a run, after cleaning up what killed runs left; remove it and all that belongs to it."""
    runs = cache / "boxes" / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    sweep(runs)
    folder = runs / f"{NAME}{secrets.token_hex(3)}"
    # The lock lies beside the folder: inside, it could be gone while the rest of the folder is still being removed.
    lock = os.open(_lock_of(folder), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder.mkdir(mode=0o700)
        yield folder
    finally:
        remove(folder)
        _lock_of(folder).unlink()
        os.close(lock)


def sweep(runs: Path) -> None:
    """Remove what runs left that were killed."""
    for file in sorted(runs.glob(f"{NAME}*.lock")):
        try:
            lock = os.open(file, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # its run ended meanwhile
        try:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove(file.with_suffix(""))
                file.unlink(missing_ok=True)
        finally:
            os.close(lock)


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def remove(folder: Path) -> None:
    """Remove a run's processes, mounts, network namespaces, cgroups and files; each step may find nothing."""
    end_processes(folder)
    for mount in reversed(mounts_below(folder)):
        run(["umount", "--lazy", mount], check=False)
    for device in loop_devices(folder):
        run(["losetup", "--detach", device], check=False)
    for namespace in network_namespaces(folder.name):
        run(["ip", "netns", "delete", namespace])
    for cgroup in sorted(_CGROUPS.glob(f"*/{folder.name}*"), reverse=True):
        remove_cgroup(cgroup)
    if folder.exists():
        shutil.rmtree(folder)


def end_processes(folder: Path) -> None:
    """Kill every process that runs on a root below the folder or has its path among its arguments."""
    deadline = time.monotonic() + _PATIENCE
    while found := processes_of(folder):
        if time.monotonic() > deadline:
            raise TimeoutError(f"Processes {found} of {folder} do not end.")
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def processes_of(folder: Path) -> list[int]:
    """Find the processes of a run, but for this one."""
    mark = str(folder).encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if mark + b"/" in (entry / "cmdline").read_bytes() or mark in _root_mount(entry):
                found.append(int(entry.name))
    return found


def _root_mount(process: Path) -> bytes:
    """Return the line of the process's mount table about its root; a box's names the folder of its upper layer."""
    for line in (process / "mountinfo").read_bytes().splitlines():
        if line.split(b" ")[4] == b"/":
            return line
    return b""


def mounts_below(folder: Path) -> list[str]:
    """List mount points below a folder, outermost first."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return sorted(point for point in points if point.startswith(f"{folder}/"))


def loop_devices(folder: Path) -> list[str]:
    """List loop devices whose file lies below a folder."""
    listing = run(["losetup", "--noheadings", "--output", "NAME,BACK-FILE"]).out
    return [line.split()[0] for line in listing.splitlines() if str(folder) in line]


def network_namespaces(name: str) -> list[str]:
    """List the network namespaces of a run."""
    words = re.findall(rf"^({name}\S*)", run(["ip", "netns", "list"]).out, re.MULTILINE)
    return [str(word) for word in words]


def remove_cgroup(cgroup: Path) -> None:
    """Remove a cgroup and those below it, once its processes are gone."""
    for inner in sorted(cgroup.rglob("*/"), reverse=True):
        with contextlib.suppress(FileNotFoundError):
            inner.rmdir()
    deadline = time.monotonic() + _PATIENCE
    while cgroup.exists():
        try:
            cgroup.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
