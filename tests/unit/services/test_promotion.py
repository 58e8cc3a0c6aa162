from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import pytest

from appliance.access.approvals import create_approver_key, sign, statement
from appliance.access.roles import Role
from appliance.api import types as t
from appliance.evaluation.scores import Mean, TaskScores, encode_scores
from appliance.jobs.spec import JobKind
from appliance.kernel.errors import BadInput, Conflict, Forbidden, GateRefused, NotFound
from appliance.services import audit, models, promotion
from appliance.services.context import Appliance, Context
from tests.factories.appliance import (
    WEIGHTS,
    context,
    finished_run,
    head,
    imported_dataset,
    imported_model,
    measured_on,
    taken_in_suite,
    trail,
)

PARITY = {"parity": {"passed": True}}


@pytest.fixture
def tuned(ctx: Context) -> str:
    """`assistant@1`, made by alice: converted, equal in both engines, not yet measured."""
    data, base = imported_dataset(ctx), imported_model(ctx, "base", WEIGHTS)
    run = finished_run(
        ctx,
        JobKind.TRAIN_LORA,
        {"base": base, "dataset": data},
        {"config.json": b"{}", "model.safetensors": b"better"},
    )
    converted = finished_run(ctx, JobKind.CONVERT_GGUF, {"model": run}, {"model.gguf": b"gguf"}, PARITY)
    return models.register(ctx, t.RegisterModel(name="assistant", run=converted)).model.ref


@pytest.fixture
def approver(appliance: Appliance) -> Context:
    return context(appliance, user="bob", roles=frozenset({Role.APPROVER}))


def measure(ctx: Context, subject: str, exact_match: float, *, seed: int = 0, data: str = "faq@1") -> None:
    figures = {"metrics": {"exact_match": exact_match}, "examples": 10}
    inputs = {"model": subject, "dataset": data}
    finished_run(ctx, JobKind.EVALUATE, inputs, {}, figures, seed=seed)


def promote(ctx: Context, ref: str, stage: str) -> str:
    return promotion.promote(ctx, ref, t.Promote(stage=stage)).model.stage


def test_stages_are_reached_in_order_and_asking_again_changes_nothing(
    ctx: Context, approver: Context, tuned: str
) -> None:
    with pytest.raises(Conflict) as raised:
        promote(ctx, tuned, "test")
    assert raised.value.code == "stage.order"
    assert promote(ctx, tuned, "dev") == "dev"
    measure(ctx, "base@1", 0.1)
    measure(ctx, tuned, 0.9)
    assert promote(ctx, tuned, "test") == "test"
    promotion.approve(approver, tuned, t.Approve(stage="prod"))
    assert promote(ctx, tuned, "prod") == "prod"
    before = head(ctx)
    assert promote(ctx, tuned, "dev") == "prod"
    assert trail(ctx, since=before) == []


def test_a_refused_gate_is_recorded_with_its_figures_and_changes_nothing(ctx: Context, tuned: str) -> None:
    promote(ctx, tuned, "dev")
    measure(ctx, "base@1", 0.1)
    measure(ctx, tuned, 0.2)
    before = head(ctx)
    with pytest.raises(GateRefused) as raised:
        promote(ctx, tuned, "test")
    assert "exact_match 0.2, wanted at least 0.5" in raised.value.message
    assert trail(ctx, since=before) == [("model.promote", "refused")]
    entry = audit.page(ctx, before=0, limit=1, action="model.promote").entries[0]
    assert entry.detail["stage"] == "test"
    assert "exact_match 0.2" in entry.detail["verdict"]
    assert models.show(ctx, tuned).model.stage == "dev"


def test_the_newest_measurement_of_the_same_weights_counts(ctx: Context, tuned: str) -> None:
    promote(ctx, tuned, "dev")
    measure(ctx, "base@1", 0.0)
    measure(ctx, tuned, 0.9)
    measure(ctx, tuned, 0.3, seed=1)
    with pytest.raises(GateRefused):
        promote(ctx, tuned, "test")


def test_only_measurements_on_the_data_it_was_tuned_on_count(ctx: Context, tuned: str) -> None:
    easy = imported_dataset(ctx, "easy")
    promote(ctx, tuned, "dev")
    for subject, figure in (("base@1", 0.0), (tuned, 1.0)):
        measure(ctx, subject, figure, data=easy)
    with pytest.raises(GateRefused, match="not measured"):
        promote(ctx, tuned, "test")
    measure(ctx, tuned, 0.9)
    with pytest.raises(GateRefused, match="gain of exact_match over base not measured"):
        promote(ctx, tuned, "test")


def test_a_version_without_a_measured_base_does_not_pass(ctx: Context, tuned: str) -> None:
    promote(ctx, tuned, "dev")
    measure(ctx, tuned, 1.0)
    with pytest.raises(GateRefused, match="not measured"):
        promote(ctx, tuned, "test")


def test_gates_are_read_anew_and_a_broken_file_names_itself(ctx: Context, tuned: str) -> None:
    ctx.appliance.paths.gates.write_text("[dev]\nparity = true\n")
    with pytest.raises(BadInput, match=r"gates\.toml"):
        promote(ctx, tuned, "dev")
    ctx.appliance.paths.gates.write_text("[dev]\n[test]\n[prod]\n")
    assert promote(ctx, tuned, "dev") == "dev"


def test_nobody_approves_their_own_work(appliance: Appliance, ctx: Context, tuned: str) -> None:
    before = head(ctx)
    with pytest.raises(Forbidden) as raised:
        promotion.approve(ctx, tuned, t.Approve(stage="prod"))
    assert raised.value.code == "approval.own_work"
    assert trail(ctx, since=before) == [("model.approve", "refused")]
    assert models.show(ctx, tuned).approvals == ()


def test_who_registered_a_version_made_by_others_is_an_author_too(appliance: Appliance, ctx: Context) -> None:
    run = finished_run(ctx, JobKind.TRAIN_SEED, {"corpus": imported_dataset(ctx)}, WEIGHTS)
    bob = context(appliance, user="bob")
    ref = models.register(bob, t.RegisterModel(name="seed", run=run)).model.ref
    for person in (ctx, bob):
        with pytest.raises(Forbidden):
            promotion.approve(person, ref, t.Approve(stage="dev"))


def test_an_approval_counts_once_and_for_its_stage_only(ctx: Context, approver: Context, tuned: str) -> None:
    before = head(ctx)
    promotion.approve(approver, tuned, t.Approve(stage="prod"))
    detail = promotion.approve(approver, tuned, t.Approve(stage="prod"))
    assert [(entry.stage, entry.approver, entry.method) for entry in detail.approvals] == [("prod", "bob", "group")]
    assert trail(ctx, since=before) == [("model.approve", "done")]


@pytest.fixture
def key(ctx: Context, tmp_path: Path) -> Path:
    """The private key of the enrolled approver carol."""
    path = tmp_path / "carol.key"
    promotion.enrol(ctx, t.EnrolApprover(name="carol", public_key=create_approver_key(path)))
    return path


def signed(key: Path, digest: str, stage: str, instance: str) -> t.Approve:
    return t.Approve(stage="prod", approver="carol", signature=sign(key, statement(digest, stage, instance)))


def test_an_enrolled_key_approves_from_anywhere(appliance: Appliance, ctx: Context, tuned: str, key: Path) -> None:
    digest = models.show(ctx, tuned).model.digest
    courier = context(appliance, user="courier", roles=frozenset({Role.AUDITOR}))
    detail = promotion.approve(courier, tuned, signed(key, digest, "prod", appliance.instance))
    assert [(entry.approver, entry.method) for entry in detail.approvals] == [("carol", "key")]
    entry = audit.page(ctx, before=0, limit=1, action="model.approve").entries[0]
    assert (entry.actor, entry.detail["approver"], entry.detail["digest"]) == ("courier", "carol", digest)


@pytest.mark.parametrize("wrong", ["stage", "model", "appliance", "key"])
def test_a_signature_over_anything_else_is_refused_and_recorded(
    appliance: Appliance, ctx: Context, tuned: str, key: Path, tmp_path: Path, wrong: str
) -> None:
    digest = models.show(ctx, tuned).model.digest
    create_approver_key(tmp_path / "other.key")
    body = signed(
        tmp_path / "other.key" if wrong == "key" else key,
        "0" * 64 if wrong == "model" else digest,
        "test" if wrong == "stage" else "prod",
        "another" if wrong == "appliance" else appliance.instance,
    )
    before = head(ctx)
    with pytest.raises(Forbidden) as raised:
        promotion.approve(ctx, tuned, body)
    assert raised.value.code == "approval.signature"
    assert trail(ctx, since=before) == [("model.approve", "refused")]
    assert models.show(ctx, tuned).approvals == ()


def test_a_key_that_is_not_enrolled_is_unknown(ctx: Context, tuned: str) -> None:
    with pytest.raises(NotFound) as raised:
        promotion.approve(ctx, tuned, t.Approve(stage="prod", approver="nobody", signature="x"))
    assert raised.value.code == "approver.unknown"


def test_an_enrolled_key_is_never_replaced(ctx: Context, key: Path, tmp_path: Path) -> None:
    present = promotion.list_approvers(ctx)
    before = head(ctx)
    again = promotion.enrol(ctx, t.EnrolApprover(name="carol", public_key=present[0].public_key))
    assert (again,) == present
    other = create_approver_key(tmp_path / "other.key")
    with pytest.raises(Conflict) as raised:
        promotion.enrol(ctx, t.EnrolApprover(name="carol", public_key=other))
    assert raised.value.code == "approver.exists"
    assert trail(ctx, since=before) == []
    assert promotion.list_approvers(ctx) == present


def test_what_is_no_key_is_not_enrolled(ctx: Context) -> None:
    with pytest.raises(BadInput):
        promotion.enrol(ctx, t.EnrolApprover(name="carol", public_key="AAAA"))


def test_one_key_cannot_stand_for_two_persons(ctx: Context, key: Path) -> None:
    [carol] = promotion.list_approvers(ctx)
    before = head(ctx)
    # The last digit's two lowest bits mean nothing: these texts are the same key.
    digits = string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"
    twin = carol.public_key[:-2] + digits[digits.index(carol.public_key[-2]) + 1] + "="
    for text in (carol.public_key, twin):
        with pytest.raises(Conflict) as raised:
            promotion.enrol(ctx, t.EnrolApprover(name="dave", public_key=text))
        assert raised.value.code == "approver.key_in_use"
        assert "carol" in raised.value.message
    assert [entry.name for entry in promotion.list_approvers(ctx)] == ["carol"]
    assert trail(ctx, since=before) == []


SUITE_GATES = """
[dev]
[test]
[[test.conditions]]
suite = "helpdesk"
metric = "answers.exact_match"
min = 0.5
not_worse_than_production = true
margin = 0.05
[prod]
"""


def scores(right: int, of: int = 60) -> bytes:
    values = Mean(values=tuple(float(place < right) for place in range(of)), yes_no=True)
    rows = tuple(f"row{place}" for place in range(of))
    return encode_scores((TaskScores(task="answers", rows=rows, metrics={"exact_match": values}),))


def version(ctx: Context, weights: bytes) -> str:
    return imported_model(ctx, "assistant", {"config.json": b"{}", "model.safetensors": weights})


def test_a_gate_on_a_suite_holds_a_version_against_the_one_in_production(ctx: Context, appliance: Appliance) -> None:
    appliance.paths.gates.write_text(SUITE_GATES)
    suite = taken_in_suite(ctx, b"one")
    first = version(ctx, b"first")
    promote(ctx, first, "dev")
    with pytest.raises(GateRefused, match=r"answers\.exact_match of helpdesk not measured"):
        promote(ctx, first, "test")
    measured_on(ctx, first, suite, {"answers.exact_match": 0.8}, scores(48))
    assert promote(ctx, first, "test") == "test"
    assert promote(ctx, first, "prod") == "prod"

    worse, equal = version(ctx, b"worse"), version(ctx, b"equal")
    for ref, right in ((worse, 40), (equal, 48)):
        measured_on(ctx, ref, suite, {"answers.exact_match": right / 60}, scores(right))
        promote(ctx, ref, "dev")
    with pytest.raises(GateRefused, match="against production"):
        promote(ctx, worse, "test")
    assert promote(ctx, equal, "test") == "test"


def test_a_newer_version_of_a_suite_must_be_measured_again(ctx: Context, appliance: Appliance) -> None:
    appliance.paths.gates.write_text(SUITE_GATES)
    measured_on(ctx, ref := version(ctx, b"first"), taken_in_suite(ctx, b"one"), {"answers.exact_match": 1.0}, None)
    promote(ctx, ref, "dev")
    taken_in_suite(ctx, b"two")
    with pytest.raises(GateRefused, match="not measured"):
        promote(ctx, ref, "test")
    appliance.paths.gates.write_text(SUITE_GATES.replace('"helpdesk"', '"helpdesk@1"'))
    assert promote(ctx, ref, "test") == "test"


def test_the_whole_verdict_stands_with_the_version_refused_or_not(ctx: Context, tuned: str) -> None:
    promote(ctx, tuned, "dev")
    with pytest.raises(GateRefused):
        promote(ctx, tuned, "test")
    refused, passed = models.show(ctx, tuned).verdicts
    assert (passed.stage, passed.passed, refused.stage, refused.passed) == ("dev", True, "test", False)
    assert [(check.name, check.passed, check.measured) for check in refused.checks] == [
        ("parity", True, "equal"),
        ("exact_match", False, "not measured"),
        ("gain of exact_match over base", False, "not measured"),
    ]


def test_an_evaluation_on_a_suite_does_not_count_as_one_on_the_versions_own_data(ctx: Context) -> None:
    seed = imported_model(ctx, "seed", WEIGHTS)
    measured_on(ctx, seed, taken_in_suite(ctx, b"one"), {"exact_match": 1.0}, None)
    converted = finished_run(ctx, JobKind.CONVERT_GGUF, {"model": seed}, {"model.gguf": b"gguf"}, PARITY)
    ref = models.register(ctx, t.RegisterModel(name="copy", run=converted)).model.ref
    promote(ctx, ref, "dev")
    with pytest.raises(GateRefused, match="exact_match not measured"):
        promote(ctx, ref, "test")


def test_a_classifier_reaches_its_stages_without_gguf(ctx: Context) -> None:
    described: dict[str, Any] = {"architecture": "bert", "head": "BertForSequenceClassification", "labels": ["a", "b"]}
    described |= {"baseline": {"accuracy": 0.8, "macro_f1": 0.8}}
    data = imported_dataset(ctx)
    base = imported_model(ctx, "encoder", WEIGHTS)
    files = {"config.json": b"{}", "model.safetensors": b"head"}
    run = finished_run(ctx, JobKind.TRAIN_LORA, {"base": base, "dataset": data}, files, described)
    ref = models.register(ctx, t.RegisterModel(name="classifier", run=run)).model.ref
    figures = {"metrics": {"accuracy": 0.9, "macro_f1": 0.85}, "examples": 10}
    finished_run(ctx, JobKind.EVALUATE, {"model": ref, "dataset": data}, {}, figures)
    assert promote(ctx, ref, "dev") == "dev"
    assert promote(ctx, ref, "test") == "test"
