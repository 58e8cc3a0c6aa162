"""What this machine is: read, never changed. The result is plain data, so a machine can be recorded and judged again.

Knows no thresholds: `installer.preflight` judges. A fact that cannot be read is given as unknown (empty or None).
"""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import psutil

from appliance.kernel import process
from appliance.kernel.errors import IntramurosError
from appliance.kernel.paths import StatePaths, box_state
from installer import secrets
from installer.answers import Answers
from installer.harden import stakes
from installer.harden.other_access import other_administrators, other_keys
from installer.harden.probe_source import session_of_caller
from installer.harden.way_back import WayBack
from installer.in_effect import has_password, secrets_in_effect
from installer.places import Places

GATEWAY = "intramuros-gateway"
_PATIENCE = 20.0
_TANG_PATIENCE = 5.0
_DEFAULT_PROFILE = re.compile(r"^Default:\s*yes\b", re.MULTILINE)
_FIREWALL_MANAGERS = ("ufw", "firewalld", "shorewall", "ferm", "netfilter-persistent")
_LEVELS = (
    (2, {"cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"}),
    (3, {"abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "xsave"}),
    (4, {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}),
)
"""Flags of /proc/cpuinfo that make an x86-64 level (System V ABI, AMD64 supplement, section 3.1.1)."""


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    """A block device that the answers name. `holds` is a file system, partition table or member it contains."""

    path: str
    exists: bool = False
    block: bool = False
    size: int = 0
    read_only: bool = False
    mounted: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    holds: str = ""
    ours: bool = False
    usb: bool = False


class Listener(msgspec.Struct, frozen=True, kw_only=True):
    """A TCP port that somebody listens on; `program` is empty when it cannot be told."""

    port: int
    address: str
    program: str = ""


class Gpu(msgspec.Struct, frozen=True, kw_only=True):
    """A display or 3D controller on the PCI bus, by its vendor's and its own number."""

    vendor: str
    device: str
    kind: str


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything pre-flight judges. Sizes are bytes; `now` is RFC 3339 in UTC."""

    os_id: str = ""
    os_version: str = ""
    architecture: str = ""
    cpu_level: int = 0
    cpus: int = 0
    memory: int = 0
    user_id: int = 0
    init: str = ""
    now: str = ""
    virtualisation: str = ""
    uefi: bool = False
    tpm2: bool = False
    device_mapper: bool = False
    root_free: int = 0
    memory_file_system: bool = False
    firewall_managers: tuple[str, ...] = ()
    pam_profiles_waiting: tuple[str, ...] = ()
    listeners: tuple[Listener, ...] = ()
    interfaces: tuple[str, ...] = ()
    gpus: tuple[Gpu, ...] = ()
    client: str = ""
    way_back: WayBack | None = None
    advertised: tuple[str, ...] = ()
    on_usb: tuple[str, ...] = ()
    programs_missing: tuple[str, ...] = ()
    appliance_installed: bool = False
    data_at: str = ""
    data_in_volume: bool = False
    data_disk: Disk | None = None
    admin_has_password: bool | None = None
    admin_password_age: int | None = None
    other_administrators: tuple[str, ...] = ()
    other_keys: tuple[str, ...] = ()
    timezone_known: bool | None = None
    schedule_known: bool | None = None
    tang_silent: tuple[str, ...] = ()
    files_missing: tuple[str, ...] = ()
    secret_faults: tuple[tuple[str, str], ...] = ()
    secrets_laid: tuple[str, ...] = ()


def gather(answers: Answers | None, *, places: Places | None = None) -> Facts:
    """Read the facts. With answers, also those of the devices, files and servers that they name."""
    places = places if places is not None else Places()
    release = _os_release()
    session = session_of_caller(os.getpid())
    general = Facts(
        os_id=release.get("ID", ""),
        os_version=release.get("VERSION_ID", ""),
        architecture=platform.machine(),
        cpu_level=_cpu_level(_cpu_flags()),
        cpus=len(os.sched_getaffinity(0)),
        memory=_memory(),
        user_id=os.geteuid(),
        init=_text(Path("/proc/1/comm")),
        now=datetime.now(UTC).isoformat(timespec="seconds"),
        virtualisation=_first_line(("systemd-detect-virt",)),
        uefi=Path("/sys/firmware/efi").is_dir(),
        tpm2=any(_text(path) == "2" for path in Path("/sys/class/tpm").glob("tpm*/tpm_version_major")),
        device_mapper=Path("/dev/mapper/control").exists(),
        root_free=shutil.disk_usage("/").free,
        memory_file_system=_in_memory(places.memory),
        firewall_managers=tuple(name for name in _FIREWALL_MANAGERS if _unit_is_active(name)),
        pam_profiles_waiting=pam_profiles_waiting(Path("/usr/share/pam-configs"), Path("/var/lib/pam/seen")),
        listeners=_listeners(),
        interfaces=tuple(sorted(path.name for path in Path("/sys/class/net").iterdir())),
        gpus=_gpus(Path("/sys/bus/pci/devices")),
        client=session.client if session is not None else "",
        way_back=stakes.way_back(session),
        advertised=stakes.advertised(),
        on_usb=stakes.mounts_on_usb(),
        programs_missing=tuple(name for name in ("apt-get", "dpkg", "systemctl", "ip") if shutil.which(name) is None),
        appliance_installed=Path("/opt/intramuros/current").exists(),
        data_at=_data_at(places),
        data_in_volume=places.volume_table.exists(),
        secrets_laid=tuple(secrets.laid(places.secrets)) if os.access(places.memory, os.X_OK) else (),
    )
    if answers is None:
        return general
    return msgspec.structs.replace(
        general,
        data_disk=_disk(answers.storage.device, places) if answers.storage.mode == "luks" else None,
        admin_has_password=has_password(answers.admin.user),
        admin_password_age=stakes.password_age(answers.admin.user, today=datetime.now(UTC).date()),
        other_administrators=other_administrators(answers.admin.user),
        other_keys=other_keys(answers.admin.user, answers.admin.authorized_keys),
        timezone_known=knows_zone(Path("/usr/share/zoneinfo"), answers.timezone),
        schedule_known=_knows_schedule(answers.backup.schedule),
        tang_silent=tuple(server.url for server in answers.storage.tang_servers if not _tang_answers(server.url)),
        files_missing=tuple(
            path
            for path in (answers.tls.certificate, answers.tls.chain, answers.network.syslog_authority)
            if path and not Path(path).is_file()
        ),
        secret_faults=tuple(secrets.source_faults(answers, in_effect=secrets_in_effect(answers, places))),
    )


def _data_at(places: Places) -> str:
    """Return where an appliance's data is, seen or locked in its volume; empty where a first run made none yet."""
    state = box_state(places.box_state)
    there = state is not None and (StatePaths(state).database.exists() or places.volume_table.exists())
    return str(state) if there else ""


def _os_release() -> dict[str, str]:
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


def _cpu_flags() -> frozenset[str]:
    for line in _text(Path("/proc/cpuinfo")).splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "flags":
            return frozenset(value.split())
    return frozenset()


def _cpu_level(flags: Iterable[str]) -> int:
    level, present = 1, frozenset(flags)
    for number, needed in _LEVELS:
        if not needed <= present:
            break
        level = number
    return level if present else 0


def _memory() -> int:
    for line in _text(Path("/proc/meminfo")).splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return 0


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _first_line(argv: tuple[str, ...]) -> str:
    try:
        return process.run(argv, timeout=_PATIENCE).stdout.partition("\n")[0].strip()
    except IntramurosError:
        return ""


def _unit_is_active(name: str) -> bool:
    return _first_line(("systemctl", "is-active", f"{name}.service")) == "active"


def pam_profiles_waiting(profiles: Path, seen: Path) -> tuple[str, ...]:
    """Return profiles of others that the next package with a PAM module would switch on (pam-auth-update(8))."""
    if not seen.is_file() or not profiles.is_dir():
        return ()
    known = set(_text(seen).split())
    present = [path for path in sorted(profiles.iterdir()) if path.name not in known]
    others = [path for path in present if path.is_file() and not path.name.startswith("intramuros-")]
    return tuple(path.name for path in others if _DEFAULT_PROFILE.search(path.read_text(errors="replace")))


def _in_memory(folder: Path) -> bool:
    existing = next(each for each in (folder, *folder.parents) if each.exists())
    return secrets.is_in_memory(existing)


def _listeners() -> tuple[Listener, ...]:
    found = set()
    try:
        connections = psutil.net_connections(kind="tcp")
    except (psutil.Error, OSError):
        return ()
    for connection in connections:
        if connection.status != psutil.CONN_LISTEN or not connection.laddr:
            continue
        try:
            program = _program(psutil.Process(connection.pid)) if connection.pid else ""
        except psutil.Error:
            program = ""
        found.add((connection.laddr.port, connection.laddr.ip, program))
    return tuple(Listener(port=port, address=address, program=program) for port, address, program in sorted(found))


def _program(running: psutil.Process) -> str:
    """Return the program's name; our gateway is a Python program like many, so its module tells it apart."""
    return GATEWAY if "appliance.gateway.main" in running.cmdline() else running.name()


def _gpus(devices: Path) -> tuple[Gpu, ...]:
    """Return display controllers (PCI base class 03h) that could compute; the plain VGA of a server is one too."""
    found = []
    for device in sorted(devices.iterdir()) if devices.is_dir() else ():
        kind = _text(device / "class")
        if kind.startswith("0x03"):
            found.append(Gpu(vendor=_text(device / "vendor"), device=_text(device / "device"), kind=kind))
    return tuple(found)


def knows_zone(zones: Path, name: str) -> bool | None:
    """Tell whether the machine has a time zone; None where it has none at all, because tzdata comes later."""
    return (zones / name).is_file() if (zones / "tzdata.zi").is_file() else None


def _knows_schedule(text: str) -> bool | None:
    """Tell whether systemd takes a time of its calendar; None where it cannot be asked."""
    try:
        return process.run(("systemd-analyze", "calendar", "--", text), timeout=_PATIENCE).status == 0
    except IntramurosError:
        return None


def _disk(path: str, places: Places) -> Disk:
    real = Path(path).resolve()
    if not real.exists():
        return Disk(path=path)
    if not real.is_block_device():
        return Disk(path=path, exists=True)
    try:
        listed = process.run(
            ("lsblk", "--json", "--bytes", "--output", "PATH,SIZE,RO,TYPE,MOUNTPOINTS,FSTYPE", str(real)),
            timeout=_PATIENCE,
        )
        probed = process.run(("blkid", "--probe", "--output", "export", str(real)), timeout=_PATIENCE)
        tree = msgspec.json.decode(listed.stdout.encode())["blockdevices"][0]
    except (IntramurosError, msgspec.DecodeError, KeyError, IndexError):
        return Disk(path=path, exists=True, block=True)
    kinds = dict(line.split("=", 1) for line in probed.stdout.splitlines() if "=" in line)
    mounted, parts = _below(tree)
    return Disk(
        path=path,
        exists=True,
        block=True,
        size=int(tree.get("size") or 0),
        read_only=bool(tree.get("ro")),
        mounted=mounted,
        parts=parts,
        holds=kinds.get("TYPE") or kinds.get("PTTYPE", ""),
        ours=_is_ours(kinds.get("UUID", ""), places),
        usb=stakes.is_on_usb(real),
    )


def _below(tree: dict[str, object]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    mounts, parts = [], []
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        points = node.get("mountpoints")
        mounts += [str(point) for point in points if point] if isinstance(points, list) else []
        children = node.get("children")
        for child in children if isinstance(children, list) else ():
            parts.append(str(child.get("path")))
            waiting.append(child)
    return tuple(sorted(mounts)), tuple(sorted(parts))


def _is_ours(uuid: str, places: Places) -> bool:
    """Tell whether a UUID is that of this box's data volume; a disk's name may be another disk's after a boot."""
    from installer.storage.table import read_table

    try:
        return read_table(places.volume_table).uuid == uuid
    except IntramurosError:
        return False


def _tang_answers(url: str) -> bool:
    import http.client
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=_TANG_PATIENCE)
    try:
        connection.request("GET", "/adv")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
