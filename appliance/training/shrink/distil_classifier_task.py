"""Distils a classifier: the student's scores follow the teacher's, softened by a temperature (Hinton et al. 2015)."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from appliance.jobs.workspace import Workspace
from appliance.kernel.errors import BadInput
from appliance.kernel.events import Metric, Note, Progress
from appliance.training.encoders import folder
from appliance.training.encoders.batches import RowSampler, TextBatch, labelled_batch
from appliance.training.encoders.labelled import LabelledData, read_classification
from appliance.training.encoders.objective import Counting
from appliance.training.encoders.report import Measured, measure, write_report
from appliance.training.encoders.vectors import BATCH, scores_of
from appliance.training.encoders.verdict import Comparison, compare
from appliance.training.fit_task import shared_fingerprint, supervision_of, train_in
from appliance.training.fitting import settings_of
from appliance.training.recipes.distil import DistilRecipe
from appliance.training.runtime import derive_seed
from appliance.training.sealed_chunks import by_length, sealed_chunks
from appliance.training.shrink.quality import with_labels
from appliance.training.shrink.student_task import before_learning
from appliance.weights.encoder import LoadedEncoder, TextClassifier, encode_texts, load_classifier, load_encoder, padded
from appliance.weights.head import HeadConfig, has_head, read_config
from appliance.weights.token_ids import rows_digest

_CHUNK = 1024
_SIGNIFICANT = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class _TaughtBatch(TextBatch):
    """Texts with the teacher's scores (float16, texts x labels). A label of -1 stands for one it does not know."""

    taught: Tensor

    @property
    def targets(self) -> int:
        """Every text carries loss."""
        return len(self.labels)


def distil(workspace: Workspace, recipe: DistilRecipe) -> dict[str, Any]:
    """Teach a student and write it with its report. Raises BadInput, IntegrityFailure, StorageFailure, Interrupted."""
    workspace.emit(Progress(phase="load"))
    teacher, loaded, config = load_classifier(workspace.input("teacher"))
    data = with_labels(read_classification(workspace.input("dataset")), config)
    length = min(recipe.max_length, config.max_length)
    training = encode_texts(loaded.tokenizer, [row.text for row in data.training], max_length=length)
    heldout = encode_texts(loaded.tokenizer, [row.text for row in data.heldout], max_length=length)
    taught = _answers(workspace, teacher, training, padding=loaded.padding)
    whole = _measure(workspace, teacher, heldout, data, loaded.padding, phase="teacher")

    source = before_learning(workspace, recipe)
    student, own = _student(source, teacher, config, seed=workspace.spec.seed)
    if (source / "tokenizer.json").read_bytes() != (workspace.input("teacher") / "tokenizer.json").read_bytes():
        # The student reads the same texts in its own pieces.
        training = encode_texts(own.tokenizer, [row.text for row in data.training], max_length=length)
        heldout = encode_texts(own.tokenizer, [row.text for row in data.heldout], max_length=length)
    untaught = _measure(workspace, student, heldout, data, own.padding, phase="student")
    result = _train(workspace, recipe, student, training, data.numbers(data.training), taught, own)
    made = _measure(workspace, student, heldout, data, own.padding, phase="measure")

    wanted = np.asarray(data.numbers(data.heldout), np.int64)
    compared = compare(whole[1].right(wanted), made[1].right(wanted), significance=_SIGNIFICANT)
    workspace.emit(Progress(phase="write", fraction=0.98))
    folder.write_encoder(student.encoder, source, workspace.output)
    described = folder.write_classified(
        student.as_head(HeadConfig(labels=config.labels, max_length=length)), workspace.output
    )
    write_report(workspace.output, _report(whole[1], untaught[1], made[1], compared), data, made[0], made[1])
    figures = {"accuracy": made[1].accuracy, "macro_f1": made[1].macro_f1}
    workspace.emit(
        Note(
            text=f"Accuracy: teacher {whole[1].accuracy:.4f}, student untaught {untaught[1].accuracy:.4f}, taught "
            f"{made[1].accuracy:.4f} (McNemar p = {compared.p_value:.3g})."
        )
    )
    for name, value in figures.items():
        workspace.emit(Metric(name=name, value=value))
    workspace.emit(Progress(phase="done", fraction=1.0))
    return described | {
        "metrics": figures
        | {
            "teacher_accuracy": whole[1].accuracy,
            "teacher_macro_f1": whole[1].macro_f1,
            "untaught_accuracy": untaught[1].accuracy,
            "p_value": compared.p_value,
        },
        "baseline": {"accuracy": untaught[1].accuracy, "macro_f1": untaught[1].macro_f1},
        "verdict": compared.verdict,
        "teacher_parameters": sum(weight.numel() for weight in teacher.parameters()),
        "examples": len(data.training),
        "heldout": len(data.heldout),
        "steps": result.steps,
        "final_loss": round(result.loss, 6),
        "cpu_seconds": round(result.cpu_seconds, 3),
    }


def _answers(workspace: Workspace, teacher: TextClassifier, encoded: Sequence[array[int]], *, padding: int) -> Tensor:
    """Return the teacher's scores of the training texts, computed once and kept as float16."""
    chunks = by_length([len(row) for row in encoded], size=_CHUNK)

    def compute(number: int) -> dict[str, Tensor]:
        rows = [encoded[row] for row in chunks[number]]
        with torch.inference_mode():
            parts = [teacher(*padded(rows[at : at + BATCH], padding=padding)) for at in range(0, len(rows), BATCH)]
        return {"scores": torch.cat(parts).half()}

    found = sealed_chunks(
        workspace.shared,
        "answers",
        supervision=supervision_of(workspace),
        fingerprint=shared_fingerprint(workspace, "teacher", rows_digest(encoded)),
        count=len(chunks),
        compute=compute,
        share=(0.02, 0.2),
    )
    scores = torch.zeros((len(encoded), teacher.head.out_features), dtype=torch.float16)
    for chunk, part in zip(chunks, found, strict=True):
        scores[torch.tensor(chunk)] = part["scores"]
    return scores


def _student(
    source: Path, teacher: TextClassifier, config: HeadConfig, *, seed: int
) -> tuple[TextClassifier, LoadedEncoder]:
    """Return the student with a head: its own if it has the teacher's labels, else the teacher's if it fits."""
    if has_head(source):
        if read_config(source).labels != config.labels:
            raise BadInput(
                "training.other_labels",
                "The student's labels are not those of its teacher.",
                hint="Use a student made from this teacher, or an encoder without a head.",
            )
        student, loaded, _config = load_classifier(source)
        return student, loaded
    loaded = load_encoder(source)
    torch.manual_seed(derive_seed(seed, "head"))
    student = TextClassifier(loaded.model, hidden=loaded.hidden, labels=len(config.labels))
    if loaded.hidden == teacher.head.in_features:
        student.set_head(teacher.as_head(config))
    return student, loaded


def _train(
    workspace: Workspace,
    recipe: DistilRecipe,
    student: TextClassifier,
    encoded: Sequence[Sequence[int]],
    numbers: Sequence[int],
    taught: Tensor,
    loaded: LoadedEncoder,
) -> Any:
    folder.freeze_unused(loaded.model)

    def build(rows: Sequence[int]) -> _TaughtBatch:
        plain = labelled_batch(rows, encoded, numbers, padding=loaded.padding)
        return _TaughtBatch(
            tokens=plain.tokens, mask=plain.mask, labels=plain.labels, taught=taught[torch.tensor(list(rows))]
        )

    seed = workspace.spec.seed
    sampler = RowSampler(
        [len(row) for row in encoded], build, seed=seed, batch_size=recipe.batch_size, accumulation=recipe.accumulation
    )
    settings = settings_of(recipe, steps=recipe.epochs * sampler.steps_per_epoch, seed=seed)
    return train_in(workspace, student, sampler, settings, objective=_Taught(recipe))


class _Taught(Counting):
    """How far the student's softened scores are from the teacher's (KL), and, if asked for, from the labels."""

    def __init__(self, recipe: DistilRecipe) -> None:
        self._heat = recipe.temperature
        self._hard = recipe.hard_fraction

    def summed(self, model: nn.Module, batch: _TaughtBatch) -> Tensor:
        """Return the sum over the texts."""
        scores = model(batch.tokens, batch.mask)
        wanted = nn.functional.log_softmax(batch.taught.float() / self._heat, dim=-1)
        given = nn.functional.log_softmax(scores / self._heat, dim=-1)
        # The square keeps the size of the gradient whatever the temperature.
        soft = self._heat**2 * nn.functional.kl_div(given, wanted, reduction="sum", log_target=True)
        if not self._hard:
            return soft
        hard = nn.functional.cross_entropy(scores, batch.labels, ignore_index=-1, reduction="sum")
        return (1 - self._hard) * soft + self._hard * hard


def _measure(
    workspace: Workspace,
    classifier: TextClassifier,
    encoded: Sequence[Sequence[int]],
    data: LabelledData,
    padding: int,
    *,
    phase: str,
) -> tuple[Any, Measured]:
    scores = scores_of(
        classifier,
        encoded,
        padding=padding,
        supervision=supervision_of(workspace),
        phase=phase,
        share=(0.2, 0.2),
    )
    return scores, measure(scores, data, seed=derive_seed(workspace.spec.seed, "interval"))


def _report(teacher: Measured, untaught: Measured, student: Measured, compared: Comparison) -> dict[str, Any]:
    return {
        "methods": {
            "teacher": teacher.document,
            "student_untaught": untaught.document,
            "student": student.document,
        },
        "comparison": {
            "test": "McNemar, exact",
            "verdict": compared.verdict,
            "p_value": compared.p_value,
            "only_student_right": compared.only_candidate,
            "only_teacher_right": compared.only_baseline,
        },
    }
