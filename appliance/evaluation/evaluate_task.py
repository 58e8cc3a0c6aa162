"""The evaluation job: a model's answers to held-out questions or to a suite, scored.

Inputs: "model" (a Hugging Face folder) and either "suite" with its data sets (`suite_task`), or "dataset" (form chat
or classification; only heldout.jsonl is read). Parameter for a chat data set: `max_new_tokens`. Writes
`out/predictions.jsonl`, one line for each held-out row, in the data set's order, and `out/scores.json`. The same
model, data and thread count give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, TypeVar

import msgspec

from appliance.evaluation import metrics
from appliance.evaluation.heldout import Example, read_examples
from appliance.evaluation.intervals import interval
from appliance.evaluation.scores import Mean, Surprise, TaskScores, encode_scores, row_digest
from appliance.evaluation.suite_rows import heldout_rows
from appliance.evaluation.suite_task import run_classification, run_suite
from appliance.jobs.workspace import Interrupted, Workspace
from appliance.kernel.durable import write_file
from appliance.kernel.errors import BadInput
from appliance.kernel.events import Metric, Note, Progress

_Found = TypeVar("_Found")


class Parameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person may choose about an evaluation on a data set."""

    max_new_tokens: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 64


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """One line of predictions.jsonl."""

    question: str
    expected: str
    got: str
    correct: bool


def run(workspace: Workspace) -> dict[str, Any]:
    """Evaluate, and return {"metrics", "intervals", "examples", …}.

    Raises BadInput (no held-out rows, wrong form, prompts too long), IntegrityFailure (a ruined model), Interrupted.
    """
    if "suite" in workspace.spec.inputs:
        return run_suite(workspace)
    parameters = _parameters(workspace.spec.parameters)
    rows = heldout_rows(workspace.input("dataset"))
    if all(row.label is not None and row.text for row in rows):
        return run_classification(workspace, rows)
    return _run_chat(workspace, parameters)


def _run_chat(workspace: Workspace, parameters: Parameters) -> dict[str, Any]:
    examples = read_examples(workspace.input("dataset"))
    workspace.emit(Progress(phase="loading"))
    # Before torch is imported a wrong data set has already been refused.
    import torch

    from appliance.evaluation.decoding import Decoder

    torch.set_num_threads(workspace.spec.environment.threads)
    torch.manual_seed(workspace.spec.seed)
    decoder = Decoder(workspace.input("model"))
    asked = [(example, decoder.prompt_and_answer(example.messages, example.expected)) for example in examples]
    fitting = [(example, pair) for example, pair in asked if sum(map(len, pair)) <= decoder.context_length]
    if not fitting:
        raise BadInput(
            "evaluation.too_long",
            f"Every held-out row has more tokens than the model has positions ({decoder.context_length}).",
            hint="Divide the data set anew, or use a model with a longer context.",
        )
    if too_long := len(asked) - len(fitting):
        positions = decoder.context_length
        workspace.emit(Note(text=f"{too_long} rows have more tokens than the {positions} positions and are left out."))
    examples, pairs = tuple(example for example, _ in fitting), [pair for _, pair in fitting]
    answered = decoder.answers([prompt for prompt, _ in pairs], max_new_tokens=parameters.max_new_tokens)
    tokens = _collect(workspace, answered, phase="answering", count=len(examples), start=0.0, end=0.9)
    surprise = _collect(
        workspace, decoder.likelihoods(pairs), phase="perplexity", count=len(examples), start=0.9, end=1.0
    )
    predictions = [_prediction(example, decoder.text(tokens[index])) for index, example in enumerate(examples)]
    lines = b"".join(msgspec.json.encode(prediction) + b"\n" for prediction in predictions)
    write_file(workspace.output / "predictions.jsonl", lines)
    scores = TaskScores(
        task="",
        rows=tuple(row_digest([example.messages, example.expected]) for example in examples),
        metrics={
            "exact_match": Mean(values=tuple(float(p.correct) for p in predictions), yes_no=True),
            "f1": Mean(values=tuple(metrics.token_f1(p.expected, p.got) for p in predictions)),
            "perplexity": Surprise(nats=tuple(surprise.values()), units=tuple(len(answer) for _, answer in pairs)),
        },
    )
    write_file(workspace.output / "scores.json", encode_scores((scores,)))
    figures = {
        "exact_match": metrics.mean([float(p.correct) for p in predictions]),
        "f1": metrics.mean([metrics.token_f1(p.expected, p.got) for p in predictions]),
        "perplexity": metrics.perplexity(list(surprise.values()), [len(answer) for _, answer in pairs]),
    }
    for name, value in figures.items():
        workspace.emit(Metric(name=name, value=value))
    intervals = {name: interval(one) for name, one in scores.metrics.items()}
    return {"metrics": figures, "intervals": intervals, "examples": len(examples), "too_long": too_long}


def _prediction(example: Example, got: str) -> Prediction:
    return Prediction(
        question=example.question,
        expected=example.expected,
        got=got,
        correct=metrics.exact_match(example.expected, got),
    )


def _collect(
    workspace: Workspace,
    batches: Iterable[dict[int, _Found]],
    *,
    phase: str,
    count: int,
    start: float,
    end: float,
) -> dict[int, _Found]:
    """Gather the batches by index, reporting progress and stopping when asked to."""
    found: dict[int, _Found] = {}
    source: Iterator[dict[int, _Found]] = iter(batches)
    while len(found) < count:
        if workspace.stop_requested():
            raise Interrupted
        found |= next(source)
        fraction = start + (end - start) * len(found) / count
        workspace.emit(Progress(phase=phase, fraction=fraction, step=len(found), steps=count))
    return {index: found[index] for index in range(count)}


def _parameters(values: dict[str, Any]) -> Parameters:
    try:
        return msgspec.convert(values, Parameters)
    except msgspec.ValidationError as error:
        raise BadInput("evaluation.parameters", f"The evaluation's parameters are not valid: {error}.") from error
