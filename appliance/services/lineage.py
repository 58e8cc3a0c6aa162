"""Follows a run back to everything it was made from: base model, data, recipes, seeds, software, people."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row

from appliance.services.records import find_job, find_model

_DATASETS = ("corpus", "dataset")


def lineage_of(connection: Connection, run: Row[Any]) -> dict[str, Any]:
    """Return the lineage document of a run's outputs: base, teacher, data sets, runs (newest first) and authors."""
    runs = _chain(connection, run)
    data: dict[str, dict[str, str]] = {}
    base: dict[str, str] | None = None
    teacher: dict[str, str] | None = None
    for step in runs:
        for name, given in step.spec["inputs"].items():
            if name in _DATASETS and step.kind.startswith("train."):
                data.setdefault(given["ref"], {"ref": given["ref"], "digest": given["digest"]})
            if name == "base":
                base = {"ref": given["ref"], "digest": given["digest"]}
            if name == "teacher":
                teacher = {"ref": given["ref"], "digest": given["digest"]}
    return {
        # A student that was given no base is made of its teacher's layers.
        "base": base or teacher,
        "teacher": teacher,
        "datasets": list(data.values()),
        "runs": [_run_document(step) for step in runs],
        "authors": sorted({step.created_by for step in runs} | _importers(connection, run)),
    }


def _chain(connection: Connection, run: Row[Any]) -> list[Row[Any]]:
    """Return the run and the runs whose outputs it took in, newest first; registered bases end the chain."""
    found = [run]
    for given in run.spec["inputs"].values():
        if given["ref"].startswith("run:"):
            found += _chain(connection, find_job(connection, given["ref"]))
        elif run.kind == "convert.gguf" and given is run.spec["inputs"].get("model"):
            found += _runs_of_version(connection, given["ref"])
    return found


def _runs_of_version(connection: Connection, ref: str) -> list[Row[Any]]:
    version = find_model(connection, ref)
    return [find_job(connection, step["job"]) for step in version.lineage.get("runs", [])]


def _importers(connection: Connection, run: Row[Any]) -> set[str]:
    """Return who made the version that a conversion only rewrote: it is still their work."""
    given = run.spec["inputs"].get("model")
    if run.kind != "convert.gguf" or given is None or given["ref"].startswith("run:"):
        return set()
    return set(find_model(connection, given["ref"]).lineage.get("authors", []))


def _run_document(step: Row[Any]) -> dict[str, Any]:
    spec = step.spec
    return {
        "job": step.id,
        "run_id": step.run_id,
        "kind": step.kind,
        "parameters": spec["parameters"],
        "seed": spec["seed"],
        "environment": spec["environment"],
        "output": step.output_digest,
        "by": step.created_by,
        "at": step.finished_at,
    }
