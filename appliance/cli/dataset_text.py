"""Data sets, checks and comparisons as text for people. Pure: from what the control API tells to lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from appliance.api import types as t
from appliance.kernel.terminal import size_text, table

_LABELS = 8
_SAMPLES = 3
_REFUSED = 5
_WIDTH = 110
_PARTS = ("train", "heldout")


def dataset_text(detail: t.DatasetDetail) -> str:
    """Return everything a person wants to see of one version."""
    entry = detail.dataset
    lines = [
        f"{entry.ref}  {entry.form}  {entry.train_rows} train + {entry.heldout_rows} held-out rows"
        + ("  synthetic" if entry.synthetic else ""),
        f"  digest      {entry.digest}",
        f"  rejected    {entry.rejected_rows}   duplicates {entry.duplicate_rows}   size {size_text(entry.size)}",
    ]
    lines += [f"  {name:<11} {text}" for name, text in _origin(detail)]
    for part in _PARTS:
        if (spread := detail.statistics.get(part, {}).get("characters")) and spread["max"]:
            lines.append(f"  {part:<11} {_spread(spread)} characters")
    if unused := detail.statistics.get("unused_fields"):
        lines.append(f"  unused      {unused}")
    if detail.labels:
        shown = ", ".join(f"{one['label']} {one['train']}+{one['heldout']}" for one in detail.labels[:_LABELS])
        more = f", … {entry.labels} in all" if entry.labels > _LABELS else ""
        lines.append(f"  labels      {shown}{more}")
    lines.append(f"  personal    {_counted(detail.personal) or 'none found'}")
    if detail.redacted:
        lines.append(f"  redacted    {_counted(detail.redacted)}")
    lines += [f"  sample      {sample_text(sample)}" for sample in detail.samples[:_SAMPLES]]
    if counts := detail.statistics.get("rejected_by_code"):
        lines.append(f"  refused     {_counted(counts)}")
    lines += [f"              {rejected_text(row)}" for row in detail.rejected[:_REFUSED]]
    lines += [f"  {finding['level']:<11} {finding['text']}" for finding in detail.check.get("findings", ())]
    if detail.used_by:
        lines.append(f"  used by     {', '.join(detail.used_by)}")
    return "\n".join(lines)


def check_text(title: str, report: Mapping[str, Any]) -> str:
    """Return a check's report: its findings, then the figures they come from."""
    rows = []
    for part in _PARTS:
        figures = report[part]
        rows.append((part, str(figures["rows"]), _spread(figures["characters"])))
        if "tokens" in figures:
            rows.append(("", "", f"{_spread(figures['tokens'])} tokens"))
    lines = [f"{title}  {report['form']}", table(("PART", "ROWS", "LENGTH IN CHARACTERS"), rows, empty="")]
    for part in _PARTS:
        if languages := report[part].get("languages"):
            lines.append(f"  languages of {part}: {_counted(dict(list(languages.items())[:8]))}")
    if report["labels"]:
        least = report["labels"][-1]
        lines.append(
            f"  labels: {report['train'].get('labels', 0)} to train on, balance {report['train'].get('balance', 0)}; "
            f"the rarest is {least['label']} ({least['train']}+{least['heldout']})"
        )
    for name, marked in (
        ("exact duplicates", report["exact_duplicates"]),
        ("near duplicates", report["near_duplicates"]),
        ("conflicting labels", report["conflicts"]),
        ("far longer", report["outliers"]),
        ("personal data", report["personal"]),
    ):
        lines += [f"  {name}: {marked['rows']} rows", *(f"    {_place(one)}" for one in marked["examples"][:_SAMPLES])]
    leakage = report["leakage"]
    lines.append(f"  leakage: {leakage['exact']} exact, {leakage['near']} near")
    lines += [f"    {_place(one)}" for one in leakage["examples"][:_SAMPLES]]
    lines += [f"{finding['level']}  {finding['text']}" for finding in report["findings"]]
    if not report["findings"]:
        lines.append("OK  Nothing to say against it.")
    return "\n".join(lines)


def diff_text(found: t.DatasetDiff) -> str:
    """Return two versions side by side."""
    one, other = found.before.dataset, found.after.dataset
    rows = [
        ("form", one.form, other.form),
        ("training rows", str(one.train_rows), str(other.train_rows)),
        ("held-out rows", str(one.heldout_rows), str(other.heldout_rows)),
        ("labels", str(one.labels), str(other.labels)),
        ("personal data", str(one.personal), str(other.personal)),
        ("rejected", str(one.rejected_rows), str(other.rejected_rows)),
        ("size", size_text(one.size), size_text(other.size)),
    ]
    for part in _PARTS:
        before, after = (_characters(side, part) for side in (found.before, found.after))
        rows.append((f"characters, {part}", before, after))
    changes = [
        (part, *(str(counts[part]) for counts in (found.kept, found.added, found.removed, found.moved)))
        for part in _PARTS
    ]
    lines = [
        table(("", one.ref, other.ref), rows, empty=""),
        "",
        table(("PART", "KEPT", "ADDED", "REMOVED", "MOVED HERE"), changes, empty=""),
    ]
    lines += [f"columns {what}: {', '.join(names)}" for what, names in found.columns.items() if names]
    return "\n".join(lines)


def sample_text(sample: Mapping[str, Any]) -> str:
    """Return a row in one short line."""
    parts = [f"{message['role']}: {message['content']}" for message in sample.get("messages", ())]
    parts += [f"{name}: {sample[name]}" for name in ("prompt", "completion", "chosen", "rejected") if name in sample]
    if "text" in sample:
        head = f"[{sample['label']}] " if "label" in sample else ""
        parts.append(head + sample["text"])
    parts += [f"[{sample['text'][span['start'] : span['end']]}: {span['label']}]" for span in sample.get("spans", ())]
    line = " ".join(" | ".join(parts).split())
    return line if len(line) <= _WIDTH else line[: _WIDTH - 1] + "…"


def rejected_text(row: Mapping[str, Any]) -> str:
    """Return why a row was set aside."""
    where = f"{row['file']}, " if row.get("file") else ""
    return f"{where}line {row['line']}: {row['reason']} ({row['code']})"


def _origin(detail: t.DatasetDetail) -> list[tuple[str, str]]:
    origin, lines = detail.origin, []
    if origin.get("kind") == "split":
        text = f"{origin['from']} by {origin['by']}, {origin['train']}:{origin['heldout']}, seed {origin['seed']}"
        lines.append(("split of", text))
    if detail.synthetic:
        refused = f", refused {_counted(origin['refused'])}" if origin.get("refused") else ""
        lines.append(("written by", f"{detail.synthetic['model']} from {detail.synthetic['from']}{refused}"))
    return lines


def _characters(detail: t.DatasetDetail, part: str) -> str:
    spread = detail.statistics.get(part, {}).get("characters")
    return f"{spread['p50']:g} median, {spread['max']:g} most" if spread and "p50" in spread else "-"


def _spread(spread: Mapping[str, float]) -> str:
    if "p50" not in spread:
        return f"{spread['min']:g} to {spread['max']:g}"
    return f"{spread['min']:g} least, {spread['p50']:g} median, {spread['p95']:g} at 95 %, {spread['max']:g} most"


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _place(example: Mapping[str, Any]) -> str:
    text = f"{example['part']} line {example['line']}"
    if "like_line" in example:
        text += f" is {example['likeness']:.2f} like {example['like_part']} line {example['like_line']}"
    if "characters" in example:
        text += f": {example['characters']} characters"
    return text + (f": {_counted(example['kinds'])}" if "kinds" in example else "")
