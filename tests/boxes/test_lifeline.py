"""Every way in which hardening roles have locked people out, on a real box: the old state comes back each time.

A change is made behind the lifeline's back that breaks firewall, SSH, PAM or sudo. The proof must fail, the state must
be exactly the one before, and an administrator must get in. The last tests let the timer and a reboot do it. One way of
each kind belongs to the fast part.
"""

from __future__ import annotations

import site
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.boxes.conftest import ADMINISTRATOR, Rig
from tests.boxes.rig.commands import Outcome, run
from tests.boxes.rig.images import BOX, Recipe
from tests.boxes.rig.installation import add_administrator
from tests.boxes.rig.nspawn import NspawnBox

pytestmark = pytest.mark.timeout(900)
slow = pytest.mark.boxes

_ROOT = Path(__file__).resolve().parents[2]
_RECIPE = Recipe(name="lifeline", packages=(*BOX.packages, "iproute2", "nftables", "procps", "python3", "sudo"))

_WRONG_NETWORK = """\
table inet intramuros
delete table inet intramuros
table inet intramuros {
  chain input {
    type filter hook input priority filter; policy drop;
    iif "lo" accept
    ct state established accept
    ip saddr 192.0.2.0/24 tcp dport 22 accept
  }
}
"""
_OURS = _WRONG_NETWORK.replace("192.0.2.0/24", "10.90.0.0/16")
_FOREIGN = """\
table ip theirs {
  set blocked { type ipv4_addr; elements = { 198.51.100.1 } }
  chain in { type filter hook input priority 10; policy accept;
    ip saddr @blocked counter drop
  }
}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarded:
    """A box with an administrator, and the lifeline's verbs in it."""

    rig: Rig
    box: NspawnBox

    def lifeline(self, *words: str, check: bool = True) -> Outcome:
        verb = ["python3", "-m", "appliance.cli.main", "lifeline", *words]
        return self.box.run(["env", "PYTHONPATH=/opt/source:/opt/site", *verb], check=check)

    def prove(self) -> Outcome:
        return self.lifeline("prove", "--from", str(ADMINISTRATOR), check=False)

    def nft(self, text: str) -> None:
        self.box.run(["nft", "-f", "-"], stdin=text.encode())

    def state(self) -> str:
        """Return everything that decides who gets in."""
        return self.box.sh(
            "find /etc/ssh /etc/pam.d /etc/security /etc/sudoers /etc/sudoers.d /usr/share/pam-configs ~ada/.ssh"
            r" \( -type f -exec sha256sum {} + \) -o -printf '%p %m %U %G %y\n' | sort; nft -s list ruleset;"
            " ip rule; ip netns; ls /sys/class/net; grep -c probe /etc/passwd; ls /etc/systemd/system"
        ).out

    def admin_gets_in(self) -> bool:
        return run([*self.rig.ssh(self.box.address, "ada"), "sudo", "-n", "true"], check=False).ok


@pytest.fixture(scope="module")
def guarded(make_rig: Callable[[], Rig]) -> Iterator[Guarded]:
    rig = make_rig()
    box = rig.box(
        layers=(rig.tree(_RECIPE),),
        shared=((_ROOT, "/opt/source"), (Path(site.getsitepackages()[0]), "/opt/site")),
    )
    add_administrator(box)
    try:
        yield Guarded(rig=rig, box=box)
    finally:
        rig.remove()


def test_proven_change_stays_and_nothing_else_is_left(guarded: Guarded) -> None:
    before = guarded.state()
    guarded.lifeline("arm", "--admin", "ada", "--seconds", "120")
    proof = guarded.prove()
    assert proof.ok, proof.err
    assert "became root" in proof.out
    assert guarded.state() == before
    assert guarded.lifeline("status").out.split()[2] == "disarmed;"


@pytest.mark.parametrize(
    "ruleset",
    [
        pytest.param("", id="empty", marks=slow),
        pytest.param(_OURS, id="ours", marks=slow),
        pytest.param(_FOREIGN, id="foreign", marks=slow),
        pytest.param(_FOREIGN + _OURS, id="both"),
    ],
)
def test_wrong_admin_network_is_taken_back(guarded: Guarded, ruleset: str) -> None:
    guarded.nft("flush ruleset\n" + ruleset)
    _is_taken_back(guarded, lambda: guarded.nft(_WRONG_NETWORK))
    guarded.nft("flush ruleset")


@slow
def test_flushed_foreign_ruleset_comes_back(guarded: Guarded) -> None:
    guarded.nft("flush ruleset\n" + _FOREIGN)
    _is_taken_back(guarded, lambda: guarded.nft("flush ruleset\n" + _WRONG_NETWORK))
    guarded.nft("flush ruleset")


_BREAKING = {
    "groups that exclude the administrator": (
        "echo 'AllowGroups nobody-at-all' > /etc/ssh/sshd_config.d/1.conf; systemctl reload ssh"
    ),
    "settings that sshd does not accept": (
        "echo 'Nonsense yes' > /etc/ssh/sshd_config.d/1.conf; systemctl restart ssh || :"
    ),
    "another port": (
        "echo 'Port 2222' > /etc/ssh/sshd_config.d/1.conf; systemctl disable --now ssh.socket; systemctl restart ssh"
    ),
    "PAM that denies everybody": "echo 'auth required pam_deny.so' > /etc/pam.d/common-auth",
    "PAM that lets everybody in": "echo 'auth required pam_permit.so' > /etc/pam.d/common-auth",
    "PAM without accounts": "echo 'account required pam_deny.so' > /etc/pam.d/common-account",
    "PAM with a module that is missing": "sed -i '1i auth required pam_nothere.so' /etc/pam.d/common-auth",
    "PAM that is gone": "rm /etc/pam.d/common-auth",
    "passwords that nobody can set": "echo 'password required pam_deny.so' > /etc/pam.d/common-password",
    "sudo rules that are no rules": "echo garbage > /etc/sudoers.d/x; chmod 440 /etc/sudoers.d/x",
    "sudo rules that everybody may write": "chmod 666 /etc/sudoers",
    "sudo that lost its rights": "chmod 755 /usr/bin/sudo",
    "sudo that asks everybody": "rm /etc/sudoers.d/ada; echo 'Defaults!ALL !authenticate' > /etc/sudoers",
}

_FEW = ("groups that exclude the administrator", "PAM that denies everybody", "sudo rules that are no rules")


@pytest.mark.parametrize(
    "script",
    [pytest.param(script, id=way, marks=() if way in _FEW else slow) for way, script in _BREAKING.items()],
)
def test_broken_access_is_taken_back(guarded: Guarded, script: str) -> None:
    _is_taken_back(guarded, lambda: guarded.box.sh(script))


def test_timer_restores_without_us(guarded: Guarded) -> None:
    before = guarded.state()
    guarded.lifeline("arm", "--admin", "ada", "--seconds", "20")
    guarded.nft(_WRONG_NETWORK)
    guarded.box.sh("echo garbage > /etc/ssh/sshd_config")
    assert not guarded.admin_gets_in()
    _wait_restored(guarded)
    assert guarded.admin_gets_in()
    assert guarded.state() == before


@slow
def test_what_a_role_writes_after_the_timer_is_taken_back_too(guarded: Guarded) -> None:
    """A role that outlasts the timer learns of it at its end, when it asks for more time."""
    before = guarded.state()
    guarded.lifeline("arm", "--admin", "ada", "--seconds", "20")
    _wait_restored(guarded)
    guarded.nft(_WRONG_NETWORK)
    assert not guarded.admin_gets_in()
    extended = guarded.lifeline("extend", check=False)
    assert "lifeline.not_armed" in extended.err
    assert guarded.admin_gets_in()
    assert guarded.state() == before


@slow
def test_lifeline_survives_a_reboot(guarded: Guarded) -> None:
    guarded.lifeline("arm", "--admin", "ada", "--seconds", "30")
    guarded.box.sh("echo 'AllowGroups nobody-at-all' > /etc/ssh/sshd_config.d/1.conf; sync")
    guarded.box.reboot()
    _wait_restored(guarded)
    assert guarded.admin_gets_in()
    assert not guarded.box.sh("ls /etc/ssh/sshd_config.d").out


def _is_taken_back(guarded: Guarded, break_it: Callable[[], object]) -> None:
    before = guarded.state()
    guarded.lifeline("arm", "--admin", "ada", "--seconds", "120")
    break_it()
    proof = guarded.prove()
    assert not proof.ok, proof.out
    assert "lifeline.not_proven" in proof.err
    assert guarded.admin_gets_in()
    assert guarded.state() == before


def _wait_restored(guarded: Guarded) -> None:
    deadline = time.monotonic() + 90
    while guarded.lifeline("status", "--json").out.count('"restored"') == 0:
        assert time.monotonic() < deadline, "the timer did not restore"
        guarded.box.sh("sleep 1")
