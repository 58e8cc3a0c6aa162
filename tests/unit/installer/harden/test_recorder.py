"""The recorder keeps what each phase changed, also when the installer is killed in its middle."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.kernel.errors import Conflict
from appliance.kernel.process import Outcome
from installer import run_journal
from installer.events import TaskDone
from installer.harden import rollback
from installer.harden.changes import merge
from installer.harden.recorder import ChangeRecorder, first_snapshot, recorded, require_hardening_alone
from installer.harden.snapshot import take
from installer.playbooks import Phase, RoleLine, TaskLine
from installer.run_journal import Head, Journal

_PHASE = Phase(
    name="access",
    title="",
    file=Path("phase-access.yml"),
    roles=(RoleLine(name="ssh", tasks=(TaskLine(name="Set up", tags=("cis_5_1_20",)),)),),
)


def _run(argv: Sequence[str]) -> Outcome:
    return Outcome(status=1 if argv[0] == "nft" else 0, stdout="", stderr="")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "etc/ssh").mkdir(parents=True)
    (root / "proc/sys").mkdir(parents=True)
    (root / "etc/ssh/sshd_config").write_text("Port 22\n")
    return root


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    head = Head(run="0001", book="harden", check=False, digest="d", phases=("access",), at="")
    return run_journal.begin(tmp_path / "runs", plan={}, head=head)


@pytest.fixture
def recorder(tmp_path: Path, root: Path) -> ChangeRecorder:
    return ChangeRecorder(
        objects=tmp_path / "objects",
        phases=(_PHASE,),
        root=root,
        clock=lambda: datetime(2026, 11, 25, tzinfo=UTC),
        run=_run,
    )


def test_phase_is_recorded_with_its_controls(recorder: ChangeRecorder, directory: Path, root: Path) -> None:
    recorder.before("access", directory)
    (root / "etc/ssh/sshd_config").write_text("Port 22\nAllowGroups admin\n")
    Journal(directory).event(TaskDone(phase="access", role="ssh", task="Set up", outcome="changed"))
    recorder.after("access", directory, succeeded=True)
    (changes,) = recorded(directory, objects=recorder.objects, root=root, run=_run)
    assert [change.path for change in changes.files] == ["/etc/ssh/sshd_config"]
    assert [(task.role, task.controls) for task in changes.tasks] == [("ssh", ("cis_5_1_20",))]
    assert changes.succeeded


def test_killed_phase_is_taken_back_to_its_first_beginning(
    recorder: ChangeRecorder, directory: Path, root: Path, tmp_path: Path
) -> None:
    recorder.before("access", directory)
    (root / "etc/half").write_text("half\n")  # the installer is killed here, and begins the phase anew
    recorder.before("access", directory)
    (root / "etc/ssh/sshd_config").write_text("broken\n")  # and is killed again
    changes = recorded(directory, objects=recorder.objects, root=root, run=_run)
    assert [each.succeeded for each in changes] == [False]
    plan = rollback.plan_rollback(merge(changes), rollback.present(root))
    rollback.restore_files(plan, objects=recorder.objects, kept=tmp_path / "kept", root=root)
    assert (root / "etc/ssh/sshd_config").read_text() == "Port 22\n"
    assert not (root / "etc/half").exists()


def test_phases_that_do_not_harden_are_not_recorded(recorder: ChangeRecorder, directory: Path, root: Path) -> None:
    recorder.before("appliance", directory)
    recorder.after("appliance", directory, succeeded=True)
    assert recorded(directory, objects=recorder.objects, root=root, run=_run) == []
    assert first_snapshot(directory) is None


@pytest.mark.parametrize("phase", ["storage", "appliance"])
def test_installation_is_not_taken_back_once_it_wrote_accounts_or_mounts(directory: Path, phase: str) -> None:
    """/etc/passwd as it was before would have no accounts for the services that stay."""
    now = datetime(2026, 11, 25, tzinfo=UTC)
    journal = Journal(directory)
    journal.note(now, "phase_begun", phase="ground")
    require_hardening_alone(run_journal.get(directory.parent, directory.name))
    journal.note(now, "phase_begun", phase=phase)
    with pytest.raises(Conflict, match="is an installation") as refused:
        require_hardening_alone(run_journal.get(directory.parent, directory.name))
    assert "install again" in refused.value.hint


def test_first_snapshot_is_the_state_before_the_run(recorder: ChangeRecorder, directory: Path, root: Path) -> None:
    before = take(recorder.objects, root=root, run=_run)
    recorder.before("ground", directory)
    (root / "etc/new").write_text("new\n")
    recorder.after("ground", directory, succeeded=True)
    recorder.before("access", directory)
    assert first_snapshot(directory) == before
