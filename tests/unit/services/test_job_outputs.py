from __future__ import annotations

import pytest

from appliance.access.roles import Role
from appliance.api import types as t
from appliance.jobs.spec import JobKind
from appliance.kernel.errors import BadInput, Forbidden, NotFound
from appliance.services import job_outputs
from appliance.services.context import Appliance, Context
from tests.factories.appliance import context, finished_run, imported_dataset

FILES = {"model.safetensors": b"\xff\xfe", "report/report.json": b'{"accuracy": 1}\n'}


@pytest.fixture
def run(ctx: Context) -> str:
    return finished_run(ctx, JobKind.TRAIN_SEED, {"corpus": imported_dataset(ctx)}, FILES)


def test_a_report_comes_back_as_it_was_written(ctx: Context, run: str) -> None:
    found = job_outputs.read(ctx, run, "report/report.json")
    assert isinstance(found, t.JobOutput)
    assert (found.text, found.job) == ('{"accuracy": 1}\n', run.removeprefix("run:"))


@pytest.mark.parametrize("path", ["report/other.json", "", "../report/report.json", "/etc/passwd"])
def test_only_output_files_are_read(ctx: Context, run: str, path: str) -> None:
    with pytest.raises(NotFound, match=r"report/report\.json") as refused:
        job_outputs.read(ctx, run, path)
    assert refused.value.code == "job.no_output"


def test_weights_are_no_text(ctx: Context, run: str) -> None:
    with pytest.raises(BadInput) as refused:
        job_outputs.read(ctx, run, "model.safetensors")
    assert refused.value.code == "job.not_text"


def test_it_takes_the_right_to_read_data_sets(appliance: Appliance, run: str) -> None:
    auditor = context(appliance, user="carol", roles=frozenset({Role.AUDITOR}))
    with pytest.raises(Forbidden):
        job_outputs.read(auditor, run, "report/report.json")
