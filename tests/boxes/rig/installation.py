"""From a bundle to an installed box, as IT staff go: answers written, the medium's script run, a request asked."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from tests.boxes.rig.box import Box, write
from tests.boxes.rig.commands import Outcome
from tests.boxes.rig.network import ADMIN, CLIENTS

MEDIUM = "/media/stick"
"""Where boxes find the bundle."""
ANSWERS = "/var/lib/answers.toml"
ADMINISTRATOR = "ada"
MODEL = "seed"
_INSTALL = 4 * 3600.0
"""Seconds; a virtual machine without KVM needs an hour, and each scenario has its own limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A built bundle on this machine."""

    medium: Path
    fingerprint: str

    @classmethod
    def read(cls, folder: Path) -> Bundle:
        """Open what `make bundle` left. Raises FileNotFoundError."""
        return cls(medium=folder / "medium", fingerprint=(folder / "fingerprint").read_text().strip())

    @property
    def models(self) -> list[str]:
        return sorted(file.stem for file in (self.medium / "models").glob("*.gguf"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What differs between the answer files of the scenarios."""

    address: IPv4Address
    public_key: str
    hostname: str = "box"
    admin: tuple[str, ...] = (str(ADMIN),)
    clients: tuple[str, ...] = (str(CLIENTS),)
    model: str = MODEL
    enabled: bool = True
    profile: str = "baseline"
    lifeline_seconds: int = 600
    password_hash_file: str = ""
    """The administrator's; sudo asks for that password. Empty: sudo asks for nothing."""
    tang: tuple[str, ...] = ()
    fleet: tuple[str, ...] = ()
    servers: tuple[str, ...] = ()
    """Time and log servers of the site."""
    more: str = ""
    """More tables of the answer file."""


def answers(wishes: Wishes) -> str:
    """Write an answer file."""
    return f"""schema = 1
hostname = "{wishes.hostname}"
profile = "{wishes.profile}"

[admin]
user = "{ADMINISTRATOR}"
authorized_keys = [{json.dumps(wishes.public_key.strip())}]
sudo = "{"password" if wishes.password_hash_file else "nopasswd"}"
password_hash_file = "{wishes.password_hash_file}"

[network]
ntp = {json.dumps(wishes.servers)}
syslog = {json.dumps(wishes.servers)}
admin = {json.dumps(wishes.admin)}
clients = {json.dumps(wishes.clients)}
tang = {json.dumps(wishes.tang)}
fleet = {json.dumps(wishes.fleet)}

[tls]
names = ["{wishes.hostname}", "{wishes.address}"]

[app]
enabled = {str(wishes.enabled).lower()}
seed_model = "{wishes.model if wishes.enabled else ""}"

[lifeline]
seconds = {wishes.lifeline_seconds}
{wishes.more}"""


def install(box: Box, bundle: Bundle, wishes: Wishes, *, check: bool = True) -> tuple[Outcome, float]:
    """Run the medium's script with an answer file; return what it said and the seconds it took."""
    write(box, ANSWERS, answers(wishes), mode="0600")
    begun = time.monotonic()
    outcome = box.sh(install_script(bundle), check=check, timeout=_INSTALL)
    return outcome, time.monotonic() - begun


def prepare(box: Box, bundle: Bundle) -> None:
    """Run the medium's script as far as the installer itself: nothing is installed yet but that."""
    script = f"sh {MEDIUM}/bootstrap/install.sh --fingerprint {bundle.fingerprint} --prepare-only"
    box.sh(script, timeout=_INSTALL)


def add_administrator(box: Box) -> None:
    """Give a box without our installer an administrator: root's keys, and sudo that asks for nothing."""
    box.sh(
        f"""set -e
useradd -m -s /bin/bash {ADMINISTRATOR}
install -d -o {ADMINISTRATOR} -g {ADMINISTRATOR} -m 700 ~{ADMINISTRATOR}/.ssh
install -o {ADMINISTRATOR} -g {ADMINISTRATOR} -m 600 ~root/.ssh/authorized_keys ~{ADMINISTRATOR}/.ssh/
echo '{ADMINISTRATOR} ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/{ADMINISTRATOR}
chmod 440 /etc/sudoers.d/{ADMINISTRATOR}
"""
    )


def install_script(bundle: Bundle, *words: str) -> str:
    """Return the command that installs without asking."""
    more = " ".join(words)
    return f"sh {MEDIUM}/bootstrap/install.sh --fingerprint {bundle.fingerprint} -- --answers {ANSWERS} --yes {more}"


def again(box: Box, *words: str, check: bool = True) -> tuple[Outcome, float]:
    """Run the installed installer once more."""
    begun = time.monotonic()
    script = f"intramuros install --bundle {MEDIUM} --answers {ANSWERS} --yes {' '.join(words)}"
    outcome = box.sh(script, check=check, timeout=_INSTALL)
    return outcome, time.monotonic() - begun
