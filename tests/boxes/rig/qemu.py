"""A box as a virtual machine: QEMU with the kernel booted directly, a TPM, more disks, a clock that can be wrong.

For what a container cannot show: kernel settings, audit, LUKS, TPM, real reboots, the clock. The network is the same
bridge as the containers' one. Without working KVM a boot takes one to two minutes of software emulation; whether KVM
works is found out by booting a kernel, because a device node proves nothing.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
import subprocess
import time
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from pathlib import Path

from tests.boxes.rig.commands import CommandFailed, Outcome, run
from tests.boxes.rig.door import Door, DoorClosed
from tests.boxes.rig.network import NAME_SERVER, NETWORK, Network

_BOOT = 1200.0
_PROBE = 20.0
_PROBE_MARK = b"Kernel panic"
"""A kernel without a root ends with these words, after it has started everything of itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """How a virtual machine is made."""

    name: str
    address: IPv4Address
    base: Path
    """Folder with `disk.raw`, `vmlinuz`, `initrd.img`."""
    memory_mib: int = 2048
    cpus: int = 2
    disks: tuple[tuple[str, Path, bool], ...] = ()
    """More disks: serial number (`/dev/disk/by-id/virtio-SERIAL`), raw file, whether read-only."""
    tpm: bool = False
    tpm_from: Path | None = None
    """State of a TPM that this machine goes on with; None is a new one."""
    system: Path | None = None
    """System disk (qcow2) of a machine that is off, from whose state this one starts; None is the bare base."""
    clock: str | None = None
    """What its clock starts with, such as `1970-01-02T00:00:00`; None is now."""


@dataclass(slots=True, kw_only=True)
class QemuBox:
    """A virtual machine that may run."""

    made_from: Machine
    folder: Path
    network: Network
    public_key: str
    kernel_arguments: list[str] = field(default_factory=list)
    """More words for the kernel's command line, read at each start."""
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _tpm: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _door: Door | None = field(default=None, init=False)

    @property
    def name(self) -> str:
        return self.made_from.name

    @property
    def address(self) -> IPv4Address:
        return self.made_from.address

    @property
    def log(self) -> Path:
        """What came over the serial line, all starts together."""
        return self.folder / "serial.log"

    @property
    def system_disk(self) -> Path:
        return self.folder / "system.qcow2"

    @property
    def tpm_state(self) -> Path:
        return self.folder / "tpm"

    def make(self, *, settled: bool = True) -> None:
        """Lay its disk, boot it as `start` does, and give a bare one name, address and key."""
        self.folder.mkdir(parents=True)
        if self.made_from.tpm_from is None:
            self.tpm_state.mkdir()
        else:
            shutil.copytree(self.made_from.tpm_from, self.tpm_state)
        below, form = self.made_from.system or self.made_from.base / "disk.raw", "raw"
        if self.made_from.system is not None:
            form = "qcow2"
        run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", below, "-F", form, self.system_disk])
        self.start(settled=settled)
        if self.made_from.system is None:
            self._settle()

    def start(self, *, settled: bool = True) -> None:
        """Power on; return when it has booted, or with `settled` false as soon as it answers at all."""
        self.network.add_tap(self._tap)
        if self.made_from.tpm:
            self._start_tpm()
        self._process = self.network.start(self._words(), log=self.folder / "qemu.log")
        self._door = self._connect()
        self._ask("true", _BOOT)
        if settled:
            self._wait_booted()

    def sh(self, script: str, *, check: bool = True, timeout: float = 300) -> Outcome:
        outcome = self._ask(script, timeout)
        if check and not outcome.ok:
            raise CommandFailed([self.name, script], outcome)
        return outcome

    def stop(self) -> None:
        """Power off in order."""
        self._leave("poweroff")

    def reboot(self, *, settled: bool = True) -> None:
        self._leave("reboot")
        self.start(settled=settled)

    def kill(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        self._ended()

    def freeze(self) -> Path:
        """Power off for good; return the disk from which machines in this one's state can be made."""
        self.stop()
        return self.system_disk

    def clear_tpm(self) -> None:
        """Put another, empty TPM into the machine; it has to be off."""
        shutil.rmtree(self.tpm_state)
        self.tpm_state.mkdir()

    def set_clock(self, clock: str | None) -> None:
        """Let the machine's clock begin with another time at its next start."""
        self.made_from = replace(self.made_from, clock=clock)

    def discard(self) -> None:
        """Take the power away and remove everything the machine was."""
        self.kill()
        shutil.rmtree(self.folder)

    @property
    def _tap(self) -> str:
        return f"tap{int(self.address) & 0xFF}"

    def _words(self) -> list[str]:
        made = self.made_from
        accelerator = "kvm" if kvm_works(made.base) else "tcg,thread=multi"
        kernel = ["root=/dev/vda rw console=ttyS0 net.ifnames=0", *self.kernel_arguments]
        words = [
            *("qemu-system-x86_64", "-nodefaults", "-display", "none", "-no-reboot", "-name", made.name),
            *("-accel", accelerator, "-cpu", "max", "-smp", str(made.cpus), "-m", str(made.memory_mib)),
            *("-kernel", str(made.base / "vmlinuz"), "-initrd", str(made.base / "initrd.img")),
            *("-append", " ".join(kernel)),
            *("-chardev", f"file,id=serial,path={self.log},append=on", "-serial", "chardev:serial"),
            *("-device", "virtio-rng-pci", "-device", "virtio-serial-pci"),
            *("-chardev", f"socket,id=door,path={self.folder / 'door'},server=on,wait=off"),
            *("-device", "virtserialport,chardev=door,name=rig"),
            *("-netdev", f"tap,id=net,ifname={self._tap},script=no,downscript=no"),
            *("-device", f"virtio-net-pci,netdev=net,mac=52:54:00:90:00:{int(self.address) & 0xFF:02x}"),
            *("-rtc", f"base={made.clock or 'utc'},clock=host"),
            *_disk("system", self.system_disk, "qcow2", read_only=False),
        ]
        for serial, file, read_only in made.disks:
            words += _disk(serial, file, "raw", read_only=read_only)
        if made.tpm:
            words += ["-chardev", f"socket,id=tpm,path={self.folder / 'tpm.socket'}"]
            words += ["-tpmdev", "emulator,id=tpm,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm"]
        return words

    def _start_tpm(self) -> None:
        """Start the TPM; it ends when the machine lets go of it."""
        socket = self.folder / "tpm.socket"
        socket.unlink(missing_ok=True)
        words = ["swtpm", "socket", "--tpm2", "--terminate", "--tpmstate", f"dir={self.tpm_state}"]
        self._tpm = self.network.start([*words, "--ctrl", f"type=unixio,path={socket}"], log=self.folder / "swtpm.log")
        _appears(socket)

    def _connect(self) -> Door:
        path = self.folder / "door"
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if self._process is not None and self._process.poll() is not None:
                raise self._failure("did not start")
            with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                return Door(path)
            time.sleep(0.05)
        raise self._failure("has no door")

    def _ask(self, script: str, timeout: float) -> Outcome:
        if self._door is None:
            raise RuntimeError(f"Machine {self.name} does not run.")
        try:
            return self._door.ask(script, timeout=timeout)
        except DoorClosed as error:
            raise self._failure(str(error)) from error

    def _wait_booted(self) -> None:
        deadline = time.monotonic() + _BOOT
        state = ""
        while time.monotonic() < deadline:
            state = self._ask("systemctl is-system-running", _BOOT).out.strip()
            if state in ("running", "degraded"):
                return
            time.sleep(0.5)
        raise self._failure(f"did not boot, its state is {state or 'unknown'}")

    def _settle(self) -> None:
        prefix = NETWORK.prefixlen
        self.sh(
            f"""set -e
hostnamectl set-hostname {self.name}
printf '127.0.0.1 localhost\\n127.0.1.1 {self.name}\\n' > /etc/hosts
echo 'nameserver {NAME_SERVER}' > /etc/resolv.conf
printf 'auto lo eth0\\niface lo inet loopback\\niface eth0 inet static\\n address {self.address}/{prefix}\\n' \\
    > /etc/network/interfaces
echo ' gateway {self.network.router}' >> /etc/network/interfaces
mkdir -p -m 700 /root/.ssh
echo '{self.public_key.strip()}' > /root/.ssh/authorized_keys
systemctl restart networking
"""
        )

    def _leave(self, verb: str) -> None:
        if self._door is not None:
            # The machine may end before it answers.
            with contextlib.suppress(CommandFailed):
                self._ask(f"systemctl {verb}", 60)
        if self._process is not None:
            try:
                self._process.wait(timeout=_BOOT)
            except subprocess.TimeoutExpired as error:
                raise self._failure(f"does not {verb}") from error
        self._ended()

    def _ended(self) -> None:
        if self._process is None:
            return
        self._process.wait(timeout=60)
        if self._door is not None:
            self._door.close()
        if self._tpm is not None:
            self._tpm.terminate()  # it ends by itself when the machine got as far as to use it
            self._tpm.wait(timeout=60)
        self._process = self._door = self._tpm = None
        (self.folder / "door").unlink(missing_ok=True)
        self.network.remove_tap(self._tap)

    def _failure(self, what: str) -> CommandFailed:
        said = [file.read_text(errors="replace") for file in (self.log, self.folder / "qemu.log") if file.exists()]
        return CommandFailed([f"machine {self.name}: {what}"], Outcome(status=-1, out=said[0][-4000:], err=said[-1]))


@functools.cache
def kvm_works(base: Path) -> bool:
    """Tell whether a kernel runs under KVM here, by running one until it misses its root."""
    if not Path("/dev/kvm").exists():
        return False
    words = [
        *("qemu-system-x86_64", "-nodefaults", "-display", "none", "-no-reboot", "-accel", "kvm", "-cpu", "max"),
        *("-m", "512", "-kernel", str(base / "vmlinuz"), "-append", "console=ttyS0 panic=-1"),
        *("-serial", "stdio"),
    ]
    try:
        said = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PROBE, check=False).stdout
    except subprocess.TimeoutExpired:
        return False
    return _PROBE_MARK in said


def blank_disk(file: Path, gib: int) -> Path:
    """Make an empty raw disk."""
    run(["truncate", "--size", f"{gib}G", file])
    return file


def stick(source: Path, file: Path) -> Path:
    """Make a raw disk with an ext4 file system that holds a folder: the medium a bundle is carried on."""
    used = int(run(["du", "--summarize", "--block-size=1", source]).out.split()[0])
    run(["truncate", "--size", str(used + used // 8 + (64 << 20)), file])
    run(["mkfs.ext4", "-q", "-m", "0", "-L", "stick", "-d", source, file], timeout=600)
    return file


def _disk(serial: str, file: Path, form: str, *, read_only: bool) -> list[str]:
    # A power cut of the rig ends QEMU; what was flushed to this machine's memory outlives that.
    drive = f"file={file},format={form},if=none,id={serial},readonly={'on' if read_only else 'off'},cache=unsafe"
    return ["-drive", drive, "-device", f"virtio-blk-pci,drive={serial},serial={serial}"]


def _appears(path: Path) -> None:
    deadline = time.monotonic() + 10
    while not path.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{path} does not appear.")
        time.sleep(0.02)
