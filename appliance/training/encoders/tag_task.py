"""The job `train.tag`: an encoder that marks spans of a text, such as names.

in/base/ (Hugging Face folder of an encoder), in/dataset/{train,heldout}.jsonl with spans
    ->  out/ (a token classifier that stock transformers loads) and out/report/
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import torch
from tokenizers import Tokenizer

from appliance.jobs.workspace import Interrupted, Workspace
from appliance.kernel.canonical import canonical_json
from appliance.kernel.durable import write_file
from appliance.kernel.errors import BadInput
from appliance.kernel.events import Metric, Note, Progress
from appliance.training import export
from appliance.training.encoders import folder
from appliance.training.encoders.batches import TextBatch
from appliance.training.encoders.labelled import Span, TaggedText, read_tagged
from appliance.training.encoders.objective import LabelOfToken
from appliance.training.encoders.report import FOLDER
from appliance.training.encoders.spans import labels_of, score, spans_of, tag_names, token_tags
from appliance.training.encoders.validation import rows_to_learn
from appliance.training.fit_task import train_in
from appliance.training.fitting import settings_of
from appliance.training.recipes.registry import recipe_of
from appliance.training.recipes.tag import TagRecipe
from appliance.training.runtime import derive_seed, prepare
from appliance.training.sampler import IGNORED
from appliance.training.sealed_chunks import by_length
from appliance.training.summary import best_figures
from appliance.weights.encoder import CHARACTERS_PER_TOKEN, load_encoder, load_token_classifier, padded
from appliance.weights.head import MOST_LABELS

_BATCH: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class _Encoded:
    """A text in tokens, and its words: the place of each one's first token, and its characters.

    A word is tagged as a whole, by its first token: pieces of one name are not torn apart.
    """

    tokens: tuple[int, ...]
    places: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]


class _Prediction(msgspec.Struct, frozen=True, kw_only=True):
    text: str
    spans: tuple[Span, ...]
    got: tuple[Span, ...]
    correct: bool


def run(workspace: Workspace) -> dict[str, Any]:
    """Train a tagger. Raises BadInput, IntegrityFailure, StorageFailure or Interrupted."""
    started = time.monotonic()
    spec = workspace.spec
    recipe = recipe_of(TagRecipe, spec.parameters)
    training, heldout, labels = _read(workspace.input("dataset"), recipe)
    prepare(threads=spec.environment.threads, device=spec.environment.device)

    workspace.emit(Progress(phase="load"))
    names = tag_names(labels)
    loaded = load_encoder(workspace.input("base"))
    length = min(recipe.max_length, loaded.longest)
    encoded = [_encode(loaded.tokenizer, row.text, length) for row in (*training, *heldout)]
    full = sum(len(row.tokens) == length for row in encoded)
    if full:
        workspace.emit(Note(text=f"{full} texts fill all {length} tokens; what is longer is cut."))
    torch.manual_seed(derive_seed(spec.seed, "head"))
    model = load_token_classifier(workspace.input("base"), names)
    tags = [
        _learned(token_tags(row.spans, code.offsets, labels), code)
        for row, code in zip(training, encoded[: len(training)], strict=True)
    ]

    def batch(rows: Sequence[int]) -> TextBatch:
        tokens, mask = padded([encoded[row].tokens for row in rows], padding=loaded.padding)
        wanted = torch.full_like(tokens, IGNORED)
        for number, row in enumerate(rows):
            wanted[number, : len(tags[row])] = torch.tensor(tags[row])
        return TextBatch(tokens=tokens, mask=mask, labels=wanted)

    rows = rows_to_learn(recipe, [len(row.tokens) for row in encoded[: len(training)]], batch, seed=spec.seed)
    steps = recipe.epochs * rows.sampler.steps_per_epoch
    result = train_in(
        workspace,
        model,
        rows.sampler,
        settings_of(recipe, steps=steps, seed=spec.seed),
        objective=LabelOfToken(),
        measuring=rows.measuring(recipe, model, LabelOfToken()),
    )

    found = _tag(workspace, model, encoded[len(training) :], labels, padding=loaded.padding)
    wanted = [tuple(span for span in row.spans if span.label in labels) for row in heldout]
    figures = score(wanted, found)
    workspace.emit(Progress(phase="write", fraction=0.98, step=result.steps, steps=steps))
    export.write_model(model, workspace.output)
    export.copy_tokenizer(workspace.input("base"), workspace.output)
    _write_report(workspace.output, figures, heldout, wanted, found)
    metrics = {name: figures[name] for name in ("precision", "recall", "f1", "macro_f1")}
    for name, value in metrics.items():
        workspace.emit(Metric(name=name, value=value))
    workspace.emit(Progress(phase="done", fraction=1.0, step=result.steps, steps=steps, loss=result.loss))
    return folder.describe_folder(workspace.output) | {
        "head": "TokenClassification",
        "context_length": length,
        "labels": list(labels),
        "metrics": metrics | {f"f1_{name}": label["f1"] for name, label in figures["labels"].items()},
        "examples": len(training),
        "heldout": len(heldout),
        "steps": result.steps,
        **best_figures(result),
        "final_loss": round(result.loss, 6),
        "cpu_seconds": round(result.cpu_seconds, 3),
        "job_seconds": round(time.monotonic() - started, 3),
    }


def _read(data: Path, recipe: TagRecipe) -> tuple[tuple[TaggedText, ...], tuple[TaggedText, ...], tuple[str, ...]]:
    training, heldout = read_tagged(data / "train.jsonl"), read_tagged(data / "heldout.jsonl")
    if not training:
        raise BadInput("training.dataset_empty", "The data set has no training rows.", hint="Import rows with spans.")
    if not heldout:
        raise BadInput(
            "training.no_heldout",
            "The data set has no held-out rows, so nobody could say how good the tagger is.",
            hint="Import it again with a held-out share, such as --heldout 20.",
        )
    present = labels_of(training)
    labels = tuple(label for label in present if not recipe.labels or label in recipe.labels)
    missing = sorted(set(recipe.labels) - set(present))
    if missing or not labels:
        what = f"no span with the label {missing[0]!r}" if missing else "no labelled span"
        raise BadInput(
            "training.no_spans",
            f"The training rows have {what}.",
            hint=f"Their labels: {', '.join(present[:20]) or 'none'}.",
        )
    if 2 * len(labels) + 1 > MOST_LABELS:
        raise BadInput(
            "training.too_many_labels",
            f"The data set has {len(labels):,} labels; a tagger has at most {MOST_LABELS // 2 - 1:,}.",
            hint="Name those to learn: --set 'labels=[\"PERSON\"]'.",
        )
    return training, heldout, labels


def _encode(tokenizer: Tokenizer, text: str, length: int) -> _Encoded:
    tokenizer.enable_truncation(length)
    found = tokenizer.encode(text[: length * CHARACTERS_PER_TOKEN])
    tokenizer.no_truncation()
    places: list[int] = []
    offsets: list[tuple[int, int]] = []
    before = None
    for place, (word, (start, end)) in enumerate(zip(found.word_ids, found.offsets, strict=True)):
        if word is None:
            continue
        if word == before:
            offsets[-1] = (offsets[-1][0], end)
        else:
            places.append(place)
            offsets.append((start, end))
        before = word
    return _Encoded(tokens=tuple(found.ids), places=tuple(places), offsets=tuple(offsets))


def _learned(tags: Sequence[int], encoded: _Encoded) -> list[int]:
    """Return a tag for each token; only the first of each word carries loss."""
    learned = [IGNORED] * len(encoded.tokens)
    for place, tag in zip(encoded.places, tags, strict=True):
        learned[place] = tag
    return learned


def _tag(
    workspace: Workspace, model: Any, encoded: Sequence[_Encoded], labels: Sequence[str], *, padding: int
) -> list[tuple[Span, ...]]:
    model.eval()
    found: list[tuple[Span, ...]] = [()] * len(encoded)
    for rows in by_length([len(row.tokens) for row in encoded], size=_BATCH):
        if workspace.stop_requested():
            raise Interrupted
        tokens, mask = padded([encoded[row].tokens for row in rows], padding=padding)
        with torch.inference_mode():
            best = model(input_ids=tokens, attention_mask=mask).logits.argmax(-1).tolist()
        for row, tags in zip(rows, best, strict=True):
            code = encoded[row]
            found[row] = spans_of([tags[place] for place in code.places], code.offsets, labels)
    return found


def _write_report(
    output: Path,
    figures: dict[str, Any],
    heldout: Sequence[TaggedText],
    wanted: Sequence[tuple[Span, ...]],
    found: Sequence[tuple[Span, ...]],
) -> None:
    (output / FOLDER).mkdir()
    write_file(output / FOLDER / "report.json", msgspec.json.format(canonical_json(figures)) + b"\n")
    lines = [
        msgspec.json.encode(_Prediction(text=row.text, spans=want, got=got, correct=set(want) == set(got)))
        for row, want, got in zip(heldout, wanted, found, strict=True)
    ]
    write_file(output / FOLDER / "predictions.jsonl", b"".join(line + b"\n" for line in lines))
