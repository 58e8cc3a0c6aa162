"""The job `train.classify`: a classifier of texts, the cheap way first.

in/base/ (Hugging Face folder of an encoder), in/dataset/{train,heldout}.jsonl
    ->  out/ (the encoder, as it was or tuned, and its head) and out/report/
"""

from __future__ import annotations

import time
from array import array
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from appliance.jobs.workspace import Interrupted, Workspace
from appliance.kernel.events import Metric, Note, Progress
from appliance.training.encoders import folder
from appliance.training.encoders.baseline import Baseline, fit_baseline
from appliance.training.encoders.batches import labelled_batch
from appliance.training.encoders.labelled import LabelledData, read_classification, require_learnable
from appliance.training.encoders.objective import LabelOfText
from appliance.training.encoders.report import Measured, guessing, measure, write_report
from appliance.training.encoders.validation import rows_to_learn
from appliance.training.encoders.vectors import Numbers, frozen_vectors, scores_of
from appliance.training.encoders.verdict import Comparison, compare
from appliance.training.fit_task import shared_fingerprint, supervision_of, train_in
from appliance.training.fitting import settings_of
from appliance.training.loop import LoopResult
from appliance.training.recipes.classify import ClassifyRecipe
from appliance.training.recipes.registry import recipe_of
from appliance.training.runtime import derive_seed, prepare
from appliance.training.sealed_chunks import Stopped
from appliance.training.summary import best_figures
from appliance.weights.encoder import LoadedEncoder, TextClassifier, encode_texts, load_encoder
from appliance.weights.head import Head, HeadConfig

_BASELINE_SHARE: Final = 0.25
"""Part of the job's progress after which the whole encoder is trained."""
_SHOWN: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class _Texts:
    """Both parts of the data set in tokens."""

    training: list[array[int]]
    heldout: list[array[int]]
    numbers: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Method:
    """What one method brought: its head, its scores on the held-out rows, its figures, its cost."""

    head: Head
    scores: Numbers
    measured: Measured
    cpu_seconds: float


def run(workspace: Workspace) -> dict[str, Any]:
    """Train a classifier. Raises BadInput, IntegrityFailure, StorageFailure or Interrupted."""
    try:
        return _classify(workspace)
    except Stopped as stopped:
        raise Interrupted from stopped


def _classify(workspace: Workspace) -> dict[str, Any]:
    started = time.monotonic()
    spec = workspace.spec
    recipe = recipe_of(ClassifyRecipe, spec.parameters)
    data = read_classification(workspace.input("dataset"))
    require_learnable(rows=len(data.training), labels=len(data.labels), single=len(data.single))
    _warn_of_unknown(workspace, data)
    _warn_of_single(workspace, data)
    prepare(threads=spec.environment.threads, device=spec.environment.device)

    workspace.emit(Progress(phase="load"))
    loaded = load_encoder(workspace.input("base"))
    length = min(recipe.max_length, loaded.longest)
    texts = _encode(workspace, loaded, data, length=length)
    head = HeadConfig(labels=data.labels, max_length=length)

    baseline, fitted = _baseline(workspace, recipe, loaded, data, texts, head)
    methods = {"baseline": baseline}
    comparison, result = None, None
    if recipe.method != "baseline":
        tuned, result = _finetune(workspace, recipe, baseline.head, loaded, data, texts)
        methods["finetune"] = tuned
        wanted = np.asarray(data.numbers(data.heldout), np.int64)
        comparison = compare(
            baseline.measured.right(wanted), tuned.measured.right(wanted), significance=recipe.significance
        )
    chosen = _choose(recipe, comparison)
    workspace.emit(Note(text=_verdict_text(methods, comparison, chosen, asked=recipe.method == chosen)))

    workspace.emit(Progress(phase="write", fraction=0.98))
    best = methods[chosen]
    if chosen == "baseline":
        folder.copy_encoder(workspace.input("base"), workspace.output)
    else:
        folder.write_encoder(loaded.model, workspace.input("base"), workspace.output)
    described = folder.write_classified(best.head, workspace.output)
    report = _report(methods, comparison, chosen, fitted, data)
    write_report(workspace.output, report, data, best.scores, best.measured)
    figures = {"accuracy": best.measured.accuracy, "macro_f1": best.measured.macro_f1}
    for name, value in figures.items():
        workspace.emit(Metric(name=name, value=value))
    workspace.emit(Progress(phase="done", fraction=1.0))
    return described | _summary(methods, comparison, chosen, figures, data, result, seconds=time.monotonic() - started)


def _encode(workspace: Workspace, loaded: LoadedEncoder, data: LabelledData, *, length: int) -> _Texts:
    training = encode_texts(loaded.tokenizer, [row.text for row in data.training], max_length=length)
    heldout = encode_texts(loaded.tokenizer, [row.text for row in data.heldout], max_length=length)
    full = sum(len(row) == length for row in (*training, *heldout))
    if full:
        workspace.emit(Note(text=f"{full} texts fill all {length} tokens; what is longer is cut."))
    return _Texts(training=training, heldout=heldout, numbers=data.numbers(data.training))


def _baseline(
    workspace: Workspace,
    recipe: ClassifyRecipe,
    loaded: LoadedEncoder,
    data: LabelledData,
    texts: _Texts,
    config: HeadConfig,
) -> tuple[_Method, Baseline]:
    spent = time.process_time()
    end = 0.9 if recipe.method == "baseline" else _BASELINE_SHARE
    vectors = frozen_vectors(
        loaded,
        [*texts.training, *texts.heldout],
        directory=workspace.shared,
        supervision=supervision_of(workspace),
        fingerprint=shared_fingerprint(workspace, "base"),
        share=(0.02, end * 0.7),
    )
    count = len(texts.training)

    def between(done: int, of: int) -> None:
        if workspace.stop_requested():
            raise Interrupted
        fraction = end * (0.7 + 0.3 * done / of)
        workspace.emit(Progress(phase="regression", fraction=fraction, step=done, steps=of))

    fitted = fit_baseline(
        vectors[:count],
        texts.numbers,
        seed=workspace.spec.seed,
        folds=recipe.folds,
        class_weights=recipe.class_weights,
        between=between,
    )
    scores = vectors[count:] @ fitted.weight.T + fitted.bias
    measured = measure(scores, data, seed=derive_seed(workspace.spec.seed, "interval"))
    workspace.emit(Note(text=f"Regression on the frozen encoder: accuracy {measured.accuracy:.4f} on held-out rows."))
    head = Head(config=config, weight=fitted.weight, bias=fitted.bias)
    return _Method(head=head, scores=scores, measured=measured, cpu_seconds=time.process_time() - spent), fitted


def _finetune(
    workspace: Workspace,
    recipe: ClassifyRecipe,
    start: Head,
    loaded: LoadedEncoder,
    data: LabelledData,
    texts: _Texts,
) -> tuple[_Method, LoopResult]:
    """Train encoder and head together, from the regression's matrix on."""
    folder.freeze_unused(loaded.model)
    classifier = TextClassifier(loaded.model, hidden=loaded.hidden, labels=len(data.labels), dropout=recipe.dropout)
    classifier.set_head(start)
    seed = workspace.spec.seed
    rows = rows_to_learn(
        recipe,
        [len(row) for row in texts.training],
        lambda rows: labelled_batch(rows, texts.training, texts.numbers, padding=loaded.padding),
        seed=seed,
    )
    objective = LabelOfText(_weights(recipe, texts.numbers, labels=len(data.labels)))
    result = train_in(
        workspace,
        classifier,
        rows.sampler,
        settings_of(recipe, steps=recipe.epochs * rows.sampler.steps_per_epoch, seed=seed),
        objective=objective,
        measuring=rows.measuring(recipe, classifier, objective),
    )
    scores = scores_of(
        classifier,
        texts.heldout,
        padding=loaded.padding,
        supervision=supervision_of(workspace),
        phase="measure",
        share=(0.98, 0.98),
    )
    measured = measure(scores, data, seed=derive_seed(seed, "interval"))
    head = classifier.as_head(start.config)
    return _Method(head=head, scores=scores, measured=measured, cpu_seconds=result.cpu_seconds), result


def _weights(recipe: ClassifyRecipe, numbers: list[int], *, labels: int) -> Tensor | None:
    """Return what a row of each label counts, 1 on average over the training rows."""
    if not recipe.class_weights:
        return None
    counts = np.bincount(numbers, minlength=labels)
    return torch.from_numpy((len(numbers) / (labels * counts)).astype(np.float32))


def _choose(recipe: ClassifyRecipe, comparison: Comparison | None) -> str:
    if recipe.method != "auto" or comparison is None:
        return recipe.method if recipe.method != "auto" else "baseline"
    return "finetune" if comparison.verdict == "gain" else "baseline"


def _report(
    methods: dict[str, _Method],
    comparison: Comparison | None,
    chosen: str,
    fitted: Baseline,
    data: LabelledData,
) -> dict[str, Any]:
    return {
        "chosen": chosen,
        "training_rows": len(data.training),
        "heldout_rows": len(data.heldout),
        "labels": len(data.labels),
        "labels_training_never_saw": list(data.unknown),
        "accuracy_of_guessing": round(guessing(data)["accuracy"], 6),
        "strength": fitted.strength,
        "cross_validated_accuracy_by_strength": fitted.tried,
        "methods": {name: method.measured.document for name, method in methods.items()},
        "comparison": None
        if comparison is None
        else {
            "test": "McNemar, exact",
            "verdict": comparison.verdict,
            "p_value": comparison.p_value,
            "only_finetune_right": comparison.only_candidate,
            "only_baseline_right": comparison.only_baseline,
        },
    }


def _summary(
    methods: dict[str, _Method],
    comparison: Comparison | None,
    chosen: str,
    figures: dict[str, float],
    data: LabelledData,
    result: LoopResult | None,
    *,
    seconds: float,
) -> dict[str, Any]:
    first = methods["baseline"].measured
    # What a gate compares with: a tuned encoder with the regression, a regression with guessing.
    beaten = {"accuracy": first.accuracy, "macro_f1": first.macro_f1} if chosen == "finetune" else guessing(data)
    summary: dict[str, Any] = {
        "method": chosen,
        "verdict": "not compared" if comparison is None else comparison.verdict,
        "metrics": dict(figures),
        "baseline": beaten,
        "examples": len(data.training),
        "heldout": len(data.heldout),
        "steps": 0 if result is None else result.steps,
        "cpu_seconds": {name: round(method.cpu_seconds, 3) for name, method in methods.items()},
    }
    for name, method in methods.items():
        summary["metrics"][f"{name}_accuracy"] = method.measured.accuracy
        summary["metrics"][f"{name}_macro_f1"] = method.measured.macro_f1
    if comparison is not None:
        summary["metrics"]["p_value"] = comparison.p_value
    if result is not None:
        summary |= best_figures(result)
    return summary | {"job_seconds": round(seconds, 3)}


_RESULTS: Final = {
    "baseline": "The result is the baseline",
    "finetune": "The result is the fine-tuned encoder",
}


def _verdict_text(methods: dict[str, _Method], comparison: Comparison | None, chosen: str, *, asked: bool) -> str:
    if comparison is None:
        return "The regression on the frozen encoder is the result; fine-tuning was not asked for."
    before, after = methods["baseline"].measured.accuracy, methods["finetune"].measured.accuracy
    return (
        f"Fine-tuning: {comparison.verdict} (accuracy {before:.4f} -> {after:.4f}, McNemar p = "
        f"{comparison.p_value:.3g}, {comparison.only_candidate} rows won, {comparison.only_baseline} lost). "
        f"{_RESULTS[chosen]}{', as the recipe says' if asked else ''}."
    )


def _warn_of_unknown(workspace: Workspace, data: LabelledData) -> None:
    if data.unknown:
        rows = sum(row.label in set(data.unknown) for row in data.heldout)
        shown = ", ".join(label[:60] for label in data.unknown[:_SHOWN])
        workspace.emit(
            Note(
                text=f"{len(data.unknown)} labels of held-out rows never occur in training ({shown}); "
                f"these {rows} rows count as wrong."
            )
        )


def _warn_of_single(workspace: Workspace, data: LabelledData) -> None:
    if data.single:
        shown = ", ".join(label[:60] for label in data.single[:_SHOWN])
        more = f" and {len(data.single) - _SHOWN} more" if len(data.single) > _SHOWN else ""
        what = "1 label has" if len(data.single) == 1 else f"{len(data.single)} labels have"
        workspace.emit(
            Note(text=f"{what} a single training row ({shown}{more}); hardly anything is learnt of such a label.")
        )
