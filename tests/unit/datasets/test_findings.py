from __future__ import annotations

from typing import Any

from appliance.datasets.findings import findings_of

NONE = {"rows": 0, "examples": []}


def report(**changes: Any) -> dict[str, Any]:
    clean: dict[str, Any] = {
        "train": {"rows": 90, "balance": 1.0},
        "heldout": {"rows": 10},
        "labels": [],
        "exact_duplicates": NONE,
        "near_duplicates": NONE | {"threshold": 0.85},
        "leakage": {"exact": 0, "near": 0, "examples": []},
        "conflicts": NONE,
        "outliers": NONE,
        "personal": NONE | {"kinds": {}},
        "too_long": 0,
    }
    return clean | changes


def said(**changes: Any) -> list[tuple[str, str]]:
    return [(finding["level"], finding["code"]) for finding in findings_of(report(**changes))]


def test_nothing_is_said_of_a_clean_set() -> None:
    assert said() == []


def test_one_row_and_several_are_told_apart() -> None:
    one = findings_of(report(leakage={"exact": 1, "near": 2, "examples": []}))
    assert one[0]["text"] == "1 training row asks what a held-out row asks."
    assert one[1]["text"].startswith("2 training rows nearly ask what")


def test_warnings_come_first() -> None:
    found = said(exact_duplicates={"rows": 3}, personal={"rows": 1, "kinds": {"email": 2}})
    assert found == [("WARN", "personal"), ("INFO", "duplicates.exact")]


def test_labels_that_cannot_be_learned_or_measured_are_named() -> None:
    labels = [
        {"label": "a", "train": 80, "heldout": 9},
        {"label": "b", "train": 3, "heldout": 0},
        {"label": "c", "train": 0, "heldout": 1},
    ]
    found = said(labels=labels, train={"rows": 83, "balance": 0.2})
    assert found == [
        ("WARN", "labels.unseen"),
        ("WARN", "labels.few"),
        ("INFO", "labels.unmeasured"),
        ("INFO", "labels.uneven"),
    ]


def test_a_set_that_cannot_be_measured_says_so() -> None:
    assert said(heldout={"rows": 0}, too_long=4) == [("WARN", "heldout.empty"), ("WARN", "tokens.too_long")]
