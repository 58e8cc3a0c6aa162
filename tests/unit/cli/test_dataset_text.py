from __future__ import annotations

from typing import Any

import pytest

from appliance.api import types as t
from appliance.cli.dataset_text import check_text, dataset_text, diff_text, rejected_text, sample_text

SPREAD = {"min": 1, "mean": 5.0, "max": 90, "total": 100, "p5": 1, "p25": 2, "p50": 5, "p75": 7, "p95": 60, "p99": 90}
VIEW = t.DatasetView(
    ref="faq@2", name="faq", version=2, digest="d" * 64, form="classification", train_rows=8, heldout_rows=2,
    rejected_rows=1, duplicate_rows=3, size=2048, created_by="anna", created_at="2026-11-29T10:00:00Z", labels=10,
    personal=4, synthetic=True,
)  # fmt: skip
DETAIL = t.DatasetDetail(
    dataset=VIEW,
    statistics={
        "train": {"characters": SPREAD},
        "heldout": {"characters": SPREAD},
        "unused_fields": "id, note",
        "rejected_by_code": {"row.empty": 1},
    },
    samples=({"text": "where is\nmy card", "label": "card"},),
    rejected=({"line": 7, "code": "row.empty", "reason": "text is empty", "file": "a.csv"},),
    files=(),
    labels=tuple({"label": f"l{i}", "train": 1, "heldout": 0} for i in range(10)),
    personal={"email": 3, "phone": 1},
    redacted={"card": 2},
    origin={"kind": "split", "from": "faq@1", "by": "hash", "train": 80, "heldout": 20, "seed": 1},
    synthetic={"model": "writer@1", "from": "faq@1"},
    check={"findings": [{"level": "WARN", "code": "x", "text": "Something leaks."}]},
    used_by=("model helpdesk@1",),
)


def test_a_data_set_says_what_it_is_and_where_it_comes_from() -> None:
    text = dataset_text(DETAIL)
    for part in (
        "faq@2  classification  8 train + 2 held-out rows  synthetic",
        "split of    faq@1 by hash, 80:20, seed 1",
        "written by  writer@1 from faq@1",
        "1 least, 5 median, 60 at 95 %, 90 most characters",
        "unused      id, note",
        "l7 1+0, … 10 in all",
        "personal    email 3, phone 1",
        "redacted    card 2",
        "sample      [card] where is my card",
        "a.csv, line 7: text is empty (row.empty)",
        "WARN        Something leaks.",
        "used by     model helpdesk@1",
    ):
        assert part in text
    assert max(map(len, text.splitlines())) < 130


def test_versions_from_before_these_figures_can_still_be_shown() -> None:
    figures = {"train": {"characters": {"min": 1, "mean": 2.0, "max": 3}}}
    old = t.DatasetDetail(dataset=VIEW, statistics=figures, samples=(), rejected=(), files=())
    assert "1 to 3 characters" in dataset_text(old)
    assert "personal    none found" in dataset_text(old)
    diff_text(t.DatasetDiff(before=old, after=DETAIL, **COUNTS, columns={"added": ("meta.day",), "removed": ()}))


COUNTS: dict[str, Any] = {name: {"train": 1, "heldout": 0} for name in ("added", "removed", "moved", "kept")}


def test_a_comparison_stands_side_by_side() -> None:
    text = diff_text(
        t.DatasetDiff(before=DETAIL, after=DETAIL, **COUNTS, columns={"added": ("meta.day",), "removed": ()})
    )
    assert "columns added: meta.day" in text
    assert "columns removed" not in text
    assert "MOVED HERE" in text


@pytest.mark.parametrize(
    ("sample", "line"),
    [
        ({"messages": [{"role": "user", "content": "q"}], "chosen": "a"}, "user: q | chosen: a"),
        ({"prompt": "p", "completion": "c"}, "prompt: p | completion: c"),
        ({"text": "hi Anna", "spans": [{"start": 3, "end": 7, "label": "NAME"}]}, "hi Anna | [Anna: NAME]"),
        ({"text": "x" * 500}, "x" * 109 + "…"),
    ],
)
def test_a_sample_is_one_short_line(sample: dict[str, Any], line: str) -> None:
    assert sample_text(sample) == line


def test_a_refused_row_of_a_single_file_needs_no_name() -> None:
    assert rejected_text({"line": 3, "code": "row.nul", "reason": "text has a NUL byte"}) == (
        "line 3: text has a NUL byte (row.nul)"
    )


def test_a_check_tells_places_and_findings() -> None:
    part = {"rows": 3, "characters": SPREAD, "languages": {"en": 3}, "tokens": SPREAD, "labels": 2, "balance": 0.9}
    place = {"part": "train", "line": 2, "like_part": "heldout", "like_line": 9, "likeness": 0.9}
    marked = {"rows": 1, "examples": [place]}
    report = {
        "form": "classification", "train": part, "heldout": part,
        "labels": [{"label": "rare", "train": 1, "heldout": 0}], "exact_duplicates": marked, "near_duplicates": marked,
        "conflicts": marked, "outliers": {"rows": 1, "examples": [{"part": "train", "line": 4, "characters": 99}]},
        "personal": {"rows": 1, "examples": [{"part": "train", "line": 5, "kinds": {"email": 2}}]},
        "leakage": {"exact": 0, "near": 1, "examples": [place]},
        "findings": [],
    }  # fmt: skip
    text = check_text("faq@2", report)
    for piece in (
        "train line 2 is 0.90 like heldout line 9",
        "train line 4: 99 characters",
        "train line 5: email 2",
        "leakage: 0 exact, 1 near",
        "60 at 95 %, 90 most tokens",
        "OK  Nothing to say against it.",
    ):
        assert piece in text
    assert "WARN  Look." in check_text("x", report | {"findings": [{"level": "WARN", "code": "x", "text": "Look."}]})
