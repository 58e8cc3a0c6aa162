from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.kernel.errors import BadInput, NotFound
from installer.answer_example import EXAMPLE
from installer.answer_rules import doubts, fleet_name
from installer.answers import Answers, as_document, check_answers, parse_answers, read_answers
from tests.unit.installer.complete_answers import PUBLIC_KEY, complete_answers

_LUKS = {"mode": "luks", "device": "/dev/disk/by-id/data", "unlock": ["passphrase"]}
_FLEET_KEY = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
_BETA = {"name": "beta", "address": "10.77.0.2", "endpoint": "192.0.2.12", "public_key": _FLEET_KEY}
_GAMMA = {
    "name": "gamma",
    "address": "10.77.0.3",
    "endpoint": "192.0.2.13:51821",
    "public_key": "TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=",
}
_FLEET = {"network": {"fleet": ["192.0.2.12/31", "2001:db8:3::/64"]}}
_TANG = {"url": "http://192.0.2.9:7500", "thumbprint": "Vuz2KD0aRg2Rpz2dQ7oFPuN1dHYg2D8HJxj8ZPVM0Wk"}


def _refused(**sections: Any) -> BadInput:
    with pytest.raises(BadInput) as caught:
        check_answers(complete_answers(**sections), name="answers.toml")
    return caught.value


def _with_boxes(*boxes: dict[str, str]) -> dict[str, Any]:
    return _FLEET | {"fleet": {"address": "10.77.0.1/24", "boxes": list(boxes)}}


def test_example_is_accepted() -> None:
    assert parse_answers(EXAMPLE.encode(), name="example").storage.mode == "luks"


def test_defaults_are_in_the_document(answers: Answers) -> None:
    document = as_document(answers)
    assert document["storage"] == {
        "mode": "none",
        "device": "",
        "mount": "/srv/intramuros",
        "unlock": [],
        "passphrase_file": "",
        "tang_servers": [],
        "recovery_key_file": "",
        "wipe": "",
    }
    assert document["app"]["port"] == 8443
    assert check_answers(document, name="again") == answers


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"hostnam": "x"}, "unknown field `hostnam`"),
        ({"admin": {"usr": "x"}}, "key admin: object contains unknown field `usr`"),
        ({"ssh": {"port": "22"}}, "key ssh.port"),
        ({"ssh": {"port": 70000}}, "key ssh.port"),
        ({"hostname": "bad_host"}, "key hostname"),
        ({"hostname": "x\n"}, "key hostname"),
        ({"admin": {"user": "Anna"}}, "key admin.user"),
        ({"profile": "paranoid"}, "key profile"),
        ({"schema": 2}, "key schema"),
        ({"fleet": {"port": 0}}, "key fleet.port"),
        ({"fleet": {"name": "Alpha"}}, "key fleet.name"),
        ({"fleet": {"boxes": [{"name": "a/b"}]}}, "key fleet.boxes"),
        ({"storage": {"tang_servers": [{"url": "ftp://x", "thumbprint": "x"}]}}, "key storage.tang_servers"),
    ],
)
def test_faults_of_one_key_name_it(sections: dict[str, Any], said: str) -> None:
    error = _refused(**sections)
    assert error.code == "answers.invalid"
    assert error.message.startswith("answers.toml: ")
    assert said in error.message


@pytest.mark.parametrize("kind", [["ed25519"], ["rsa", "-b", "2048"], ["ecdsa", "-b", "256"], ["ecdsa", "-b", "521"]])
def test_keys_that_openssh_makes_are_taken_and_not_those_that_were_cut_off(tmp_path: Path, kind: list[str]) -> None:
    subprocess.run(["ssh-keygen", "-q", "-N", "", "-f", str(tmp_path / "key"), "-t", *kind], check=True)
    public = (tmp_path / "key.pub").read_text().strip()
    check_answers(complete_answers(admin={"authorized_keys": [public]}), name="a")
    name, blob, *_ = public.split()
    for cut in range(4, len(blob) - 4, 4):
        with pytest.raises(BadInput, match="damaged"):
            check_answers(complete_answers(admin={"authorized_keys": [f"{name} {blob[:cut]}"]}), name="a")


@pytest.mark.parametrize(
    ("sections", "key", "said"),
    [
        ({"network": {"admin": []}}, "network.admin", "nobody could log in"),
        ({"network": {"admin": ["10.0.0.1/8"]}}, "network.admin[0]", "host bits"),
        ({"network": {"ntp": ["ntp.example.org"]}}, "network.ntp[0]", "ntp.example.org"),
        ({"network": {"ntp": ["192.0.2.2", "192.0.2.0/28"]}}, "network.ntp[1]", "no server's own address"),
        ({"network": {"syslog": ["2001:db8::9/128"]}}, "network.syslog[0]", "no server's own address"),
        ({"admin": {"user": "root"}}, "admin.user", "account of the system"),
        ({"admin": {"user": "intramuros"}}, "admin.user", "account of the system"),
        ({"admin": {"authorized_keys": []}}, "admin.authorized_keys", "nobody could log in"),
        ({"admin": {"authorized_keys": ["ssh-ed25519 AAAA"]}}, "admin.authorized_keys[0]", "damaged"),
        *(
            ({"admin": {"authorized_keys": [PUBLIC_KEY[:cut]]}}, "admin.authorized_keys[0]", "damaged")
            for cut in (36, 44, 52, 76)
        ),
        ({"admin": {"authorized_keys": ["ssh-dss AAAA"]}}, "admin.authorized_keys[0]", "known key type"),
        ({"admin": {"authorized_keys": ['command="x" ' + PUBLIC_KEY]}}, "admin.authorized_keys[0]", "known key type"),
        ({"admin": {"authorized_keys": [PUBLIC_KEY + "\n" + PUBLIC_KEY]}}, "admin.authorized_keys[0]", "one line"),
        ({"storage": {"mode": "luks", "unlock": ["passphrase"]}}, "storage.device", "needs an empty device"),
        ({"storage": {**_LUKS, "unlock": []}}, "storage.unlock", "at least one"),
        ({"storage": {**_LUKS, "unlock": ["tpm2", "tpm2"]}}, "storage.unlock", "twice"),
        ({"storage": {**_LUKS, "device": "/etc/passwd"}}, "storage.device", "below /dev"),
        ({"storage": {**_LUKS, "device": "/dev/../etc/x"}}, "storage.device", "below /dev"),
        ({"storage": {"unlock": ["tpm2"]}}, "storage.unlock", "no meaning"),
        ({"storage": {**_LUKS, "unlock": ["tang"]}}, "storage.tang_servers", "is empty"),
        ({"storage": {**_LUKS, "unlock": ["tang"], "tang_servers": [_TANG]}}, "network.tang", "is empty"),
        ({"storage": {**_LUKS, "tang_servers": [_TANG]}}, "storage.tang_servers", "not in storage.unlock"),
        (
            {"storage": {**_LUKS, "unlock": ["tang"], "tang_servers": [_TANG]}, "network": {"tang": ["192.0.2.8"]}},
            "storage.tang_servers[0].url",
            "in no network of network.tang",
        ),
        (
            {
                "storage": {**_LUKS, "unlock": ["tang"], "tang_servers": [{**_TANG, "url": "http://tang.example.org"}]},
                "network": {"tang": ["192.0.2.9"]},
            },
            "storage.tang_servers[0].url",
            "IP address",
        ),
        ({"storage": {**_LUKS, "unlock": ["tpm2"], "passphrase_file": "/run/p"}}, "storage.passphrase_file", "not in"),
        ({"storage": {"mount": "/etc"}}, "storage.mount", "belongs to the system"),
        ({"storage": {"mount": "/usr/share/intramuros"}}, "storage.mount", "belongs to the system"),
        ({"storage": {"mount": "/var/lib/intramuros"}}, "storage.mount", "belongs to the system"),
        ({"storage": {"mount": "/run/intramuros-data"}}, "storage.mount", "belongs to the system"),
        ({"storage": {"mount": "/srv"}}, "storage.mount", "give a folder of its own"),
        ({"storage": {"mount": "/data/"}}, "storage.mount", "is /data; write it so"),
        ({"storage": {"mount": "//data/./x"}}, "storage.mount", "is /data/x; write it so"),
        ({"tls": {"mode": "provided"}}, "tls.key", "is missing"),
        ({"tls": {"key": "/run/key.pem"}}, "tls.key", "no meaning"),
        (
            {"tls": {"mode": "provided", "client_certificates": "required"}},
            "tls.client_certificates",
            "needs the authority",
        ),
        ({"tls": {"names": ["a b"]}}, "tls.names[0]", "neither a host name"),
        ({"app": {"port": 22}}, "app.port", "SSH's port"),
        ({"admin": {"user": "intramuros-ranks"}}, "admin.user", "account of the system"),
        ({"fleet": {"boxes": [_BETA]}}, "fleet.boxes", "this box's own, is missing"),
        ({"fleet": {"address": "10.77.0.1/24"}, "app": {"enabled": False}}, "fleet.address", "app.enabled is false"),
        ({"fleet": {"address": "10.77.0.1"}}, "fleet.address", "no room for other boxes"),
        ({"fleet": {"address": "10.77.0.0/24"}}, "fleet.address", "the network itself"),
        ({"fleet": {"address": "10.77.0.255/24"}}, "fleet.address", "the network itself"),
        ({"fleet": {"address": "127.0.0.1/8"}}, "fleet.address", "no address for a box"),
        ({"fleet": {"address": "fd00::1%x/64"}}, "fleet.address", "fd00::1%x"),
        ({"fleet": {"address": "alpha"}}, "fleet.address", "alpha"),
        (_with_boxes(_BETA | {"name": "box1"}), "fleet.boxes[0].name", "own"),
        (_with_boxes(_BETA, _GAMMA | {"name": "beta"}), "fleet.boxes[1].name", "another's"),
        (_with_boxes(_BETA | {"address": "10.77.0.1"}), "fleet.boxes[0].address", "own"),
        (_with_boxes(_BETA, _GAMMA | {"address": "10.77.0.2"}), "fleet.boxes[1].address", "another's"),
        (_with_boxes(_BETA | {"address": "10.78.0.2"}), "fleet.boxes[0].address", "does not lie in 10.77.0.0/24"),
        (_with_boxes(_BETA | {"address": "fd00::2"}), "fleet.boxes[0].address", "does not lie in 10.77.0.0/24"),
        (_with_boxes(_BETA | {"address": "10.77.0.2/24"}), "fleet.boxes[0].address", "10.77.0.2/24"),
        (_with_boxes(_BETA | {"endpoint": "192.0.2.99"}), "fleet.boxes[0].endpoint", "in no network of network.fleet"),
        (_with_boxes(_BETA | {"endpoint": "beta.example.org"}), "fleet.boxes[0].endpoint", "names are not resolved"),
        (_with_boxes(_BETA | {"endpoint": "192.0.2.12:0"}), "fleet.boxes[0].endpoint", "0 is no port"),
        (_with_boxes(_BETA | {"endpoint": "192.0.2.12:70000"}), "fleet.boxes[0].endpoint", "70000 is no port"),
        (_with_boxes(_BETA | {"endpoint": "2001:db8:3::2%x"}), "fleet.boxes[0].endpoint", "names are not resolved"),
        (_with_boxes(_BETA | {"public_key": _FLEET_KEY[:-5] + "="}), "fleet.boxes[0].public_key", "32 bytes"),
        (_with_boxes(_BETA | {"public_key": _FLEET_KEY[:-2] + "h="}), "fleet.boxes[0].public_key", "32 bytes"),
        (_with_boxes(_BETA | {"public_key": "é" * 44}), "fleet.boxes[0].public_key", "32 bytes"),
        (_with_boxes(_BETA, _GAMMA | {"public_key": _FLEET_KEY}), "fleet.boxes[1].public_key", "another box's too"),
        (_with_boxes(*[_BETA] * 65), "fleet.boxes", "64 are the most"),
        ({"app": {"enabled": False, "seed_model": "seed"}}, "app.seed_model", "app.enabled is false"),
        ({"lifeline": {"probe_from": "203.0.113.1"}}, "lifeline.probe_from", "can never succeed"),
        ({"lifeline": {"probe_from": "nowhere"}}, "lifeline.probe_from", "nowhere"),
        ({"admin": {"password_hash_file": "hash"}}, "admin.password_hash_file", "not an absolute path"),
        ({"backup": {"repository": "/srv/{{ x }}"}}, "backup.repository", "template"),
        *(
            ({"backup": {"repository": folder}}, "backup.repository", "plain absolute path")
            for folder in ("backups", "sftp:host:/backups", "/mnt/my disk", "/mnt/x/", "/mnt/../etc", "//mnt/x")
        ),
        *(
            ({"backup": {"repository": folder}}, "backup.repository", "belongs to the system")
            for folder in ("/etc", "/mnt", "/var/backups", "/run/backups", "/opt/intramuros/x")
        ),
        *(
            ({"backup": {"repository": folder}}, "backup.repository", "lie in each other")
            for folder in ("/srv/intramuros", "/srv/intramuros/authority")
        ),
        (
            {"backup": {"repository": "/data"}, "storage": {"mount": "/data/intramuros"}},
            "backup.repository",
            "lie in each other",
        ),
        ({"backup": {"schedule": "daily\nUser=root"}}, "backup.schedule", "control character"),
        ({"admin": {"authorized_keys": [PUBLIC_KEY + " {{ lookup('pipe', 'id') }}"]}}, "admin", "template"),
    ],
)
def test_contradictions_name_the_key(sections: dict[str, Any], key: str, said: str) -> None:
    error = _refused(**sections)
    assert error.code == "answers.contradiction"
    assert key in error.message
    assert said in error.message


@pytest.mark.parametrize(
    "sections",
    [
        {"fleet": {"address": "10.77.0.1/24"}},
        {"fleet": {"address": "fd00::1/64", "name": "alpha", "port": 443}},
        _with_boxes(_BETA, _GAMMA),
        _with_boxes(_BETA | {"endpoint": "2001:db8:3::2"}, _GAMMA | {"endpoint": "[2001:db8:3::3]:51820"}),
        _FLEET | {"fleet": {"address": "10.77.0.0/31", "boxes": [_BETA | {"address": "10.77.0.1"}]}},
    ],
)
def test_fleets_that_are_taken(sections: dict[str, Any]) -> None:
    answers = check_answers(complete_answers(**sections), name="answers.toml")
    assert check_answers(as_document(answers), name="again") == answers


@pytest.mark.parametrize("folder", ["", "/mnt/disk/backups", "/var/backups/intramuros", "/srv/intramuros-backups"])
def test_folders_for_backups_that_are_taken(folder: str) -> None:
    answers = check_answers(complete_answers(backup={"repository": folder}), name="a")
    assert answers.backup.repository == folder


def test_own_name_in_the_fleet_is_the_host_name_s_first_part() -> None:
    assert fleet_name(check_answers(complete_answers(hostname="Box1.example.org"), name="a")) == "box1"
    assert fleet_name(check_answers(complete_answers(fleet={"name": "alpha"}), name="a")) == "alpha"


def test_everything_is_told_at_once() -> None:
    error = _refused(network={"admin": [], "dns": ["x"]}, tls={"mode": "provided"}, storage={"mode": "luks"})
    for key in ("network.admin", "network.dns[0]", "tls.certificate", "tls.key", "storage.device", "storage.unlock"):
        assert f"{key}: " in error.message


def test_files_that_are_no_answers(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        read_answers(tmp_path / "none.toml")
    file = tmp_path / "answers.toml"
    cases = ((b"hostname = ", "answers.syntax"), (b"\xff\xfe", "answers.syntax"), (b"#" * (2 << 20), "answers.size"))
    for content, code in cases:
        file.write_bytes(content)
        with pytest.raises(BadInput) as caught:
            read_answers(file)
        assert caught.value.code == code
        assert str(file) in caught.value.message


def test_doubts() -> None:
    answers = check_answers(
        complete_answers(network={"clients": ["0.0.0.0/0"], "ntp": []}, admin={"sudo": "nopasswd"}), name="a"
    )
    assert {doubt.key for doubt in doubts(answers)} == {"network.clients", "network.ntp", "storage.mode", "admin.sudo"}


_TEXTS = (
    "",
    "/",
    "::1",
    "10.0.0.0/8",
    "fe80::1%x",
    "luks",
    "none",
    "provided",
    "tang",
    "/dev/x",
    "http://[::1",
    "1.2.3.4",
)
_LEAVES = st.none() | st.booleans() | st.integers(-1, 70000) | st.text(max_size=8) | st.sampled_from(_TEXTS)
_NAMES = st.sampled_from(["url", "thumbprint", "name", "address", "endpoint", "public_key", "x"])
_VALUES = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_NAMES, inner, max_size=2), max_leaves=4
)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_document_is_taken_or_refused_by_name(data: st.DataObject) -> None:
    """Whatever is in the file: answers, or one refusal that names the file. Never a traceback."""
    document = complete_answers(storage=_LUKS)
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(_every_key()))
        section = document.setdefault(path[0], {}) if len(path) == 2 else document
        if isinstance(section, dict):
            section[path[-1]] = data.draw(_VALUES)
    refusal = _refusal_of(document)
    assert refusal is None or refusal.startswith("answers.toml: ")
    assert "\n" not in (refusal or "")


def _refusal_of(document: dict[str, Any]) -> str | None:
    try:
        doubts(check_answers(document, name="answers.toml"))
    except BadInput as error:
        return error.message
    return None


def _every_key() -> list[tuple[str, ...]]:
    whole = as_document(check_answers(complete_answers(), name="a"))
    keys: list[tuple[str, ...]] = [(name,) for name in whole]
    return keys + [(name, key) for name, section in whole.items() if isinstance(section, dict) for key in section]
