"""The job that takes a suite in: reads the YAML file where a hostile one costs least, and writes `out/suite.json`.

Parameters: `source`, the file; `name`, what it is to be called. The file is a suite, or a task of
lm-evaluation-harness. It has no inputs: which data sets a suite names is looked up when it is run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from appliance.evaluation.confined import Confined
from appliance.evaluation.lm_eval import import_task, is_lm_eval
from appliance.evaluation.suite import Suite, encode_suite, parse_suite
from appliance.jobs.workspace import Workspace
from appliance.kernel.durable import write_file
from appliance.kernel.events import Progress
from appliance.kernel.plain_yaml import read_plain_yaml


class Parameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the service says."""

    source: str
    name: str


def run(workspace: Workspace) -> dict[str, Any]:
    """Read, check and store. Raises BadInput naming the file, the task and what is wrong."""
    parameters = msgspec.convert(workspace.spec.parameters, Parameters)
    workspace.emit(Progress(phase="reading"))
    suite = read_suite(Path(parameters.source))
    write_file(workspace.output / "suite.json", encode_suite(suite))
    return summary_of(suite)


def read_suite(file: Path) -> Suite:
    """Read a suite, or a task of lm-evaluation-harness as one."""
    document = read_plain_yaml(file).value
    if is_lm_eval(document):
        with Confined() as confined:
            return import_task(document, file, confined=confined)
    return parse_suite(document, source=file.name)


def summary_of(suite: Suite) -> dict[str, Any]:
    """Return what lists and checks need of a suite without reading it."""
    return {
        "description": suite.description,
        "data": list(suite.data),
        "tasks": [
            {
                "name": task.name,
                "type": msgspec.to_builtins(task)["type"],
                "data": task.data,
                "rows": len(task.rows),
                "limit": task.limit or 0,
            }
            for task in suite.tasks
        ],
    }
