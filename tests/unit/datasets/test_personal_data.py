from __future__ import annotations

import re
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stdnum import iban, luhn

from appliance.datasets.personal_data import _IBAN_LENGTHS, Kind, find_personal_data, redact
from tests.factories.real_data import REAL_DATA, needs_real_data

CARD = "4000 1234 5678 901" + luhn.calc_check_digit("400012345678901")
IBAN = "DE" + iban.calc_check_digits("DE00370400440532013000") + "370400440532013000"


def found(text: str, *, kinds: frozenset[Kind] = frozenset(Kind)) -> list[tuple[str, str]]:
    return [(f.kind.value, text[f.start : f.end]) for f in find_personal_data(text, kinds=kinds)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("write to a.b+c@mail.example.org.", [("email", "a.b+c@mail.example.org")]),
        ("jürgen@example.de, x@y", [("email", "jürgen@example.de")]),
        ("https://lists.example.org/2-lee@example.org/T", [("email", "2-lee@example.org")]),
        (f"card {CARD}!", [("card", CARD)]),
        (f"IBAN {IBAN} and", [("iban", IBAN)]),
        (f"{IBAN[:4]} {IBAN[4:8]} {IBAN[8:12]} {IBAN[12:16]} {IBAN[16:20]} {IBAN[20:]} is", None),
        ("SSN 078-05-1121", [("ssn", "078-05-1121")]),
        ("my social security number is 123456789", [("ssn", "123456789")]),
        ("from 192.168.0.1, 2001:db8::7 and ::1", [("ip", "192.168.0.1"), ("ip", "2001:db8::7"), ("ip", "::1")]),
        ("call +49 30 901820 or (212) 555-0188 x12", [("phone", "+49 30 901820"), ("phone", "(212) 555-0188 x12")]),
        ("Tel.: 030 901820", [("phone", "030 901820")]),
        ("fax 0044 20 7946 0958", [("phone", "0044 20 7946 0958")]),
        ("see https://a.org/a?b=c. Or www.b.org", [("url", "https://a.org/a?b=c"), ("url", "www.b.org")]),
    ],
)
def test_each_kind_is_found_where_it_stands(text: str, expected: list[tuple[str, str]] | None) -> None:
    if expected is None:
        ((kind, part),) = found(text)
        assert (kind, part.replace(" ", "")) == ("iban", IBAN)
    else:
        assert found(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "card 4000 1234 5678 9010",
        f"{IBAN[:-1]}1",
        f"{IBAN}99",
        "XX00370400440532013000",
        "000-12-3456 and 666-12-3456 and 123-00-4567",
        "version 1.2.3.4.5 or 999.1.1.1",
        "std::cout << a::b; at 12:34:56",
        "2020-03-27 11:12, 27.03.2020, 3/27/2020",
        "it costs 1 234 567 or 1.234.567",
        "order 2270-66-1551 of 1234567 pieces, 75534-030",
        "a @ b, @name, name@",
        "ISBN 978-3-16-148410-0",
        "",
    ],
)
def test_what_only_looks_like_it_is_left_alone(text: str) -> None:
    assert found(text) == []


def test_a_web_address_counts_only_where_it_is_asked_for() -> None:
    text = "https://example.org"
    assert find_personal_data(text) == ()
    assert found(text, kinds=frozenset({Kind.URL})) == [("url", text)]


def test_marks_take_the_place_of_what_was_found() -> None:
    text, counts = redact(f"a@b.org, c@d.org or {CARD}?")
    assert text == "<EMAIL>, <EMAIL> or <CARD>?"
    assert counts == {Kind.EMAIL: 2, Kind.CARD: 1}
    assert redact("nothing") == ("nothing", {})


@given(st.text(alphabet="a@. +-()0123456789:/ABDEx\n", max_size=80))
def test_findings_are_in_order_and_apart_and_marks_leave_none(text: str) -> None:
    findings = find_personal_data(text, kinds=frozenset(Kind))
    assert all(0 <= f.start < f.end <= len(text) for f in findings)
    assert all(one.end <= other.start for one, other in pairwise(findings))


@pytest.mark.parametrize(
    "piece", ["1", "1 ", "a@b.de ", "a@", "a.", "1-", "(", "::", "12.", "DE00 ", "+1 ", "@", "x" * 7 + " "]
)
def test_the_time_is_linear_in_hostile_text(piece: str) -> None:
    def seconds(length: int) -> float:
        text = (piece * length)[:length]
        began = time.process_time()
        find_personal_data(text, kinds=frozenset(Kind))
        return time.process_time() - began

    assert seconds(40_000) < 2.0


def test_lengths_of_ibans_are_those_of_the_registry() -> None:
    for country, length in _IBAN_LENGTHS.items():
        known = iban._ibandb.info(f"{country}00")[0][1]
        if "bban" in known:
            assert sum(map(int, re.findall(r"\d+", known["bban"]))) + 4 == length, country


@needs_real_data
def test_the_goal_is_met_on_labelled_sentences() -> None:
    from benchmarks.personal_data import GOAL, measure

    for kind, figures in measure(REAL_DATA / "pii" / "pii.json").items():
        if kind != Kind.URL:
            assert figures["recall"] >= GOAL, kind
            assert figures["precision"] >= GOAL, kind
