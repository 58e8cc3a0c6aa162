"""What a person should know about a data set: sentences drawn from a check's figures. Pure, and without rows."""

from __future__ import annotations

from typing import Any, Final

_FEW: Final = 10
_UNEVEN: Final = 0.6


def findings_of(report: dict[str, Any]) -> list[dict[str, str]]:
    """Return findings, the gravest first: level (WARN or INFO), code and text."""
    found: list[dict[str, str]] = []

    def say(level: str, code: str, text: str) -> None:
        found.append({"level": level, "code": code, "text": text})

    leakage, near = report["leakage"], report["near_duplicates"]
    if leakage["exact"]:
        count = _rows(leakage["exact"], "training row asks", "training rows ask")
        say("WARN", "leakage.exact", f"{count} what a held-out row asks.")
    if leakage["near"]:
        count = _rows(leakage["near"], "training row nearly asks", "training rows nearly ask")
        say(
            "WARN",
            "leakage.near",
            f"{count} what a held-out row asks; figures on the held-out part will look better than they are. "
            "`dataset split --drop-near` takes them out.",
        )
    if not report["heldout"]["rows"]:
        say("WARN", "heldout.empty", "No row is held out, so nothing that is trained on it can be measured.")
    if number := report["conflicts"]["rows"]:
        say(
            "WARN",
            "labels.conflict",
            f"{_rows(number, 'row has', 'rows have')} the text of another, with another label.",
        )
    _speak_of_labels(report, say)
    if number := report["personal"]["rows"]:
        kinds = ", ".join(f"{times} {kind}" for kind, times in report["personal"]["kinds"].items())
        say("WARN", "personal", f"{_rows(number, 'row has', 'rows have')} personal data: {kinds}.")
    if number := near["rows"]:
        count = _rows(number, "row nearly repeats", "rows nearly repeat")
        say("INFO", "duplicates.near", f"{count} an earlier one (likeness {near['threshold']}).")
    if number := report["exact_duplicates"]["rows"]:
        say("INFO", "duplicates.exact", f"{_rows(number, 'row repeats', 'rows repeat')} an earlier one exactly.")
    if number := report["outliers"]["rows"]:
        say("INFO", "length.outliers", f"{_rows(number, 'row is', 'rows are')} far longer than the others.")
    if number := report.get("too_long", 0):
        say("WARN", "tokens.too_long", f"{_rows(number, 'row is', 'rows are')} longer than the model's context.")
    return sorted(found, key=lambda one: one["level"] != "WARN")


def _speak_of_labels(report: dict[str, Any], say: Any) -> None:
    labels = report.get("labels", [])
    if not labels:
        return
    unseen = [entry for entry in labels if not entry["train"]]
    unmeasured = [entry for entry in labels if not entry["heldout"]]
    few = [entry for entry in labels if 0 < entry["train"] < _FEW]
    if unseen:
        say("WARN", "labels.unseen", f"{_labels(unseen)} only in the held-out part; no model can learn them.")
    if unmeasured and report["heldout"]["rows"]:
        say("INFO", "labels.unmeasured", f"{_labels(unmeasured)} not in the held-out part.")
    if few:
        say("WARN", "labels.few", f"{len(few)} of {len(labels)} labels have fewer than {_FEW} training rows.")
    if report["train"].get("balance", 1.0) < _UNEVEN:
        say("INFO", "labels.uneven", "A few labels make most of the training part; read accuracy beside macro-F1.")


def _labels(entries: list[dict[str, Any]]) -> str:
    return f"{len(entries)} labels are" if len(entries) > 1 else "1 label is"


def _rows(count: int, one: str, several: str) -> str:
    return f"{count} {one if count == 1 else several}"
