"""A virtual machine with an empty second disk, a TPM and a Tang server on its bridge, and the two roles run on it.

The roles run from here over SSH, as they run on the box itself otherwise. The Tang server is Debian's, out of the
machine's own tree, started on the bridge's address and ended to be "down".
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

from tests.boxes.conftest import Rig
from tests.boxes.rig import images
from tests.boxes.rig.commands import Outcome, run
from tests.boxes.rig.network import NETWORK
from tests.boxes.rig.qemu import Machine, QemuBox, stick

SOURCES = Path(__file__).resolve().parents[2]
DISK = "/dev/disk/by-id/virtio-data"
MOUNT = "/srv/intramuros"
PORT = 7500
RECOVERY = "-".join(["cbdefghi"] * 8)
MISTYPED = f"{RECOVERY[:-1]}k"
PASSPHRASE = "correct horse battery"
TREE = images.Recipe(
    name="encrypted",
    packages=(
        *images.MACHINE.packages,
        *("cryptsetup", "clevis", "clevis-luks", "clevis-systemd", "curl", "tang", "jose", "tpm2-tools"),
        *("libtss2-esys-3.0.2-0", "libtss2-rc0", "libtss2-mu0", "libtss2-tcti-device0", "python3", "python3-apt"),
    ),
)
_LIBRARIES = ("click", "msgspec")
_COMMAND = """#!/bin/sh
PYTHONPATH=/mnt/product exec python3 -P -c 'from appliance.cli.main import run; run()' "$@"
"""


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
        return [
            str(self.tree / "lib64/ld-linux-x86-64.so.2"),
            "--library-path",
            str(libraries),
            str(self.tree / program),
        ]


@dataclass(slots=True, kw_only=True)
class EncryptedBox:
    """The machine and its surroundings."""

    rig: Rig
    machine: QemuBox
    tang: TangServer
    recovery: str = RECOVERY
    passphrase: str = PASSPHRASE

    def sh(self, script: str, *, check: bool = True, timeout: float = 300) -> Outcome:
        return self.machine.sh(script, check=check, timeout=timeout)

    def storage(self, *words: str, check: bool = True, timeout: float = 600) -> Outcome:
        """Run `intramuros storage …`."""
        return self.sh(shlex.join(["/usr/local/sbin/intramuros", "storage", *words]), check=check, timeout=timeout)

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

    def wait(self, condition: str, seconds: int = 300) -> None:
        """Wait in the machine until a shell condition holds."""
        self.sh(f"for i in $(seq {seconds}); do {condition} && exit 0; sleep 1; done; exit 1", timeout=seconds * 3)

    def play(self, *words: str) -> dict[str, int]:
        """Carry the two roles out and return ansible's counts."""
        playbook = self.rig.folder / "storage.yml"
        playbook.write_text(json.dumps([self._play()]))
        options = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o ControlPath=none"
        command = [
            *(str(Path(sys.executable).with_name("ansible-playbook")), "-i", f"{self.machine.address},", "-u", "root"),
            *("--private-key", str(self.rig.key), "--ssh-common-args", options, *words, str(playbook)),
        ]
        settings = ["ANSIBLE_PIPELINING=1", f"ANSIBLE_ROLES_PATH={SOURCES / 'playbooks/roles'}", "ANSIBLE_NOCOLOR=1"]
        said = run(self.rig.network.inside(["env", *settings, *command]), timeout=1800).out
        return {
            name: int(number) for name, number in re.findall(r"(ok|changed|failed)=(\d+)", said.rsplit("RECAP", 1)[1])
        }

    def _play(self) -> dict[str, object]:
        self.key(self.recovery, "storage_recovery_key")
        self.key(self.passphrase, "storage_passphrase")
        variables = {
            "ansible_python_interpreter": "/usr/bin/python3",
            "storage_mode": "luks",
            "storage_device": DISK,
            "storage_unlock": ["passphrase", "tpm2", "tang"],
            "storage_tang_servers": [{"url": self.tang.url, "thumbprint": self.tang.thumbprint}],
            "storage_secrets_directory": "/run/keys-of-test",
            "storage_command": "/usr/local/sbin/intramuros",
            "unlock_mode": "luks",
        }
        return {"hosts": "all", "gather_facts": True, "vars": variables, "roles": ["storage", "unlock"]}


def make_encrypted_box(rig: Rig, *, data: Path) -> EncryptedBox:
    """Boot the machine with an empty disk, the product's sources on a stick, and Tang beside it; format nothing."""
    tree = images.tree(rig.cache, TREE)
    tang = TangServer(rig=rig, keys=rig.folder / "tang", tree=tree)
    tang.keys.mkdir()
    tang.make_keys()
    tang.start()
    made = Machine(
        name="encrypted",
        address=NETWORK[30],
        base=images.disk(rig.cache, TREE),
        disks=(("data", data, False), ("product", _product(rig.folder), True)),
        tpm=True,
    )
    machine = QemuBox(made_from=made, folder=rig.folder / "encrypted", network=rig.network, public_key=rig.public_key)
    rig.boxes.append(machine)
    machine.make()
    _install_product(machine)
    return EncryptedBox(rig=rig, machine=machine, tang=tang)


def make_other_box(rig: Rig, *, data: Path) -> QemuBox:
    """Boot another machine of the same make, with its own TPM, that got the disk."""
    made = Machine(
        name="other", address=NETWORK[31], base=images.disk(rig.cache, TREE), disks=(("data", data, False),), tpm=True
    )
    machine = QemuBox(
        made_from=replace(made), folder=rig.folder / "other", network=rig.network, public_key=rig.public_key
    )
    rig.boxes.append(machine)
    machine.make()
    return machine


def _product(folder: Path) -> Path:
    """Make a stick with the command line's sources and its two libraries, for the box's Python 3.11."""
    content = folder / "product"
    content.mkdir()
    skip = shutil.ignore_patterns("__pycache__")
    for package in ("appliance/kernel", "appliance/cli", "installer"):
        shutil.copytree(SOURCES / package, content / package, ignore=skip)
    (content / "appliance/__init__.py").touch()
    for name in _LIBRARIES:
        found = find_spec(name)
        if found is None or found.origin is None:
            raise LookupError(f"The library {name} is not in this environment.")
        shutil.copytree(Path(found.origin).parent, content / name, ignore=skip)
    return stick(content, folder / "product.raw")


def _install_product(machine: QemuBox) -> None:
    machine.sh(
        f"""set -e
mkdir -p /mnt/product
echo '/dev/disk/by-id/virtio-product /mnt/product ext4 ro,nofail 0 0' >> /etc/fstab
mount /mnt/product
cat > /usr/local/sbin/intramuros <<'END'
{_COMMAND}END
chmod 755 /usr/local/sbin/intramuros
systemctl disable --now tangd.socket 2>/dev/null || true
"""
    )
