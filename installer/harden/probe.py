"""The proof: a new SSH connection from the administrator's address, and `sudo -n` behind it, as a stranger would do it.

On the box itself a connection to one's own address goes over the loopback, which proves nothing about the firewall. So
the client runs in a network namespace with the administrator's address, joined by a veth pair; a rule by port range
leads only its replies there, and the administrator's own session is not touched. Everything made here is removed
again, also when the proof fails; each removal is registered before the act it undoes.
"""

from __future__ import annotations

import ipaddress
import json
import os
import pwd
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from appliance.kernel import process
from appliance.kernel.durable import write_file
from appliance.kernel.errors import Conflict, InternalError, IntramurosError, NotFound, storage_errors
from installer.harden.pam_probe import prove_passwords
from installer.harden.way_back import require_way_back

NAMESPACE = "intramuros-probe"
OUTER = "im-probe0"
INNER = "im-probe1"
OUTER_MAC, INNER_MAC = "02:69:6d:70:00:01", "02:69:6d:70:00:02"
"""Given at the making: udev gives an interface that was made without one another address a moment later, and what was
sent to the first goes nowhere (systemd.link(5), MACAddressPolicy; an address that somebody set stays)."""
TABLE = "61000"
PREFERENCE = "61"
SUDOERS = Path("/etc/sudoers.d/zz-intramuros-probe")
RULES = Path("/etc/sudoers")
_MARK = "intramuros-proven"
_COMMENT = "intramuros-lifeline-probe"

Run = Callable[[Sequence[str]], process.Outcome]


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One proof: who logs in, from which address, to which address and port, with client ports of which range."""

    admin: str
    source: str
    server: str
    port: int
    client_ports: tuple[int, int]

    @property
    def family(self) -> str:
        """Return ip's flag of the address family."""
        return "-6" if ipaddress.ip_address(self.source).version == 6 else "-4"

    @property
    def width(self) -> int:
        """Return the prefix length of a single address."""
        return 128 if self.family == "-6" else 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What was proven: a login from `source` to `server`, and a command as root through sudo."""

    admin: str
    source: str
    server: str
    port: int


def run_command(argv: Sequence[str]) -> process.Outcome:
    """Run one program of the system. The lifeline's timer bounds the proof; this only ends a program that hangs."""
    return process.run(argv, timeout=120)


def run_slow(argv: Sequence[str]) -> process.Outcome:
    """Run one program of the system that may take minutes, such as dpkg."""
    return process.run(argv, timeout=900, extra_environment={"DEBIAN_FRONTEND": "noninteractive"})


def prove(
    probe: Probe, *, now: datetime, run: Run = run_command, sudoers: Path = SUDOERS, rules: Path = RULES
) -> Proof:
    """Log in anew from the administrator's address and become root. Raises Conflict that says which part failed."""
    account = _account(probe.admin)
    require_way_back(probe.source, probe.server, run)
    with ExitStack() as undo:
        folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="intramuros-probe.", dir="/run")))
        key = folder / "key"
        _must(run, ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", _COMMENT, "-f", str(key)])
        public = key.with_suffix(".pub").read_text().strip()
        write_file(folder / "known_hosts", _known_hosts(probe), mode=0o600)
        undo.enter_context(_authorized(account, public, until=now + timedelta(minutes=5)))
        if account.pw_uid != 0:
            undo.enter_context(_sudo_for_true(probe.admin, sudoers))
        undo.enter_context(_network(probe, run))
        said = run(_login(probe, folder, become_root=account.pw_uid != 0))
    if said.status != 0 or _MARK not in said.stdout:
        raise Conflict(
            "lifeline.not_proven", _failure(probe, said), hint="The state before the change is brought back."
        )
    # sudo leaves a broken file out and goes on without it. Before sudo came there are no rules at all.
    if rules.exists() and (checked := run(["visudo", "-c"])).status != 0:
        raise Conflict(
            "lifeline.not_proven",
            f"sudo's rules are broken: {checked.stderr.strip() or checked.stdout.strip()}.",
            hint="The old state is brought back.",
        )
    prove_passwords(run)
    return Proof(admin=probe.admin, source=probe.source, server=probe.server, port=probe.port)


def server_address(source: str, run: Run = run_command) -> str:
    """Return the address of this box that somebody at `source` would connect to. Raises Conflict without any."""
    family = "-6" if ":" in source else "-4"
    found = run(["ip", "-j", family, "route", "get", source])
    if found.status == 0 and (answer := json.loads(found.stdout)) and "prefsrc" in answer[0]:
        return str(answer[0]["prefsrc"])
    for address in own_addresses(run):
        if (":" in address) == (":" in source):
            return address
    raise Conflict("lifeline.no_address", f"This box has no address that {source} could connect to.")


def own_addresses(run: Run = run_command) -> list[str]:
    """Return the box's global addresses."""
    return [str(info["local"]) for info in _global_addresses(run)]


def _global_addresses(run: Run) -> list[dict[str, Any]]:
    """Return what ip says of each global address. It prints an empty entry in place of one of another scope."""
    listed = json.loads(_must(run, ["ip", "-j", "address", "show", "scope", "global"]).stdout)
    return [info for link in listed for info in link.get("addr_info", ()) if "local" in info]


def server_port(run: Run = run_command) -> int:
    """Return the port that sshd's settings name now. Raises InternalError when sshd does not accept them."""
    settings = _must(run, ["sshd", "-T"]).stdout.splitlines()
    return next(int(line.split()[1]) for line in settings if line.startswith("port "))


def own_networks(run: Run = run_command) -> list[str]:
    """Return the networks that the box is in, for when no administrator's address is known."""
    return [f"{info['local']}/{info['prefixlen']}" for info in _global_addresses(run)]


def client_ports_of(port: int, run: Run = run_command) -> list[int]:
    """Return the client ports of the present SSH sessions."""
    listed = run(["ss", "-tnH", "state", "established", f"sport = :{port}"])
    lines = [line.split() for line in listed.stdout.splitlines()]
    return [int(words[3].rpartition(":")[2]) for words in lines if len(words) >= 4]


def clean_up(run: Run = run_command) -> None:
    """Remove what a killed proof left on the network; nothing there is fine."""
    run(["ip", "netns", "delete", NAMESPACE])
    run(["ip", "link", "delete", OUTER])
    for family in ("-4", "-6"):
        while run(["ip", family, "rule", "delete", "preference", PREFERENCE]).status == 0:
            pass


def _login(probe: Probe, folder: Path, *, become_root: bool) -> list[str]:
    command = f"/usr/bin/sudo -n /bin/true && echo {_MARK}" if become_root else f"/bin/true && echo {_MARK}"
    options = {
        "BatchMode": "yes",
        "ConnectTimeout": "20",
        "ControlMaster": "no",
        "ControlPath": "none",
        "IdentitiesOnly": "yes",
        "PreferredAuthentications": "publickey",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": str(folder / "known_hosts"),
    }
    ssh = ["ssh", "-n", "-T", "-F", "none", "-i", str(folder / "key"), "-p", str(probe.port), "-l", probe.admin]
    for name, value in options.items():
        ssh += ["-o", f"{name}={value}"]
    return ["timeout", "60", "nsenter", f"--net=/run/netns/{NAMESPACE}", *ssh, probe.server, command]


def _failure(probe: Probe, said: process.Outcome) -> str:
    lines = [line.strip().rstrip(".") for line in said.stderr.splitlines() if line.strip()]
    reason = lines[-1] if lines else ("it took too long" if said.status == 124 else f"status {said.status}")
    return f"{probe.admin} at {probe.source} could not log in anew and become root by sudo: {reason}."


def _known_hosts(probe: Probe) -> bytes:
    name = probe.server if probe.port == 22 else f"[{probe.server}]:{probe.port}"
    keys = sorted(Path("/etc/ssh").glob("ssh_host_*_key.pub"))
    return "".join(f"{name} {' '.join(key.read_text().split()[:2])}\n" for key in keys).encode()


def _account(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(name)
    except KeyError as error:
        raise NotFound("lifeline.no_account", f"There is no account {name} to prove a login with.") from error


@contextmanager
def _authorized(account: pwd.struct_passwd, public: str, *, until: datetime) -> Iterator[None]:
    """Let the key log in while the block runs; lines that others add meanwhile stay."""
    folder = Path(account.pw_dir) / ".ssh"
    file = folder / "authorized_keys"
    line = f'restrict,expiry-time="{until:%Y%m%d%H%M%S}Z" {public}\n'.encode()
    new_folder, new_file = not folder.exists(), not file.exists()
    try:
        with storage_errors("adding the proof's key"):
            if new_folder:
                folder.mkdir(mode=0o700)
                os.chown(folder, account.pw_uid, account.pw_gid)
            before = b"" if new_file else file.read_bytes()
            _rewrite(file, before + (b"" if not before or before.endswith(b"\n") else b"\n") + line, account)
        yield
    finally:
        with storage_errors("removing the proof's key"):
            if file.exists():
                kept = [item for item in file.read_bytes().splitlines(keepends=True) if _COMMENT.encode() not in item]
                if new_file and not kept:
                    file.unlink()
                else:
                    _rewrite(file, b"".join(kept), account)
            if new_folder and folder.exists() and not any(folder.iterdir()):
                folder.rmdir()


def _rewrite(file: Path, data: bytes, account: pwd.struct_passwd) -> None:
    """Replace the file keeping its mode and owner; a new one is the account's, mode 0600."""
    status = file.stat() if file.exists() else None
    mode = status.st_mode & 0o777 if status else 0o600
    owner, group = (status.st_uid, status.st_gid) if status else (account.pw_uid, account.pw_gid)
    temporary = file.with_name(f".{file.name}.intramuros")
    write_file(temporary, data, mode=0o600)
    os.chown(temporary, owner, group)
    temporary.chmod(mode)
    temporary.replace(file)


@contextmanager
def _sudo_for_true(admin: str, sudoers: Path) -> Iterator[None]:
    """Let sudo run `true` without a password while the block runs: the rest of the rules and PAM are what is proven."""
    try:
        with storage_errors("writing the proof's sudo rule"):
            rule = f"# Written by Intramuros for one proof.\n{admin} ALL=(root) NOPASSWD: /bin/true, /usr/bin/true\n"
            write_file(sudoers, rule.encode(), mode=0o440)
        yield
    finally:
        sudoers.unlink(missing_ok=True)


@contextmanager
def _network(probe: Probe, run: Run) -> Iterator[None]:
    """Join a namespace that has the administrator's address to this box while the block runs."""
    clean_up(run)
    inside = ["nsenter", f"--net=/run/netns/{NAMESPACE}"]
    ip = ["ip", probe.family]
    low, high = probe.client_ports
    try:
        _must(run, ["ip", "netns", "add", NAMESPACE])
        peer = ["peer", "name", INNER, "address", INNER_MAC, "netns", NAMESPACE]
        _must(run, ["ip", "link", "add", OUTER, "address", OUTER_MAC, "type", "veth", *peer])
        if probe.family == "-4":  # the way back is another interface here; `require_way_back` looked at the real one
            _must(run, ["sysctl", "-q", "-w", f"net.ipv4.conf.{OUTER}.rp_filter=2"])
        _must(run, [*inside, "sysctl", "-q", "-w", f"net.ipv4.ip_local_port_range={low} {high}"])
        _must(run, ["ip", "link", "set", OUTER, "up"])
        _must(run, [*inside, "ip", "link", "set", "lo", "up"])
        _must(run, [*inside, "ip", "link", "set", INNER, "up"])
        nodad = ["nodad"] if probe.family == "-6" else []
        _must(run, [*inside, *ip, "address", "add", f"{probe.source}/{probe.width}", "dev", INNER, *nodad])
        _must(run, [*inside, *ip, "route", "add", f"{probe.server}/{probe.width}", "dev", INNER])
        neighbour = ["nud", "permanent", "dev"]
        _must(run, [*inside, *ip, "neighbour", "replace", probe.server, "lladdr", OUTER_MAC, *neighbour, INNER])
        _must(run, [*ip, "neighbour", "replace", probe.source, "lladdr", INNER_MAC, *neighbour, OUTER])
        _must(run, [*ip, "route", "replace", f"{probe.source}/{probe.width}", "dev", OUTER, "table", TABLE])
        rule = ["to", probe.source, "ipproto", "6", "sport", str(probe.port), "dport", f"{low}-{high}"]
        _must(run, [*ip, "rule", "add", "preference", PREFERENCE, *rule, "lookup", TABLE])
        yield
    finally:
        clean_up(run)


def _must(run: Run, argv: Sequence[str]) -> process.Outcome:
    try:
        outcome = run(argv)
    except IntramurosError as error:
        raise InternalError("lifeline.probe_failed", f"The proof could not be made: {error.message}") from error
    if outcome.status != 0:
        raise InternalError(
            "lifeline.probe_failed",
            f"The proof could not be made: {' '.join(argv[:6])} … said: {outcome.stderr.strip() or outcome.status}.",
        )
    return outcome
