"""An open appliance in a directory of its own: the real database, blob store, keys and audit trail, no process.

Jobs are queued as services queue them and finished as the daemon finishes them; only the work itself is replaced by
the bytes that a test names.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from appliance.access.roles import ALL_ROLES, Role
from appliance.api import types as t
from appliance.daemon.state import open_appliance
from appliance.jobs.spec import Environment, FileEntry, InputRef, JobKind, JobSpec, TaskResult
from appliance.kernel.canonical import sha256_hex
from appliance.kernel.paths import StatePaths
from appliance.kernel.settings import Settings
from appliance.services import audit, outcomes
from appliance.services.context import Appliance, Caller, Context
from appliance.services.jobs import enqueue, model_input, submit
from appliance.services.records import file_entries, find_dataset, find_job, ref_of

_FOLDERS = ("secrets", "run", "blobs", "jobs", "tls", "logs")

WEIGHTS = {"config.json": b"{}", "model.safetensors": b"weights"}
SUMMARY = {"architecture": "LlamaForCausalLM", "parameters": 7, "context_length": 64}


def open_test_appliance(root: Path, *, settings: Settings | None = None) -> Appliance:
    """Open a state in `root`, made from a template whose keys are shared by the tests. Close its database."""
    shutil.copytree(_template().name, root, dirs_exist_ok=True)
    return open_appliance(StatePaths(root), settings or Settings())


@lru_cache(maxsize=1)
def _template() -> tempfile.TemporaryDirectory[str]:
    folder = tempfile.TemporaryDirectory(prefix="appliance-template-")
    for name in _FOLDERS:
        (Path(folder.name) / name).mkdir(mode=0o700)
    open_appliance(StatePaths(Path(folder.name)), Settings()).database.close()
    return folder


def context(appliance: Appliance, *, user: str = "alice", roles: frozenset[Role] = ALL_ROLES) -> Context:
    """Return a call by that user."""
    return Context(appliance=appliance, caller=Caller(user=user, uid=1000, roles=roles))


def finish_job(ctx: Context, job_id: str, files: Mapping[str, bytes], summary: Mapping[str, Any]) -> TaskResult:
    """Leave a job's sealed output and settle it as succeeded, as the daemon does."""
    entries = []
    for name, data in sorted(files.items()):
        path = ctx.appliance.paths.job(job_id) / "out" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        entries.append(FileEntry(path=name, digest=sha256_hex(data), size=len(data)))
    result = TaskResult(summary=dict(summary), files=tuple(entries))
    outcomes.succeed(ctx, job_id, result)
    return result


def queue_run(ctx: Context, kind: JobKind, inputs: Mapping[str, str], *, seed: int = 0, **parameters: Any) -> t.JobView:
    """Queue a run on named inputs; data set inputs are `corpus` and `dataset`."""
    with ctx.appliance.database.read() as connection:
        given: dict[str, InputRef] = {}
        for name, ref in inputs.items():
            if name in ("corpus", "dataset"):
                row = find_dataset(connection, ref)
                given[name] = InputRef(ref=ref_of(row), digest=row.digest, files=file_entries(row.files))
            else:
                given[name] = model_input(connection, ref)
    spec = JobSpec(kind=kind, inputs=given, parameters=parameters, seed=seed, environment=_ENVIRONMENT)
    return enqueue(ctx, spec, title=str(kind), reuse=True)


def finished_run(
    ctx: Context,
    kind: JobKind,
    inputs: Mapping[str, str],
    files: Mapping[str, bytes],
    summary: Mapping[str, Any] = SUMMARY,
    *,
    seed: int = 0,
) -> str:
    """Queue a run, finish it with these files and return its reference `run:ID`."""
    job = queue_run(ctx, kind, inputs, seed=seed)
    finish_job(ctx, job.id, files, summary)
    return f"run:{job.id}"


def imported_dataset(ctx: Context, name: str = "faq", *, form: str = "chat") -> str:
    """Bring in a data set and return its reference."""
    job = _import(ctx, JobKind.IMPORT_DATASET, {"source": "/media/faq.csv", "name": name, "mapping": {}})
    counts = dict.fromkeys(("train_rows", "heldout_rows", "rejected_rows", "duplicate_rows"), 1)
    files = {"train.jsonl": name.encode() + b" train", "heldout.jsonl": name.encode() + b" heldout"}
    finish_job(ctx, job.id, files, {"form": form, **counts})
    return f"{name}@1"


def stored_dataset(
    ctx: Context,
    name: str,
    *,
    train: bytes,
    heldout: bytes = b"",
    kind: JobKind = JobKind.IMPORT_DATASET,
    **summary: Any,
) -> str:
    """Bring in a data set with these bytes and this summary, as a job of that kind does; return its reference."""
    job = _import(ctx, kind, {"source": "/media/x", "name": name})
    counts = {"train_rows": train.count(b"\n"), "heldout_rows": heldout.count(b"\n")}
    counts |= {"rejected_rows": 0, "duplicate_rows": 0}
    finish_job(ctx, job.id, {"train.jsonl": train, "heldout.jsonl": heldout}, {"form": "chat", **counts, **summary})
    with ctx.appliance.database.read() as connection:
        return str(find_job(connection, job.id).summary["ref"])


def imported_model(ctx: Context, name: str, files: Mapping[str, bytes], *, licence: str = "") -> str:
    """Bring in a model and return its reference."""
    job = _import(ctx, JobKind.IMPORT_MODEL, {"source": "/media/model", "name": name, "licence": licence})
    finish_job(ctx, job.id, files, SUMMARY)
    with ctx.appliance.database.read() as connection:
        return str(find_job(connection, job.id).summary["ref"])


def taken_in_suite(
    ctx: Context, content: bytes, summary: Mapping[str, Any] | None = None, *, name: str = "helpdesk"
) -> str:
    """Take a suite in and return its reference; its rows are never read here."""
    job = _import(ctx, JobKind.IMPORT_SUITE, {"source": "/media/suite.yaml", "name": name})
    finish_job(ctx, job.id, {"suite.json": content}, summary or {"description": "", "data": [], "tasks": []})
    with ctx.appliance.database.read() as connection:
        return str(find_job(connection, job.id).summary["ref"])


def measured_on(
    ctx: Context, subject: str, suite: str, metrics: Mapping[str, float], scores: bytes | None, *, seed: int = 0
) -> None:
    """Record an evaluation on a suite, with the scores of its rows where they are given."""
    body = t.SubmitJob(kind="evaluate", inputs={"model": subject, "suite": suite}, seed=seed)
    job = submit(ctx, body)
    finish_job(ctx, job.id, {"scores.json": scores} if scores else {}, {"metrics": dict(metrics), "examples": 10})


def _import(ctx: Context, kind: JobKind, parameters: dict[str, Any]) -> t.JobView:
    spec = JobSpec(kind=kind, inputs={}, parameters=parameters, seed=0, environment=_ENVIRONMENT)
    return enqueue(ctx, spec, title=str(kind), reuse=False)


_ENVIRONMENT = Environment(code="test", packages={}, threads=1, device="cpu", cpu="test")


def trail(ctx: Context, *, since: int = 0) -> list[tuple[str, str]]:
    """Return (action, phase) of the audit events after number `since`, oldest first."""
    page = audit.page(ctx, before=0, limit=500, action="")
    return [(entry.action, entry.phase) for entry in reversed(page.entries) if entry.seq > since]


def head(ctx: Context) -> int:
    """Return the number of the newest audit event."""
    with ctx.appliance.database.read() as connection:
        return ctx.appliance.trail.head(connection).seq
