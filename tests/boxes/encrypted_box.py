"""The floor, 2 processors and 4 GiB, as a virtual machine with encrypted data, a TPM, and a Tang server on its bridge.

It is installed once from the bundle, as IT staff do it, asked from the second machine, turned off and kept in the cache
by what it was made from. Scenarios start from copies of its disks and of its TPM. What is slow without KVM and the same
everywhere is done in a container first: the medium's script as far as the installer, and Debian's packages of the role
`base`. The Tang server is Debian's, out of a tree of its own, started on the bridge's address and ended to be "down".
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from installer.answers import as_document, parse_answers
from tests.boxes.conftest import Rig
from tests.boxes.rig import images
from tests.boxes.rig.box import read, write
from tests.boxes.rig.commands import Outcome, run
from tests.boxes.rig.installation import ADMINISTRATOR, MEDIUM, Bundle, Wishes, answers, install, prepare
from tests.boxes.rig.network import NETWORK
from tests.boxes.rig.qemu import Machine, QemuBox, blank_disk, stick
from tests.boxes.rig.second_machine import ask, hand_over, install_client
from tools.bootstrap.cache import entry
from tools.bootstrap.narration import step

DISK = "/dev/disk/by-id/virtio-data"
MOUNT = "/srv/intramuros"
AUTHORITY = "/etc/intramuros/tls/ca.crt"
CERTIFICATE = f"{MOUNT}/edge/gateway.crt"
PORT = 7500
RECOVERY = "-".join(["cbdefghi"] * 8)
MISTYPED = f"{RECOVERY[:-1]}k"
PASSPHRASE = "correct horse battery"
TANG = images.Recipe(name="tang", packages=("tang", "jose"))
_VERSION = 1
"""Raised when the machine is installed differently from the same bundle."""
_MEMORY_MIB, _CPUS, _DATA_GIB = 4096, 2, 2
_ADDRESS = NETWORK[20]
_PASSPHRASE_FILE, _RECOVERY_FILE = "/run/data.pass", "/run/data.recovery"


@dataclass(slots=True, kw_only=True)
class TangServer:
    """Debian's Tang on the bridge."""

    rig: Rig
    keys: Path
    tree: Path
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def url(self) -> str:
        return f"http://{self.rig.network.router}:{PORT}"

    @property
    def thumbprint(self) -> str:
        """Thumbprint of the signing key, which is also the name of its file."""
        advertised = [file for file in self.keys.glob("[!.]*.jwk") if json.loads(file.read_text())["alg"] == "ES512"]
        return advertised[0].stem

    def make_keys(self) -> None:
        """Make keys; those that were there stay, hidden, for whoever is bound to them (tangd-rotate-keys)."""
        self.keys.mkdir(exist_ok=True)
        for file in self.keys.glob("[!.]*.jwk"):
            file.rename(file.with_name(f".{file.name}"))
        for curve in ({"alg": "ES512"}, {"alg": "ECMR"}):
            made = self._jose("jwk", "gen", "-i", json.dumps(curve)).out
            name = self._jose("jwk", "thp", "-i-", "-a", "S256", stdin=made).out.strip()
            (self.keys / f"{name}.jwk").write_text(made)

    def start(self) -> None:
        listen = ["systemd-socket-activate", "--accept", "--inetd", f"--listen={self.rig.network.router}:{PORT}"]
        program = [*self._loaded("usr/libexec/tangd"), str(self.keys)]
        self._process = self.rig.network.start([*listen, *program], log=self.keys.with_name("tang.log"))

    def stop(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGTERM)
            self._process.wait(timeout=10)
            self._process = None

    def _jose(self, *words: str, stdin: str = "") -> Outcome:
        return run([*self._loaded("usr/bin/jose"), *words], stdin=stdin.encode())

    def _loaded(self, program: str) -> list[str]:
        """Return the command line of a program of the tree, with the tree's own loader and libraries."""
        libraries = self.tree / "usr/lib/x86_64-linux-gnu"
        loader = self.tree / "lib64/ld-linux-x86-64.so.2"
        return [str(loader), "--library-path", str(libraries), str(self.tree / program)]


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledMachine:
    """A machine that was installed once and is off."""

    folder: Path
    """`system.qcow2`, `data.raw`, the TPM's state `tpm/`, the Tang server's keys `tang/`, the administrator's `key`."""

    @property
    def report(self) -> dict[str, Any]:
        """What was seen when it was installed: `seconds` to the first answer, the `answer`, the counts of a
        `fresh_check` of the storage phase, whether the disk was `blank_after_check`, `authority`, `certificate`."""
        report: dict[str, Any] = json.loads((self.folder / "report.json").read_text())
        return report


@dataclass(slots=True, kw_only=True)
class EncryptedBox:
    """The machine and its surroundings."""

    rig: Rig
    bundle: Bundle
    machine: QemuBox
    tang: TangServer
    data: Path
    recovery: str = RECOVERY
    passphrase: str = PASSPHRASE

    def sh(self, script: str, *, check: bool = True, timeout: float = 600) -> Outcome:
        return self.machine.sh(script, check=check, timeout=timeout)

    def storage(self, *words: str, check: bool = True, timeout: float = 900) -> Outcome:
        """Run `intramuros storage …`."""
        return self.sh(shlex.join(["intramuros", "storage", *words]), check=check, timeout=timeout)

    def key(self, text: str, name: str = "key") -> str:
        """Lay a key into the machine's memory and return its file."""
        file = f"/run/keys-of-test/{name}"
        self.sh(f"mkdir -p -m 700 /run/keys-of-test; umask 077; printf '%s\\n' {shlex.quote(text)} > {file}")
        return file

    def with_recovery(self) -> tuple[str, str]:
        """Return the option that gives the recovery key."""
        return "--recovery-key-file", self.key(self.recovery, "recovery")

    def alerts(self, *words: str) -> set[str]:
        """Return the codes of `storage status`."""
        document = json.loads(self.storage("status", "--json", *words, check=False).out)
        return {alert["code"] for alert in document["alerts"]}

    def mounted(self) -> bool:
        return self.sh(f"mountpoint -q {MOUNT}", check=False).ok

    def restart(self, *, tang: bool = True, other_tpm: bool = False) -> None:
        """Turn it off in order, change what is around it, and turn it on until it answers; the data may stay locked."""
        self.machine.stop()
        self.tang.stop()
        if tang:
            self.tang.start()
        if other_tpm:
            self.machine.clear_tpm()
        self.machine.start(settled=False)

    def wait(self, condition: str, seconds: int = 900) -> None:
        """Wait in the machine until a shell condition holds."""
        self.sh(f"timeout {seconds} sh -c {shlex.quote(f'until {condition}; do sleep 1; done')}", timeout=seconds + 60)

    def mount_medium(self) -> None:
        self.sh(f"mkdir -p {MEDIUM}; mountpoint -q {MEDIUM} || mount -o ro /dev/disk/by-id/virtio-stick {MEDIUM}")

    def play(self, *words: str, user: str = ADMINISTRATOR) -> dict[str, int]:
        """Run the bundle's storage phase over SSH and return ansible's counts."""
        options = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o ControlPath=none"
        host = {
            "ansible_host": str(self.machine.address),
            "ansible_user": user,
            "ansible_become": user != "root",
            "ansible_ssh_private_key_file": str(self.rig.key),
            "ansible_ssh_common_args": options,
            "ansible_python_interpreter": "/usr/bin/python3",
        }
        inventory, variables = self.rig.folder / "inventory.json", self.rig.folder / "variables.json"
        inventory.write_text(json.dumps({"all": {"hosts": {"box": host}}}))
        variables.write_text(json.dumps(self._variables()))
        playbook = self.bundle.medium / "playbooks" / "phase-storage.yml"
        command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(inventory), "-e", f"@{variables}"]
        settings = ["ANSIBLE_PIPELINING=1", "ANSIBLE_NOCOLOR=1", "ANSIBLE_TIMEOUT=120"]
        said = run(
            self.rig.network.inside(["env", *settings, *command, *words, str(playbook)]), timeout=3600
        ).out.rsplit("RECAP", 1)[1]
        return {name: int(number) for name, number in re.findall(r"(ok|changed|failed)=(\d+)", said)}

    def _variables(self) -> dict[str, Any]:
        text = answers(_wishes(self.rig, self.tang)).encode()
        return {
            "answers": as_document(parse_answers(text, name="answers")),
            "bundle_root": MEDIUM,
            "secrets_directory": "/run/intramuros/secrets",
            "secrets_given": [],
        }


def installed_machine(make_rig: Callable[[], Rig], bundle: Bundle, cache: Path) -> InstalledMachine:
    """Return the machine of this bundle, installing it when the cache has none."""
    disk = images.disk(cache, images.MACHINE)
    made_from = json.dumps(
        [_VERSION, disk.name, (bundle.medium / "bootstrap" / "SHA256SUMS").read_text(), _MEMORY_MIB, _CPUS, _DATA_GIB]
    )
    name = f"installed-{hashlib.sha256(made_from.encode()).hexdigest()[:16]}"

    def make(folder: Path) -> None:
        for old in (cache / "boxes").glob("installed-*"):
            shutil.rmtree(old)  # of an earlier bundle
        with step("installing the machine"):
            _install(make_rig(), bundle, folder)

    return InstalledMachine(folder=entry(cache / "boxes", name, make))


def start_encrypted_box(
    rig: Rig, bundle: Bundle, installed: InstalledMachine, *, clock: str | None = None
) -> EncryptedBox:
    """Power a copy of the installed machine on until it answers. Tang is down: its TPM alone opens the data."""
    rig.key = installed.folder / "key"
    data = rig.folder / "data.raw"
    shutil.copytree(installed.folder / "tang", rig.folder / "tang")
    run(["cp", "--sparse=always", installed.folder / "data.raw", data])
    server = TangServer(rig=rig, keys=rig.folder / "tang", tree=rig.tree(TANG))
    machine = rig.machine(
        octet=20,
        memory_mib=_MEMORY_MIB,
        cpus=_CPUS,
        disks=(("stick", stick(bundle.medium, rig.folder / "stick.raw"), True), ("data", data, False)),
        tpm=True,
        tpm_from=installed.folder / "tpm",
        clock=clock,
        system=installed.folder / "system.qcow2",
        settled=False,
    )
    return EncryptedBox(rig=rig, bundle=bundle, machine=machine, tang=server, data=data)


def start_other_box(box: EncryptedBox, installed: InstalledMachine) -> QemuBox:
    """Boot another box of the same make, with its own TPM, that got a copy of the disk; the first one is off."""
    copy = box.rig.folder / "moved.raw"
    run(["cp", "--sparse=always", box.data, copy])
    return box.rig.machine(
        "other",
        octet=20,
        memory_mib=_MEMORY_MIB,
        cpus=_CPUS,
        disks=(("data", copy, False),),
        tpm=True,
        system=installed.folder / "system.qcow2",
        settled=False,
    )


def _prepared_disk(rig: Rig, bundle: Bundle) -> Path:
    """Return a folder with a disk that has the installer and packages of Debian, put there by a container."""
    box = rig.box("prepared", layers=(rig.tree(images.MACHINE),), shared=((bundle.medium, MEDIUM),))
    prepare(box, bundle)
    defaults = (bundle.medium / "playbooks" / "roles" / "base" / "defaults" / "main.yml").read_text()
    packages = " ".join(yaml.safe_load(defaults)["base_packages"])
    box.sh(f"DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install {packages}", timeout=1800)
    box.stop()
    folder = rig.folder / "disk"
    folder.mkdir()
    images.write_disk(box.root, folder)
    rig.discard(box)
    return folder


def _install(rig: Rig, bundle: Bundle, folder: Path) -> None:
    """Install a machine through the medium's script, ask it, and leave what it is in `folder`."""
    for file in (rig.key, rig.key.with_suffix(".pub")):
        shutil.copyfile(file, folder / file.name)
        (folder / file.name).chmod(0o600)
    outsider = rig.outsider(shared=((bundle.medium, MEDIUM),))
    install_client(outsider)
    tang = TangServer(rig=rig, keys=rig.folder / "tang", tree=rig.tree(TANG))
    tang.make_keys()
    tang.start()
    data = blank_disk(rig.folder / "data.raw", _DATA_GIB)
    disks = (("stick", stick(bundle.medium, rig.folder / "stick.raw"), True), ("data", data, False))
    made = Machine(
        name="box",
        address=_ADDRESS,
        base=_prepared_disk(rig, bundle),
        memory_mib=_MEMORY_MIB,
        cpus=_CPUS,
        disks=disks,
        tpm=True,
    )
    machine = QemuBox(made_from=made, folder=rig.folder / "box", network=rig.network, public_key=rig.public_key)
    rig.boxes.append(machine)
    machine.make()
    box = EncryptedBox(rig=rig, bundle=bundle, machine=machine, tang=tang, data=data)
    box.mount_medium()
    for path, text in ((_RECOVERY_FILE, RECOVERY), (_PASSPHRASE_FILE, PASSPHRASE)):
        write(box.machine, path, text, mode="0600")
    fresh_check = box.play("--check", "--diff", user="root")
    blank = not box.sh(f"blkid {DISK}", check=False).out
    begun = time.monotonic()
    install(box.machine, bundle, _wishes(rig, tang))
    hand_over(box.machine, outsider)
    answer = ask(outsider, _ADDRESS, "seed")
    seconds = time.monotonic() - begun
    report = {
        "seconds": seconds,
        "answer": answer,
        "fresh_check": fresh_check,
        "blank_after_check": blank,
        "authority": read(box.machine, AUTHORITY),
        "certificate": read(box.machine, CERTIFICATE),
    }
    (folder / "report.json").write_text(json.dumps(report))
    outsider.stop()
    tang.stop()
    run(["qemu-img", "convert", "-O", "qcow2", machine.freeze(), folder / "system.qcow2"], timeout=1800)
    shutil.move(data, folder / "data.raw")
    shutil.copytree(box.machine.tpm_state, folder / "tpm")
    shutil.copytree(tang.keys, folder / "tang")


def _wishes(rig: Rig, tang: TangServer) -> Wishes:
    return Wishes(
        address=_ADDRESS,
        public_key=rig.public_key,
        tang=(str(rig.network.router),),
        lifeline_seconds=1800,
        more=f"""
[storage]
mode = "luks"
device = "{DISK}"
unlock = ["passphrase", "tpm2", "tang"]
passphrase_file = "{_PASSPHRASE_FILE}"
recovery_key_file = "{_RECOVERY_FILE}"
tang_servers = [{{ url = "{tang.url}", thumbprint = "{tang.thumbprint}" }}]
""",
    )
