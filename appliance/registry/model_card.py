"""The model card of an exported version: what it is, what it was made from, what was measured. Pure.

Everything in it stands in the lineage; what is not known is said to be unknown, and nothing is praised.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One evaluation: on what, when, its figures and their 95 % intervals."""

    on: str
    at: str
    metrics: Mapping[str, float]
    intervals: Mapping[str, Sequence[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What a card tells."""

    ref: str
    digest: str
    kind: str
    purpose: str
    licence: str
    stage: str
    architecture: str
    parameters: int
    context_length: int
    quantisation: str
    made_by: str
    made_at: str
    lineage: Mapping[str, Any]
    parity: Mapping[str, Any]
    measurements: tuple[Measurement, ...]
    approvals: tuple[str, ...]


_TASKS = {
    "generate": "text-generation",
    "classify": "text-classification",
    "embed": "feature-extraction",
    "tag": "token-classification",
}
_UNKNOWN = "unknown"


def render_card(card: Card) -> str:
    """Return README.md: a front matter that Hugging Face's tools read, then the card for people."""
    parts = [
        _front_matter(card),
        f"# {card.ref}",
        "",
        *_table(
            ("", ""),
            [
                ("digest (SHA-256)", f"`{card.digest}`"),
                ("architecture", card.architecture or _UNKNOWN),
                ("parameters", f"{card.parameters:,}" if card.parameters else _UNKNOWN),
                ("context", f"{card.context_length} tokens" if card.context_length else _UNKNOWN),
                ("number format", card.quantisation or _UNKNOWN),
                ("licence", card.licence or _UNKNOWN),
                ("stage", card.stage),
                ("made by", f"{card.made_by}, {card.made_at}"),
                ("approved by", ", ".join(card.approvals) or "nobody"),
            ],
        ),
        *_origin(card.lineage),
        *_measured(card),
        "## Limits",
        "",
        "The figures above are all that was measured. On other text than the held-out parts named here the model was "
        "not tested by the appliance that exported it.",
        "",
    ]
    return "\n".join(parts)


def _front_matter(card: Card) -> str:
    """YAML; values are written as JSON strings, which YAML reads too."""
    base = card.lineage.get("base")
    lines = ["---", "library_name: transformers", f"license: {json.dumps(card.licence.lower() or _UNKNOWN)}"]
    if card.purpose in _TASKS:
        lines.append(f"pipeline_tag: {_TASKS[card.purpose]}")
    if base:
        lines.append(f"base_model: {json.dumps(base['ref'])}")
    names = [item["ref"] for item in card.lineage.get("datasets", [])]
    lines += ["datasets:", *(f"- {json.dumps(name)}" for name in names)] if names else []
    return "\n".join([*lines, "---", ""])


def _origin(lineage: Mapping[str, Any]) -> list[str]:
    base = lineage.get("base")
    rows = [("base", f"{base['ref']} `{base['digest'][:16]}`" if base else "none")]
    rows += [("data", f"{item['ref']} `{item['digest'][:16]}`") for item in lineage.get("datasets", [])]
    if lineage.get("source"):
        rows.append(("imported from", str(lineage["source"])))
    lines = ["", "## Origin", "", *_table(("what", "which"), rows), ""]
    for run in lineage.get("runs", []):
        recipe = ", ".join(f"{name} {value}" for name, value in sorted(run["parameters"].items()))
        packages = run["environment"]["packages"]
        made = ", ".join(f"{name} {packages[name]}" for name in sorted(packages))
        lines += [
            f"Run `{run['run_id'][:16]}` ({run['kind']}, seed {run['seed']}, {run['environment']['threads']} threads) "
            f"by {run['by']}, {run['at']}.",
            "",
            *([f"Recipe: {recipe[:4000]}.", ""] if recipe else []),
            f"Made with {made} on {run['environment']['cpu']}.",
            "",
        ]
    return lines


def _measured(card: Card) -> list[str]:
    lines = ["## Measured", ""]
    rows = [
        (one.on, name, f"{value:.4f}", _span(one.intervals.get(name)), one.at)
        for one in card.measurements
        for name, value in sorted(one.metrics.items())
    ]
    if rows:
        lines += [*_table(("on", "metric", "figure", "95 % interval", "when"), rows), ""]
    else:
        lines += ["Nothing was measured.", ""]
    if card.parity:
        told = ", ".join(f"{name} {value}" for name, value in sorted(card.parity.items()))
        lines += [f"GGUF against the original: {told}.", ""]
    return lines


def _span(bounds: Sequence[float] | None) -> str:
    return f"{bounds[0]:.4f} to {bounds[1]:.4f}" if bounds else "-"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    return [line(head), line(["---"] * len(head)), *map(line, rows)]
