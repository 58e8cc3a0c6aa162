"""Lynis, a second opinion: its hardening index is a number to watch, and each suggestion gets a written answer."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

from appliance.kernel import process
from appliance.kernel.errors import BadInput, Unavailable
from installer.evidence.document import LynisResult, Suggestion

_ANSWERS = Path(__file__).parent / "lynis_answers.toml"
_UNANSWERED = "No answer is written for this suggestion yet."
_TIMEOUT = 1800.0


def scan(work: Path, *, on_start: Callable[[], None]) -> bytes:
    """Run an audit and return its report. Raises NotFound or Unavailable."""
    report = work / "lynis-report.dat"
    argv = ["lynis", "audit", "system", "--quick", "--no-colors", "--quiet"]
    on_start()
    outcome = process.run(
        [*argv, "--report-file", str(report), "--log-file", str(work / "lynis.log")], timeout=_TIMEOUT
    )
    # Lynis ends with a number of its own when there are warnings; the report tells whether it got to the end.
    if not report.is_file() or b"\nhardening_index=" not in report.read_bytes():
        raise Unavailable("evidence.lynis_failed", f"lynis ended with {outcome.status} and wrote no whole report.")
    return report.read_bytes()


@cache
def answers() -> Mapping[str, str]:
    """Return our answer to each test of Lynis that suggests something on our boxes."""
    return {
        str(test): str(text) for test, text in tomllib.loads(_ANSWERS.read_text(encoding="utf-8"))["answers"].items()
    }


def read_report(data: bytes, known: Mapping[str, str] | None = None) -> LynisResult:
    """Read lynis-report.dat. Raises BadInput."""
    known = answers() if known is None else known
    pairs = [line.partition("=") for line in data.decode(errors="replace").splitlines() if "=" in line]
    single = {key: value.strip() for key, _, value in pairs}
    suggestions = [value.split("|") for key, _, value in pairs if key == "suggestion[]"]
    warnings = [value.split("|") for key, _, value in pairs if key == "warning[]"]
    if not single.get("hardening_index", "").isdigit():
        raise BadInput("evidence.lynis_report", "The report of Lynis has no hardening index.")
    return LynisResult(
        version=single.get("lynis_version", ""),
        scanned_at=single.get("report_datetime_end", single.get("report_datetime_start", "")),
        hardening_index=int(single["hardening_index"]),
        tests=int(single.get("lynis_tests_done", "0") or 0),
        warnings=tuple(f"{parts[0]}: {parts[1]}" for parts in warnings if len(parts) > 1),
        suggestions=tuple(
            Suggestion(test=parts[0], text=_text(parts), answer=known.get(parts[0], _UNANSWERED))
            for parts in suggestions
            if len(parts) > 1
        ),
    )


def _text(parts: list[str]) -> str:
    detail = parts[2] if len(parts) > 2 and parts[2] not in {"", "-"} else ""
    return f"{parts[1]} ({detail})" if detail else parts[1]


def unanswered(result: LynisResult) -> tuple[str, ...]:
    """Return the tests whose suggestion has no written answer."""
    return tuple(sorted({each.test for each in result.suggestions if each.answer == _UNANSWERED}))
