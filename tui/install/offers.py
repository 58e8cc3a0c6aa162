"""What the box suggests for each question: names, networks, keys, empty disks, models. Read, never changed.

The parsing is pure; `offers` reads. What cannot be read is not offered.
"""

from __future__ import annotations

import ipaddress
import os
import platform
import pwd
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from appliance.kernel import process
from appliance.kernel.errors import IntramurosError
from installer.facts import Facts

_PATIENCE = 20.0
_FIRST_PERSON = 1000
"""The first user id of a person (login.defs(5), UID_MIN)."""


def offers(facts: Facts, bundle: Path | None) -> Mapping[str, tuple[str, ...]]:
    """Return what can be offered, by field key."""
    addresses = _json(("ip", "-json", "address"))
    disks = _json(("lsblk", "--json", "--bytes", "--output", "PATH,SIZE,RO,TYPE,MOUNTPOINTS,FSTYPE,PTTYPE"))
    host = platform.node()
    named = () if host in ("", "localhost", "localhost.localdomain") else (host,)
    found = {
        "hostname": named,
        "timezone": time_zone(),
        "admin.user": people(),
        "admin.authorized_keys": keys(_key_files()),
        "network.admin": admin_networks(addresses, facts.client),
        "network.dns": name_servers(_text(Path("/etc/resolv.conf"))),
        "storage.device": empty_disks(disks, by_id(Path("/dev/disk/by-id"))),
        "app.seed_model": models(bundle),
        "tls.names": tuple(", ".join((*named, *own)) for own in [own_addresses(addresses)] if own or named),
        "lifeline.probe_from": (facts.client,) if facts.client else (),
    }
    return {key: texts for key, texts in found.items() if texts}


def admin_networks(addresses: Any, client: str) -> tuple[str, ...]:
    """Where administrators come from: the network on which the person is logged in, or their address; else our own."""
    ours = [interface.network for interface in _interfaces(addresses)]
    if not client:
        return tuple(dict.fromkeys(map(str, ours)))
    address = ipaddress.ip_address(client)
    near = [str(network) for network in ours if address in network]
    return tuple(dict.fromkeys([*near, str(ipaddress.ip_network(address))]))


def own_addresses(addresses: Any) -> tuple[str, ...]:
    """The box's own addresses, but for the loopback's and link-local ones."""
    return tuple(dict.fromkeys(str(interface.ip) for interface in _interfaces(addresses)))


def name_servers(resolv_conf: str) -> tuple[str, ...]:
    """The name servers of resolv.conf(5) that are not the box itself."""
    found = [
        line.split()[1] for line in resolv_conf.splitlines() if line.startswith("nameserver ") and line.split()[1:]
    ]
    return tuple(text for text in found if _is_remote(text))


def keys(texts: Iterable[str]) -> tuple[str, ...]:
    """The public keys of authorized_keys files, without those that carry options (sshd(8))."""
    found = [line.strip() for text in texts for line in text.splitlines() if line.startswith(("ssh-", "ecdsa-", "sk-"))]
    return tuple(dict.fromkeys(found))


def empty_disks(listed: Any, names: Mapping[str, str]) -> tuple[str, ...]:
    """Whole disks without partitions, file system and mounts, by their lasting name where there is one."""
    devices = listed.get("blockdevices", []) if isinstance(listed, Mapping) else []
    empty = [
        str(device["path"])
        for device in devices
        if device.get("type") == "disk"
        and device.get("size")
        and not str(device["path"]).startswith(("/dev/zram", "/dev/ram"))
        and not device.get("ro")
        and not device.get("children")
        and not device.get("fstype")
        and not device.get("pttype")
        and not any(device.get("mountpoints") or ())
    ]
    return tuple(names.get(path, path) for path in empty)


def by_id(folder: Path) -> Mapping[str, str]:
    """The shortest lasting name of each device."""
    if not folder.is_dir():
        return {}
    links = sorted(folder.iterdir(), key=lambda link: (-len(link.name), link.name))
    return {str(link.resolve()): str(link) for link in links}


def people() -> tuple[str, ...]:
    """Accounts of persons, the one behind sudo first."""
    persons = [entry.pw_name for entry in pwd.getpwall() if _FIRST_PERSON <= entry.pw_uid < 60000]
    behind = os.environ.get("SUDO_USER", "")
    return tuple(sorted(persons, key=lambda name: name != behind))


def time_zone(localtime: Path = Path("/etc/localtime")) -> tuple[str, ...]:
    """The zone that /etc/localtime points to (localtime(5))."""
    _, found, name = str(localtime.resolve()).partition("/zoneinfo/")
    return (name,) if found and name else ()


def models(bundle: Path | None) -> tuple[str, ...]:
    """The models that the bundle brings."""
    folder = bundle / "models" if bundle else None
    return tuple(sorted(path.stem for path in folder.glob("*.gguf"))) if folder else ()


def _interfaces(addresses: Any) -> Iterator[ipaddress.IPv4Interface | ipaddress.IPv6Interface]:
    for link in addresses if isinstance(addresses, list) else ():
        for one in link.get("addr_info", ()):
            interface = ipaddress.ip_interface(f"{one['local']}/{one['prefixlen']}")
            if not interface.ip.is_loopback and not interface.ip.is_link_local:
                yield interface


def _is_remote(text: str) -> bool:
    try:
        return not ipaddress.ip_address(text.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _key_files() -> Iterator[str]:
    homes = [Path("/root")]
    homes += [Path(entry.pw_dir) for entry in pwd.getpwall() if entry.pw_name in people()]
    for home in homes:
        yield _text(home / ".ssh" / "authorized_keys")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _json(argv: tuple[str, ...]) -> Any:
    try:
        return msgspec.json.decode(process.run(argv, timeout=_PATIENCE).stdout.encode())
    except (IntramurosError, msgspec.DecodeError):
        return None
