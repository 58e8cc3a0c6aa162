"""The lifeline's states, with a system that only takes notes; what its script does is shown on boxes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.kernel.errors import BadInput, Conflict, InternalError, NotFound
from appliance.kernel.process import Outcome
from installer.harden import lifeline
from installer.harden.lifeline import SERVICE, TIMER, Lifeline, State

_NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


class FakeSystem:
    """Notes what is run; the script's restore marks the state as the real one does."""

    def __init__(self) -> None:
        self.ran: list[tuple[str, ...]] = []
        self.failing = ""

    def __call__(self, argv: Sequence[str]) -> Outcome:
        self.ran.append(tuple(argv))
        if self.failing and self.failing in argv:
            return Outcome(status=1, stdout="", stderr="it does not work")
        if "restore" in argv:
            (Path(argv[-1]) / "state").write_text("restored\n")
        return Outcome(status=0, stdout="", stderr="")

    def names(self) -> list[str]:
        return [" ".join(word for word in argv if not word.startswith("/")) for argv in self.ran]


@pytest.fixture
def system() -> FakeSystem:
    return FakeSystem()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "units").mkdir()
    return tmp_path / "lifeline"


def _arm(root: Path, system: FakeSystem, *, now: datetime = _NOW, seconds: int = 180) -> Lifeline:
    return lifeline.arm(
        admin="ada",
        home=Path("/home/ada"),
        seconds=seconds,
        now=now,
        root=root,
        units=root.parent / "units",
        run=system,
    )


def test_state_is_captured_before_the_timer_starts(root: Path, system: FakeSystem) -> None:
    armed = _arm(root, system)
    assert armed.state is State.ARMED
    assert system.names() == [
        "sh capture",
        "systemctl daemon-reload",
        f"systemctl enable {TIMER}",
        f"systemctl restart {TIMER}",
    ]
    paths = (armed.directory / "paths").read_text().splitlines()
    assert {"/etc/ssh", "/etc/pam.d", "/etc/sudoers.d", str(Path("/home/ada") / ".ssh" / "authorized_keys")} <= set(
        paths
    )


def test_timer_counts_anew_after_a_boot_and_needs_no_python(root: Path, system: FakeSystem) -> None:
    armed = _arm(root, system)
    units = root.parent / "units"
    assert "OnActiveSec=180\n" in (units / TIMER).read_text()
    assert "WantedBy=timers.target" in (units / TIMER).read_text()
    assert (
        f"ExecStart=/bin/sh {armed.directory}/lifeline.sh restore {armed.directory}\n" in (units / SERVICE).read_text()
    )


def test_second_arming_keeps_the_older_state(root: Path, system: FakeSystem) -> None:
    first = _arm(root, system)
    system.ran.clear()
    second = _arm(root, system, now=datetime(2026, 11, 25, 13, 0, tzinfo=UTC))
    assert second.record == first.record
    assert "sh capture" not in system.names()
    assert system.names()[-1] == f"systemctl restart {TIMER}"


def test_after_disarming_a_new_state_is_captured_and_the_old_copies_go(root: Path, system: FakeSystem) -> None:
    first = _arm(root, system)
    lifeline.disarm(root=root, units=root.parent / "units", run=system)
    second = _arm(root, system, now=datetime(2026, 11, 25, 13, 0, tzinfo=UTC))
    assert second.record.id != first.record.id
    assert not first.directory.exists()


def test_disarming_marks_the_state_before_the_timer_goes(root: Path, system: FakeSystem) -> None:
    armed = _arm(root, system)
    seen = []

    def watching(argv: Sequence[str]) -> Outcome:
        seen.append((armed.directory / "state").read_text().strip())
        return system(argv)

    lifeline.disarm(root=root, units=root.parent / "units", run=watching)
    assert set(seen) == {"disarmed"}
    assert not list((root.parent / "units").iterdir())


def test_failed_capture_arms_nothing(root: Path, system: FakeSystem) -> None:
    system.failing = "capture"
    with pytest.raises(InternalError, match="could not be saved"):
        _arm(root, system)
    assert lifeline.latest(root=root) is None
    assert not list((root.parent / "units").iterdir())


def test_timer_that_does_not_start_is_an_error(root: Path, system: FakeSystem) -> None:
    system.failing = "enable"
    with pytest.raises(InternalError, match="timer could not be started"):
        _arm(root, system)


def test_too_few_seconds_are_refused(root: Path, system: FakeSystem) -> None:
    with pytest.raises(BadInput, match="5 s"):
        _arm(root, system, seconds=5)


def test_extending_needs_an_armed_lifeline(root: Path, system: FakeSystem) -> None:
    with pytest.raises(NotFound):
        lifeline.extend(root=root, run=system)
    armed = _arm(root, system)
    lifeline.extend(root=root, run=system)
    (armed.directory / "state").write_text("restored\n")
    with pytest.raises(Conflict, match="restored, not armed"):
        lifeline.extend(root=root, run=system)


@pytest.mark.parametrize("state", ["restored", "restoring"])
def test_what_was_changed_while_the_timer_restored_is_taken_back_too(
    root: Path, system: FakeSystem, state: str
) -> None:
    """A role that outlasts the timer goes on writing; its end is the first moment at which somebody notices."""
    armed = _arm(root, system)
    (armed.directory / "state").write_text(f"{state}\n")
    system.ran.clear()
    with pytest.raises(Conflict, match="restored, not armed"):
        lifeline.extend(root=root, run=system)
    assert system.names() == [f"systemctl start {SERVICE}", "sh restore"]


@pytest.mark.parametrize(("fired", "again"), [(True, True), (False, False)])
def test_role_that_fails_after_the_lifeline_fired_leaves_nothing_behind(
    root: Path, system: FakeSystem, fired: bool, again: bool
) -> None:
    earlier = _arm(root, system)
    (earlier.directory / "state").write_text("restored\n")
    watcher = lifeline.LateWrites(root=root, run=system)
    watcher.before("access", root)
    found = _arm(root, system, now=_NOW + timedelta(minutes=1))
    if fired:
        (found.directory / "state").write_text("restored\n")
    system.ran.clear()
    watcher.after("access", root, succeeded=False)
    assert ("sh restore" in system.names()) is again


def test_restoring_works_again_after_the_timer_did(root: Path, system: FakeSystem) -> None:
    armed = _arm(root, system)
    assert lifeline.restore(root=root, run=system).state is State.RESTORED
    system.ran.clear()
    assert lifeline.restore(root=root, run=system).state is State.RESTORED
    assert system.ran == [("sh", str(armed.directory / "lifeline.sh"), "restore", str(armed.directory))]


def test_proven_change_is_not_restored(root: Path, system: FakeSystem) -> None:
    _arm(root, system)
    lifeline.disarm(root=root, units=root.parent / "units", run=system)
    with pytest.raises(Conflict, match="was disarmed"):
        lifeline.restore(root=root, run=system)


def test_half_made_lifeline_is_no_lifeline(root: Path, system: FakeSystem) -> None:
    (root / "20260101T000000000000Z").mkdir(parents=True)
    assert lifeline.latest(root=root) is None
