from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys

import pytest

from appliance.api import types as t
from appliance.kernel.errors import BadInput
from appliance.services import jobs, planning
from appliance.services.context import Context
from appliance.services.training_plans import plan_training
from appliance.training.recipe_file import parse_recipe_file
from tests.factories.appliance import head, imported_dataset, imported_model

CONFIG = {
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 16,
    "vocab_size": 30,
}
HEADER = json.dumps({"a": {"dtype": "F32", "shape": [3, 5], "data_offsets": [0, 60]}}).encode()
FOLDER = {
    "config.json": json.dumps(CONFIG).encode(),
    "model.safetensors": struct.pack("<Q", len(HEADER)) + HEADER + b"\0" * 60,
}


def test_a_plan_says_what_submit_would_queue_and_changes_nothing(ctx: Context) -> None:
    inputs = {"base": imported_model(ctx, "tiny", FOLDER), "dataset": imported_dataset(ctx)}
    body = t.SubmitJob(kind="train.lora", inputs=inputs, parameters={"rank": 2, "epochs": 3}, seed=4)
    before, number = head(ctx), len(jobs.list_jobs(ctx, {}))
    plan = plan_training(ctx, body)
    assert (head(ctx), len(jobs.list_jobs(ctx, {}))) == (before, number)
    assert (plan.steps, plan.given, plan.recipe["clip_norm"]) == (3, ("epochs", "rank"), 1.0)
    assert plan.tokens == 3 * 8 * 512
    assert [(given.word, given.ref, given.form, given.train_rows) for given in plan.inputs] == [
        ("base", "tiny@1", "", 0),
        ("data", "faq@1", "chat", 1),
    ]
    assert plan.memory.fits
    assert plan.memory.total == sum(
        (
            plan.memory.weights,
            plan.memory.training_state,
            plan.memory.activations,
            plan.memory.data,
            plan.memory.process,
        )
    )
    assert plan.equal_job == ""
    job = jobs.submit(ctx, body)
    assert job.run_id == plan.run_id
    assert plan_training(ctx, body).equal_job == job.id


def test_the_plan_carries_the_file_that_is_the_same_run(ctx: Context) -> None:
    body = t.SubmitJob(kind="train.seed", inputs={"corpus": imported_dataset(ctx)}, parameters={"steps": 9}, seed=4)
    plan = plan_training(ctx, body)
    run = parse_recipe_file(plan.file.encode())
    again = t.SubmitJob(kind=run.kind, inputs=dict(run.inputs), parameters=dict(run.given), seed=run.seed)
    assert plan_training(ctx, again).run_id == plan.run_id


def test_what_does_not_fit_is_shown_with_proposals_and_refused_by_submit(ctx: Context) -> None:
    huge = {
        "hidden_size": 8192,
        "heads": 64,
        "kv_heads": 64,
        "layers": 128,
        "sequence_length": 1024,
        "batch_size": 1024,
    }
    body = t.SubmitJob(kind="train.seed", inputs={"corpus": imported_dataset(ctx)}, parameters=huge)
    assert not plan_training(ctx, body).memory.fits
    with pytest.raises(BadInput) as refused:
        jobs.submit(ctx, body)
    assert refused.value.code == "training.memory"


def test_only_training_is_planned(ctx: Context) -> None:
    with pytest.raises(BadInput) as refused:
        plan_training(ctx, t.SubmitJob(kind="evaluate", inputs={}))
    assert refused.value.code == "job.kind"


@pytest.mark.parametrize("prefix", [(), (sys.executable, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:])")])
def test_what_running_jobs_hold_counts_as_free_once(prefix: tuple[str, ...]) -> None:
    """However the job was started: what starts it in a sandbox has the same words in its own command."""
    hold = "import time; kept = bytearray(200 << 20); print(flush=True); time.sleep(60)"
    before = planning.held_by_jobs()
    argv = [*prefix, sys.executable, "-c", hold, planning._WORKER]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True) as job:
        assert job.stdout is not None
        job.stdout.readline()
        held = planning.held_by_jobs() - before
        os.killpg(job.pid, signal.SIGKILL)
    assert 200 << 20 <= held < 300 << 20
