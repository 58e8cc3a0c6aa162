"""Telephone numbers in a text, as places. A run of digits alone says little, so form, plan and context decide together.

An international number must be possible in its country's plan; a North American or trunk form stands for itself;
anything else counts only beside a word such as "call" or "fax". Dates, amounts and codes are what it must leave alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import phonenumbers

_RUN = re.compile(
    r"(?<![\w@#$€£%+])(?<!\d[.,/:-])\+?\(?\d++\)?(?:[ .\-/]?\(?\d++\)?){0,8}(?:[ ]?(?:x|ext\.?[ ]?)\d{1,5})?(?![\w%])",
    re.IGNORECASE,
)
_EXTENSION = re.compile(r"[ ]?(?:x|ext\.?[ ]?)\d{1,5}\Z", re.IGNORECASE)
_DATE = re.compile(
    r"(?:19|20)\d\d[-./ ]\d{1,2}[-./ ]\d{1,2}(?:[ ]\d{1,2})?|\d{1,2}[-./]\d{1,2}[-./](?:19|20)?\d\d(?:[ ]\d{1,2})?"
)
_IDENTITY = re.compile(r"\d{3}[ -]\d{2}[ -]\d{4}")
_AMERICAN = re.compile(r"(?:1[ .-])?\(?[2-9]\d{2}\)?[ .-]?\d{3}[ .-]\d{4}")
_AMOUNT = re.compile(r"\d{1,3}(?:[ .]\d{3})+")
_WORDS = (
    r"phone|telephone|tel|mobile|cell|fax|desk|office|home|work|call(?:ed|ing)?|ring|reach|answering|sms|"
    r"text|messages?|whatsapp|hotline|contact|telefon\w*|handy|mobil\w*|ruf\w*|anruf\w*|t[ée]l[ée]\w*|portable|"
    r"appel\w*|tel[ée]fono?|m[óo]vil|llam\w*|cellulare|chiam\w*|telem[óo]vel"
)
_BEFORE = re.compile(rf"\b(?:{_WORDS})\b[^\d]{{0,24}}\Z", re.IGNORECASE)
_BEHIND = re.compile(r"[\s,-]{0,3}(?:office|fax|mobile|desk|home|work|cell)\b", re.IGNORECASE)
_WINDOW = 48


def telephones(text: str) -> Iterator[tuple[int, int]]:
    """Yield start and end of each telephone number."""
    for match in _RUN.finditer(text):
        start, end = match.span()
        number = _EXTENSION.sub("", match.group())
        digits = sum(character.isdigit() for character in number)
        if not 7 <= digits <= 15 or text[end : end + 1] == ":":
            continue
        if _DATE.fullmatch(number) or _IDENTITY.fullmatch(number):
            continue
        if _is_telephone(number, digits) or _is_spoken_of(text, start, end, number, digits):
            yield start, end


def _is_telephone(number: str, digits: int) -> bool:
    """Tell whether the form of a number says enough by itself."""
    if number.startswith("+"):
        return _is_possible(number)
    if number.startswith("00") and digits >= 10:
        return _is_possible(f"+{number[2:]}")
    groups = re.findall(r"\d+", number)
    if len(groups) < 2 or min(map(len, groups)) < 2 or _AMOUNT.fullmatch(number):
        return False
    if _AMERICAN.fullmatch(number):
        return True
    return 9 <= digits <= 12 and groups[0].startswith("0")


def _is_spoken_of(text: str, start: int, end: int, number: str, digits: int) -> bool:
    """Tell whether the words around a number make it one."""
    if digits > 13 or min(map(len, re.findall(r"\d+", number))) < 2:
        return False
    before = text[max(0, start - _WINDOW) : start]
    return bool(_BEFORE.search(before) or _BEHIND.match(text, end))


def _is_possible(number: str) -> bool:
    try:
        return phonenumbers.is_possible_number(phonenumbers.parse(number, None))
    except phonenumbers.NumberParseException:
        return False
