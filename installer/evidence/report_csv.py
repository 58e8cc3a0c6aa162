"""An evidence as CSV for a spreadsheet: one line a control."""

from __future__ import annotations

import csv
import io

from installer.evidence.document import Evidence

_COLUMNS = (
    "control", "title", "status", "expected", "observed", "source", "reason", "role", "cis", "anssi", "ssg",
    "waiver_reason", "waiver_owner", "waiver_expiry", "before",
)  # fmt: skip


def csv_report(evidence: Evidence, before: Evidence | None, digest: str) -> str:
    """Return the table. Cells that a spreadsheet would take for a formula are made text."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\r\n")
    writer.writerow(_COLUMNS)
    was = {each.id: str(each.status) for each in before.controls} if before else {}
    for each in evidence.controls:
        waiver = (each.waiver.reason, each.waiver.owner, each.waiver.expiry) if each.waiver else ("", "", "")
        row = (
            each.id, each.title, str(each.status), each.expected, each.observed, each.source, each.reason, each.role,
            " ".join(each.cis), " ".join(each.anssi), " ".join(each.ssg), *waiver, was.get(each.id, ""),
        )  # fmt: skip
        writer.writerow([_text(cell) for cell in row])
    return stream.getvalue()


def _text(cell: str) -> str:
    return f"'{cell}" if cell[:1] in {"=", "+", "-", "@", "\t", "\r"} else cell
