"""A fresh installation seen from outside: an answer, declared ports, no packet that leaves; again after a reboot."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from typing import Any

import pytest

from tests.boxes.conftest import ADMINISTRATOR, CLIENT, STRANGER, Installed, Rig
from tests.boxes.rig.box import write
from tests.boxes.rig.commands import run
from tests.boxes.rig.installation import ADMINISTRATOR as ADMIN_USER
from tests.boxes.rig.installation import ANSWERS, MEDIUM, Bundle, Wishes, again, answers, install, prepare
from tests.boxes.rig.nspawn import NspawnBox
from tests.boxes.rig.results import at_most, record
from tests.boxes.rig.second_machine import ask, hand_over, open_ports

pytestmark = pytest.mark.timeout(3600)
_CHANGED = re.compile(r"^\s+changed ", re.MULTILINE)
_FEW_PORTS = (
    "T:1-1024,3000,3128,5432,6379,7500,8000,8080,8443,8444,9090-9100,U:53,67,68,69,111,123,137,161,323,500,514,5353"
)
_ELSEWHERE, _REPOSITORY = "/data/intramuros", "/data/backups"
_UNITS = "systemctl list-units --all --plain --no-legend 'intramuros*.service' | cut -d' ' -f1"

_ASK_FOR_CERTIFICATES = r"""set -e
intramuros tls client good --out /var/lib/good.pem
intramuros tls client bad --out /var/lib/bad.pem
state=$(cat /etc/intramuros/state)
echo 'client_authorities = "/etc/intramuros/tls/ca.crt"' >> "$state/intramuros.toml"
echo "client_revocations = \"$state/edge/clients.crl\"" >> "$state/intramuros.toml"
systemctl restart intramuros.target
"""


@pytest.fixture
def box(rig: Rig, installed: Installed, bundle: Bundle) -> NspawnBox:
    """A box in the state right after its installation."""
    return rig.box(layers=installed.layers, shared=((bundle.medium, MEDIUM),))


@pytest.fixture
def outsider(rig: Rig, installed: Installed) -> NspawnBox:
    """The second machine, with the client's package, the authority and a key."""
    return rig.outsider(layers=installed.client_layers)


def test_fresh_install_ends_with_an_answered_request(installed: Installed) -> None:
    record(at_most("boxes.install.bundle_to_first_answer", installed.seconds, 600, "s"))
    answered = installed.answer.get("tokens", 0) >= 1
    record(at_most("boxes.floor.2cpu_4gib.unanswered", 0 if answered else 1, 0, "requests"))
    assert answered, installed.answer


def test_no_packet_wanted_to_leave(installed: Installed) -> None:
    record(at_most("boxes.install.packets_that_left", len(installed.left), 0, "packets"))
    assert installed.left == []


def test_listeners_are_ssh_and_the_gateway(installed: Installed) -> None:
    addresses = [line.split()[4] for line in installed.listeners.splitlines()]
    public = {address.rsplit(":", 1)[1] for address in addresses if not address.startswith(("127.", "[::1]"))}
    declared = {"22", "8443"}
    record(at_most("boxes.listeners.undeclared", len(public ^ declared), 0, "ports"))
    assert public == declared, installed.listeners


def test_second_run_changes_nothing(box: NspawnBox) -> None:
    said, seconds = again(box)
    changed = _changed(said.out + said.err)
    record(at_most("boxes.second_run.seconds", seconds, 90, "s"))
    record(at_most("boxes.second_run.changed", len(changed), 0, "tasks"))
    assert changed == []


@pytest.mark.boxes
def test_after_a_reboot_it_serves_and_a_run_changes_nothing(box: NspawnBox, outsider: NspawnBox) -> None:
    box.reboot()
    assert ask(outsider, box.address, "seed").get("tokens", 0) >= 1
    said, _ = again(box)
    assert _changed(said.out + said.err) == []


@pytest.mark.boxes
def test_check_mode_on_a_fresh_box_goes_to_its_end_and_changes_nothing(rig: Rig, bundle: Bundle) -> None:
    box = rig.box(shared=((bundle.medium, MEDIUM),))
    write(box, ANSWERS, answers(Wishes(address=box.address, public_key=rig.public_key)), mode="0600")
    prepare(box, bundle)
    box.sh("touch /var/lib/before && sleep 1")
    said, _ = again(box, "--check")
    roles = {line.split()[1].rstrip(":") for line in _changed(said.out + said.err)}
    assert {"base", "ssh", "firewall", "app", "integrity"} <= roles
    found = "find /etc /usr /opt /srv /home /root -xdev -newer /var/lib/before -not -type d -not -name '*.pyc'"
    assert box.sh(found).out == ""


@pytest.mark.boxes
def test_check_mode_on_a_hardened_box_finds_nothing(box: NspawnBox) -> None:
    said, _ = again(box, "--check")
    assert _changed(said.out + said.err) == []


@pytest.mark.boxes
def test_drift_is_repaired_and_nothing_else(box: NspawnBox) -> None:
    box.sh("sed -i 's/^PermitRootLogin .*/PermitRootLogin yes/' /etc/ssh/sshd_config && chmod 0666 /etc/crontab")
    assert box.sh("sshd -T | grep -i ^permitrootlogin").out.strip() == "permitrootlogin yes"
    said, _ = again(box)
    changed = _changed(said.out + said.err)
    assert changed, said.out
    assert all("ssh: " in line or "base: Protect them" in line for line in changed), changed
    assert box.sh("sshd -T | grep -i ^permitrootlogin").out.strip() == "permitrootlogin no"
    assert box.sh("stat -c %a /etc/crontab").out.strip() == "600"
    again_said, _ = again(box)
    assert _changed(again_said.out + again_said.err) == []


def test_few_ports_from_each_zone_are_the_declared_ones(box: NspawnBox, outsider: NspawnBox) -> None:
    assert open_ports(outsider, box.address, STRANGER, _FEW_PORTS) == set()
    assert open_ports(outsider, box.address, CLIENT, _FEW_PORTS) == {"8443/tcp"}
    assert open_ports(outsider, box.address, ADMINISTRATOR, _FEW_PORTS) >= {"22/tcp"}
    assert open_ports(outsider, box.address, ADMINISTRATOR, _FEW_PORTS) <= {"22/tcp", "8443/tcp"}


@pytest.mark.boxes
def test_all_ports_from_each_zone_are_the_declared_ones(box: NspawnBox, outsider: NspawnBox) -> None:
    everything = "T:0-65535,U:0-65535"
    found = {str(source): open_ports(outsider, box.address, source, everything) for source in (STRANGER, CLIENT)}
    wrong = found[str(STRANGER)] | (found[str(CLIENT)] ^ {"8443/tcp"})
    record(at_most("boxes.scan.undeclared_ports", len(wrong), 0, "ports"))
    assert not wrong, found


def test_administrator_logs_in_and_becomes_root(rig: Rig, box: NspawnBox) -> None:
    assert run([*rig.ssh(box.address, ADMIN_USER), "sudo", "-n", "id", "-u"], timeout=60).out == "0\n"
    assert not run([*rig.ssh(box.address), "true"], check=False, timeout=60).ok, "root logged in over SSH"


def test_each_unit_is_sandboxed(box: NspawnBox) -> None:
    units = [unit for unit in box.sh(_UNITS).out.split() if "@" not in unit]
    assert any("gateway" in unit for unit in units)
    worst = 0.0
    for unit in units:
        said = box.sh(f"systemd-analyze security --no-pager {unit} | tail -1").out
        found = re.search(r": ([0-9.]+) ", said)
        assert found, said
        worst = max(worst, float(found.group(1)))
    record(at_most("boxes.units.worst_exposure", worst, 2.0, "points"))
    assert worst <= 2.0, box.sh("systemd-analyze security --no-pager").out


@pytest.mark.boxes
def test_data_lies_where_the_answers_put_it(rig: Rig, installed: Installed, bundle: Bundle) -> None:
    """Another folder than the usual one is served from, watched, left out of the daily comparison, and checked."""
    box = rig.box(shared=((bundle.medium, MEDIUM),), memory_bytes=4 << 30, cpus=2)
    more = f'\n[storage]\nmount = "{_ELSEWHERE}"\n\n[backup]\nrepository = "{_REPOSITORY}"\n'
    install(box, bundle, Wishes(address=box.address, public_key=rig.public_key, more=more))
    outsider = rig.outsider(layers=installed.client_layers)
    hand_over(box, outsider)
    assert ask(outsider, box.address, "seed").get("tokens", 0) >= 1
    assert box.sh("find /srv -mindepth 1").out == ""
    assert box.sh(f"stat -c '%U %a' {_REPOSITORY}").out == "intramuros 700\n"
    assert box.sh(f"find {_REPOSITORY}/snapshots -type f").out, "the first backup is elsewhere"
    assert f"-w {_ELSEWHERE} -p wa" in box.sh("cat /etc/audit/rules.d/50-intramuros.rules").out
    ignored = box.sh("cat /etc/aide/aide.conf.d/99_intramuros").out.splitlines()
    assert {f"!{_ELSEWHERE}", f"!{_REPOSITORY}"} <= set(ignored)
    (control,) = json.loads(box.sh("intramuros evidence show IM-APP-04 --json").out)
    assert (control["status"], _ELSEWHERE in control["observed"]) == ("pass", True), control
    said, _ = again(box)
    assert _changed(said.out + said.err) == []


@pytest.mark.boxes
def test_what_the_answers_no_longer_ask_for_is_taken_away(box: NspawnBox, installed: Installed) -> None:
    wishes = replace(installed.wishes, more="\n[backup]\nenabled = false\n\n[monitor]\nenabled = false\n")
    write(box, ANSWERS, answers(wishes), mode="0600")
    again(box)
    names = "intramuros-backup* intramuros-metrics* prometheus* alertmanager*"
    left = f"systemctl list-units --plain --no-legend {names}; systemctl list-timers --no-legend {names}"
    assert box.sh(left).out == ""
    assert box.sh("systemctl list-units --failed --plain --no-legend").out == ""
    said, _ = again(box)
    assert _changed(said.out + said.err) == []


def test_no_unit_failed(box: NspawnBox) -> None:
    assert box.sh("systemctl list-units --failed --plain --no-legend").out == ""


def test_revoked_client_is_refused_and_another_is_served(box: NspawnBox, outsider: NspawnBox) -> None:
    box.sh(_ASK_FOR_CERTIFICATES, timeout=180)
    for name in ("good", "bad"):
        write(outsider, f"/var/lib/{name}.pem", box.sh(f"cat /var/lib/{name}.pem").out, mode="0600")
    served = _answer(outsider, box, "/var/lib/good.pem")
    state = box.sh("intramuros status; journalctl -b -u 'intramuros*' -n 60 --no-pager", check=False)
    assert served.get("tokens", 0) >= 1, f"{served}\n{state.err}\n{state.out}"
    assert ask(outsider, box.address, "seed", more="/var/lib/bad.pem").get("tokens", 0) >= 1
    assert "error" in ask(outsider, box.address, "seed"), "served without a certificate"
    box.sh("intramuros tls revoke bad")
    box.sh("sleep 5")
    assert "error" in ask(outsider, box.address, "seed", more="/var/lib/bad.pem")
    assert ask(outsider, box.address, "seed", more="/var/lib/good.pem").get("tokens", 0) >= 1


def test_answers_stay_readable_by_root_alone_and_hold_no_secret(box: NspawnBox) -> None:
    assert box.sh(f"cmp {ANSWERS} {ANSWERS} && stat -c %U /etc/intramuros/answers.toml").out.strip() == "root"


def _answer(outsider: NspawnBox, box: NspawnBox, certificate: str) -> dict[str, Any]:
    """Ask until the restarted gateway answers, a minute at most; return the last report."""
    deadline = time.monotonic() + 60
    while "error" in (report := ask(outsider, box.address, "seed", more=certificate)) and time.monotonic() < deadline:
        time.sleep(1)
    return report


def _changed(text: str) -> list[str]:
    """Return the lines of an installation's report about tasks that changed something."""
    return [line.strip() for line in text.splitlines() if _CHANGED.match(line)]
