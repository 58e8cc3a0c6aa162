"""How hard a server is made by our role and by two others, in the words of scanners that are neither's.

    git clone https://github.com/dev-sec/ansible-collection-hardening DEVSEC
    git clone https://github.com/ansible-lockdown/DEBIAN12-CIS LOCKDOWN
    make bench-hardening DEVSEC=… LOCKDOWN=…

Containers made alike from Debian 12: as it is, hardened by us, by dev-sec's `os_hardening` and `ssh_hardening`, by
ansible-lockdown's DEBIAN12-CIS; each role with its own defaults, over SSH, by an administrator with sudo. Asked of
each: what OpenSCAP and Lynis say afterwards, whether a new SSH login and sudo work, how many tasks a second run
changes, and whether a login works after a mistake: the setting of who may come in (of the others the users of SSH, of
ours the network of administrators) names somebody else, and three minutes pass.

A container has no kernel of its own: rules on its parameters, on boot and on audit count for nobody. ansible-lockdown's
role leaves much more out in a container by itself, and is told not to; dev-sec's would stop at the kernel's parameters
and at auditd, and is told to leave those out. Needs root, a bundle in build/bundle and the programs of `make
test-boxes`. Others may want packages that the medium does not have, so their tree has them from the start.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, Final

import yaml

from benchmarks.comparison import Figure, at_least, at_most, keep_figures
from tests.boxes.conftest import Rig, make_key, new_rig
from tests.boxes.rig import images
from tests.boxes.rig.box import write
from tests.boxes.rig.commands import Outcome, run
from tests.boxes.rig.installation import (
    ADMINISTRATOR,
    ANSWERS,
    MEDIUM,
    Bundle,
    Wishes,
    add_administrator,
    answers,
    prepare,
)
from tests.boxes.rig.nspawn import NspawnBox
from tests.boxes.rig.referees import ANSSI, CIS, Referees, install_scanners, scan
from tests.boxes.rig.run_folder import run_folder
from tools.bootstrap.cache import cache_directory
from tools.bootstrap.narration import say, step

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv-hardening"
PEERS: Final = images.Recipe(
    name="peers",
    packages=(
        *images.SERVER.packages,
        *("acl", "aide", "aide-common", "apparmor", "apparmor-utils", "audispd-plugins", "auditd", "chrony", "cron"),
        *("iptables", "libpam-passwdqc", "libpam-pwquality", "logrotate", "python3", "python3-apt", "rsyslog", "sudo"),
        *("systemd-journal-remote", "ufw"),
    ),
)
_LIFELINE: Final = 120
"""Seconds until our box takes back what nobody has confirmed."""
_PATIENCE: Final = 180.0
"""Seconds in which a login has to work again."""
_HOUR: Final = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """A role of Ansible's that is not ours."""

    name: str
    folder: Path
    roles: tuple[str, ...]
    variables: dict[str, Any]
    """Of its own documented ones, what it needs to run here to its end."""
    mistake: dict[str, Any]
    collection: str = ""
    """`namespace.name` where the folder is a collection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardened:
    """What came of one way to harden."""

    said: Referees
    applied: bool
    """Whether the run ended without an error."""
    login: bool
    """Whether a new SSH login and sudo work."""
    changed_again: int
    """Tasks that a second run changes."""
    login_after_mistake: bool


def failing(said: Referees) -> int:
    """Return how many rules of CIS level 1 do not pass; that one is waived does not help."""
    rules = said.rules(CIS)
    return len(rules.get("fail", [])) + len(rules.get("waived", []))


def verdicts(name: str, said: Referees) -> list[Figure]:
    """Return what the scanners say, under a name."""
    return [
        Figure(f"hardening.{name}.cis_level1_failing", "rules", None, [failing(said)]),
        Figure(f"hardening.{name}.cis_level1_share", "%", None, [said.share(CIS)]),
        Figure(f"hardening.{name}.anssi_enhanced_share", "%", None, [said.share(ANSSI)]),
        Figure(f"hardening.{name}.lynis_index", "points", None, [said.lynis_index]),
    ]


def behaviour(name: str, of: Hardened, *, ours: bool) -> list[Figure]:
    """Return how it went, under a name; ours has goals."""
    return [
        Figure(f"hardening.{name}.applied", "runs", at_least(1) if ours else None, [of.applied]),
        Figure(f"hardening.{name}.login", "logins", at_least(1) if ours else None, [of.login]),
        Figure(f"hardening.{name}.changed_again", "tasks", at_most(0) if ours else None, [of.changed_again]),
        Figure(
            f"hardening.{name}.login_after_mistake", "logins", at_least(1) if ours else None, [of.login_after_mistake]
        ),
    ]


def ratios_to(name: str, ours: Referees, theirs: Referees) -> list[Figure]:
    """Return the scanners' figures of ours as ratios to another's."""
    shares = ours.share(ANSSI) / theirs.share(ANSSI)
    indexes = ours.lynis_index / theirs.lynis_index
    return [
        Figure(
            f"hardening.cis_level1_failing.to_{name}", "ratio", at_most(1), [failing(ours) / max(failing(theirs), 1)]
        ),
        Figure(f"hardening.anssi_enhanced_share.to_{name}", "ratio", at_least(1), [shares]),
        Figure(f"hardening.lynis_index.to_{name}", "ratio", at_least(1), [indexes]),
    ]


def devsec(folder: Path) -> Role:
    """Return dev-sec's two roles."""
    return Role(
        name="devsec",
        folder=folder,
        roles=("devsec.hardening.os_hardening", "devsec.hardening.ssh_hardening"),
        collection="devsec.hardening",
        variables={
            "sysctl_unsupported_entries": _of_the_kernel(folder / "roles" / "os_hardening"),
            "os_auditd_enabled": False,
        },
        mistake={"ssh_allow_users": "somebody"},
    )


def lockdown(folder: Path, nothing: Path) -> Role:
    """Return ansible-lockdown's role; `nothing` is a file of no variables.

    Its checks refuse a box whose root or administrator has no password, and those of sudo who need none.
    """
    return Role(
        name="lockdown",
        folder=folder,
        roles=(str(folder),),
        variables={
            "container_vars_file": str(nothing),
            "deb12cis_set_boot_pass": False,
            "deb12cis_rule_5_2_4": False,
            "deb12cis_rule_5_4_2_4": False,
        },
        mistake={"deb12cis_sshd_allow_users": "somebody"},
    )


def _of_the_kernel(role: Path) -> list[str]:
    """Return the parameters that dev-sec's role sets and a container does not have of its own: it would stop there."""
    files = (role / "defaults" / "main.yml", role / "vars" / "Debian.yml")
    said: list[dict[str, Any]] = [yaml.safe_load(file.read_text()) for file in files]
    names = {name for one in said for part in ("sysctl_config", "sysctl_custom_config") for name in one.get(part, {})}
    return sorted(name for name in names if not name.startswith("net."))


def harden_with_role(rig: Rig, bundle: Bundle, role: Role) -> Hardened:
    """Run another's role twice, scan, and then run it with the mistake."""
    box = _box(rig, bundle, PEERS)
    add_administrator(box)
    with step(f"{role.name}: hardening"):
        first = _play(rig, box, role, {})
        login = _logs_in(rig, box)
        second = _play(rig, box, role, {})
    with step(f"{role.name}: scanning"):
        said = scan(box, role.name)
    with step(f"{role.name}: a mistake"):
        _play(rig, box, role, role.mistake)
        after = _logs_in_within(rig, box, _PATIENCE)
    return Hardened(said=said, applied=first.ok, login=login, changed_again=_changed(second), login_after_mistake=after)


def harden_with_ours(rig: Rig, bundle: Bundle) -> Hardened:
    """Do the same with `intramuros harden`; it refuses the mistake, and is told to make it all the same."""
    box = _box(rig, bundle, images.SERVER)
    with step("ours: hardening"):
        first = _harden(rig, box, "root")
        login = _logs_in(rig, box)
        second = _harden(rig, box, ADMINISTRATOR)
    with step("ours: scanning"):
        said = scan(box, "ours")
    with step("ours: a mistake"):
        _harden(rig, box, ADMINISTRATOR, "--force-admin", admin=("10.99.99.0/24",))
        after = _logs_in_within(rig, box, _PATIENCE)
    again = len(re.findall(r"^  changed ", second.out + second.err, re.MULTILINE))
    return Hardened(said=said, applied=first.ok, login=login, changed_again=again, login_after_mistake=after)


def scan_stock(rig: Rig, bundle: Bundle) -> Referees:
    """Scan Debian as its installer leaves it."""
    box = _box(rig, bundle, images.SERVER)
    with step("stock: scanning"):
        return scan(box, "stock")


def main(arguments: list[str]) -> int:
    """Measure and write benchmarks/results/hardening.json. What was not asked for now stays."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hardening", description=__doc__.partition("\n")[0])
    parser.add_argument("--dev-sec", type=Path, help="a clone of ansible-collection-hardening")
    parser.add_argument("--lockdown", type=Path, help="a clone of DEBIAN12-CIS")
    chosen = parser.parse_args(arguments)
    with run_folder(cache_directory()) as folder:
        others = [devsec(chosen.dev_sec.resolve())] if chosen.dev_sec else []
        if chosen.lockdown:
            nothing = folder / "nothing.json"
            nothing.write_text("{}")
            others.append(lockdown(chosen.lockdown.resolve(), nothing))
        keep_figures("hardening", measure(folder, others))
    return 0


def measure(folder: Path, others: Sequence[Role]) -> list[Figure]:
    """Harden one container after the other and ask the scanners of each."""
    key, numbers = make_key(folder), count()
    bundle = Bundle.read(ROOT / "build" / "bundle")

    @contextmanager
    def rig() -> Iterator[Rig]:
        made = new_rig(folder, next(numbers), cache=cache_directory(), key=key)
        try:
            yield made
        finally:
            made.remove()

    with rig() as made:
        figures = verdicts("stock", scan_stock(made, bundle))
    with rig() as made:
        ours = harden_with_ours(made, bundle)
    figures += [*verdicts("ours", ours.said), *behaviour("ours", ours, ours=True)]
    for role in others:
        with rig() as made:
            theirs = harden_with_role(made, bundle, role)
        figures += [*verdicts(role.name, theirs.said), *behaviour(role.name, theirs, ours=False)]
        figures += ratios_to(role.name, ours.said, theirs.said)
    return figures


def _box(rig: Rig, bundle: Bundle, recipe: images.Recipe) -> NspawnBox:
    """Start a container that has the installer, which scans, and the scanners."""
    box = rig.box(layers=(rig.tree(recipe),), shared=((bundle.medium, MEDIUM),))
    prepare(box, bundle)
    install_scanners(box)
    return box


def _harden(rig: Rig, box: NspawnBox, user: str, *words: str, admin: tuple[str, ...] = ()) -> Outcome:
    """Run our hardening alone over SSH, for a site that names a time and a log server, as the boxes' own test does."""
    wishes = Wishes(
        address=box.address,
        public_key=rig.public_key,
        enabled=False,
        lifeline_seconds=_LIFELINE,
        servers=(str(rig.network.router),),
    )
    write(box, ANSWERS, answers(replace(wishes, admin=admin) if admin else wishes))
    command = ["sudo", "-n"] if user != "root" else []
    command += ["intramuros", "harden", "--bundle", MEDIUM, "--answers", ANSWERS, *words]
    said = run([*rig.ssh(box.address, user), shlex.join(command)], check=False, timeout=_HOUR)
    if not said.ok:
        say(f"ours: {said.err[-2000:]}")
    return said


def _play(rig: Rig, box: NspawnBox, role: Role, variables: Mapping[str, Any]) -> Outcome:
    """Run a role over SSH with the programs of its own environment."""
    host = {
        "ansible_host": str(box.address),
        "ansible_user": ADMINISTRATOR,
        "ansible_ssh_private_key_file": str(rig.key),
        "ansible_ssh_common_args": "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null",
        "ansible_python_interpreter": "/usr/bin/python3",
    }
    inventory, playbook = rig.folder / "inventory.json", rig.folder / "playbook.json"
    inventory.write_text(json.dumps({"all": {"hosts": {"box": host}}}))
    play = {"hosts": "all", "become": True, "roles": list(role.roles), "vars": {**role.variables, **variables}}
    playbook.write_text(json.dumps([play]))
    settings = ["ANSIBLE_PIPELINING=1", "ANSIBLE_NOCOLOR=1"]
    if role.collection:
        place = rig.folder / "collections" / "ansible_collections" / role.collection.replace(".", "/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.is_symlink():
            place.symlink_to(role.folder)
        settings.append(f"ANSIBLE_COLLECTIONS_PATH={rig.folder / 'collections'}")
    command = [str(ENVIRONMENT / "bin" / "ansible-playbook"), "-i", str(inventory), str(playbook)]
    said = run(rig.network.inside(["env", *settings, *command]), check=False, timeout=_HOUR)
    if not said.ok:
        say(f"{role.name}: " + "\n".join(re.findall(r"^(?:fatal|failed): .*", said.out, re.MULTILINE))[:2000])
    return said


def _changed(said: Outcome) -> int:
    """Return how many tasks changed something, of what ansible-playbook said at its end."""
    return int(re.findall(r"changed=(\d+)", said.out)[-1])


def _logs_in(rig: Rig, box: NspawnBox) -> bool:
    """Tell whether the administrator gets in by a new connection and becomes root."""
    return run([*rig.ssh(box.address, ADMINISTRATOR), "sudo", "-n", "true"], check=False, timeout=60).ok


def _logs_in_within(rig: Rig, box: NspawnBox, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not (there := _logs_in(rig, box)) and time.monotonic() < end:
        time.sleep(5)
    return there


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
