"""The proof of a new login: what it makes on the system, and that all of it is gone again however it ends."""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.kernel.errors import Conflict, InternalError
from appliance.kernel.process import Outcome
from installer.harden import probe
from installer.harden.probe import Probe

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the proof makes files of other accounts, as root")

_NOW = datetime(2026, 11, 25, tzinfo=UTC)
_PROBE = Probe(admin="root", source="192.0.2.7", server="192.0.2.1", port=22, client_ports=(61000, 61100))


class FakeSystem:
    """Answers what the proof asks, and notes it."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.login = Outcome(status=0, stdout="intramuros-proven\n", stderr="")
        self.failing = ""

    def __call__(self, argv: Sequence[str]) -> Outcome:
        text = " ".join(argv)
        self.ran.append(text)
        if self.failing and self.failing in text:
            return Outcome(status=2, stdout="", stderr="no such thing")
        if "ssh-keygen" in argv:
            key = Path(argv[argv.index("-f") + 1])
            key.write_text("private")
            key.with_suffix(".pub").write_text(f"ssh-ed25519 AAAA {argv[argv.index('-C') + 1]}\n")
        if argv[:3] == ["ip", "-4", "rule"] and "delete" in argv:
            return Outcome(status=2, stdout="", stderr="")
        if argv[:3] == ["ip", "-6", "rule"] and "delete" in argv:
            return Outcome(status=2, stdout="", stderr="")
        if "timeout" in argv:
            return self.login
        if argv[-1].endswith("wrong"):
            return Outcome(status=1, stdout="", stderr="PAM said 7")
        return Outcome(status=0, stdout="", stderr="")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of root's own, so that the real one is left alone."""
    entry = pwd.getpwnam("root")
    fake = pwd.struct_passwd((*entry[:5], str(tmp_path / "home"), entry[6]))
    (tmp_path / "home").mkdir()
    monkeypatch.setattr(pwd, "getpwnam", lambda _name: fake)
    return tmp_path / "home"


def test_key_is_restricted_and_expires_and_is_gone_afterwards(home: Path) -> None:
    system = FakeSystem()
    seen: list[str] = []

    def watching(argv: Sequence[str]) -> Outcome:
        if "timeout" in argv:
            seen.append((home / ".ssh" / "authorized_keys").read_text())
        return system(argv)

    probe.prove(_PROBE, now=_NOW, run=watching)
    assert seen == ['restrict,expiry-time="20261125000500Z" ssh-ed25519 AAAA intramuros-lifeline-probe\n']
    assert not (home / ".ssh").exists()


def test_keys_that_were_there_stay_also_those_added_meanwhile(home: Path) -> None:
    file = home / ".ssh" / "authorized_keys"
    file.parent.mkdir(mode=0o700)
    file.write_text("ssh-ed25519 BBBB mine")
    file.chmod(0o640)
    system = FakeSystem()

    def adding(argv: Sequence[str]) -> Outcome:
        if "timeout" in argv:
            with file.open("a") as stream:
                stream.write("ssh-ed25519 CCCC theirs\n")
        return system(argv)

    probe.prove(_PROBE, now=_NOW, run=adding)
    assert file.read_text() == "ssh-ed25519 BBBB mine\nssh-ed25519 CCCC theirs\n"
    assert file.stat().st_mode & 0o777 == 0o640


def test_only_replies_to_the_proof_are_led_into_it(home: Path) -> None:
    system = FakeSystem()
    probe.prove(_PROBE, now=_NOW, run=system)
    (rule,) = [line for line in system.ran if "rule add" in line]
    assert rule.endswith("to 192.0.2.7 ipproto 6 sport 22 dport 61000-61100 lookup 61000")
    assert any("ip_local_port_range=61000 61100" in line for line in system.ran)


def test_addresses_of_the_pair_are_set_when_it_is_made_so_that_udev_leaves_them(home: Path) -> None:
    system = FakeSystem()
    probe.prove(_PROBE, now=_NOW, run=system)
    (made,) = [line for line in system.ran if line.startswith("ip link add")]
    outer, inner = (line.split(" lladdr ")[1].split()[0] for line in system.ran if " lladdr " in line)
    assert f"im-probe0 address {outer} type veth" in made
    assert f"im-probe1 address {inner} netns" in made


def test_refused_login_is_not_proven_and_everything_is_removed(home: Path) -> None:
    system = FakeSystem()
    system.login = Outcome(status=255, stdout="", stderr="Permission denied (publickey).\n")
    with pytest.raises(Conflict, match="Permission denied"):
        probe.prove(_PROBE, now=_NOW, run=system)
    assert not (home / ".ssh").exists()
    after = system.ran[next(i for i, line in enumerate(system.ran) if line.startswith("timeout")) + 1 :]
    assert "ip netns delete intramuros-probe" in after
    assert not any("chpasswd" in line for line in system.ran)


def test_way_back_that_the_kernel_drops_is_not_proven_and_nothing_is_made(home: Path) -> None:
    system = FakeSystem()
    address = {"ifname": "eth1", "addr_info": [{"local": _PROBE.server, "prefixlen": 24}]}
    said = {"address": json.dumps([address]), "route": json.dumps([{"dev": "eth0"}]), "sysctl": "1"}

    def multi_homed(argv: Sequence[str]) -> Outcome:
        system(argv)
        return Outcome(status=0, stdout=next((said[word] for word in said if word in argv), ""), stderr="")

    with pytest.raises(Conflict, match="comes in by eth1"):
        probe.prove(_PROBE, now=_NOW, run=multi_homed)
    assert not any("netns" in line or "ssh-keygen" in line for line in system.ran)


def test_login_that_says_nothing_is_not_proven(home: Path) -> None:
    system = FakeSystem()
    system.login = Outcome(status=0, stdout="This account is currently not available.\n", stderr="")
    with pytest.raises(Conflict):
        probe.prove(_PROBE, now=_NOW, run=system)


def test_network_that_cannot_be_made_is_our_failure_and_is_removed(home: Path) -> None:
    system = FakeSystem()
    system.failing = "link add"
    with pytest.raises(InternalError, match="link add"):
        probe.prove(_PROBE, now=_NOW, run=system)
    assert system.ran.count("ip netns delete intramuros-probe") == 2  # what an earlier proof left, and ours


def test_wrong_password_that_is_taken_is_not_proven(home: Path) -> None:
    system = FakeSystem()

    def trusting(argv: Sequence[str]) -> Outcome:
        return Outcome(status=0, stdout="", stderr="") if argv[-1].endswith("wrong") else system(argv)

    with pytest.raises(Conflict, match="a wrong password is taken"):
        probe.prove(_PROBE, now=_NOW, run=trusting)
    assert system.ran[-1] == "userdel intramuros-probe"


def test_broken_sudo_rules_are_not_proven(home: Path, tmp_path: Path) -> None:
    system = FakeSystem()
    system.failing = "visudo"
    rules = tmp_path / "sudoers"
    rules.touch()
    with pytest.raises(Conflict, match="sudo's rules are broken"):
        probe.prove(_PROBE, now=_NOW, run=system, rules=rules)


def test_no_sudo_rules_at_all_are_the_state_before_sudo_came(home: Path, tmp_path: Path) -> None:
    system = FakeSystem()
    system.failing = "visudo"
    assert probe.prove(_PROBE, now=_NOW, run=system, rules=tmp_path / "sudoers").admin == "root"


def test_addresses_of_another_scope_are_no_networks() -> None:
    said = json.dumps([{"ifname": "eth0", "addr_info": [{"local": "192.0.2.1", "prefixlen": 24}, {}]}])

    def run(argv: Sequence[str]) -> Outcome:
        return Outcome(status=0, stdout=said, stderr="")

    assert probe.own_networks(run) == ["192.0.2.1/24"]
    assert probe.own_addresses(run) == ["192.0.2.1"]
