"""How two programs are compared on a machine that does other things too: in pairs, in turns, by the median ratio.

Pure, but for writing the result. Absolute numbers move with the machine's load; the ratio of two runs made within a
minute of each other moves little, and the median of several pairs forgives the one that was disturbed.
"""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure must reach: at least or at most so much."""

    bound: float
    least: bool

    def __str__(self) -> str:
        return f"{'>=' if self.least else '<='} {self.bound:g}"

    def met(self, value: float) -> bool:
        """Whether a value reaches it."""
        return value >= self.bound if self.least else value <= self.bound


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a benchmark: its runs, of which the median counts, and its goal; a peer's own has none."""

    id: str
    unit: str
    goal: Goal | None
    runs: Sequence[float]

    @property
    def value(self) -> float:
        """The median."""
        return statistics.median(self.runs)

    def document(self) -> dict[str, Any]:
        """Return what a result file holds of it."""
        return {
            "id": self.id,
            "value": _rounded(self.value),
            "unit": self.unit,
            "goal": str(self.goal) if self.goal else "",
            "met": self.goal.met(self.value) if self.goal else None,
            "runs": [_rounded(run) for run in self.runs],
        }


def at_least(bound: float) -> Goal:
    """A goal that larger values meet."""
    return Goal(bound, least=True)


def at_most(bound: float) -> Goal:
    """A goal that smaller values meet."""
    return Goal(bound, least=False)


def turns(first: str, second: str, pairs: int) -> Iterator[tuple[str, str]]:
    """Yield who goes first and who second in each pair; the order alternates."""
    for index in range(pairs):
        yield (first, second) if index % 2 == 0 else (second, first)


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Return the pairwise ratios ours / theirs. Both have one value per pair, in order."""
    return [mine / other for mine, other in zip(ours, theirs, strict=True)]


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of the pairwise ratios ours / theirs. Both have one value per pair, in order."""
    return statistics.median(ratios(ours, theirs))


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return median, smallest and largest, rounded to four significant digits."""
    return {
        "median": _rounded(statistics.median(values)),
        "min": _rounded(min(values)),
        "max": _rounded(max(values)),
    }


def write_result(name: str, figures: Mapping[str, Any]) -> Path:
    """Write benchmarks/results/<name>.json with the machine's facts beside the figures."""
    return _write(name, {"machine": _machine(), **figures})


def write_figures(name: str, figures: Sequence[Figure]) -> Path:
    """Write benchmarks/results/<name>.json as a list of figures; each names its goal and whether it is met."""
    return _write(name, [figure.document() for figure in figures])


def keep_figures(name: str, figures: Sequence[Figure], *, folder: Path = RESULTS) -> None:
    """Put figures into benchmarks/results/<name>.json, in place of those with their ids; the others stay."""
    file = folder / f"{name}.json"
    before = json.loads(file.read_text()) if file.exists() else []
    found = {document["id"]: document for document in before}
    found |= {figure.id: figure.document() for figure in figures}
    _write(name, list(found.values()), folder=folder)


def _write(name: str, document: Any, *, folder: Path = RESULTS) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(document, indent=1) + "\n")
    return path


def _machine() -> dict[str, Any]:
    model = ""
    cores = 0
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        field, _, value = line.partition(":")
        model = value.strip() if field.strip() == "model name" else model
        cores += field.strip() == "processor"
    return {"processor": model, "processors": cores, "kernel": platform.release(), "python": platform.python_version()}


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
