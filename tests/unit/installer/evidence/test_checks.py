"""Every kind of check, on recorded answers of a real Debian 12."""

from __future__ import annotations

import json

import pytest

from installer.evidence.checks.audit import words_of
from installer.evidence.checks.finding import meets
from installer.evidence.control import (
    Absent,
    Accounts,
    AuditRules,
    Check,
    Command,
    Content,
    Expectation,
    File,
    Firewall,
    KernelArgument,
    Listeners,
    Module,
    Mount,
    Packages,
    Pam,
    Setting,
    Sshd,
    Sudo,
    Sysctl,
    SystemdSetting,
    Unit,
    UnitScore,
)
from installer.evidence.examine import examine
from installer.evidence.machine import CannotTell, DoesNotApply
from tests.factories.evidence import SSHD, RecordedMachine, owned, said

_MOUNTS = """25 30 0:23 / /tmp rw,nosuid,nodev,noexec - tmpfs tmpfs rw
26 30 0:24 / /dev/shm rw,nosuid,nodev - tmpfs tmpfs rw
27 30 0:25 / /data\\040disk rw,nodev - ext4 /dev/vdb rw
"""
_RULESET = {
    "nftables": [
        {"metainfo": {"version": "1.0.6"}},
        {
            "chain": {
                "family": "inet",
                "table": "intramuros",
                "name": "input",
                "type": "filter",
                "hook": "input",
                "policy": "drop",
            }
        },
        {
            "chain": {
                "family": "inet",
                "table": "intramuros",
                "name": "out",
                "type": "filter",
                "hook": "output",
                "policy": "accept",
            }
        },
        {
            "rule": {
                "family": "inet",
                "table": "intramuros",
                "chain": "input",
                "expr": [{"match": {"op": "==", "left": {"meta": {"key": "iif"}}, "right": "lo"}}, {"accept": None}],
            }
        },
    ]
}
_SUDOERS = {
    "Defaults": [
        {"Options": [{"use_pty": True}]},
        {"Options": [{"timestamp_timeout": 5}, {"logfile": "/var/log/sudo.log"}]},
    ],
    "User_Specs": [
        {"User_List": [{"usergroup": "intramuros-admin"}], "Cmnd_Specs": [{"Options": [{"authenticate": False}]}]}
    ],
}
_LISTENING = """udp UNCONN 0 0 127.0.0.1:323 0.0.0.0:* users:(("chronyd",pid=7,fd=5))
tcp LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:(("sshd",pid=8,fd=3))
tcp LISTEN 0 128 [::1]:9090 [::]:* users:(("prometheus",pid=9,fd=3))
tcp LISTEN 0 128 127.0.0.53%lo:53 0.0.0.0:* users:(("systemd-resolve",pid=9,fd=3))
"""
_JOURNALD = """# /etc/systemd/journald.conf
[Journal]
#Storage=auto
Storage=volatile

# /etc/systemd/journald.conf.d/50-intramuros.conf
[Journal]
Storage=persistent
"""
_PASSWD = """root:x:0:0:root:/root:/bin/bash
ada:x:1000:1000::/home/ada:/bin/bash
svc:x:990:990::/nonexistent:/bin/sh
toor:x:0:0::/root:/bin/bash
"""
_SHADOW = "root:$y$j9T$x:19000:0:99999:7:::\nada::19000:0:365:7:45::\nsvc:!:19000::::::\ntoor:*:19000::::::\n"


def machine() -> RecordedMachine:
    return RecordedMachine(
        programs={
            SSHD: said(
                "permitrootlogin no\nallowgroups intramuros-admin\nallowgroups ops\nciphers aes256-ctr,aes128-cbc\n"
            ),
            ("systemctl", "show", "--property=LoadState,ActiveState,UnitFileState", "cron.service"): said(
                "LoadState=loaded\nActiveState=active\nUnitFileState=enabled\n"
            ),
            ("systemctl", "show", "--property=LoadState,ActiveState,UnitFileState", "gone.service"): said(
                "LoadState=not-found\nActiveState=inactive\nUnitFileState=\n"
            ),
            ("systemd-analyze", "cat-config", "systemd/journald.conf"): said(_JOURNALD),
            ("systemd-analyze", "security", "--json=short", "--no-pager"): said(
                json.dumps(
                    [{"unit": "intramuros.service", "exposure": "1.4"}, {"unit": "cron.service", "exposure": "9.6"}]
                )
            ),
            ("ss", "-H", "-t", "-u", "-l", "-n", "-p"): said(_LISTENING),
            ("cvtsudoers", "-f", "json", "/etc/sudoers"): said(json.dumps(_SUDOERS)),
            ("nft", "-j", "list", "ruleset"): said(json.dumps(_RULESET)),
            ("auditctl", "-l"): said(
                "-w /etc/passwd -p wa -k identity\n"
                "-a always,exit -F arch=b64 -S unlink,rename -F auid>=1000 -F auid!=-1 -F key=delete\n"
                "-a always,exit -S all -F path=/usr/bin/sudo -F perm=x -F key=privileged\n"
            ),
            ("auditctl", "-s"): said("enabled 2\nfailure 1\n"),
            ("modprobe", "--showconfig"): said(
                "blacklist cramfs\ninstall cramfs /bin/false\ninstall usb_storage /bin/true\n"
            ),
            ("dpkg-query", "-W", "-f", r"${Package} ${Version} ${db:Status-Status}\n"): said(
                "sudo 1.9.13p3-1 installed\ntelnet 0.17 config-files\n"
            ),
            ("find", "/x"): said("/x/loose\n", status=1),
        },
        texts={
            "/proc/sys/net/ipv4/ip_local_port_range": "32768\t65535\n",
            "/proc/sys/net/ipv4/conf/eth0.5/rp_filter": "1\n",
            "/proc/modules": "ext4 1 0 - Live 0x0\nusb_storage 1 0 - Live 0x0\n",
            "/proc/cmdline": "root=/dev/vda audit=1 quiet\n",
            "/proc/1/mountinfo": _MOUNTS,
            "/proc/8/cgroup": "0::/system.slice/ssh.service\n",
            "/etc/pam.d/common-auth": "auth [success=1 default=ignore] pam_unix.so nullok # old\n@include more\n",
            "/etc/pam.d/more": "auth required /lib/security/pam_faillock.so preauth\n",
            "/etc/pam.d/su": "auth required pam_wheel.so use_uid group=sugroup\n",
            "/etc/login.defs": "# PASS_MAX_DAYS 1\nPASS_MAX_DAYS\t99999\nUMASK 027 # private\n",
            "/etc/security/pwquality.conf": "minlen = 8\nminlen=14\n",
            "/etc/profile": "umask 027\n",
            "/etc/passwd": _PASSWD,
            "/etc/shadow": _SHADOW,
            "/etc/group": "root:x:0:\nada:x:1000:\nshadow:x:42:ada\nsugroup:x:77:ada\n",
        },
        files={
            "/etc/shadow": owned(0o640, group="shadow"),
            "/etc/ssh/ssh_host_rsa_key": owned(0o604),
            "/home/ada": owned(0o750, "ada", "ada", is_directory=True),
        },
    )


def equals(value: str) -> Expectation:
    return Expectation(equals=value)


@pytest.mark.parametrize(
    ("check", "ok", "observed"),
    [
        (Sysctl(key="net.ipv4.ip_local_port_range", value=equals("32768 65535")), True, "32768 65535"),
        (Sysctl(key="net.ipv4.conf.eth0/5.rp_filter", value=equals("0")), False, "1"),
        (Sshd(key="permitrootlogin", value=equals("no")), True, "permitrootlogin no"),
        (
            Sshd(key="allowgroups", value=Expectation(includes=("intramuros-admin", "ops"))),
            True,
            "intramuros-admin ops",
        ),
        (Sshd(key="ciphers", value=Expectation(within=("aes256-ctr",))), False, "aes128-cbc"),
        (Sshd(key="banner", value=equals("/etc/issue.net")), False, "not set"),
        (Unit(name="cron.service", enabled=True, active=True), True, "enabled, active"),
        (Unit(name="cron.service", enabled=False), False, "enabled, active"),
        (Unit(name="gone.service", enabled=True), False, "not-found"),
        (Unit(name="gone.service", enabled=False, active=False), True, "not-found"),
        (Mount(path="/tmp", options=("nosuid", "noexec")), True, "nodev,noexec,nosuid,rw"),
        (Mount(path="/dev/shm", options=("noexec",)), False, "nodev,nosuid,rw"),
        (Mount(path="/data disk", options=("nodev",)), True, "nodev,rw"),
        (Mount(path="/home"), False, "no file system of its own"),
        (File(paths=("/etc/shadow",), mode="0640", group=("shadow",)), True, "root:shadow 0640"),
        (File(paths=("/etc/ssh/ssh_host_*_key",), mode="0600"), False, "root:root 0604"),
        (File(paths=("/etc/nothing",), mode="0600"), True, "not there"),
        (File(paths=("/etc/nothing",), mode="0600", absent_is_fine=False), False, "missing"),
        (Content(paths=("/etc/profile",), has=("^umask 027$",), lacks=("^umask 022$",)), True, "umask 027"),
        (Content(paths=("/etc/profile",), lacks=("umask",)), False, "umask 027"),
        (Content(paths=("/etc/none",), has=("x",)), False, "no such file"),
        (Absent(paths=("/etc/cron.deny",)), True, "not there"),
        (Absent(paths=("/etc/profile",)), False, "/etc/profile"),
        (Setting(paths=("/etc/login.defs",), key="PASS_MAX_DAYS", value=Expectation(at_most=365)), False, "99999"),
        (Setting(paths=("/etc/login.defs",), key="UMASK", value=equals("027")), True, "UMASK 027"),
        (Setting(paths=("/etc/security/pwquality.conf",), key="minlen", value=Expectation(at_least=14)), True, "14"),
        (
            Setting(paths=("/etc/security/pwquality.conf",), key="minlen", value=Expectation(at_least=14), first=True),
            False,
            "minlen 8",
        ),
        (
            SystemdSetting(file="systemd/journald.conf", section="Journal", key="Storage", value=equals("persistent")),
            True,
            "Storage=persistent",
        ),
        (Pam(service="common-auth", stage="auth", module="pam_unix.so", excludes=("nullok",)), False, "nullok"),
        (Pam(service="common-auth", stage="auth", module="pam_faillock.so", includes=("preauth",)), True, "preauth"),
        (Pam(service="su", stage="auth", module="pam_wheel.so", includes=("use_uid", "group=")), True, "group=sugroup"),
        (Pam(service="su", stage="auth", module="pam_rootok.so", absent=True), True, "not there"),
        (AuditRules(rules=("path=/etc/passwd perm=w key=identity",)), True, "all 1 rules"),
        (AuditRules(rules=("syscall=rename key=delete", "path=/usr/bin/sudo perm=x")), True, "all 2 rules"),
        (AuditRules(rules=("syscall=mount",)), False, "no rule with syscall=mount"),
        (AuditRules(immutable=True), True, "enabled 2"),
        (Module(name="cramfs"), True, "install /bin/false"),
        (Module(name="usb-storage"), False, "loaded now"),
        (Module(name="hfs"), False, "loadable"),
        (Packages(present=("sudo",), absent=("telnet",)), True, "sudo 1.9.13p3-1"),
        (Packages(present=("chrony",)), False, "chrony is missing"),
        (Firewall(hook="input", interface="lo"), True, "policy drop"),
        (Firewall(hook="output"), False, "policy accept"),
        (Firewall(hook="forward"), False, "no such chain"),
        (Listeners(programs=("ssh.service",)), True, "tcp 0.0.0.0:22 ssh.service"),
        (Listeners(programs=("intramuros-gateway.service",)), False, "ssh.service"),
        (UnitScore(units=("intramuros*.service",), at_most=2.0), True, "intramuros.service 1.4"),
        (KernelArgument(argument="audit=1"), True, "audit=1"),
        (KernelArgument(argument="apparmor=1"), False, "not given"),
        (Sudo(default="use_pty", value=equals("yes")), True, "use_pty yes"),
        (Sudo(default="timestamp_timeout", value=Expectation(at_most=15)), True, "timestamp_timeout 5"),
        (Sudo(default="umask", value=equals("63")), False, "not set"),
        (Sudo(no_tag="authenticate"), False, "intramuros-admin"),
        (Command(argv=("find", "/x"), lacks=(".",), any_status=True), False, "/x/loose"),
        (Accounts(rule="only-root-is-zero"), False, "toor"),
        (Accounts(rule="no-empty-passwords"), False, "ada"),
        (Accounts(rule="no-system-shells"), False, "svc"),
        (Accounts(rule="unique-uids"), False, "0"),
        (Accounts(rule="shadow-group-empty"), False, "ada"),
        (Accounts(rule="su-group-empty"), False, "ada in sugroup"),
        (Accounts(rule="passwords-age"), False, "root: maximum 99999"),
        (Accounts(rule="homes-private"), True, "none"),
        (Accounts(rule="groups-exist"), False, "svc"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Check) else None,
)
def test_check(check: Check, ok: bool, observed: str) -> None:
    found = examine(check, machine())
    assert (found.ok, observed in found.observed) == (ok, True), found
    assert found.source
    assert found.expected


_TUNNEL = "/etc/intramuros/fleet/wireguard.conf"


@pytest.mark.parametrize(
    ("inactive", "group", "observed"),
    [
        ("", "intramuros-admin:x:990:ada\n", "none"),
        ("60", "intramuros-admin:x:990:ada\n", "ada: inactive 60"),
        ("", "ops:x:990:ada\n", "ada: inactive not set"),
    ],
)
def test_administrators_need_not_lapse_and_everybody_else_does(inactive: str, group: str, observed: str) -> None:
    recorded = RecordedMachine(
        texts={
            "/etc/passwd": "ada:x:1000:1000::/home/ada:/bin/bash\n",
            "/etc/shadow": f"ada:$y$j9T$x:20000:1:365:7:{inactive}::\n",
            "/etc/group": group,
        }
    )
    assert examine(Accounts(rule="passwords-lapse"), recorded).observed == observed


@pytest.mark.parametrize(
    ("line", "ok"),
    [
        ("udp UNCONN 0 0 0.0.0.0:51820 0.0.0.0:*", True),
        ("udp UNCONN 0 0 [::]:51820 [::]:*", True),
        ("udp UNCONN 0 0 0.0.0.0:51821 0.0.0.0:*", False),
        ("tcp LISTEN 0 9 0.0.0.0:51820 0.0.0.0:*", False),
        ('udp UNCONN 0 0 0.0.0.0:51820 0.0.0.0:* users:(("nc",pid=7,fd=3))', False),
    ],
)
def test_the_kernel_holds_the_tunnel_s_port_and_no_other(line: str, ok: bool) -> None:
    made = machine()
    made.programs["ss", "-H", "-t", "-u", "-l", "-n", "-p"] = said(f"{line}\n")
    made.texts[_TUNNEL] = "[Interface]\nListenPort = 51820\n"
    assert examine(Listeners(programs=("ssh.service",), tunnel=_TUNNEL), made).ok is ok
    assert examine(Listeners(programs=("ssh.service",)), made).ok is False


def test_a_firewall_of_somebody_else_is_not_ours() -> None:
    made = machine()
    text = json.dumps(_RULESET).replace('"table": "intramuros"', '"table": "other"')
    made.programs["nft", "-j", "list", "ruleset"] = said(text)
    found = examine(Firewall(hook="input"), made)
    assert (found.ok, found.observed) == (False, "inet other input policy drop")


@pytest.mark.parametrize(("mode", "ok"), [(0o600, True), (0o640, False)])
def test_files_of_the_appliance_are_looked_for_where_its_data_is(mode: int, ok: bool) -> None:
    recorded = RecordedMachine(
        texts={"/etc/intramuros/state": "/data/im\n"}, files={"/data/im/secrets/audit.key": owned(mode)}
    )
    assert examine(File(paths=("{state}/secrets/*",), mode="0600"), recorded).ok is ok


def test_without_an_appliance_its_files_are_no_question() -> None:
    with pytest.raises(DoesNotApply, match="/etc/intramuros/state: not there"):
        examine(File(paths=("{state}/secrets/*",), mode="0600"), RecordedMachine())


_ACCEPT = [{"counter": {"packets": 0, "bytes": 0}}, {"accept": None}]


@pytest.mark.parametrize(
    ("added", "ok"),
    [
        ({"input": [_ACCEPT]}, False),
        ({"input": [[{"limit": {"rate": 9, "per": "second"}}, {"accept": None}]]}, False),
        ({"input": [[{"jump": {"target": "open"}}]], "open": [_ACCEPT]}, False),
        ({"input": [[{"goto": {"target": "a"}}]], "a": [[{"jump": {"target": "b"}}]], "b": [_ACCEPT]}, False),
        ({"input": [[{"jump": {"target": "a"}}]], "a": [[{"jump": {"target": "a"}}]]}, True),
        ({"input": [[{"counter": {}}, {"drop": None}]], "unused": [_ACCEPT]}, True),
    ],
    ids=["accept", "limited", "jump", "goto", "circle", "not-reached"],
)
def test_a_rule_that_accepts_everything_undoes_the_policy(added: dict[str, list[object]], ok: bool) -> None:
    made = machine()
    rules = [
        {"rule": {"family": "inet", "table": "intramuros", "chain": chain, "expr": expression}}
        for chain, expressions in added.items()
        for expression in expressions
    ]
    made.programs["nft", "-j", "list", "ruleset"] = said(json.dumps({"nftables": [*_RULESET["nftables"], *rules]}))
    for interface in ("", "lo"):
        assert examine(Firewall(hook="input", interface=interface), made).ok is ok


_SOURCE = {"payload": {"protocol": "ip", "field": "saddr"}}
_PORT = {"payload": {"protocol": "tcp", "field": "dport"}}
_STATE = {"ct": {"key": "state"}}


@pytest.mark.parametrize(
    ("op", "left", "right", "ok"),
    [
        ("==", _SOURCE, {"prefix": {"addr": "0.0.0.0", "len": 0}}, False),
        ("==", _SOURCE, {"set": [{"prefix": {"addr": "::", "len": 0}}]}, False),
        ("!=", _SOURCE, "192.0.2.1", False),
        ("==", {"meta": {"key": "nfproto"}}, "ipv4", False),
        ("==", {"meta": {"key": "l4proto"}}, {"set": ["tcp", "udp"]}, False),
        ("==", {"payload": {"protocol": "ip", "field": "protocol"}}, "tcp", False),
        ("==", _STATE, "new", False),
        ("in", _STATE, ["established", "new"], False),
        ("==", _STATE, {"set": ["invalid", "established", "related", "new", "untracked"]}, False),
        ("==", _PORT, {"range": [0, 65535]}, False),
        ("==", _SOURCE, {"prefix": {"addr": "192.0.2.0", "len": 24}}, True),
        ("==", _SOURCE, "@admin4", True),
        ("==", {"meta": {"key": "skuid"}}, 0, True),
        ("==", _STATE, {"set": ["established", "related"]}, True),
        ("==", _PORT, 8443, True),
    ],
)
def test_a_rule_that_asks_for_nearly_nothing_undoes_the_policy(op: str, left: object, right: object, ok: bool) -> None:
    """The matches as nft 1.0.6 lists them."""
    made = machine()
    expression = [{"match": {"op": op, "left": left, "right": right}}, *_ACCEPT]
    rule = {"rule": {"family": "inet", "table": "intramuros", "chain": "input", "expr": expression}}
    made.programs["nft", "-j", "list", "ruleset"] = said(json.dumps({"nftables": [*_RULESET["nftables"], rule]}))
    assert examine(Firewall(hook="input"), made).ok is ok


_MATCHLESS = Command(argv=("find", "/x"), lacks=(".",), any_status=True)


@pytest.mark.parametrize(
    ("status", "stderr"),
    [(0, ""), (1, ""), (1, "find: '/x/gone': No such file or directory\n")],
)
def test_silence_of_a_program_that_looked_is_a_pass(status: int, stderr: str) -> None:
    made = machine()
    made.programs["find", "/x"] = said("", status=status, stderr=stderr)
    assert examine(_MATCHLESS, made).ok


@pytest.mark.parametrize(("status", "stderr"), [(1, "find: unknown predicate '-nouser'\n"), (137, ""), (-9, "")])
def test_silence_of_a_program_that_failed_is_none(status: int, stderr: str) -> None:
    made = machine()
    made.programs["find", "/x"] = said("", status=status, stderr=stderr)
    with pytest.raises(CannotTell, match="find ended with"):
        examine(_MATCHLESS, made)


@pytest.mark.parametrize("wanted", [Unit(name="gone.service", enabled=False), Unit(name="gone.service", active=True)])
def test_a_systemctl_that_says_nothing_is_no_verdict(wanted: Unit) -> None:
    made = machine()
    argv = ("systemctl", "show", "--property=LoadState,ActiveState,UnitFileState", "gone.service")
    made.programs[argv] = said("", status=1, stderr="Failed to connect to bus\n")
    with pytest.raises(CannotTell, match="Failed to connect to bus"):
        examine(wanted, made)


@pytest.mark.parametrize(
    ("check", "problem"),
    [
        (Sshd(key="x", value=equals("y"), user="ada"), CannotTell),
        (Sysctl(key="kernel.nothing", value=equals("1")), DoesNotApply),
        (Setting(paths=("/etc/postfix/main.cf",), key="x", value=equals("y")), DoesNotApply),
        (UnitScore(units=("other*.service",), at_most=2.0), DoesNotApply),
        (Command(argv=("find", "/x"), lacks=(".",)), CannotTell),
        (Pam(service="login", stage="auth", module="pam_unix.so"), DoesNotApply),
    ],
)
def test_what_cannot_be_seen_is_never_a_verdict(check: Check, problem: type[Exception]) -> None:
    with pytest.raises(problem):
        examine(check, machine())


@pytest.mark.parametrize(
    ("value", "wanted", "ok"),
    [
        ("NO", Expectation(equals="no"), True),
        (None, Expectation(equals="no"), False),
        (None, Expectation(equals="no", absent=True), True),
        ("yes", Expectation(equals="no", absent=True), False),
        ("many", Expectation(at_most=4), False),
        ("-1", Expectation(at_most=-1), True),
        ("a,b c", Expectation(includes=("b",), excludes=("d",)), True),
        ("a,b", Expectation(excludes=("b",)), False),
        ("anything", Expectation(), True),
    ],
)
def test_expectation(value: str | None, wanted: Expectation, ok: bool) -> None:
    assert meets(value, wanted) is ok


def test_both_spellings_of_an_audit_rule_mean_the_same() -> None:
    watched = words_of("-w /etc/passwd -p wa -k identity")
    spelled = words_of("-a always,exit -F path=/etc/passwd -F perm=wa -F key=identity")
    assert watched == spelled == {"path=/etc/passwd", "perm=w", "perm=a", "key=identity"}
