"""Recorded machines (tests/data/machines) and what pre-flight says of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from installer.answers import Answers, check_answers
from installer.facts import Facts, Listener, gather, knows_zone, pam_profiles_waiting
from installer.findings import Finding, Level, failures
from installer.harden.way_back import WayBack
from installer.places import Places
from installer.preflight import preflight
from tests.quality.sources import ROOT
from tests.unit.installer.complete_answers import complete_answers

_MACHINES = ROOT / "tests" / "data" / "machines"
_LUKS = {"mode": "luks", "device": "/dev/disk/by-id/data", "unlock": ["passphrase"]}


def machine(name: str, **changed: Any) -> Facts:
    facts = msgspec.json.decode((_MACHINES / f"{name}.json").read_bytes(), type=Facts)
    return msgspec.structs.replace(facts, **changed)


def answered(**sections: Any) -> Answers:
    return check_answers(complete_answers(**sections), name="answers.toml")


def _of(what: str, facts: Facts, answers: Answers) -> list[Finding]:
    return [finding for finding in preflight(facts, answers) if finding.what == what]


def failed(findings: list[Finding]) -> dict[str, str]:
    return {finding.what: finding.found for finding in failures(findings)}


@pytest.mark.parametrize(
    ("name", "sections"),
    [
        ("rack_server", {"storage": {**_LUKS, "unlock": ["passphrase", "tpm2"]}}),
        ("smallest", {}),
        ("nspawn", {}),
        ("gpu_server", {}),
        ("installed", {"storage": _LUKS}),
        ("old_laptop", {"app": {"enabled": False}}),
    ],
)
def test_good_machines_pass(name: str, sections: dict[str, Any]) -> None:
    findings = preflight(machine(name), answered(**sections), bundle_version="1.0")
    assert not failed(findings)
    assert Finding(level=Level.OK, what="bundle", found="1.0, every file verified") in findings


def test_everything_wrong_is_told_at_once() -> None:
    tang = {"url": "http://192.0.2.9", "thumbprint": "Vuz2KD0aRg2Rpz2dQ7oFPuN1dHYg2D8HJxj8ZPVM0Wk"}
    answers = answered(
        storage={**_LUKS, "unlock": ["passphrase", "tpm2", "tang"], "tang_servers": [tang]},
        network={"tang": ["192.0.2.9"]},
    )
    assert set(failed(preflight(machine("wrong_everything"), answers))) == {
        "system",
        "architecture",
        "user",
        "systemd",
        "programs",
        "/run",
        "processor",
        "processors",
        "memory",
        "disk",
        "clock",
        "firewall",
        "your address",
        "admin.password_hash_file",
        "app.port",
        "storage.device",
        "device mapper",
        "TPM",
        "Tang",
        "file",
        "secret",
        "timezone",
    }


@pytest.mark.parametrize(
    "finding", preflight(machine("wrong_everything"), answered()), ids=lambda finding: finding.what
)
def test_every_refusal_says_what_to_do(finding: Finding) -> None:
    assert finding.level is not Level.FAIL or finding.hint


@pytest.mark.parametrize(
    ("name", "sections", "what", "said"),
    [
        ("clock_2099", {}, "clock", "2099"),
        ("old_laptop", {}, "processor", "x86-64-v2"),
        ("nspawn", {"storage": _LUKS}, "device mapper", "none"),
        ("used_disk", {"storage": _LUKS}, "storage.device", "not empty: /dev/vdb1, gpt"),
        ("tiny_disk", {"storage": _LUKS}, "storage.device", "1.0 GiB"),
        ("smallest", {"storage": {**_LUKS, "unlock": ["tpm2"]}}, "TPM", "no TPM 2.0"),
        ("rack_server", {"network": {"admin": ["10.0.0.0/8"]}}, "your address", "192.0.2.5 is not in"),
    ],
)
def test_one_fault_is_named(name: str, sections: dict[str, Any], what: str, said: str) -> None:
    assert said in failed(preflight(machine(name), answered(**sections)))[what]


_IPV6_ADMINS = {"network": {"admin": ["2001:db8:1::/64"]}}


@pytest.mark.parametrize(
    ("changed", "sections", "level"),
    [
        ({"client": "2001:db8:1::5"}, _IPV6_ADMINS, Level.FAIL),
        ({"client": ""}, _IPV6_ADMINS, Level.FAIL),
        ({}, {}, Level.WARN),
    ],
    ids=["logged in over it", "no other way in", "IPv4 is the way in"],
)
def test_address_by_a_router_is_lost_and_told_before(
    changed: dict[str, Any], sections: dict[str, Any], level: Level
) -> None:
    (found,) = _of("IPv6", machine("rack_server", advertised=("eth0",), **changed), answered(**sections))
    assert (found.level, "eth0" in found.found) == (level, True)


def test_way_back_by_another_interface_is_a_warning() -> None:
    way = WayBack(source="192.0.2.5", server="10.0.0.2", arrives="eth1", leaves="eth0", next_hop="192.0.2.5")
    (found,) = _of("your way back", machine("rack_server", way_back=way), answered())
    assert (found.level, "answers leave by eth0" in found.found) == (Level.WARN, True)
    good = msgspec.structs.replace(way, leaves="eth1")
    assert not _of("your way back", machine("rack_server", way_back=good), answered())
    beside = msgspec.structs.replace(good, next_hop="10.9.9.9", knows_neighbour=False)
    (found,) = _of("your way back", machine("rack_server", way_back=beside), answered())
    assert "10.9.9.9" in found.found


def test_disks_at_usb_are_refused_since_hardening_forbids_them() -> None:
    facts = machine("rack_server")
    assert facts.data_disk is not None
    at_usb = msgspec.structs.replace(facts.data_disk, usb=True)
    (found,) = _of("USB", machine("rack_server", data_disk=at_usb), answered(storage=_LUKS))
    assert (found.level, "/dev/disk/by-id/data" in found.found) == (Level.FAIL, True)
    (found,) = _of("USB", machine("rack_server", on_usb=("/", "/boot")), answered())
    assert (found.level, "/, /boot" in found.found) == (Level.FAIL, True)


@pytest.mark.parametrize(("age", "warned"), [(None, False), (365, False), (366, True)])
def test_old_password_of_the_administrator_is_told(age: int | None, warned: bool) -> None:
    found = _of("admin.user", machine("rack_server", admin_password_age=age), answered())
    assert [each.level for each in found] == ([Level.WARN] if warned else [])
    assert not _of(
        "admin.user", machine("rack_server", admin_password_age=age, secrets_laid=("admin_password_hash",)), answered()
    )


def test_access_beside_the_answers_is_told_and_stops_nothing() -> None:
    facts = machine("rack_server", other_administrators=("bob", "eve"), other_keys=("eve@laptop",))
    found = [
        each for each in preflight(facts, answered()) if each.level is Level.WARN and each.what.startswith("admin")
    ]
    assert [each.what for each in found] == ["admin.user", "admin.authorized_keys"]
    assert "bob, eve may become root" in found[0].found
    assert "has 1 key that they do not name: eve@laptop" in found[1].found
    assert not failed(preflight(facts, answered()))


def test_own_address_outside_is_only_a_warning_when_forced() -> None:
    answers = answered(network={"admin": ["10.0.0.0/8"]})
    findings = preflight(machine("rack_server"), answers, force_admin=True)
    assert not failed(findings)
    assert "your address" in {finding.what for finding in findings if finding.level is Level.WARN}


def test_time_zone_is_unknown_only_where_zones_are(tmp_path: Path) -> None:
    assert knows_zone(tmp_path, "Europe/Vienna") is None  # tzdata is one of the bundle's packages
    for name in ("tzdata.zi", "Europe/Vienna"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [knows_zone(tmp_path, name) for name in ("Europe/Vienna", "Europe/Vienn", "Europe")] == [True, False, False]


def test_hardening_alone_asks_for_no_room_no_port_and_no_disk_but_for_your_address() -> None:
    taken = Listener(address="0.0.0.0", port=8443, program="nginx")
    facts = machine("nspawn", memory=1 << 30, listeners=(taken,), client="192.0.2.5")
    answers = answered(storage=_LUKS, network={"admin": ["10.0.0.0/8"]})
    assert {"memory", "app.port", "device mapper"} <= failed(preflight(facts, answers)).keys()
    assert failed(preflight(facts, answers, hardening_only=True)).keys() == {"your address"}
    assert not failed(preflight(facts, answers, hardening_only=True, force_admin=True))


@pytest.mark.parametrize(("name", "level"), [("rack_server", Level.FAIL), ("installed", Level.WARN)])
def test_silent_tang_stops_only_the_first_run(name: str, level: Level) -> None:
    tang = {"url": "http://192.0.2.9", "thumbprint": "Vuz2KD0aRg2Rpz2dQ7oFPuN1dHYg2D8HJxj8ZPVM0Wk"}
    answers = answered(
        storage={**_LUKS, "unlock": ["passphrase", "tang"], "tang_servers": [tang]}, network={"tang": ["192.0.2.9"]}
    )
    findings = preflight(machine(name, tang_silent=(tang["url"],)), answers)
    assert [finding.level for finding in findings if finding.what == "Tang"] == [level]


def test_disk_that_is_not_empty_is_wiped_only_when_it_is_named_once_more() -> None:
    facts = machine("used_disk")
    for wipe, levels in (("", [Level.FAIL]), (_LUKS["device"], [Level.WARN])):
        findings = preflight(facts, answered(storage={**_LUKS, "wipe": wipe}))
        assert [finding.level for finding in findings if finding.what == "storage.device"] == levels


def test_schedule_that_systemd_does_not_know_is_refused() -> None:
    findings = preflight(machine("smallest", schedule_known=False), answered(backup={"schedule": "every night"}))
    assert "'every night'" in failed(findings)["backup.schedule"]


def test_appliance_that_is_there_is_not_left_running_by_answers_without_it() -> None:
    answers = answered(app={"enabled": False}, storage=_LUKS)
    assert "run on" in failed(preflight(machine("installed"), answers))["app.enabled"]
    assert "app.enabled" not in failed(preflight(machine("rack_server"), answers))


def test_graphics_cards_are_named_and_not_used() -> None:
    (line,) = [finding for finding in preflight(machine("gpu_server")) if finding.what == "graphics"]
    assert line.level is Level.OK
    assert "NVIDIA 0x2330: found; used where the bundle brings" in line.found


@pytest.mark.parametrize("source", ["file", "laid down", "account"])
def test_password_for_sudo_may_come_three_ways(source: str) -> None:
    facts = machine("smallest", admin_has_password=source == "account")
    if source == "laid down":
        facts = msgspec.structs.replace(facts, secrets_laid=("admin_password_hash",))
    answers = answered(admin={"password_hash_file": "/run/anna.hash"} if source == "file" else {})
    assert not failed(preflight(facts, answers))


def test_facts_of_this_machine_are_read_and_nothing_is_written(memory: Path) -> None:
    before = sorted(memory.rglob("*"))
    facts = gather(answered(), places=Places(root=memory))
    assert (facts.user_id, facts.cpus) == (os.geteuid(), len(os.sched_getaffinity(0)))
    assert facts.memory > 1 << 28
    assert facts.memory_file_system
    assert facts.cpu_level >= 1
    assert "lo" in facts.interfaces
    assert sorted(memory.rglob("*")) == before
    assert msgspec.json.decode(msgspec.json.encode(facts), type=Facts) == facts


def test_the_gateway_is_told_from_other_programs(memory: Path) -> None:
    """What a second installation finds on app.port is our own gateway, which is a python like many."""
    code = (
        "import socket, sys, time; s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(); "
        "print(s.getsockname()[1], flush=True); sys.stdin.read()"
    )
    found = {}
    for name in ("appliance.gateway.main", "something.else"):
        argv = [sys.executable, "-c", code, name]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            listeners = gather(None, places=Places(root=memory)).listeners
            found[name] = next(each.program for each in listeners if each.port == port)
            process.communicate("")
    assert found["appliance.gateway.main"] == "intramuros-gateway"
    assert found["something.else"].startswith("python")


@pytest.mark.skipif(os.geteuid() != 0, reason="a loop device needs root")
def test_block_devices_are_told_apart(tmp_path: Path, memory: Path) -> None:
    image = tmp_path / "disk"
    with image.open("wb") as stream:
        stream.truncate(64 << 20)
    made = subprocess.run(["losetup", "--find", "--show", str(image)], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        pytest.skip("no loop device here")
    device = made.stdout.strip()
    places = Places(root=memory)
    try:
        empty = gather(answered(storage={**_LUKS, "device": device}), places=places).data_disk
        subprocess.run(["mkfs.ext4", "-q", device], check=True)
        used = gather(answered(storage={**_LUKS, "device": device}), places=places).data_disk
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)
    assert empty is not None
    assert used is not None
    assert (empty.block, empty.size, empty.holds, empty.parts) == (True, 64 << 20, "", ())
    assert used.holds == "ext4"
    assert gather(answered(storage={**_LUKS, "device": "/dev/none"}), places=places).data_disk is not None


@pytest.mark.parametrize(
    ("facts", "storage", "refused"),
    [
        ({}, {"mount": "/data/im"}, set()),
        ({"data_at": "/data/im"}, {"mount": "/data/im"}, set()),
        ({"data_at": "/srv/intramuros"}, {"mount": "/data/im"}, {"storage.mount"}),
        ({"data_at": "/srv/intramuros"}, {}, set()),
        ({"data_at": "/srv/intramuros"}, _LUKS, {"storage.mode"}),
        ({"data_at": "/srv/intramuros", "data_in_volume": True}, _LUKS, set()),
        ({"data_at": "/srv/intramuros", "data_in_volume": True}, {}, {"storage.mode"}),
    ],
)
def test_data_of_an_earlier_installation_is_neither_left_behind_nor_hidden(
    facts: dict[str, Any], storage: dict[str, Any], refused: set[str]
) -> None:
    found = preflight(machine("rack_server", **facts), answered(storage=storage))
    assert set(failed(found)) == refused


def test_data_of_an_earlier_installation_is_found(tmp_path: Path, memory: Path) -> None:
    places = Places(root=memory)
    places.config.mkdir(parents=True)
    places.box_state.write_text(f"{tmp_path}\n")
    assert gather(None, places=places).data_at == "", "a first run that was cut off made none"
    (tmp_path / "intramuros.sqlite3").touch()
    assert (gather(None, places=places).data_at, gather(None, places=places).data_in_volume) == (str(tmp_path), False)
    (tmp_path / "intramuros.sqlite3").unlink()
    places.volume_table.touch()
    assert (gather(None, places=places).data_at, gather(None, places=places).data_in_volume) == (str(tmp_path), True)


def test_hardening_alone_does_not_turn_from_the_appliance_that_is_here() -> None:
    facts = machine("installed", data_at="/srv/intramuros")
    answers = answered(app={"enabled": False}, storage={"mount": "/data/im"})
    assert set(failed(preflight(facts, answers, hardening_only=True))) == {"app.enabled", "storage.mount"}


def test_profile_of_others_that_a_package_would_switch_on_is_refused() -> None:
    assert set(failed(preflight(machine("smallest", pam_profiles_waiting=("site",))))) == {"PAM"}


def test_profiles_that_wait_are_default_ones_of_others_that_pam_auth_update_never_saw(tmp_path: Path) -> None:
    profiles, seen = tmp_path / "pam-configs", tmp_path / "seen"
    profiles.mkdir()
    for name in ("unix", "site", "intramuros-faillock"):
        (profiles / name).write_text("Name: One\nDefault: yes\n")
    (profiles / "offered").write_text("Name: Another\nDefault: no\n")
    assert pam_profiles_waiting(profiles, seen) == ()
    seen.write_text("unix\nsystemd\n")
    assert pam_profiles_waiting(profiles, seen) == ("site",)
