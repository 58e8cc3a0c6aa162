"""Queues the work that is done on stored data sets: check, split, generate. Each is a job with sealed inputs."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from appliance.api import types as t
from appliance.datasets.split import parse_way
from appliance.jobs.spec import Environment, InputRef, JobKind, JobSpec
from appliance.kernel.errors import BadInput
from appliance.registry.refs import check_name
from appliance.services.context import Context
from appliance.services.jobs import dataset_input, enqueue, model_input
from appliance.services.machine import environment
from appliance.services.records import find_dataset, find_model

_MOST_ROWS = 100_000


def check(ctx: Context, text: str, body: t.CheckDataset) -> t.JobView:
    """Queue a check. An equal one that succeeded is returned instead."""
    ctx.authorise("dataset.check", text)
    _require_likeness(body.near)
    with ctx.appliance.database.read() as connection:
        data = dataset_input(connection, text)
        inputs = {"data": data}
        context = 0
        if body.model:
            inputs["model"] = _tokenizer_input(connection, body.model)
            context = _context_length(connection, body.model)
    spec = JobSpec(
        kind=JobKind.CHECK_DATASET,
        inputs=inputs,
        parameters={"near": body.near, "context": context},
        seed=0,
        environment=_environment(ctx),
    )
    return enqueue(ctx, spec, title=data.ref, reuse=True)


def split(ctx: Context, text: str, body: t.SplitDataset) -> t.JobView:
    """Queue a split into a new version."""
    ctx.authorise("dataset.split", text)
    way = parse_way(body.by, train=body.train, heldout=body.heldout, seed=body.seed)
    if body.drop_near:
        _require_likeness(body.drop_near)
    with ctx.appliance.database.read() as connection:
        data = dataset_input(connection, text)
        name = body.name or find_dataset(connection, text).name
    check_name(name, what="data set")
    spec = JobSpec(
        kind=JobKind.SPLIT_DATASET,
        inputs={"data": data},
        parameters={
            "name": name,
            "by": body.by,
            "train": way.train,
            "heldout": way.heldout,
            "drop_near": body.drop_near,
        },
        seed=body.seed,
        environment=_environment(ctx),
    )
    return enqueue(ctx, spec, title=f"{data.ref} by {body.by}", reuse=False)


def generate(ctx: Context, body: t.GenerateDataset) -> t.JobView:
    """Queue the writing of synthetic rows by a model of the registry."""
    ctx.authorise("dataset.generate", body.name)
    check_name(body.name, what="data set")
    _require_sampling(body)
    with ctx.appliance.database.read() as connection:
        inputs: dict[str, InputRef] = {"model": model_input(connection, body.model)}
        if body.data:
            inputs["data"] = dataset_input(connection, body.data)
    spec = JobSpec(
        kind=JobKind.GENERATE_DATASET,
        inputs=inputs,
        parameters={
            "name": body.name,
            "prompts": list(body.prompts),
            "count": body.count,
            "temperature": body.temperature,
            "top_p": body.top_p,
            "max_tokens": body.max_tokens,
            "vary": body.vary,
            "heldout_percent": body.heldout_percent,
        },
        seed=body.seed,
        environment=_environment(ctx),
    )
    return enqueue(ctx, spec, title=f"{body.name} by {inputs['model'].ref}", reuse=False)


def _environment(ctx: Context) -> Environment:
    """Return the environment that a repetition of the run is held against."""
    return environment(ctx.appliance.settings.training_threads, ctx.appliance.code_digest)


def _require_likeness(near: float) -> None:
    if not 0.5 <= near <= 1:
        raise BadInput("dataset.near", f"{near} is no threshold of similarity.", hint="Give 0.5 to 1.")


def _require_sampling(body: t.GenerateDataset) -> None:
    if bool(body.data) == bool(body.prompts):
        raise BadInput("dataset.generate", "Rows are written from a data set or from prompts: give one of them.")
    bounds: dict[str, tuple[float, float, float]] = {
        "count": (body.count, 1, _MOST_ROWS),
        "temperature": (body.temperature, 0.01, 5),
        "top_p": (body.top_p, 0.01, 1),
        "max_tokens": (body.max_tokens, 1, 8192),
        "heldout_percent": (body.heldout_percent, 0, 90),
    }
    for name, (value, least, most) in bounds.items():
        if not least <= value <= most:
            raise BadInput("dataset.generate", f"{name} is {value}; it may be {least:g} to {most:g}.")


def _tokenizer_input(connection: Connection, text: str) -> InputRef:
    """Return a model's tokenizer alone: no weights are linked or hashed for counting."""
    whole = model_input(connection, text)
    for entry in whole.files:
        if entry.path == "tokenizer.json":
            return InputRef(ref=whole.ref, digest=entry.digest, files=(entry,))
    raise BadInput("dataset.tokenizer", f"{text} has no tokenizer.json to count tokens with.")


def _context_length(connection: Connection, text: str) -> int:
    if text.startswith("run:"):
        return 0
    described: dict[str, Any] = find_model(connection, text).description
    return int(described.get("context_length") or 0)
