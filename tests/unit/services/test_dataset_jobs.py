from __future__ import annotations

import pytest

from appliance.api import types as t
from appliance.kernel.errors import BadInput
from appliance.services import dataset_jobs, datasets, jobs
from appliance.services.context import Context
from tests.factories.appliance import WEIGHTS, finish_job, imported_dataset, imported_model

MODEL = {**WEIGHTS, "tokenizer.json": b"{}"}
COUNTS = {"form": "chat", "train_rows": 1, "heldout_rows": 1, "rejected_rows": 0, "duplicate_rows": 0}


def test_a_check_takes_the_data_and_the_tokenizer_alone(ctx: Context) -> None:
    data, model = imported_dataset(ctx), imported_model(ctx, "tiny", MODEL)
    job = dataset_jobs.check(ctx, data, t.CheckDataset(model=model))
    spec = jobs.show(ctx, job.id, {}).spec
    assert [entry["path"] for entry in spec["inputs"]["model"]["files"]] == ["tokenizer.json"]
    assert spec["parameters"] == {"near": 0.85, "context": 64}
    assert dataset_jobs.check(ctx, data, t.CheckDataset(model=model)).id == job.id
    assert dataset_jobs.check(ctx, data, t.CheckDataset()).id != job.id


def test_a_split_becomes_the_next_version_of_the_name(ctx: Context) -> None:
    data = imported_dataset(ctx)
    job = dataset_jobs.split(ctx, data, t.SplitDataset(by="hash", seed=3))
    finish_job(ctx, job.id, {"train.jsonl": b"other"}, COUNTS)
    assert [entry.ref for entry in datasets.list_datasets(ctx)] == ["faq@2", "faq@1"]
    named = dataset_jobs.split(ctx, data, t.SplitDataset(name="other"))
    finish_job(ctx, named.id, {"train.jsonl": b"other"}, COUNTS)
    assert datasets.show(ctx, "other@1").dataset.digest == datasets.show(ctx, "faq@2").dataset.digest


def test_generation_takes_a_model_and_one_source_of_questions(ctx: Context) -> None:
    data, model = imported_dataset(ctx), imported_model(ctx, "tiny", WEIGHTS)
    job = dataset_jobs.generate(ctx, t.GenerateDataset(name="s", model=model, data=data, count=7))
    spec = jobs.show(ctx, job.id, {}).spec
    assert set(spec["inputs"]) == {"model", "data"}
    assert spec["parameters"]["count"] == 7
    finish_job(ctx, job.id, {"train.jsonl": b"x"}, COUNTS | {"synthetic": {"model": model}})
    assert datasets.show(ctx, "s@1").dataset.synthetic


@pytest.mark.parametrize(
    "body",
    [
        t.GenerateDataset(name="s", model="m"),
        t.GenerateDataset(name="s", model="m", data="d", prompts=("p",)),
        t.GenerateDataset(name="s", model="m", prompts=("p",), count=0),
        t.GenerateDataset(name="s", model="m", prompts=("p",), temperature=0.0),
        t.GenerateDataset(name="s", model="m", prompts=("p",), top_p=1.5),
        t.GenerateDataset(name="s", model="m", prompts=("p",), heldout_percent=99),
    ],
)
def test_wishes_out_of_bounds_are_refused(ctx: Context, body: t.GenerateDataset) -> None:
    with pytest.raises(BadInput) as raised:
        dataset_jobs.generate(ctx, body)
    assert raised.value.code == "dataset.generate"


def test_other_wishes_that_cannot_be_met(ctx: Context) -> None:
    data = imported_dataset(ctx)
    for body, code in (
        (t.SplitDataset(by="chance"), "dataset.split_by"),
        (t.SplitDataset(train=90), "dataset.split_shares"),
        (t.SplitDataset(drop_near=0.1), "dataset.near"),
    ):
        with pytest.raises(BadInput) as raised:
            dataset_jobs.split(ctx, data, body)
        assert raised.value.code == code
    with pytest.raises(BadInput) as raised:
        dataset_jobs.check(ctx, data, t.CheckDataset(near=2.0))
    assert raised.value.code == "dataset.near"
    with pytest.raises(BadInput) as raised:
        dataset_jobs.check(ctx, data, t.CheckDataset(model=imported_model(ctx, "tiny", WEIGHTS)))
    assert raised.value.code == "dataset.tokenizer"
