"""Distils a model that writes: at each place that carries loss, the student's next token follows the teacher's.

Of the teacher's answer its likeliest tokens are kept (float16 scores, int32 numbers), computed once and sealed; both
models must cut text into the same tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from appliance.jobs.workspace import Workspace
from appliance.kernel.errors import BadInput
from appliance.kernel.events import Metric, Note, Progress
from appliance.training import export
from appliance.training.base_model import Base, load_base
from appliance.training.encoders.batches import RowSampler
from appliance.training.encoders.folder import describe_folder
from appliance.training.encoders.objective import Counting
from appliance.training.fit_task import shared_fingerprint, supervision_of, train_in
from appliance.training.fitting import settings_of
from appliance.training.loop import LoopResult
from appliance.training.recipes.distil import DistilRecipe
from appliance.training.sampler import IGNORED, Example, pad
from appliance.training.sealed_chunks import by_length, sealed_chunks
from appliance.training.shrink.quality import perplexity, writing_examples
from appliance.training.shrink.student_task import before_learning
from appliance.weights.token_ids import rows_digest

_CHUNK = 64
_BATCH = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answers:
    """The teacher's likeliest tokens at each place of one example that carries loss (places x kept)."""

    scores: Tensor
    numbers: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class _TaughtBatch:
    """Examples, and the teacher's answers of all their places one after another."""

    tokens: Tensor
    labels: Tensor
    scores: Tensor
    numbers: Tensor

    @property
    def targets(self) -> int:
        """Places that carry loss."""
        return len(self.scores)


def distil(workspace: Workspace, recipe: DistilRecipe) -> dict[str, Any]:
    """Teach a student and write it. Raises BadInput, IntegrityFailure, StorageFailure or Interrupted."""
    workspace.emit(Progress(phase="load"))
    source = before_learning(workspace, recipe)
    teacher, student = load_base(workspace.input("teacher")), load_base(source)
    _require_same_tokens(teacher, student)
    data = workspace.input("dataset")
    training = writing_examples(teacher.tokenizer, data / "train.jsonl", max_length=recipe.max_length)
    heldout = writing_examples(teacher.tokenizer, data / "heldout.jsonl", max_length=recipe.max_length)
    if not training or not heldout:
        raise BadInput(
            "training.dataset_empty",
            f"The data set has no training or no held-out rows of at most {recipe.max_length} tokens.",
            hint="Use a data set with both parts, or a larger max_length.",
        )
    padding = teacher.padding

    def measured(model: Any) -> float:
        return perplexity(model, heldout, batch_size=_BATCH, padding=padding)

    answers = _answers(workspace, recipe, teacher.model, training, padding=padding)
    best = _likeliest(teacher.model, heldout, padding=padding)
    figures = {
        "teacher_perplexity": measured(teacher.model),
        "untaught_perplexity": measured(student.model),
        "untaught_agreement": _agreement(best, _likeliest(student.model, heldout, padding=padding)),
    }
    result = _train(workspace, recipe, student.model, training, answers, padding=padding)
    figures["perplexity"] = measured(student.model)
    figures["agreement"] = _agreement(best, _likeliest(student.model, heldout, padding=padding))
    workspace.emit(Progress(phase="write", fraction=0.98))
    export.write_model(student.model, workspace.output)
    export.copy_tokenizer(source, workspace.output)
    workspace.emit(
        Note(
            text=f"Perplexity: teacher {figures['teacher_perplexity']:.3f}, student untaught "
            f"{figures['untaught_perplexity']:.3f}, taught {figures['perplexity']:.3f}. The taught student's "
            f"likeliest token is the teacher's at {figures['agreement']:.1%} of the places."
        )
    )
    for name, value in figures.items():
        workspace.emit(Metric(name=name, value=value))
    workspace.emit(Progress(phase="done", fraction=1.0))
    return describe_folder(workspace.output) | {
        "metrics": figures,
        "teacher_parameters": int(teacher.model.num_parameters()),
        "examples": len(training),
        "heldout": len(heldout),
        "steps": result.steps,
        "tokens": result.tokens,
        "final_loss": round(result.loss, 6),
        "cpu_seconds": round(result.cpu_seconds, 3),
    }


def _likeliest(model: Any, examples: Sequence[Example], *, padding: int) -> Tensor:
    """Return the likeliest next token at every place that carries loss."""
    model.eval()
    found = []
    for at in range(0, len(examples), _BATCH):
        batch = pad(examples[at : at + _BATCH], padding=padding)
        with torch.inference_mode():
            found.append(_places(model(input_ids=batch.tokens, use_cache=False).logits, batch.labels).argmax(-1))
    return torch.cat(found)


def _agreement(one: Tensor, other: Tensor) -> float:
    return float((one == other).float().mean())


def _require_same_tokens(teacher: Base, student: Base) -> None:
    if teacher.tokenizer.get_vocab() != student.tokenizer.get_vocab():
        raise BadInput(
            "training.other_tokenizer",
            "The student cuts text into other tokens than its teacher, so their answers cannot be compared.",
            hint="Use a student with the teacher's tokenizer, or leave out the base: the student is made from the "
            "teacher's layers.",
        )


def _answers(
    workspace: Workspace, recipe: DistilRecipe, teacher: Any, examples: Sequence[Example], *, padding: int
) -> list[_Answers]:
    chunks = by_length([len(example.tokens) for example in examples], size=_CHUNK)
    kept = min(recipe.top, int(teacher.config.vocab_size))
    ids = [ids for example in examples for ids in (example.tokens, example.labels)]

    def compute(number: int) -> dict[str, Tensor]:
        scores: list[Tensor] = []
        numbers: list[Tensor] = []
        for at in range(0, len(chunks[number]), _BATCH):
            batch = pad([examples[row] for row in chunks[number][at : at + _BATCH]], padding=padding)
            with torch.inference_mode():
                best = _places(teacher(input_ids=batch.tokens, use_cache=False).logits, batch.labels).topk(kept)
            scores.append(best.values.half())
            numbers.append(best.indices.int())
        return {"scores": torch.cat(scores), "numbers": torch.cat(numbers)}

    found = sealed_chunks(
        workspace.shared,
        "answers",
        supervision=supervision_of(workspace),
        fingerprint=shared_fingerprint(workspace, "teacher", kept, rows_digest(ids)),
        count=len(chunks),
        compute=compute,
        share=(0.02, 0.3),
    )
    answers: dict[int, _Answers] = {}
    for chunk, part in zip(chunks, found, strict=True):
        at = 0
        for row in chunk:
            count = sum(label != IGNORED for label in examples[row].labels[1:])
            answers[row] = _Answers(scores=part["scores"][at : at + count], numbers=part["numbers"][at : at + count])
            at += count
    return [answers[row] for row in range(len(examples))]


def _train(
    workspace: Workspace,
    recipe: DistilRecipe,
    student: nn.Module,
    examples: Sequence[Example],
    answers: Sequence[_Answers],
    *,
    padding: int,
) -> LoopResult:
    def build(rows: Sequence[int]) -> _TaughtBatch:
        plain = pad([examples[row] for row in rows], padding=padding)
        return _TaughtBatch(
            tokens=plain.tokens,
            labels=plain.labels,
            scores=torch.cat([answers[row].scores for row in rows]),
            numbers=torch.cat([answers[row].numbers for row in rows]),
        )

    seed = workspace.spec.seed
    sampler = RowSampler(
        [len(example.tokens) for example in examples],
        build,
        seed=seed,
        batch_size=recipe.batch_size,
        accumulation=recipe.accumulation,
    )
    settings = settings_of(recipe, steps=recipe.epochs * sampler.steps_per_epoch, seed=seed)
    return train_in(workspace, student, sampler, settings, objective=_Taught(recipe))


class _Taught(Counting):
    """How far the student's softened next tokens are from the teacher's (KL), and, if asked for, from the text's."""

    def __init__(self, recipe: DistilRecipe) -> None:
        self._heat = recipe.temperature
        self._hard = recipe.hard_fraction

    def summed(self, model: nn.Module, batch: _TaughtBatch) -> Tensor:
        """Return the sum over the places that carry loss."""
        scores = _places(model(input_ids=batch.tokens, use_cache=False).logits, batch.labels)
        wanted = nn.functional.log_softmax(batch.scores.float() / self._heat, dim=-1)
        given = nn.functional.log_softmax(scores / self._heat, dim=-1).gather(-1, batch.numbers.long())
        soft = self._heat**2 * (wanted.exp() * (wanted - given)).sum()
        if not self._hard:
            return soft
        said = batch.labels[:, 1:][batch.labels[:, 1:] != IGNORED]
        hard = nn.functional.cross_entropy(scores, said, reduction="sum")
        return (1 - self._hard) * soft + self._hard * hard


def _places(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the float32 logits of the places whose next token carries loss, row after row."""
    return logits[:, :-1][labels[:, 1:] != IGNORED].float()
