"""A machine that answers from a table, and evidence that was made from it."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from appliance.kernel.process import Outcome
from installer.evidence.archive import Archive
from installer.evidence.catalogue import Catalogue, Topic, load_rules
from installer.evidence.collect import Collected, Places, collect
from installer.evidence.control import Absent, Control, File, References, Sshd, Sysctl
from installer.evidence.control import Expectation as Wanted
from installer.evidence.machine import CannotTell, FileFacts
from installer.evidence.scan import Scan

SSHD = ("sshd", "-T", "-C", "user=root,host=localhost,addr=127.0.0.1")
NOW = datetime(2026, 11, 25, 12, 0, 0, tzinfo=UTC)


@dataclass(slots=True)
class RecordedMachine:
    """Programs, files and their facts as they were recorded; anything else is not there."""

    programs: dict[tuple[str, ...], Outcome] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    files: dict[str, FileFacts] = field(default_factory=dict)

    def run(self, *argv: str) -> Outcome:
        if argv not in self.programs:
            raise CannotTell(f"the program {argv[0]} is not installed")
        return self.programs[argv]

    def read(self, path: str) -> str | None:
        return self.texts.get(path)

    def facts(self, path: str) -> FileFacts | None:
        return self.files.get(path)

    def find(self, pattern: str) -> tuple[str, ...]:
        return tuple(sorted(name for name in {*self.texts, *self.files} if fnmatch.fnmatchcase(name, pattern)))


def said(stdout: str, *, status: int = 0, stderr: str = "") -> Outcome:
    """What a program printed."""
    return Outcome(status=status, stdout=stdout, stderr=stderr)


def owned(mode: int, owner: str = "root", group: str = "root", *, is_directory: bool = False) -> FileFacts:
    """A file's facts."""
    return FileFacts(mode=mode, owner=owner, group=group, is_directory=is_directory)


def control(identifier: str, check: Sysctl | Sshd | File | Absent, *, ssg: tuple[str, ...] = ()) -> Control:
    """A control with a check."""
    return Control(
        id=identifier, title=f"Title of {identifier}", why="It is a test.", role="test", check=check,
        refs=References(cis=("5.1.20",), anssi=("R33",), ssg=ssg),
    )  # fmt: skip


SMALL = Catalogue(
    topics=(
        Topic(
            topic="Small",
            order=1,
            control=(
                control(
                    "IM-SSH-01",
                    Sshd(key="permitrootlogin", value=Wanted(equals="no")),
                    ssg=("sshd_disable_root_login",),
                ),
                control("IM-NET-21", Sysctl(key="net.ipv4.tcp_syncookies", value=Wanted(equals="1"))),
                control("IM-FILE-05", File(paths=("/etc/shadow",), mode="0640", group=("shadow",))),
                control("IM-FILE-18", Absent(paths=("/etc/cron.deny",))),
                control("IM-KRN-01", Sysctl(key="kernel.nothing", value=Wanted(equals="1"))),
            ),
        ),
    ),
    digest="c" * 64,
)


def hardened() -> RecordedMachine:
    """A machine on which everything of SMALL that applies passes."""
    return RecordedMachine(
        programs={
            SSHD: said("port 22\npermitrootlogin no\nallowgroups intramuros-admin\nallowgroups ops\n"),
            ("uname", "-n"): said("box\n"),
            ("uname", "-r"): said("6.1.0-1-amd64\n"),
            ("uname", "-m"): said("x86_64\n"),
            ("systemd-detect-virt",): said("kvm\n"),
            ("systemd-detect-virt", "--container"): said("none\n", status=1),
            ("nft", "-j", "list", "ruleset"): said(json.dumps({"nftables": []})),
        },
        texts={
            "/proc/sys/net/ipv4/tcp_syncookies": "1\n",
            "/etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
            "/etc/machine-id": "0123456789abcdef0123456789abcdef\n",
            "/proc/sys/kernel/random/boot_id": "11111111-2222-3333-4444-555555555555\n",
        },
        files={"/etc/shadow": owned(0o640, group="shadow")},
    )


def collected(
    root: Path, machine: RecordedMachine | None = None, *, at: datetime = NOW, scan: Scan | None = None, label: str = ""
) -> Collected:
    """Collect with the small catalogue below `root`."""
    places = Places(
        key=root / "etc" / "evidence.key", waivers=root / "etc" / "waivers.toml", answers=root / "etc" / "answers.toml",
        receipts=root / "receipts",
    )  # fmt: skip
    return collect(
        Archive(root / "evidence"), machine or hardened(), catalogue=SMALL, rules=load_rules(), now=at, places=places,
        scan=scan, label=label,
    )  # fmt: skip


def waiver_file(root: Path, entries: Mapping[str, str]) -> Path:
    """Write waivers of these controls, each until the day given."""
    path = root / "etc" / "waivers.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "".join(
            f'[[waiver]]\ncontrol = "{name}"\nreason = "The site decided so."\nowner = "Ada"\nexpiry = {day}\n'
            for name, day in entries.items()
        )
    )
    return path
