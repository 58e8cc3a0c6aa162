"""`intramuros harden`: harden this machine, with or without the appliance, and take a run back."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from appliance.kernel.errors import Conflict, NotFound
from appliance.kernel.terminal import table, when
from installer import run_journal, secrets
from installer.apply import Request, apply
from installer.cli.bundle_option import bundle_option, open_bundle
from installer.cli.hooks import TerminalHooks
from installer.cli.output import Narrator, duration, json_option, require_root, say, show
from installer.cli.prepare import force_admin_option, prepare, refuse_unless_ready
from installer.harden import lifeline, probe, rollback
from installer.harden.changes import PhaseChanges, merge
from installer.harden.guard import account_to_prove, guarded
from installer.harden.recorder import ChangeRecorder, first_snapshot, installs, recorded, require_hardening_alone
from installer.in_effect import secrets_in_effect
from installer.lock import one_installer
from installer.places import Places


@click.group(invoke_without_command=True)
@click.option("--answers", "answers_file", type=click.Path(path_type=Path), help="Answer file.")
@bundle_option
@click.option("--check", is_flag=True, help="Say what would change, and change nothing.")
@click.option("--restart", is_flag=True, help="Begin anew although an unfinished run could go on.")
@force_admin_option
@json_option
@click.pass_context
def harden(
    context: click.Context,
    answers_file: Path | None,
    bundle: Path | None,
    check: bool,
    restart: bool,
    force_admin: bool,
    as_json: bool,
) -> None:
    """Harden this machine, with or without the appliance; every change can be taken back."""
    if context.invoked_subcommand is not None:
        return
    if answers_file is None:
        raise click.UsageError("Name the answer file: --answers FILE", ctx=context)
    require_root("harden this machine")
    places = Places()
    prepared = prepare(answers_file, book="harden", bundle=open_bundle(bundle))
    refuse_unless_ready(prepared, force_admin=force_admin, as_json=as_json, hardening_only=True)
    hooks = TerminalHooks(Narrator(as_json=as_json), recovery_key_out=None)
    hooks.listen()
    phases = [step.phase for step in prepared.plan.steps]
    recorder = ChangeRecorder(objects=objects_of(places), phases=phases)
    result = apply(
        Request(
            plan=prepared.plan,
            answers=prepared.answers,
            bundle_root=prepared.bundle.root if prepared.bundle else None,
            secrets=secrets.read_sources(prepared.answers, in_effect=secrets_in_effect(prepared.answers, places)),
            check=check,
            restart=restart,
        ),
        hooks,
        places=places,
        watchers=() if check else (recorder, lifeline.LateWrites()),
    )
    word = "would change" if check else "changed"
    show(result, lambda: f"run {result.run}: {result.changed} {word} in {duration(result.seconds)}", as_json=as_json)


@harden.command()
@json_option
def runs(as_json: bool) -> None:
    """List the runs that hardened this machine, and which of them can be taken back."""
    require_root("read the journals of runs")
    places = Places()
    found = [run for run in run_journal.list_runs(places.runs) if first_snapshot(run.directory) is not None]
    document = [
        {
            "run": run.head.run,
            "book": run.head.book,
            "at": when(run.head.at),
            "state": run.state,
            "taken_back": run.taken_back,
            "can_be_taken_back": not installs(run),
        }
        for run in found
    ]
    rows = [
        (
            run.head.run,
            run.head.book,
            when(run.head.at),
            run.state,
            _back_word(run.taken_back, installs(run)),
        )
        for run in found
    ]
    show(
        document,
        lambda: table(("RUN", "WHAT", "BEGUN", "STATE", "TAKEN BACK"), rows, empty="no hardening run yet"),
        as_json=as_json,
    )


@harden.command("show")
@click.argument("run")
@json_option
def show_(run: str, as_json: bool) -> None:
    """Show what a run changed: files, packages, kernel parameters, and the controls that asked for it."""
    require_root("read the journals of runs")
    places = Places()
    phases = _phases(run_journal.get(places.runs, run), places)
    show(phases, lambda: "\n".join(_lines(phases)), as_json=as_json)


@harden.command("rollback")
@click.argument("run")
@click.option("--check", is_flag=True, help="Say what would be taken back, and change nothing.")
@click.option("--force", is_flag=True, help="Overwrite files that somebody changed since; copies are kept.")
@click.option("--keep-packages", is_flag=True, help="Leave the packages that the run installed.")
@click.option("--seconds", default=180, show_default=True, help="When the lifeline undoes an unproven rollback.")
@click.option("--from", "source", default="", help="Address to prove a login from; default: yours.")
@json_option
def rollback_(
    run: str, check: bool, force: bool, keep_packages: bool, seconds: int, source: str, as_json: bool
) -> None:
    """Take a run of hardening alone back: exactly what it changed. A login is proven before it is final."""
    require_root("take a run back")
    places = Places()
    found = run_journal.get(places.runs, run)
    require_hardening_alone(found)
    changes = merge(_phases(found, places))
    if check:
        plan = rollback.plan_rollback(changes, rollback.present())
        show(plan, lambda: "\n".join(_plan_lines(plan)), as_json=as_json)
        return
    with one_installer(places):  # whose run would change what is taken back, and whose lifeline is not ours to disarm
        _refuse_later_runs(found, places)
        outcome = _take_back(
            found, changes, places, force=force, keep_packages=keep_packages, seconds=seconds, source=source
        )
    show(outcome, lambda: "\n".join(_outcome_lines(found.head.run, outcome)), as_json=as_json)


def _take_back(
    found: run_journal.Run,
    changes: PhaseChanges,
    places: Places,
    *,
    force: bool,
    keep_packages: bool,
    seconds: int,
    source: str,
) -> rollback.Outcome:
    plan = rollback.plan_rollback(changes, rollback.present())
    rollback.require_unchanged(plan, force=force)
    kept = found.directory / "changes" / f"kept-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    left: list[str] = []
    admin = account_to_prove(first_snapshot(found.directory), lifeline.latest())
    with guarded(admin=admin, seconds=seconds, source=source, tell=say):
        restored = rollback.restore_files(plan, objects=objects_of(places), kept=kept)
        left += rollback.restore_runtime(plan)
    purged: tuple[str, ...] = ()
    if not keep_packages:
        purged, problems = rollback.purge_packages(plan, probe.run_slow)
        left += problems
        # Packages take their own files and accounts along when they go; what stood there before the run comes back.
        again = rollback.plan_rollback(changes, rollback.present())
        rollback.restore_files(again, objects=objects_of(places), kept=kept)
        left += rollback.restore_runtime(again)
        left += rollback.verify(changes, rollback.present())
    run_journal.note_taken_back(found, datetime.now(UTC))
    return rollback.Outcome(
        restored=restored,
        purged=purged,
        kept=kept if kept.exists() else None,
        left=tuple(dict.fromkeys(left)),
    )


def objects_of(places: Places) -> Path:
    """Return where kept contents are."""
    return places.state / "harden" / "objects"


def _phases(run: run_journal.Run, places: Places) -> list[PhaseChanges]:
    phases = recorded(run.directory, objects=objects_of(places))
    if not phases:
        raise NotFound(
            "harden.not_recorded",
            f"The run {run.head.run} changed nothing that was recorded.",
            hint="List those that did with: intramuros harden runs",
        )
    return phases


def _refuse_later_runs(run: run_journal.Run, places: Places) -> None:
    """A run is taken back from the newest on, like a stack: an older one may be what the newer stands on."""
    later = [
        other
        for other in run_journal.list_runs(places.runs)
        if other.head.run > run.head.run
        and first_snapshot(other.directory) is not None
        and not other.taken_back
        and any(each.files for each in recorded(other.directory, objects=objects_of(places)))
    ]
    for other in later:
        require_hardening_alone(other)
    if later:
        raise Conflict(
            "harden.later_runs",
            f"Later runs changed something too: {', '.join(other.head.run for other in later)}.",
            hint=f"Take the newest back first: intramuros harden rollback {later[-1].head.run}",
        )


def _back_word(taken_back: bool, installed: bool) -> str:
    return "yes" if taken_back else "cannot be" if installed else ""


def _lines(phases: list[PhaseChanges]) -> list[str]:
    lines = []
    for each in phases:
        lines.append(f"{each.phase}: {len(each.files)} files, {'done' if each.succeeded else 'not ended'}")
        for change in each.files:
            word = "added" if change.before is None else "removed" if change.after is None else "changed"
            lines.append(f"  {word:8} {change.path}")
        lines += [f"  installed {name}" for name in each.packages_added]
        lines += [f"  set {item.name} from {item.before} to {item.after}" for item in each.parameters]
        lines += [f"  task {task.role}: {task.task} [{', '.join(task.controls)}]" for task in each.tasks]
    return lines


def _plan_lines(plan: rollback.Plan) -> list[str]:
    lines = [f"would bring back {len(plan.restore)} paths; {plan.done} are as they were already"]
    lines += [f"  {change.path}" for change in plan.restore]
    lines += [f"  {change.path} was changed since by somebody else" for change in plan.foreign]
    lines += [f"  would purge {name}" for name in plan.purge]
    return lines


def _outcome_lines(run: str, outcome: rollback.Outcome) -> list[str]:
    lines = [f"run {run} is taken back: {outcome.restored} paths, {len(outcome.purged)} packages"]
    lines += [f"  {line}" for line in outcome.left]
    if outcome.kept is not None:
        lines.append(f"  copies of what somebody had changed: {outcome.kept}")
    return lines
