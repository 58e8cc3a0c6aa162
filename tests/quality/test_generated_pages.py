"""Pages that are written from the sources are what the sources say now, and say enough."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tools import write_answers_page, write_error_codes, write_recipes_page, write_settings_page
from tools.documented_fields import Field, fields_of
from tools.source_facts import error_uses

_REMEDY = "Run: make docs"


def test_error_codes_page_is_current() -> None:
    assert write_error_codes.PAGE.is_file(), _REMEDY
    written = set(re.findall(r"^\| `([a-z0-9_.]+)`", write_error_codes.PAGE.read_text(), flags=re.MULTILINE))
    used = {use.code for use in error_uses()}
    assert written == used, f"missing: {sorted(used - written)}, stale: {sorted(written - used)}. {_REMEDY}"
    assert write_error_codes.PAGE.read_text() == write_error_codes.page(), f"The messages changed. {_REMEDY}"


def test_error_codes_are_dotted_names() -> None:
    odd = [use.code for use in error_uses() if not re.fullmatch(r"[a-z][a-z0-9_]*\.[a-z][a-z0-9_.]*", use.code)]
    assert not odd, f"A code is <area>.<what>: {odd}"


@pytest.mark.parametrize(
    "generator", [write_settings_page, write_recipes_page, write_answers_page], ids=["settings", "recipes", "answers"]
)
def test_page_is_current(generator: Any) -> None:
    assert generator.PAGE.is_file(), _REMEDY
    assert generator.PAGE.read_text() == generator.page(), _REMEDY


@pytest.mark.parametrize("field", fields_of(write_settings_page.SOURCE, "Settings"), ids=lambda field: field.name)
def test_setting_is_explained(field: Field) -> None:
    assert len(field.meaning) > 10, f"Settings.{field.name} needs a line below it that says what it does"


@pytest.mark.parametrize("struct", [struct for _, struct in write_answers_page.SECTIONS])
def test_answer_is_explained(struct: str) -> None:
    sections = {
        "admin",
        "network",
        "storage",
        "tls",
        "app",
        "fleet",
        "monitor",
        "backup",
        "ssh",
        "firewall",
        "console",
        "lifeline",
    }
    fields = [field for field in fields_of(write_answers_page.SOURCE, struct) if field.name not in sections]
    silent = [field.name for field in fields if len(field.meaning) <= 10]
    assert fields
    assert not silent, f"{struct} needs a line below {silent} that says what it does"
