"""Asks one model the rows of one task after another. It knows which model can answer which type of task.

Generated answers are kept for the whole run: exact match, F1 and ROUGE-L over the same questions cost one generation.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from appliance.evaluation.classifier import Classifier
from appliance.evaluation.confined import Confined
from appliance.evaluation.decoding import Context, Decoder
from appliance.evaluation.outcome import (
    TaskOutcome,
    chosen,
    classified,
    generated,
    least_per_byte,
    surprised,
)
from appliance.evaluation.suite import (
    Classification,
    Generation,
    Latency,
    MultipleChoice,
    Perplexity,
    Row,
    Task,
)
from appliance.kernel.errors import BadInput, IntegrityFailure

_Found = TypeVar("_Found")
OnRows = Callable[[int, int], None]
"""Called with (done, of); may raise to stop."""


class Runner:
    """One model in memory: one that generates, or a classifier. A context manager."""

    def __init__(self, folder: Path) -> None:
        """Load the model. Raises IntegrityFailure ("model.unreadable")."""
        self._decoder: Decoder | None = None
        self._classifier: Classifier | None = None
        if is_classifier(folder):
            self._classifier = Classifier(folder)
        else:
            self._decoder = Decoder(folder)
        self._confined = Confined()
        self._answered: dict[tuple[int, tuple[int, ...]], str] = {}

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *_: object) -> None:
        self._confined.__exit__(None, None, None)

    def run(self, task: Task, rows: Sequence[Row], on_rows: OnRows) -> TaskOutcome:
        """Answer and score one task. Raises BadInput, IntegrityFailure, or what `on_rows` raises."""
        if not rows:
            raise BadInput("evaluation.no_rows", f"The task {task.name} has no rows.")
        if isinstance(task, Classification):
            return self._classify(task, rows, on_rows)
        decoder = self._generating(task)
        match task:
            case MultipleChoice():
                return self._choose(decoder, task, rows, on_rows)
            case Perplexity():
                return _surprise(decoder, task, rows, on_rows)
            case Latency():
                return _latency(decoder, task, rows, on_rows)
        answers = self._generate(decoder, task, rows, on_rows)
        return generated(task, rows, answers, search=self._confined.search)

    def _generating(self, task: Task) -> Decoder:
        if self._decoder is None:
            raise BadInput(
                "evaluation.task_kind",
                f"The task {task.name} needs a model that generates; this one only classifies.",
                hint="A suite for classifiers has tasks of the type classification.",
            )
        return self._decoder

    def _generate(self, decoder: Decoder, task: Generation, rows: Sequence[Row], on_rows: OnRows) -> list[str]:
        plain, limit = task.style == "plain", task.max_new_tokens
        prompts = [decoder.prompt(context_of(row), plain=plain) for row in rows]
        _require_room(task, [len(prompt) + 1 for prompt in prompts], decoder.context_length)
        keys = [(limit, tuple(prompt)) for prompt in prompts]
        open_keys = list(dict.fromkeys(key for key in keys if key not in self._answered))
        done = len(rows) - len(open_keys)
        for batch in decoder.answers([prompt for _, prompt in open_keys], max_new_tokens=limit):
            self._answered |= {open_keys[place]: decoder.text(tokens) for place, tokens in batch.items()}
            done += len(batch)
            on_rows(done, len(rows))
        return [self._answered[key] for key in keys]

    def _choose(self, decoder: Decoder, task: MultipleChoice, rows: Sequence[Row], on_rows: OnRows) -> TaskOutcome:
        plain = task.style == "plain"
        pairs = [
            decoder.prompt_and_answer(context_of(row), choice, plain=plain) for row in rows for choice in row.choices
        ]
        _require_room(task, [len(asked) + len(answer) for asked, answer in pairs], decoder.context_length)
        nats = iter(_gather(decoder.likelihoods(pairs), len(pairs), on_rows))
        return chosen(rows, [[next(nats) for _ in row.choices] for row in rows])

    def _classify(self, task: Classification, rows: Sequence[Row], on_rows: OnRows) -> TaskOutcome:
        labels = list(task.labels) or sorted({row.label or "" for row in rows})
        if self._classifier is not None:
            known = set(self._classifier.labels)
            foreign = sorted(set(labels) - known)
            if foreign:
                raise BadInput(
                    "evaluation.labels",
                    f"The task {task.name or 'classification'} has the label {foreign[0][:60]!r}, which the model "
                    f"cannot give; it knows {len(known)} labels.",
                    hint="Evaluate a classifier on data with its own labels.",
                )
            texts = [row.text or "" for row in rows]
            found = _gather(self._classifier.classify(texts), len(texts), on_rows)
            return classified(rows, found, labels)
        decoder = self._generating(task)
        pairs = [
            decoder.prompt_and_answer(
                [{"role": "user", "content": task.question.replace("{text}", row.text or "")}], label
            )
            for row in rows
            for label in labels
        ]
        _require_room(task, [len(asked) + len(answer) for asked, answer in pairs], decoder.context_length)
        nats = iter(_gather(decoder.likelihoods(pairs), len(pairs), on_rows))
        picked = [least_per_byte([next(nats) for _ in labels], labels) for _ in rows]
        return classified(rows, [labels[place] for place in picked], labels)


def is_classifier(folder: Path) -> bool:
    """Tell whether a model folder holds a sequence classifier. Raises IntegrityFailure for one that says nothing."""
    try:
        named = json.loads((folder / "config.json").read_bytes()).get("architectures")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise IntegrityFailure("model.unreadable", f"The model's config.json cannot be read: {error}.") from error
    return any(str(name).endswith("ForSequenceClassification") for name in named or ())


def context_of(row: Row) -> Context:
    """Return a row's question as messages."""
    if row.messages:
        return [{"role": message.role, "content": message.content} for message in row.messages]
    return [{"role": "user", "content": row.prompt or ""}]


def _surprise(decoder: Decoder, task: Perplexity, rows: Sequence[Row], on_rows: OnRows) -> TaskOutcome:
    pieces: list[tuple[list[int], list[int]]] = []
    owners: list[int] = []
    sizes = []
    for place, row in enumerate(rows):
        if row.text:
            found = decoder.windows(row.text)
            sizes.append(len(row.text.encode()))
        else:
            plain = task.style == "plain"
            found = [decoder.prompt_and_answer(context_of(row), row.answers[0], plain=plain)]
            _require_room(task, [len(asked) + len(answer) for asked, answer in found], decoder.context_length)
            sizes.append(len(row.answers[0].encode()))
        pieces += found
        owners += [place] * len(found)
    if not pieces:
        raise BadInput("evaluation.no_rows", f"The task {task.name} has no text of more than one token.")
    nats, tokens = [0.0] * len(rows), [0] * len(rows)
    scored = _gather(decoder.likelihoods(pieces), len(pieces), on_rows)
    for owner, nat, (_, answer) in zip(owners, scored, pieces, strict=True):
        nats[owner] += nat
        tokens[owner] += len(answer)
    return surprised(rows, nats, tokens, sizes)


def _latency(decoder: Decoder, task: Latency, rows: Sequence[Row], on_rows: OnRows) -> TaskOutcome:
    firsts, speeds = [], []
    for done, row in enumerate(rows, start=1):
        prompt = decoder.prompt(context_of(row), plain=task.style == "plain")
        _require_room(task, [len(prompt) + task.new_tokens], decoder.context_length)
        first, speed = decoder.timed(prompt, new_tokens=task.new_tokens)
        firsts.append(first)
        speeds.append(speed)
        on_rows(done, len(rows))
    return TaskOutcome(
        rows=(),
        scores={},
        informative={"time_to_first_token": _median(firsts), "tokens_per_second": _median(speeds)},
    )


def _gather(batches: Iterable[dict[int, _Found]], count: int, on_rows: OnRows) -> list[_Found]:
    found: dict[int, _Found] = {}
    for batch in batches:
        found |= batch
        on_rows(len(found), count)
    return [found[place] for place in range(count)]


def _require_room(task: Task, lengths: Sequence[int], context: int) -> None:
    longest = max(lengths, default=0)
    if longest > context:
        raise BadInput(
            "evaluation.too_long",
            f"A row of the task {task.name} has {longest} tokens, but the model has {context} positions.",
            hint="Shorten the row or leave it out.",
        )


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
