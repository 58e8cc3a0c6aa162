from __future__ import annotations

import pytest

from appliance.datasets.telephone import telephones


def found(text: str) -> list[str]:
    return [text[start:end] for start, end in telephones(text)]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("reach me at +1-212-555-0123", "+1-212-555-0123"),
        ("+44 20 7946 0958", "+44 20 7946 0958"),
        ("0049 30 901820 is ours", "0049 30 901820"),
        ("(212) 555-0188", "(212) 555-0188"),
        ("212.555.0188 ext. 12", "212.555.0188 ext. 12"),
        ("0391 567-4750 werktags", "0391 567-4750"),
        ("Rufnummer: 567 4750", "567 4750"),
        ("please call 2125550188", "2125550188"),
        ("567 4750 office", "567 4750"),
    ],
)
def test_numbers_are_found_by_form_plan_or_context(text: str, number: str) -> None:
    assert found(text) == [number]


@pytest.mark.parametrize(
    "text",
    [
        "2125550188",
        "567 4750",
        "+999 1",
        "00123",
        "2026-11-29 10",
        "29.11.2026",
        "1 000 000",
        "12:30:45",
        "078-05-1120",
        "4000 1234 5678 9010 1234",
        "v1.2.3-45678901",
        "#12345678",
        "€ 1234567.89",
    ],
)
def test_other_numbers_are_not(text: str) -> None:
    assert found(text) == []
