"""Follows a run back to everything it was made from: base model, data, recipes, seeds, software, people."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, Row, select

from appliance.services.records import find_job, find_model
from appliance.store.schema import datasets, models

_DATASETS = ("corpus", "dataset", "data")
_CONVERSIONS = ("convert.gguf", "convert.ladder", "convert.adapter")


def lineage_of(connection: Connection, run: Row[Any]) -> dict[str, Any]:
    """Return the lineage document of a run's outputs: base, data sets, runs (newest first) and authors."""
    runs = _chain(connection, run)
    data: dict[str, dict[str, Any]] = {}
    base: dict[str, str] | None = None
    for step in runs:
        for name, given in step.spec["inputs"].items():
            if name in _DATASETS and step.kind.startswith("train."):
                data.setdefault(given["ref"], _data_document(connection, given))
            if name == "base" and step.kind not in _CONVERSIONS:
                base = {"ref": given["ref"], "digest": given["digest"]}
    return {
        "base": base,
        "datasets": list(data.values()),
        "synthetic": _synthetic(connection, data.values(), base),
        "runs": [_run_document(step) for step in runs],
        "authors": sorted({step.created_by for step in runs} | _importers(connection, run)),
    }


def _chain(connection: Connection, run: Row[Any]) -> list[Row[Any]]:
    """Return the run and the runs whose outputs it took in, newest first; registered bases end the chain."""
    found = [run]
    inputs = run.spec["inputs"]
    # A conversion only rewrites its model; whatever else it reads is in that model's own lineage.
    for given in [inputs["model"]] if run.kind in _CONVERSIONS else inputs.values():
        if given["ref"].startswith("run:"):
            found += _chain(connection, find_job(connection, given["ref"]))
        elif run.kind in _CONVERSIONS:
            found += _runs_of_version(connection, given["ref"])
    return found


def _runs_of_version(connection: Connection, ref: str) -> list[Row[Any]]:
    version = find_model(connection, ref)
    return [find_job(connection, step["job"]) for step in version.lineage.get("runs", [])]


def _importers(connection: Connection, run: Row[Any]) -> set[str]:
    """Return who made the version that a conversion only rewrote: it is still their work."""
    given = run.spec["inputs"].get("model")
    if run.kind not in _CONVERSIONS or given is None or given["ref"].startswith("run:"):
        return set()
    return set(find_model(connection, given["ref"]).lineage.get("authors", []))


def _data_document(connection: Connection, given: dict[str, Any]) -> dict[str, Any]:
    """Return a data set as a lineage names it; what a model wrote carries by which model, removed versions too."""
    document = {"ref": given["ref"], "digest": given["digest"]}
    query = select(datasets.c.summary).where(datasets.c.digest == given["digest"]).order_by(datasets.c.id).limit(1)
    summary: dict[str, Any] = connection.execute(query).scalar() or {}
    return document | ({"synthetic": summary["synthetic"]} if "synthetic" in summary else {})


def _synthetic(connection: Connection, data: Iterable[dict[str, Any]], base: dict[str, str] | None) -> list[str]:
    """Name the data sets that a model wrote, those of the base's own lineage included."""
    found = {document["ref"] for document in data if "synthetic" in document}
    if base is not None and not base["ref"].startswith("run:"):
        name, _, number = base["ref"].partition("@")
        query = select(models.c.lineage).where(models.c.name == name, models.c.version == int(number))
        found.update((connection.execute(query).scalar() or {}).get("synthetic", []))
    return sorted(found)


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
