"""What is said between a job that trains on several boxes and the rank hosts that train for it. JSON over HTTP.

    GET    /                      BoxFacts: what this box has to give
    PUT    /runs/KEY              Order      -> RunView: laid out, and which files it still needs
    PUT    /runs/KEY/given/SHA256 a file's bytes, kept only if they have that digest
    POST   /runs/KEY/start        Start      -> RunView
    GET    /runs/KEY?after=N&hold=S          -> RunView with the events behind number N
    GET    /runs/KEY/out/PATH     one of the files that it made
    POST   /runs/KEY/stop         save a checkpoint and stop
    DELETE /runs/KEY              forget it, with its checkpoints

A key is the job's id at the box that asks. What is started is asked for again and again: a run that nobody asked about
for a while is stopped, because its job has died or its box is gone. Every call may be repeated without harm.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from appliance.jobs.spec import Environment, JobSpec, TaskResult
from appliance.kernel.events import Event
from appliance.kernel.problem import Problem


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """Lay out this job. `version` and `environment` are those of the box that asks, as it is now."""

    spec: JobSpec
    version: str
    environment: Environment


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """Start it, from its newest checkpoint. `placement` belongs to the recipe: where all of its ranks are."""

    placement: dict[str, Any]


class RunView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a run fares on one box.

    `stopped` is one that neither ended nor failed: it was asked to stop, or died; its checkpoints are there.
    """

    state: Literal["laid_out", "running", "succeeded", "failed", "stopped"]
    missing: tuple[str, ...] = ()
    """digests of the files that were not given yet"""
    free_port: int = 0
    """a TCP port of the box that nobody has now, for the ranks to meet"""
    problem: Problem | None = None
    """why it failed, also while others of its ranks still wait"""
    result: TaskResult | None = None
    events: tuple[Event, ...] = ()
    next: int = 0
    """number of the last of these events"""


class BoxFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a rank host says of its box. Sizes in bytes."""

    name: str
    version: str
    code: str
    """digest of the source that decides a run's bytes"""
    packages: dict[str, str]
    cpu: str
    threads: int
    memory: int
    memory_available: int
    running: int
    """runs that it trains for now"""
    held: int
    """memory that these hold, and give back when they end"""
