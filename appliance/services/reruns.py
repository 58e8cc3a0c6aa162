"""Proof that a run can be repeated: the same specification in a new job, every output file compared by SHA-256.

A repetition in another environment proves nothing, so it is refused with every difference named. Submitting a run
returns an equal one that is there; this path never does.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row

from appliance.api import types as t
from appliance.jobs.spec import Environment, FileEntry, JobKind, JobSpec
from appliance.kernel.errors import BadInput, Conflict, IntramurosError
from appliance.kernel.problem import problem_of
from appliance.services import child_jobs
from appliance.services.blob_references import known_digests
from appliance.services.campaigns import finish, jobs_of, open_campaign, read_steps, set_step
from appliance.services.context import Context
from appliance.services.environment_locks import environment_lock, find_lock
from appliance.services.jobs import enqueue
from appliance.services.machine import environment
from appliance.services.records import file_entries, find_job

_MEASURED: Final = (JobKind.IMPORT_MODEL, JobKind.IMPORT_DATASET, JobKind.TUNE, JobKind.CONVERT_LADDER)
"""Kinds whose outcome depends on more than their specification: a medium, or time (a ladder tells how fast it is)."""


def verify(ctx: Context, text: str) -> t.CampaignView:
    """Start the repetition of a finished run. Raises Conflict naming every reason why it would prove nothing."""
    with ctx.appliance.database.read() as connection:
        job = find_job(connection, text)
    ctx.authorise("campaign.submit", job.id)
    require_repeatable(ctx, job)
    return open_campaign(ctx, "rerun", title=f"run:{job.id}", spec={"run": job.id}, steps=[("rerun", {})])


def require_repeatable(ctx: Context, job: Row[Any]) -> None:
    """Raise BadInput or Conflict unless doing this run again must give the same bytes."""
    if job.kind in _MEASURED:
        raise BadInput(
            "rerun.kind",
            f"A {job.kind} run depends on more than its specification and cannot be verified by repeating it.",
            hint="Training and evaluation runs and single conversions can.",
        )
    if job.state != "succeeded":
        raise Conflict("rerun.not_finished", f"Run {job.id} is {job.state}; only a finished run can be verified.")
    if not job.files:
        raise Conflict(
            "rerun.no_outputs",
            f"Run {job.id} has no output files to compare with.",
            hint="They went with the version that kept them, or with the search or folds that it was a part of.",
        )
    with ctx.appliance.database.read() as connection:
        found = differences(ctx, connection, job)
    if found:
        raise Conflict(
            "rerun.environment",
            f"Run {job.id} cannot be repeated to the bit here: {'; '.join(found)}.",
            hint="Bring the environment back (docs/operators/runs.md), or run the recipe anew without --verify.",
        )


def differences(ctx: Context, connection: Connection, job: Row[Any]) -> tuple[str, ...]:
    """Return what is not as it was when the run was made, one phrase each."""
    spec = msgspec.convert(job.spec, JobSpec)
    then = spec.environment
    now = environment(ctx.appliance.settings.training_threads, ctx.appliance.code_digest)
    found = []
    if then.threads != now.threads:
        found.append(f"it ran with threads {then.threads}, now {now.threads} (setting training_threads)")
    if then.device != now.device:
        found.append(f"it ran on the device {then.device}, now {now.device}")
    if then.cpu != now.cpu:
        found.append(f"it ran on the processor {then.cpu}, this is {now.cpu}")
    if then.code != now.code:
        found.append(f"it was made by the code {then.code[:12]}, this is {now.code[:12]}")
    found += _package_differences(then, now, find_lock(connection, job.lock) if job.lock else None)
    known = known_digests(connection)
    for name, given in sorted(spec.inputs.items()):
        if not {entry.digest for entry in given.files} <= known:
            found.append(f"its input {name} ({given.ref}) is no longer in the store")
    return tuple(found)


def advance(ctx: Context, campaign: Row[Any]) -> None:
    """Start the repetition, and compare when it has ended."""
    (step,) = read_steps(ctx, campaign.id)
    with ctx.appliance.database.read() as connection:
        original = find_job(connection, campaign.spec["run"])
        started = jobs_of(connection, campaign.id)
    if step.state == "pending":
        if started and started[-1].state not in ("failed", "cancelled"):
            job_id = started[-1].id  # the daemon died between the job and the step's row
        else:
            try:
                require_repeatable(ctx, original)
            except IntramurosError as refused:
                problem = problem_of(refused)
                set_step(ctx, step, state="failed", problem=msgspec.to_builtins(problem))
                finish(ctx, campaign.id, "failed", summary={}, problem=problem)
                return
            spec = msgspec.convert(original.spec, JobSpec)
            job_id = enqueue(ctx, spec, title=original.title, reuse=False, repeats=original.id).id
        set_step(ctx, step, state="running", job_id=job_id)
        return
    job = child_jobs.job_of(ctx, step)
    if job.state == "succeeded":
        verdict = compare(file_entries(original.files), file_entries(job.files))
        set_step(ctx, step, state="succeeded", outcome=verdict)
        finish(ctx, campaign.id, "succeeded", summary=verdict | {"run": original.id, "job": job.id})
    elif job.state in ("failed", "cancelled"):
        problem = child_jobs.why_ended(job)
        set_step(ctx, step, state="failed", problem=msgspec.to_builtins(problem))
        finish(ctx, campaign.id, "failed", summary={}, problem=problem)


def compare(then: tuple[FileEntry, ...], now: tuple[FileEntry, ...]) -> dict[str, Any]:
    """Return the verdict on two sets of output files: the same paths with the same bytes, or which differ."""
    before, after = ({entry.path: entry.digest for entry in files} for files in (then, now))
    differing = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
    return {"identical": not differing, "files": len(before), "differing": differing}


def _package_differences(then: Environment, now: Environment, lock: dict[str, Any] | None) -> list[str]:
    """Name the packages that are not what they were: versions first, then files changed under one version."""
    if lock is None:
        return [
            f"it had {name} {then.packages[name]}, now {now.packages.get(name, 'none')}"
            for name in sorted(then.packages)
            if name in now.packages and then.packages[name] != now.packages[name]
        ]
    present = environment_lock()
    found = []
    if lock["python"] != present["python"]:
        found.append(f"it had Python {lock['python']}, now {present['python']}")
    before, after = lock["packages"], present["packages"]
    for name in sorted(before.keys() | after.keys()):
        was, is_now = before.get(name), after.get(name)
        if was == is_now:
            continue
        versions = tuple(entry["version"] if entry else "none" for entry in (was, is_now))
        if versions[0] != versions[1]:
            found.append(f"it had {name} {versions[0]}, now {versions[1]}")
        else:
            found.append(f"the installed files of {name} {versions[0]} have changed")
    return found
