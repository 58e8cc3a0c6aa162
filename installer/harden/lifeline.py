"""The lifeline: before a change that could lock everybody out, the way back is set up and starts to run by itself.

Knows nothing of the change. It is armed (capture, then a timer that survives a reboot), extended, and disarmed only
by whoever proved that a new connection works (`probe`). Invariant: from `arm` until `disarm`, the old state comes back
within the given seconds, or that long after the next boot, whatever happens to us.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from importlib import resources
from pathlib import Path

import msgspec

from appliance.kernel import process
from appliance.kernel.durable import fsync_directory, write_file
from appliance.kernel.errors import BadInput, Conflict, InternalError, NotFound, storage_errors

ROOT = Path("/var/lib/intramuros/lifeline")
UNITS = Path("/etc/systemd/system")
SERVICE = "intramuros-lifeline.service"
TIMER = "intramuros-lifeline.timer"
MINIMUM_SECONDS = 20

# What decides whether somebody gets in. Accounts are not here: packages add system accounts meanwhile, and a password
# changed in these minutes must not be lost.
WATCHED = (
    "/etc/ssh",
    "/etc/pam.d",
    "/etc/security",
    "/etc/sudoers",
    "/etc/sudoers.d",
    "/etc/login.defs",
    "/etc/nsswitch.conf",
    "/etc/hosts.allow",
    "/etc/hosts.deny",
    "/etc/nologin",
    "/etc/shells",
    "/etc/nftables.conf",
    "/etc/intramuros/firewall",
    "/etc/systemd/system/nftables.service.d",
    "/etc/systemd/system/ssh.service.d",
    "/etc/sysctl.conf",
    "/etc/sysctl.d",
    "/usr/bin/sudo",
    "/usr/share/pam-configs",
    "/var/lib/dpkg/statoverride",
    "/var/lib/pam",
)

Run = Callable[[Sequence[str]], process.Outcome]


class State(StrEnum):
    """Where a lifeline stands."""

    ARMED = "armed"
    RESTORING = "restoring"
    RESTORED = "restored"
    DISARMED = "disarmed"


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One lifeline: when it was armed (RFC 3339, UTC), for whom, and after how many seconds it restores."""

    id: str
    at: str
    seconds: int
    admin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifeline:
    """A lifeline and its present state."""

    record: Record
    state: State
    directory: Path


def run_command(argv: Sequence[str]) -> process.Outcome:
    """Run one program of the system; capture and restore of a large machine take their time."""
    return process.run(argv, timeout=300)


def arm(
    *,
    admin: str,
    home: Path,
    seconds: int,
    now: datetime,
    root: Path = ROOT,
    units: Path = UNITS,
    run: Run = run_command,
) -> Lifeline:
    """Capture the present state and start the timer. An armed lifeline keeps its older, proven state and starts anew.

    Raises BadInput (too few seconds), InternalError (capture or timer failed; nothing is armed then), StorageFailure.
    """
    if seconds < MINIMUM_SECONDS:
        raise BadInput(
            "lifeline.too_short",
            f"A lifeline of {seconds} s cannot be proven in time.",
            hint=f"Give it {MINIMUM_SECONDS} s or more.",
        )
    present = latest(root=root)
    if present is not None and present.state in {State.ARMED, State.RESTORING}:
        # The last change was never proven, so what stands now may be broken: the state before it stays the way back.
        _start_timer(present, seconds=seconds, units=units, run=run)
        return present
    with storage_errors("arming the lifeline"):
        identifier = now.strftime("%Y%m%dT%H%M%S%fZ")
        directory = root / identifier
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        directory.mkdir(mode=0o700)
        record = Record(id=identifier, at=now.isoformat(timespec="seconds"), seconds=seconds, admin=admin)
        write_file(directory / "record.json", msgspec.json.encode(record), mode=0o600)
        watched = [*WATCHED, str(home / ".ssh" / "authorized_keys")]
        write_file(directory / "paths", "".join(f"{path}\n" for path in watched).encode(), mode=0o600)
        script = resources.files("installer.harden").joinpath("lifeline.sh").read_bytes()
        write_file(directory / "lifeline.sh", script, mode=0o700)
    captured = run(["sh", str(directory / "lifeline.sh"), "capture", str(directory)])
    if captured.status != 0:
        shutil.rmtree(directory, ignore_errors=True)
        raise InternalError(
            "lifeline.capture_failed",
            f"The present state could not be saved: {_last_line(captured.stderr)}.",
            hint="Nothing was changed. Free some space below /var/lib/intramuros and try again.",
        )
    _mark(directory, State.ARMED)
    lifeline = Lifeline(record=record, state=State.ARMED, directory=directory)
    _start_timer(lifeline, seconds=seconds, units=units, run=run)
    _forget_older(root, keep=directory)
    return lifeline


def extend(*, root: Path = ROOT, run: Run = run_command) -> Lifeline:
    """Start the armed lifeline's seconds anew. Raises Conflict when it is not armed (any more).

    When its time ran out, whoever calls this was still changing something: that is taken back before the refusal.
    """
    restore_late(root=root, run=run)
    lifeline = require_armed(root=root)
    outcome = run(["systemctl", "restart", TIMER])
    if outcome.status != 0:
        raise InternalError("lifeline.timer_failed", f"The timer did not start anew: {_last_line(outcome.stderr)}.")
    return lifeline


def disarm(*, root: Path = ROOT, units: Path = UNITS, run: Run = run_command) -> Lifeline:
    """Give up the way back, because the new state is proven. Raises NotFound or Conflict."""
    lifeline = require_armed(root=root)
    # The state is written first: a timer that fires from here on finds nothing to do.
    _mark(lifeline.directory, State.DISARMED)
    _remove_timer(units=units, run=run)
    for name in ("files", "tables"):
        shutil.rmtree(lifeline.directory / name, ignore_errors=True)
    return Lifeline(record=lifeline.record, state=State.DISARMED, directory=lifeline.directory)


def restore(*, root: Path = ROOT, run: Run = run_command) -> Lifeline:
    """Bring the old state back now; again, when it came back already: something may have been applied since.

    Raises NotFound, Conflict (disarmed: `intramuros harden rollback` is the way then) or InternalError.
    """
    lifeline = latest(root=root)
    if lifeline is None:
        raise NotFound("lifeline.none", "There is no lifeline on this machine.")
    if lifeline.state is State.DISARMED:
        raise Conflict(
            "lifeline.disarmed",
            f"The lifeline {lifeline.record.id} was disarmed: its change was proven.",
            hint="Take the change itself back with: intramuros harden rollback RUN",
        )
    _mark(lifeline.directory, State.ARMED)
    outcome = run(["sh", str(lifeline.directory / "lifeline.sh"), "restore", str(lifeline.directory)])
    after = read(lifeline.directory)
    if outcome.status != 0 or after.state is not State.RESTORED:
        raise InternalError(
            "lifeline.restore_failed",
            f"The old state did not come back whole: {_last_line(outcome.stderr)}.",
            hint=f"See {lifeline.directory}/log; its folder `files` holds the old files.",
        )
    return after


def restore_late(*, root: Path = ROOT, run: Run = run_command) -> bool:
    """Bring the old state back once more when the time ran out before a change ended: nothing else takes back what was
    written after it. Tell whether that was so. Raises InternalError.
    """
    present = latest(root=root)
    if present is None or present.state not in {State.RESTORING, State.RESTORED}:
        return False
    run(["systemctl", "start", SERVICE])  # waits for the timer's own to end; none is left once it did
    restore(root=root, run=run)
    return True


class LateWrites:
    """Watches a run: a role that fails after the lifeline fired never comes to extend or prove it."""

    def __init__(self, *, root: Path = ROOT, run: Run = run_command) -> None:
        self._root, self._run = root, run
        self._before = ""

    def before(self, _phase: str, _directory: Path) -> None:
        """Remember the lifeline of an earlier change, which is none of ours."""
        self._before = self._present()

    def after(self, _phase: str, _directory: Path, *, succeeded: bool) -> None:
        """After a failure, take back what was written since the lifeline of this phase fired."""
        if not succeeded and self._present() != self._before:
            restore_late(root=self._root, run=self._run)

    def _present(self) -> str:
        found = latest(root=self._root)
        return found.record.id if found is not None else ""


def require_armed(*, root: Path = ROOT) -> Lifeline:
    """Return the armed lifeline. Raises NotFound or Conflict."""
    lifeline = latest(root=root)
    if lifeline is None:
        raise NotFound("lifeline.none", "There is no lifeline on this machine.")
    if lifeline.state is not State.ARMED:
        raise Conflict(
            "lifeline.not_armed",
            f"The lifeline {lifeline.record.id} is {lifeline.state}, not armed.",
            hint="Its time ran out before the change was proven." if lifeline.state is State.RESTORED else "",
        )
    return lifeline


def latest(*, root: Path = ROOT) -> Lifeline | None:
    """Return the newest lifeline, or None. A folder without a state never finished being armed."""
    if not root.is_dir():
        return None
    complete = sorted(entry for entry in root.iterdir() if (entry / "state").is_file())
    return read(complete[-1]) if complete else None


def read(directory: Path) -> Lifeline:
    """Read one lifeline. Raises InternalError when its record is damaged."""
    try:
        record = msgspec.json.decode((directory / "record.json").read_bytes(), type=Record)
        state = State((directory / "state").read_text().strip())
    except (OSError, ValueError) as error:
        raise InternalError("lifeline.damaged", f"The lifeline in {directory} cannot be read: {error}.") from error
    return Lifeline(record=record, state=state, directory=directory)


def _start_timer(lifeline: Lifeline, *, seconds: int, units: Path, run: Run) -> None:
    script = lifeline.directory / "lifeline.sh"
    with storage_errors("writing the lifeline's timer"):
        write_file(
            units / SERVICE,
            (
                "# Written by Intramuros while a change is unproven; removed with the lifeline.\n"
                "[Unit]\nDescription=Bring back the state before an unproven change\n\n"
                "[Service]\nType=oneshot\nTimeoutStartSec=300\n"
                f"ExecStart=/bin/sh {script} restore {lifeline.directory}\n"
            ).encode(),
        )
        write_file(
            units / TIMER,
            (
                "# Written by Intramuros while a change is unproven; counts anew from each boot.\n"
                "[Unit]\nDescription=Bring back the old state unless the change is proven\n\n"
                f"[Timer]\nOnActiveSec={seconds}\nAccuracySec=1s\nUnit={SERVICE}\n\n"
                "[Install]\nWantedBy=timers.target\n"
            ).encode(),
        )
    for argv in (["systemctl", "daemon-reload"], ["systemctl", "enable", TIMER], ["systemctl", "restart", TIMER]):
        outcome = run(argv)
        if outcome.status != 0:
            raise InternalError(
                "lifeline.timer_failed",
                f"The lifeline's timer could not be started: {_last_line(outcome.stderr)}.",
                hint="Nothing may be changed without it.",
            )


def _remove_timer(*, units: Path, run: Run) -> None:
    run(["systemctl", "disable", "--now", TIMER])
    for name in (TIMER, SERVICE):
        (units / name).unlink(missing_ok=True)
    run(["systemctl", "daemon-reload"])


def _mark(directory: Path, state: State) -> None:
    with storage_errors("marking the lifeline"):
        write_file(directory / "state", f"{state}\n".encode(), mode=0o600)


def _forget_older(root: Path, *, keep: Path) -> None:
    """Drop the copies of older lifelines: they hold host keys and are no way back any more."""
    for entry in root.iterdir():
        if entry != keep and entry.is_dir():
            shutil.rmtree(entry)
    fsync_directory(root)


def _last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else f"no message (user {os.geteuid()})"
