"""Data sets: the list, and one version with its figures, labels, personal data, findings, samples and refused rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from appliance.api.types import DatasetDetail, DatasetView
from appliance.kernel.terminal import counted
from tui import format as fmt
from tui.text import Column, Line, Look, Row, Span, Table, Tone, fact, heading, hint, line, state

_LABELS = 12
_SAMPLES = 5
_REFUSED = 20
_SPREAD = (("median", "p50"), ("95 %", "p95"), ("longest", "max"))
_MARKED = (
    ("repeated", "exact_duplicates"),
    ("nearly so", "near_duplicates"),
    ("conflicts", "conflicts"),
    ("far longer", "outliers"),
)


def datasets_table(datasets: tuple[DatasetView, ...], look: Look) -> Table:
    """Every data set version, newest first."""
    return Table(
        columns=(
            Column(title="Data set"),
            Column(title="Form", width=14),
            Column(title="Train", width=8, right=True),
            Column(title="Held out", width=8, right=True),
            Column(title="Rejected", width=8, right=True),
            Column(title="Created", width=11),
            Column(title="Size", width=9, right=True, wide=True),
            Column(title="Labels", width=6, right=True, wide=True),
            Column(title="Personal", width=8, right=True, wide=True),
        ),
        rows=tuple(
            Row(
                key=one.ref,
                cells=(
                    Span(one.ref, Tone.STRONG),
                    Span(one.form + (" *" if one.synthetic else "")),
                    Span(fmt.count(one.train_rows)),
                    Span(fmt.count(one.heldout_rows)),
                    Span(fmt.count(one.rejected_rows), Tone.WARN if one.rejected_rows else Tone.PLAIN),
                    Span(fmt.brief_moment(one.created_at, look.now)),
                    Span(fmt.size(one.size)),
                    Span(fmt.count(one.labels) if one.labels else ""),
                    Span(fmt.count(one.personal), Tone.WARN if one.personal else Tone.PLAIN),
                ),
            )
            for one in datasets
        ),
    )


def dataset_lines(detail: DatasetDetail, look: Look) -> list[Line]:
    """One data set; what a person should know first comes first."""
    one = detail.dataset
    lines = [
        fact("form", one.form, Span("   written by a model" if one.synthetic else "", Tone.WARN)),
        fact("rows", f"{fmt.count(one.train_rows)} to train on, {fmt.count(one.heldout_rows)} held out"),
        fact("left out", f"{fmt.count(one.rejected_rows)} rejected, {fmt.count(one.duplicate_rows)} duplicates"),
        fact("size", fmt.size(one.size), Span(f"   digest {fmt.short(one.digest)}", Tone.FAINT)),
        fact("created", f"{fmt.moment(one.created_at)} UTC by {fmt.clean(one.created_by)}"),
    ]
    if detail.origin:
        lines += _told("made by", _flat(detail.origin), look)
    lines += _told("used by", ", ".join(detail.used_by) or "nothing", look)
    lines += [*_check(detail, look), *_statistics(detail, look), *_labels(detail, look), *_rows(detail, look)]
    return lines


def _check(detail: DatasetDetail, look: Look) -> list[Line]:
    report = detail.check
    if not report:
        return [heading("Check"), hint("Not checked yet: c looks for duplicates, leakage, personal data.")]
    lines = [heading(f"Check{f'  job {detail.check_job}' if detail.check_job else ''}")]
    for finding in report.get("findings", ()):
        warns = finding.get("level") == "WARN"
        mark = state("warn" if warns else "ok", look)
        parts = fmt.wrap(str(finding.get("text", "")), max(20, look.width - 14))
        lines.append(line("   ", mark, f"  {parts[0]}"))
        lines += [line(f"             {part}") for part in parts[1:]]
    leakage = report.get("leakage", {})
    told = f"{fmt.count(leakage.get('exact', 0))} exact, {fmt.count(leakage.get('near', 0))} near"
    lines.append(fact("leakage", Span(told, Tone.WARN if leakage.get("exact") or leakage.get("near") else Tone.PLAIN)))
    counts = [f"{name} {fmt.count(report.get(key, {}).get('rows', 0))}" for name, key in _MARKED]
    lines.append(fact("rows that", "  ".join(counts)))
    return lines


def _statistics(detail: DatasetDetail, look: Look) -> list[Line]:
    lines = [heading("Statistics")]
    for part in ("train", "heldout"):
        figures = detail.statistics.get(part, {})
        for unit, spread in (("characters", figures.get("characters")), *_tokens(detail, part)):
            if spread:
                told = ", ".join(f"{name} {fmt.figure(spread[key])}" for name, key in _SPREAD if key in spread)
                lines.append(fact(part, f"{unit}: {told}"))
        if "balance" in figures:
            lines.append(fact("", f"{counted(figures.get('labels', 0), 'label')}, balance {figures['balance']}"))
    others = {key: value for key, value in detail.statistics.items() if key not in ("train", "heldout")}
    if others:
        lines += _told("others", _flat(others), look)
    lines += _told("personal", _counted(detail.personal) or "none found", look)
    if detail.redacted:
        lines += _told("redacted", _counted(detail.redacted), look)
    return lines


def _tokens(detail: DatasetDetail, part: str) -> tuple[tuple[str, Any], ...]:
    spread = detail.check.get(part, {}).get("tokens")
    return (("tokens", spread),) if spread else ()


def _labels(detail: DatasetDetail, look: Look) -> list[Line]:
    if not detail.labels:
        return []
    most = max(1, *(int(entry["train"]) for entry in detail.labels))
    lines = [heading(f"Labels  ({fmt.count(detail.dataset.labels or len(detail.labels))}: to train on + held out)")]
    for entry in detail.labels[:_LABELS]:
        bar = "" if look.spoken else fmt.bar(entry["train"] / most, 20, ascii=look.ascii) + "  "
        told = f"{fmt.fit(str(entry['label']), 34)} {bar}{fmt.count(entry['train'])} + {fmt.count(entry['heldout'])}"
        lines.append(line(f"   {told}"))
    if (more := (detail.dataset.labels or len(detail.labels)) - _LABELS) > 0:
        lines.append(hint(f"and {fmt.count(more)} rarer ones; i shows them"))
    return lines


def _rows(detail: DatasetDetail, look: Look) -> list[Line]:
    room = max(20, look.width - 6)
    lines = [heading("Samples")]
    for sample in detail.samples[:_SAMPLES]:
        lines += [line(f"   {part}") for part in fmt.wrap(msgspec.json.encode(sample).decode(), room)[:3]]
    if detail.rejected:
        lines.append(heading("Rejected rows"))
        for refused in detail.rejected[:_REFUSED]:
            lines += [line(f"   {part}") for part in fmt.wrap(msgspec.json.encode(refused).decode(), room)[:2]]
    return lines


def _told(name: str, text: str, look: Look) -> list[Line]:
    parts = fmt.wrap(text, max(20, look.width - 18))
    return [fact(name if i == 0 else "", part) for i, part in enumerate(parts[:4])]


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{fmt.count(times)} {name}" for name, times in counts.items())


def _flat(record: Mapping[str, Any]) -> str:
    """A small record as one sentence: `kind split, from faq@1`."""
    told = []
    for name, value in record.items():
        shown = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        if value not in ("", {}, [], None):
            told.append(f"{name.replace('_', ' ')} {shown}")
    return ", ".join(told)
