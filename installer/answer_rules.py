"""What the answers say about each other: contradictions that stop, doubts that are worth a warning. Pure.

A contradiction is a fault of the file alone, whatever the machine; what depends on the machine is pre-flight's.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import posixpath
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

if TYPE_CHECKING:
    from installer.answers import Answers

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface

_KEY_TYPES = {
    "ssh-ed25519": 2,
    "ssh-rsa": 3,
    "ecdsa-sha2-nistp256": 3,
    "ecdsa-sha2-nistp384": 3,
    "ecdsa-sha2-nistp521": 3,
    "sk-ssh-ed25519@openssh.com": 3,
    "sk-ecdsa-sha2-nistp256@openssh.com": 4,
}
"""Types of public keys, and of how many fields each consists (RFC 4253 6.6, RFC 5656 3.1, OpenSSH's PROTOCOL.u2f)."""
_TEMPLATE = re.compile(r"\{[{%#]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_RSA_LEAST_BITS = 2048
_FLEET_LIMIT = 64
_DNS_NAME = re.compile(r"(\*\.)?[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_RESERVED_USERS = frozenset(
    {"root", "daemon", "nobody", "intramuros", "intramuros-gw", "intramuros-ranks", "sync", "sshd", "www-data"}
)
_SYSTEM_FOLDERS = (
    *("/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/root", "/run"),
    *("/sbin", "/sys", "/tmp", "/usr", "/opt/intramuros"),  # noqa: S108  names alone
    *("/var/backups", "/var/cache", "/var/local", "/var/lock", "/var/log", "/var/mail", "/var/run", "/var/spool"),
    *("/var/tmp", "/var/lib"),  # noqa: S108
)
"""No data of the appliance lies in them: they are the system's, other people's, or empty after a boot."""
_SHARED_FOLDERS = frozenset({"/", "/media", "/mnt", "/opt", "/srv", "/var"})
"""Others have their folders in them, which a volume that is mounted there would hide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A key of the answers and what is wrong with it."""

    key: str
    text: str


def contradictions(answers: Answers) -> list[Fault]:
    """Return everything that is wrong with the answers."""
    rules = (_admin, _networks, _storage, _tls, _ports, _fleet, _paths, _backup, _texts)
    return [fault for rule in rules for fault in rule(answers)]


def doubts(answers: Answers) -> list[Fault]:
    """Return what is allowed and probably not meant."""
    found = []
    network = answers.network
    for key, given in (("network.admin", network.admin), ("network.clients", network.clients)):
        found += [
            Fault(key=key, text=f"{text} lets the whole internet in")
            for text in given
            if parse_network(text).prefixlen == 0
        ]
    if answers.app.enabled and not network.clients:
        found.append(Fault(key="network.clients", text="is empty: nobody can use the model over the network"))
    if not network.ntp:
        found.append(Fault(key="network.ntp", text="is empty: the box keeps its own time, which drifts"))
    if answers.storage.mode == "none" and answers.app.enabled:
        found.append(Fault(key="storage.mode", text="is none: data at rest is not encrypted"))
    if answers.admin.sudo == "nopasswd":
        found.append(Fault(key="admin.sudo", text="is nopasswd: whoever has the SSH key is root"))
    return found


def parse_network(text: str) -> Network:
    """Return a network from an address or a CIDR. Raises ValueError; host bits are refused."""
    return ipaddress.ip_network(text, strict=True)


def contains(networks: tuple[str, ...], address: Address) -> bool:
    """Tell whether an address lies in one of the networks. An IPv4 address mapped into IPv6 counts as IPv4."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in parse_network(text) for text in networks)


def _admin(answers: Answers) -> Iterator[Fault]:
    admin = answers.admin
    if admin.user in _RESERVED_USERS:
        yield Fault(key="admin.user", text=f"{admin.user} is an account of the system; choose a person's")
    if not admin.authorized_keys:
        yield Fault(key="admin.authorized_keys", text="is empty, so nobody could log in")
    for number, line in enumerate(admin.authorized_keys):
        if text := _key_fault(line):
            yield Fault(key=f"admin.authorized_keys[{number}]", text=text)


def _key_fault(line: str) -> str:
    """Return what is wrong with a public key in OpenSSH's form (RFC 4253 section 6.6), or nothing."""
    words = line.split()
    if "\n" in line or "\r" in line or "PRIVATE KEY" in line:
        return "must be one line of a .pub file"
    if len(words) < 2 or words[0] not in _KEY_TYPES:
        return f"does not begin with a known key type ({', '.join(sorted(_KEY_TYPES))})"
    try:
        fields = _fields(base64.b64decode(words[1], validate=True))
    except (binascii.Error, struct.error):
        return "is damaged: its second word is not the whole key in base64"
    if fields[0] != words[0].encode() or len(fields) != _KEY_TYPES[words[0]] or not all(fields):
        return "is damaged: the key does not match its type"
    if words[0] == "ssh-rsa" and (bits := int.from_bytes(fields[2]).bit_length()) < _RSA_LEAST_BITS:
        return f"is an RSA key of {bits} bits; {_RSA_LEAST_BITS} are the least"
    return ""


def _fields(blob: bytes) -> list[bytes]:
    """Take a key apart (RFC 4251 section 5, `string`). Raises struct.error when it was cut off anywhere."""
    fields: list[bytes] = []
    while blob or not fields:
        (length,) = struct.unpack(">I", blob[:4])
        (field,) = struct.unpack(f"{length}s", blob[4 : 4 + length])
        fields.append(field)
        blob = blob[4 + length :]
    return fields


def _networks(answers: Answers) -> Iterator[Fault]:
    network = answers.network
    if not network.admin:
        yield Fault(key="network.admin", text="is empty, so nobody could log in")
    for name in ("admin", "clients", "fleet", "dns", "ntp", "syslog", "tang"):
        for number, text in enumerate(getattr(network, name)):
            try:
                parse_network(text)
            except ValueError as error:
                yield Fault(key=f"network.{name}[{number}]", text=str(error))
    for name in ("ntp", "syslog"):
        for number, text in enumerate(getattr(network, name)):
            if "/" in text:
                yield Fault(key=f"network.{name}[{number}]", text=f"{text} is no server's own address")
    if (probe := answers.lifeline.probe_from) and (fault := _probe_fault(probe, answers)):
        yield Fault(key="lifeline.probe_from", text=fault)


def _probe_fault(text: str, answers: Answers) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError as error:
        return str(error)
    try:
        inside = contains(answers.network.admin, address)
    except ValueError:
        return ""  # the network itself is named already
    return "" if inside else f"{text} lies in no network of network.admin, so its login can never succeed"


def _storage(answers: Answers) -> Iterator[Fault]:
    storage = answers.storage
    if storage.mode == "none":
        for name in ("device", "wipe", "unlock", "passphrase_file", "recovery_key_file", "tang_servers"):
            if getattr(storage, name):
                yield Fault(key=f"storage.{name}", text='has no meaning while storage.mode is "none"')
        return
    if not storage.device:
        yield Fault(key="storage.device", text="is missing: luks needs an empty device")
    elif not re.fullmatch(r"/dev/[A-Za-z0-9._:+@=/-]+", storage.device) or ".." in storage.device:
        yield Fault(key="storage.device", text=f"{storage.device} is not a path below /dev")
    if storage.wipe and storage.wipe != storage.device:
        yield Fault(key="storage.wipe", text=f"is {storage.wipe}, but storage.device is {storage.device}")
    if not storage.unlock:
        yield Fault(key="storage.unlock", text="is empty: name at least one of passphrase, tpm2, tang")
    if len(set(storage.unlock)) != len(storage.unlock):
        yield Fault(key="storage.unlock", text="names a way twice")
    if storage.passphrase_file and "passphrase" not in storage.unlock:
        yield Fault(key="storage.passphrase_file", text="is given, and passphrase is not in storage.unlock")
    yield from _tang(answers)


def _tang(answers: Answers) -> Iterator[Fault]:
    storage = answers.storage
    asked = "tang" in storage.unlock
    if asked and not storage.tang_servers:
        yield Fault(key="storage.tang_servers", text="is empty, and tang is in storage.unlock")
    if asked and not answers.network.tang:
        yield Fault(key="network.tang", text="is empty: the firewall would not let the box reach Tang")
    if storage.tang_servers and not asked:
        yield Fault(key="storage.tang_servers", text="is given, and tang is not in storage.unlock")
    for number, server in enumerate(storage.tang_servers):
        key = f"storage.tang_servers[{number}].url"
        try:
            parts = urlsplit(server.url)
            address = ipaddress.ip_address(parts.hostname or "")
            _ = parts.port
        except ValueError:
            yield Fault(key=key, text=f"{server.url} must name an IP address: names are not resolved while booting")
            continue
        try:
            inside = contains(answers.network.tang, address)
        except ValueError:
            continue
        if answers.network.tang and not inside:
            yield Fault(key=key, text=f"{address} lies in no network of network.tang")


def _tls(answers: Answers) -> Iterator[Fault]:
    tls = answers.tls
    if tls.mode == "provided":
        for name in ("certificate", "key"):
            if not getattr(tls, name):
                yield Fault(key=f"tls.{name}", text='is missing, and tls.mode is "provided"')
        if tls.client_certificates == "required":
            yield Fault(key="tls.client_certificates", text='needs the authority of tls.mode "internal"')
    else:
        for name in ("certificate", "key", "chain"):
            if getattr(tls, name):
                yield Fault(key=f"tls.{name}", text='has no meaning while tls.mode is "internal"')
    for number, name in enumerate(tls.names):
        if not _is_address(name) and (_DNS_NAME.fullmatch(name) is None or ".." in name):
            yield Fault(key=f"tls.names[{number}]", text=f"{name!r} is neither a host name nor an address")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _ports(answers: Answers) -> Iterator[Fault]:
    if answers.app.enabled and answers.app.port == answers.ssh.port:
        yield Fault(key="app.port", text=f"{answers.app.port} is SSH's port too")
    if answers.app.seed_model and not answers.app.enabled:
        yield Fault(key="app.seed_model", text="is given, and app.enabled is false")


def _fleet(answers: Answers) -> Iterator[Fault]:
    fleet = answers.fleet
    if not fleet.address:
        if fleet.boxes:
            yield Fault(key="fleet.boxes", text="is given, and fleet.address, this box's own, is missing")
        return
    if not answers.app.enabled:
        yield Fault(key="fleet.address", text="is given, and app.enabled is false")
    if len(fleet.boxes) > _FLEET_LIMIT:
        yield Fault(key="fleet.boxes", text=f"names {len(fleet.boxes)} boxes; {_FLEET_LIMIT} are the most")
    try:
        own = ipaddress.ip_interface(_without_zone(fleet.address))
    except ValueError as error:
        yield Fault(key="fleet.address", text=str(error))
        return
    if text := _inside_fault(own.ip, own.network):
        yield Fault(key="fleet.address", text=text)
    yield from _fleet_boxes(answers, own)


def _fleet_boxes(answers: Answers, own: Interface) -> Iterator[Fault]:
    fleet = answers.fleet
    names, keys = {fleet_name(answers)}, set[bytes]()
    addresses: set[Address] = {own.ip}
    for number, box in enumerate(fleet.boxes):
        where = f"fleet.boxes[{number}]"
        if box.name in names:
            yield Fault(key=f"{where}.name", text=f"{box.name} is this box's own, or another's")
        names.add(box.name)
        try:
            address = ipaddress.ip_address(_without_zone(box.address))
        except ValueError as error:
            yield Fault(key=f"{where}.address", text=str(error))
        else:
            if text := _inside_fault(address, own.network):
                yield Fault(key=f"{where}.address", text=text)
            elif address in addresses:
                yield Fault(key=f"{where}.address", text=f"{address} is this box's own, or another's")
            addresses.add(address)
        if text := _endpoint_fault(box.endpoint, answers):
            yield Fault(key=f"{where}.endpoint", text=text)
        key = _wireguard_key(box.public_key)
        if key is None:
            yield Fault(key=f"{where}.public_key", text="is no WireGuard key: the base64 of 32 bytes")
        elif key in keys:
            yield Fault(key=f"{where}.public_key", text="is another box's too")
        else:
            keys.add(key)


def fleet_name(answers: Answers) -> str:
    """Return the name of this box in its fleet."""
    return answers.fleet.name or answers.hostname.partition(".")[0].lower()


def _inside_fault(address: Address, network: Network) -> str:
    """Return why a box cannot have this address inside the fleet's network, or nothing."""
    if address.is_unspecified or address.is_loopback or address.is_multicast or address.is_link_local:
        return f"{address} is no address for a box"
    if network.num_addresses == 1:
        return f"{network} has no room for other boxes; give the network's length, such as {address}/24"
    if address not in network:
        return f"{address} does not lie in {network}, the network of fleet.address"
    if network.num_addresses > 2 and address in {network.network_address, network.broadcast_address}:
        return f"{address} is the network itself, or all of it"
    return ""


def _without_zone(text: str) -> str:
    """Return the text of an address. Raises ValueError for one that counts on a link of one machine (RFC 4007)."""
    if "%" in text:
        raise ValueError(f"{text!r} names an interface of one machine")
    return text


def _endpoint_fault(text: str, answers: Answers) -> str:
    try:
        address, port = _endpoint(text)
    except ValueError:
        return f"{text!r} is neither an IP address nor an address with a port: names are not resolved"
    if not 0 < port <= 65535:
        return f"{port} is no port"
    try:
        inside = contains(answers.network.fleet, address)
    except ValueError:
        return ""  # the network itself is named already
    return "" if inside else f"{address} lies in no network of network.fleet, so the firewall would not let it through"


def _endpoint(text: str) -> tuple[Address, int]:
    """Return address and port, 1 where none is given. Raises ValueError."""
    text = _without_zone(text)
    if match := re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)):([0-9]{1,5})", text, flags=re.ASCII):
        return ipaddress.ip_address(match[1] or match[2]), int(match[3])
    return ipaddress.ip_address(text), 1


def _wireguard_key(text: str) -> bytes | None:
    """Return the 32 bytes of a key, or None for anything that WireGuard would not print so."""
    try:
        key = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return key if len(key) == 32 and base64.b64encode(key).decode() == text else None


def _paths(answers: Answers) -> Iterator[Fault]:
    for key, path in (
        ("admin.password_hash_file", answers.admin.password_hash_file),
        ("storage.passphrase_file", answers.storage.passphrase_file),
        ("storage.recovery_key_file", answers.storage.recovery_key_file),
        ("network.syslog_authority", answers.network.syslog_authority),
        ("tls.certificate", answers.tls.certificate),
        ("tls.key", answers.tls.key),
        ("tls.chain", answers.tls.chain),
    ):
        if path and (not path.startswith("/") or "\0" in path):
            yield Fault(key=key, text=f"{path} is not an absolute path")
    mount = answers.storage.mount
    if (plain := _plain(mount)) != mount:
        yield Fault(key="storage.mount", text=f"{mount} is {plain}; write it so")
    if _belongs_to_the_system(plain):
        yield Fault(key="storage.mount", text=f"{mount} belongs to the system; give a folder of its own")


def _backup(answers: Answers) -> Iterator[Fault]:
    """Judge the folder of the backups: it is given to the daemon, which may write there and nowhere else outside."""
    folder, mount = answers.backup.repository, answers.storage.mount
    if not folder:
        return
    key = "backup.repository"
    if not re.fullmatch(r"/[A-Za-z0-9._/-]+", folder) or _plain(folder) != folder:
        yield Fault(key=key, text=f"{folder} is not the plain absolute path of a folder; the daemon has no network")
    elif _belongs_to_the_system(folder, shared=_SHARED_FOLDERS | {"/var/backups"}):
        yield Fault(key=key, text=f"{folder} belongs to the system; give a folder of its own")
    elif _lies_in(folder, mount) or _lies_in(mount, folder):
        yield Fault(key=key, text=f"{folder} and {mount}, the data's folder, lie in each other")


def _plain(path: str) -> str:
    """Return the one way to write an absolute path."""
    return posixpath.normpath(f"/{path.lstrip('/')}")


def _belongs_to_the_system(path: str, *, shared: frozenset[str] = _SHARED_FOLDERS) -> bool:
    """Tell whether a folder is one that others have theirs in, or lies in one of the system's that is not shared."""
    return path in shared or any(_lies_in(path, folder) for folder in _SYSTEM_FOLDERS if folder not in shared)


def _lies_in(path: str, folder: str) -> bool:
    return f"{path}/".startswith(f"{folder}/")


def _texts(answers: Answers) -> Iterator[Fault]:
    """Answers end up in settings of many programs, one line each, and ansible evaluates what looks like a template."""
    for key, text in _every_text(msgspec.to_builtins(answers), ""):
        if _TEMPLATE.search(text):
            yield Fault(key=key, text="contains the beginning of a template, {{, {% or {#")
        if _CONTROL.search(text):
            yield Fault(key=key, text="contains a line break or another control character")


def _every_text(value: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _every_text(inner, f"{key}.{name}" if key else name)
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _every_text(inner, f"{key}[{number}]")
