"""What is wrong with the answers, field by field. The judge is `installer.answers`; this only says it beside the field.

One bad field does not hide the others: it is replaced by something harmless while the rest is judged together.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import msgspec

from installer.answer_rules import Fault, contradictions, doubts
from installer.answers import Answers
from tui.install.answer_file import asked_fields, document_of, value_of
from tui.install.fields import Field, Texts, fields

_HARMLESS: dict[str, Any] = {
    "hostname": "box",
    "admin.user": "person",
    "admin.authorized_keys": [],
    "network.admin": [],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """`faults` by field key, each one sentence; `answers` when there is none; `doubts` are allowed."""

    faults: dict[str, str]
    doubts: tuple[Fault, ...]
    answers: Answers | None


def judge(texts: Texts) -> Verdict:
    """Judge what was typed."""
    asked = asked_fields(texts)
    faults = {field.key: told for field in asked if (told := _alone(field, texts.get(field.key, "")))}
    sound = [field for field in asked if field.key not in faults]
    document = document_of(texts, sound)
    for key, value in _HARMLESS.items():
        if key in faults:
            *groups, name = key.split(".")
            place = document
            for group in groups:
                place = place.setdefault(group, {})
            place[name] = value
    answers = msgspec.convert(document, Answers)
    shown = {field.key for field in asked}
    for fault in contradictions(answers):
        key = field_of(fault.key)
        if key not in shown:
            key = next(iter(shown & {key.partition(".")[0]}), asked[0].key)
        faults.setdefault(key, _said(fault))
    if faults:
        return Verdict(faults=faults, doubts=(), answers=None)
    return Verdict(faults={}, doubts=tuple(doubts(answers)), answers=answers)


def field_of(key: str) -> str:
    """The field of a fault's key: `network.dns[1]` -> `network.dns`, `backup` -> its first question."""
    key = re.sub(r"\[\d+\].*", "", key)
    known = fields()
    return key if key in known else next((name for name in known if name.startswith(f"{key}.")), key)


def _alone(field: Field, text: str) -> str:
    if not text.strip():
        return "is needed" if field.required else ""
    try:
        msgspec.convert(value_of(field, text), field.type)
    except msgspec.ValidationError as error:
        told = str(error)
        if field.wrong or field.choices:
            return f"must be {field.wrong or ' or '.join(field.choices)}"
        told = told.partition(" - at")[0]
        return told[:1].lower() + told[1:]
    return ""


def _said(fault: Fault) -> str:
    number = re.search(r"\[(\d+)\]", fault.key)
    return f"entry {int(number[1]) + 1}: {fault.text}" if number else fault.text
