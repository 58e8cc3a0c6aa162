from __future__ import annotations

import pytest

from appliance.api import types as t
from appliance.jobs.spec import JobKind
from appliance.kernel.errors import BadInput, Conflict, NotFound
from appliance.services import dataset_jobs, datasets, jobs, models
from appliance.services.context import Appliance, Context
from tests.factories.appliance import (
    WEIGHTS,
    finish_job,
    finished_run,
    head,
    imported_dataset,
    queue_run,
    stored_dataset,
    trail,
)

REPORT = {"findings": [{"level": "WARN", "code": "personal", "text": "1 row has personal data: 1 email."}]}


def test_an_import_is_queued_with_what_was_wished(ctx: Context, appliance: Appliance) -> None:
    source = appliance.paths.root / "x.csv"
    source.write_text("text,intent\na,b\n")
    body = t.ImportDataset(
        source=str(source), name="faq", mapping={"label": "intent"}, labels=("b",), keep=("day",), redact=True
    )
    job = datasets.import_dataset(ctx, body)
    given = jobs.show(ctx, job.id, {}).spec["parameters"]
    assert given["labels"] == ["b"]
    assert given["keep"] == ["day"]
    assert given["redact"] is True
    assert given["mapping"] == {"label": "intent"}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (t.ImportDataset(source="/", name="x", heldout_percent=95), "dataset.heldout"),
        (t.ImportDataset(source="/", name="x", form="novel"), "dataset.form"),
        (t.ImportDataset(source="/", name="x", mapping={"answer": "a"}), "dataset.mapping"),
        (t.ImportDataset(source="/", name="x", form="chat", labels=("a",)), "dataset.labels"),
        (t.ImportDataset(source="/", name="X x"), "name.invalid"),
    ],
)
def test_wishes_that_cannot_be_met_are_refused_before_a_job_is_there(
    ctx: Context, body: t.ImportDataset, code: str
) -> None:
    with pytest.raises(BadInput) as raised:
        datasets.import_dataset(ctx, body)
    assert raised.value.code == code
    assert jobs.list_jobs(ctx, {}) == ()


def test_what_is_shown_has_labels_personal_data_origin_and_the_newest_check(ctx: Context) -> None:
    figures = {"train": {"labels": 3}, "heldout": {"labels": 2}}
    ref = stored_dataset(
        ctx, "faq", train=b"a\n", statistics=figures, labels=[{"label": "x", "train": 1, "heldout": 0}],
        personal={"email": 2}, redacted={"card": 1}, origin={"kind": "split"}, synthetic={"model": "m@1"},
    )  # fmt: skip
    detail = datasets.show(ctx, ref)
    assert (detail.dataset.labels, detail.dataset.personal, detail.dataset.synthetic) == (3, 2, True)
    assert detail.labels[0]["label"] == "x"
    assert (detail.redacted, detail.origin, detail.synthetic) == ({"card": 1}, {"kind": "split"}, {"model": "m@1"})
    assert (detail.check, detail.check_job) == ({}, "")
    job = dataset_jobs.check(ctx, ref, t.CheckDataset())
    finish_job(ctx, job.id, {"check.json": b"{}"}, REPORT)
    shown = datasets.show(ctx, ref)
    assert (shown.check, shown.check_job) == (REPORT, job.id)


def test_a_removed_version_is_gone_and_its_number_is_never_given_again(ctx: Context, appliance: Appliance) -> None:
    ref = imported_dataset(ctx, "faq")
    files = datasets.show(ctx, ref).files
    before = head(ctx)
    assert datasets.remove(ctx, "faq").ref == "faq@1"
    assert trail(ctx, since=before) == [("dataset.remove", "done")]
    assert datasets.list_datasets(ctx) == ()
    for entry in files:
        with pytest.raises(NotFound):
            appliance.blobs.path(entry.digest)
    with pytest.raises(NotFound):
        datasets.show(ctx, "faq")
    with pytest.raises(NotFound):
        datasets.remove(ctx, "faq@1")
    assert stored_dataset(ctx, "faq", train=b"other\n") == "faq@2"


def test_bytes_that_another_version_names_stay(ctx: Context, appliance: Appliance) -> None:
    first = stored_dataset(ctx, "one", train=b"same\n")
    second = stored_dataset(ctx, "two", train=b"same\n")
    datasets.remove(ctx, first)
    for entry in datasets.show(ctx, second).files:
        appliance.blobs.verify(entry.digest)


def test_what_a_model_was_trained_on_and_what_a_job_waits_for_stay(ctx: Context) -> None:
    data, other = imported_dataset(ctx, "faq"), imported_dataset(ctx, "other")
    run = finished_run(ctx, JobKind.TRAIN_SEED, {"corpus": data}, WEIGHTS)
    models.register(ctx, t.RegisterModel(name="seed", run=run))
    waiting = queue_run(ctx, JobKind.TRAIN_SEED, {"corpus": other})
    for ref, user in ((data, "model seed@1"), (other, f"job {waiting.id}")):
        assert datasets.show(ctx, ref).used_by == (user,)
        with pytest.raises(Conflict) as raised:
            datasets.remove(ctx, ref)
        assert raised.value.code == "dataset.in_use"
        assert user in raised.value.message
    models.remove(ctx, "seed@1")
    datasets.remove(ctx, data)
