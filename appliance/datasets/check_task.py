"""The job that examines a stored data set: figures, duplicates, leakage, outliers, personal data. It changes nothing.

in/data/…, in/model/tokenizer.json (if given)  ->  out/check.json. Parameters: `near`, the likeness from which two
texts count as nearly the same, and `context`, the model's longest sequence. The report names rows by part and line,
never by what they say; equal inputs give equal bytes.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from appliance.datasets.findings import findings_of
from appliance.datasets.language import language_of
from appliance.datasets.near import DEFAULT_THRESHOLD, NearIndex
from appliance.datasets.personal_data import find_personal_data
from appliance.datasets.prepare import HELDOUT, TRAIN, essence, prompt_digest
from appliance.datasets.rows import characters_of, labels_of, prompt_of, texts_of
from appliance.datasets.statistics import balance, label_table, spread
from appliance.datasets.stored import SIDES, read_part, read_report
from appliance.jobs.workspace import Interrupted, Workspace
from appliance.kernel.canonical import canonical_json, sha256_hex
from appliance.kernel.errors import BadInput
from appliance.kernel.events import Note, Progress

_SHOWN = 20
_CHECK_EVERY = 64
_FAR = 3.0
_LEAST = 1.1
"""A length is an outlier beyond Tukey's outer fence, taken of logarithms because lengths are skewed: three quartile
ranges above the upper quartile, where a range is a factor of 1.1 at least."""
_LABELS_SHOWN = 200


@dataclass(slots=True, kw_only=True)
class _Part:
    characters: array[int] = field(default_factory=lambda: array("L"))
    tokens: array[int] = field(default_factory=lambda: array("L"))
    labels: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    personal: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True, kw_only=True)
class _Marked:
    """Rows that have something in common: counted, the first of them by place."""

    rows: int = 0
    examples: list[dict[str, Any]] = field(default_factory=list)

    def add(self, **place: Any) -> None:
        self.rows += 1
        if len(self.examples) < _SHOWN:
            self.examples.append(place)

    def to_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "examples": self.examples}


def run(workspace: Workspace) -> dict[str, Any]:
    """Write check.json and return it as the summary. Raises BadInput, IntegrityFailure or Interrupted."""
    return _Check(workspace).run()


class _Check:
    def __init__(self, workspace: Workspace) -> None:
        given = workspace.spec.parameters
        self._workspace = workspace
        self._folder = workspace.input("data")
        self._threshold = float(given.get("near", DEFAULT_THRESHOLD))
        self._context = int(given.get("context", 0))
        self._count_tokens = self._counter()
        self._parts = {side: _Part() for side in SIDES}
        self._near = NearIndex(threshold=self._threshold)
        self._held = NearIndex(threshold=self._threshold)
        self._places: list[tuple[str, int]] = []
        self._seen: set[bytes] = set()
        self._heldout_prompts: set[bytes] = set()
        self._labels_by_text: dict[bytes, str] = {}
        self._exact, self._alike, self._conflicts = _Marked(), _Marked(), _Marked()
        self._leaked, self._nearly_leaked, self._personal = _Marked(), _Marked(), _Marked()
        self._too_long = 0
        self._rows = int(read_report(self._folder).get("statistics", {}).get("rows", 0))

    def run(self) -> dict[str, Any]:
        # The held-out part first: then each training row can be compared with all of it.
        for side in (HELDOUT, TRAIN):
            for line, _, content in read_part(self._folder, side):
                if len(self._places) % _CHECK_EVERY == 0:
                    if self._workspace.stop_requested():
                        raise Interrupted
                    done = len(self._places) / max(1, self._rows)
                    self._workspace.emit(Progress(phase="check", fraction=min(0.99, done)))
                self._take(side, line, content)
        if not self._places:
            raise BadInput("dataset.no_rows", "The data set has no rows to check.")
        report = self._report()
        (self._workspace.output / "check.json").write_bytes(canonical_json(report) + b"\n")
        for finding in report["findings"]:
            self._workspace.emit(Note(text=finding["text"]))
        self._workspace.emit(Progress(phase="check", fraction=1.0))
        return report | {"labels": report["labels"][:_LABELS_SHOWN]}

    def _take(self, side: str, line: int, content: dict[str, Any]) -> None:
        number = len(self._places)
        self._places.append((side, line))
        texts = list(texts_of(content))
        self._measure(self._parts[side], side, line, content, texts)
        key = bytes.fromhex(sha256_hex(essence(content)))[:16]
        if key in self._seen:
            self._exact.add(part=side, line=line)
        self._seen.add(key)
        self._compare(side, line, number, content, texts)
        self._look_for_conflict(side, line, content)

    def _measure(self, part: _Part, side: str, line: int, content: dict[str, Any], texts: list[str]) -> None:
        part.characters.append(characters_of(content))
        part.labels.update(labels_of(content))
        part.languages[language_of("\n".join(texts))] += 1
        if self._count_tokens is not None:
            tokens = sum(map(self._count_tokens, texts))
            part.tokens.append(tokens)
            self._too_long += bool(self._context) and tokens > self._context
        kinds = Counter(finding.kind.value for text in texts for finding in find_personal_data(text))
        if kinds:
            part.personal += kinds
            self._personal.add(part=side, line=line, kinds=dict(sorted(kinds.items())))

    def _compare(self, side: str, line: int, number: int, content: dict[str, Any], texts: list[str]) -> None:
        prompt, asked = prompt_digest(content), prompt_of(content)
        if side == HELDOUT:
            self._heldout_prompts.add(prompt)
            self._held.place(number, asked)
        elif prompt in self._heldout_prompts:
            self._leaked.add(part=side, line=line)
        elif (likeness := self._held.find(asked)) is not None:
            self._nearly_leaked.add(part=side, line=line, **self._other(likeness.number, likeness.similarity))
        whole = "\n".join(texts)
        if (likeness := self._near.place(number, whole)) is not None and self._places[likeness.number][0] == side:
            self._alike.add(part=side, line=line, **self._other(likeness.number, likeness.similarity))

    def _other(self, number: int, similarity: float) -> dict[str, Any]:
        part, line = self._places[number]
        return {"like_part": part, "like_line": line, "likeness": round(similarity, 3)}

    def _look_for_conflict(self, side: str, line: int, content: dict[str, Any]) -> None:
        if "label" in content:
            before = self._labels_by_text.setdefault(prompt_digest(content), content["label"])
            if before != content["label"]:
                self._conflicts.add(part=side, line=line)

    def _report(self) -> dict[str, Any]:
        train, heldout = self._parts[TRAIN], self._parts[HELDOUT]
        report: dict[str, Any] = {side: self._figures(part) for side, part in self._parts.items()}
        report |= {
            "form": str(read_report(self._folder).get("form", "")),
            "labels": label_table(train.labels, heldout.labels),
            "exact_duplicates": self._exact.to_dict(),
            "near_duplicates": self._alike.to_dict() | {"threshold": self._threshold},
            "leakage": {
                "exact": self._leaked.rows,
                "near": self._nearly_leaked.rows,
                "examples": [*self._leaked.examples, *self._nearly_leaked.examples],
            },
            "conflicts": self._conflicts.to_dict(),
            "outliers": self._outliers().to_dict(),
            "personal": self._personal.to_dict() | {"kinds": dict(sorted((train.personal + heldout.personal).items()))},
            "too_long": self._too_long,
        }
        return report | {"findings": findings_of(report)}

    def _figures(self, part: _Part) -> dict[str, Any]:
        figures: dict[str, Any] = {
            "rows": len(part.characters),
            "characters": spread(part.characters),
            "languages": dict(sorted(part.languages.items(), key=lambda item: (-item[1], item[0]))),
            "personal": dict(sorted(part.personal.items())),
        }
        if part.labels:
            figures |= {"labels": len(part.labels), "balance": balance(part.labels)}
        if self._count_tokens is not None:
            figures["tokens"] = spread(part.tokens)
        return figures

    def _outliers(self) -> _Marked:
        lengths = [*self._parts[HELDOUT].characters, *self._parts[TRAIN].characters]
        quantiles = spread(lengths)
        lower, upper = max(1.0, quantiles["p25"]), max(1.0, quantiles["p75"])
        fence = upper * max(_LEAST, upper / lower) ** _FAR
        marked = _Marked()
        for (side, line), length in zip(self._places, lengths, strict=True):
            if length > fence:
                marked.add(part=side, line=line, characters=length)
        return marked

    def _counter(self) -> Callable[[str], int] | None:
        if "model" not in self._workspace.spec.inputs:
            return None
        from appliance.datasets.token_lengths import token_counter

        return token_counter(self._workspace.input("model") / "tokenizer.json")
