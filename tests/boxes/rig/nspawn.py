"""A box as a container with a real init: systemd-nspawn in the rig's network, its root an overlay over a cached tree.

Boots in a second or two and shares this machine's kernel: right for everything but the kernel's own part (audit, kernel
settings, device mapper, clock). The upper layer of a stopped box can be the base of others, so a scenario starts from
an installed box without installing it again.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path

from tests.boxes.rig.commands import PATH, CommandFailed, Outcome, run
from tests.boxes.rig.images import settle
from tests.boxes.rig.network import NAME_SERVER, NETWORK, Network

_BOOT = 90.0
_UP = ("running", "degraded")
_MEMORY = Path("/sys/fs/cgroup/memory")
_TREES = tuple(Path("/sys/fs/cgroup", name) for name in ("systemd", "unified", ""))
"""Where systemd keeps its control groups: in the first two where there are trees of both versions, else in the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """How a box is made."""

    name: str
    address: IPv4Address
    layers: tuple[Path, ...]
    """Trees below the box's own layer, the uppermost first."""
    disk_bytes: int | None = None
    """Room of its own layer; None is as much as this machine has."""
    memory_bytes: int | None = None
    cpus: int | None = None
    """How many of this machine's processors it may use."""
    shared: tuple[tuple[Path, str], ...] = ()
    """Folders of this machine that the box sees read-only, and where."""
    tunnels: bool = False
    """Whether it may make network devices that a program drives, such as WireGuard's without the kernel's module."""
    more_addresses: tuple[IPv4Address, ...] = ()


@dataclass(slots=True, kw_only=True)
class NspawnBox:
    """A container that may run."""

    made_from: Container
    folder: Path
    network: Network
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _leader: int | None = field(default=None, init=False)

    @property
    def name(self) -> str:
        return self.made_from.name

    @property
    def address(self) -> IPv4Address:
        return self.made_from.address

    @property
    def root(self) -> Path:
        """The box's file system as this machine sees it."""
        return self.folder / "root"

    @property
    def layer(self) -> Path:
        """What the box changed."""
        return self.folder / "own" / "upper"

    @property
    def log(self) -> Path:
        """Its console."""
        return self.folder / "console.log"

    def make(self, *, public_key: str) -> None:
        """Lay the box's file system and let the key log in as root."""
        own = self.folder / "own"
        own.mkdir(parents=True)
        if (room := self.made_from.disk_bytes) is not None:
            image = self.folder / "own.img"
            run(["truncate", "--size", str(room), image])
            run(["mkfs.ext4", "-q", "-m", "0", image])
            run(["mount", "-o", "loop", image, own])
        self.layer.mkdir()
        (own / "work").mkdir()
        self.root.mkdir()
        lower = ":".join(str(layer) for layer in self.made_from.layers)
        options = f"lowerdir={lower},upperdir={self.layer},workdir={own / 'work'}"
        run(["mount", "-t", "overlay", "overlay", "-o", options, self.root])
        self._settle(public_key)

    def start(self) -> None:
        words: list[str | Path] = [
            # /tmp is the box's own, by its fstab, as on a machine; else nspawn mounts it before init, with its options.
            *("env", "SYSTEMD_NSPAWN_TMPFS_TMP=0"),
            *("systemd-nspawn", "--register=no", "--keep-unit", "--boot", "--console=pipe"),
            # A container shares this machine's clock; nothing in it may set that.
            *(
                "--capability=all",
                "--drop-capability=CAP_SYS_TIME",
                "--system-call-filter=@keyring bpf perf_event_open",
            ),
            *(f"--directory={self.root}", f"--machine={self._machine}", f"--hostname={self.name}"),
            *("--network-bridge=br0", "--link-journal=no", "--resolv-conf=off", "--timezone=off"),
            *(["--bind=/dev/net/tun"] if self.made_from.tunnels else []),
            *(f"--bind-ro={source}:{place}" for source, place in self.made_from.shared),
        ]
        self._process = self.network.start([*self._limits(), *words], log=self.log)
        self._leader = self._find_leader()
        self._wait_booted()

    def stop(self) -> None:
        """Power off in order."""
        if self._running():
            self.sh("systemctl poweroff", check=False)
            self._wait_ended()

    def reboot(self) -> None:
        self.sh("systemctl reboot", check=False)
        self._wait_ended()
        self.start()

    def kill(self) -> None:
        if self._running() and self._leader is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._leader, signal.SIGKILL)
            self._wait_ended()

    def discard(self) -> None:
        """Take the power away and remove everything the box was."""
        self.kill()
        run(["umount", "--lazy", self.root], check=False)
        if self.made_from.disk_bytes is not None:
            run(["umount", "--lazy", self.folder / "own"], check=False)
        shutil.rmtree(self.folder)
        self._leave_groups()

    def freeze(self) -> tuple[Path, ...]:
        """Power off for good; return the layers from which boxes in this one's state can be made."""
        self.stop()
        self._leave_groups()
        run(["umount", self.root])
        return (self.layer, *self.made_from.layers)

    def sh(self, script: str, *, check: bool = True, timeout: float = 120) -> Outcome:
        return self.run(["bash", "-c", script], check=check, timeout=timeout)

    def run(
        self, words: Sequence[str], *, check: bool = True, timeout: float = 120, stdin: bytes | None = None
    ) -> Outcome:
        """Run a program as root in the box."""
        return run(self.inside(words), check=check, timeout=timeout, stdin=stdin)

    def inside(self, words: Sequence[str]) -> list[str]:
        """Return the command line that runs `words` as root in the box."""
        if self._leader is None:
            raise RuntimeError(f"Box {self.name} does not run.")
        enter = ["nsenter", "--target", str(self._leader), *["-m", "-p", "-u", "-i", "-n", "-C", "-r", "-w", "--"]]
        return [*enter, "env", "-i", f"PATH={PATH}", "HOME=/root", "LANG=C.UTF-8", "TERM=dumb", *words]

    @property
    def _machine(self) -> str:
        return f"{self.network.namespace}-{self.name}"

    def _settle(self, public_key: str) -> None:
        """Write what makes a tree this box. A layer of an installed box keeps its own settings."""
        etc = self.root / "etc"
        lines = [
            "auto lo host0",
            "iface lo inet loopback",
            "iface host0 inet static",
            f"    address {self.address}/{NETWORK.prefixlen}",
            f"    gateway {self.network.router}",
            *(f"    up ip address add {one}/{NETWORK.prefixlen} dev host0" for one in self.made_from.more_addresses),
        ]
        (etc / "network" / "interfaces").write_text("\n".join(lines) + "\n")
        if len(self.made_from.layers) > 1:
            return
        settle(self.root)
        (etc / "hostname").write_text(f"{self.name}\n")
        (etc / "hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {self.name}\n")
        resolver = etc / "resolv.conf"
        resolver.unlink(missing_ok=True)
        resolver.write_text(f"nameserver {NAME_SERVER}\n")
        ssh = self.root / "root" / ".ssh"
        ssh.mkdir(mode=0o700, exist_ok=True)
        (ssh / "authorized_keys").write_text(public_key)

    def _limits(self) -> list[str]:
        """Return the words that start a program in control groups of the box's own, within its limits.

        Boxes that shared a group would also share what systemd attaches to units of the same name, such as the filters
        of addresses, which then all have to agree.
        """
        cpus = [] if self.made_from.cpus is None else ["taskset", "--cpu-list", f"0-{self.made_from.cpus - 1}"]
        groups = [base / self._machine for base in _TREES if (base / "cgroup.procs").exists()]
        if (limit := self.made_from.memory_bytes) is not None:
            file = "memory.limit_in_bytes" if _MEMORY.is_dir() else "memory.max"
            groups += [_MEMORY / self._machine] if _MEMORY.is_dir() else []
        for group in groups:
            group.mkdir(exist_ok=True)
        if limit is not None:
            (groups[-1] / file).write_text(str(limit))
        enter = " && ".join(f"echo $$ > {group}/cgroup.procs" for group in groups)
        return [*cpus, "sh", "-c", f'{enter} && exec "$@"', "limited"] if enter else cpus

    def _leave_groups(self) -> None:
        """Remove the box's control groups, where nothing runs in them any more."""
        for base in (*_TREES, _MEMORY):
            for folder, _, _ in os.walk(base / self._machine, topdown=False):
                with contextlib.suppress(OSError):
                    Path(folder).rmdir()

    def _running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _find_leader(self) -> int:
        """Return the process that is init inside: the child of nspawn that is number 1 in a namespace of its own."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        deadline = time.monotonic() + _BOOT
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            with contextlib.suppress(FileNotFoundError):
                for pid in children.read_text().split():
                    if _is_init(Path(f"/proc/{pid}/status").read_text()):
                        return int(pid)
            time.sleep(0.02)
        raise self._failure("did not start")

    def _wait_booted(self) -> None:
        deadline = time.monotonic() + _BOOT
        state = ""
        while time.monotonic() < deadline:
            if not self._running():
                raise self._failure("ended while it booted")
            state = self.run(["systemctl", "is-system-running"], check=False).out.strip()
            if state in _UP:
                return
            time.sleep(0.1)
        raise self._failure(f"did not boot, its state is {state or 'unknown'}")

    def _wait_ended(self) -> None:
        if self._process is None:
            return
        try:
            self._process.wait(timeout=_BOOT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(timeout=_BOOT)
        self._leader = None

    def _failure(self, what: str) -> CommandFailed:
        log = self.log.read_text(errors="replace") if self.log.exists() else ""
        status = self._process.poll() if self._process is not None else None
        words = [f"box {self.name} {what}"]
        return CommandFailed(words, Outcome(status=-1 if status is None else status, out=log, err=""))


def _is_init(status: str) -> bool:
    """Tell from a process's status whether it is number 1 of its innermost namespace."""
    numbers = next((line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:")), [])
    return len(numbers) > 1 and numbers[-1] == "1"
