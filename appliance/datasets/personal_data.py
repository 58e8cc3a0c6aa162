"""Personal data in a text: a pure function from text to findings (kind, start, end), never the found string itself.

Patterns propose, checksums and plausibility decide: Luhn for cards, mod-97 and the country's form for IBANs, issued
ranges for social security numbers, numbering plans or the words around it for telephone numbers. Knows nothing of
data sets; names and addresses need a model and are not its business. Invariant: findings are sorted and do not
overlap, and the time is linear in the text.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from stdnum import iban, luhn
from stdnum.exceptions import ValidationError
from stdnum.us import ssn

from appliance.datasets.telephone import telephones


class Kind(StrEnum):
    """What was found."""

    EMAIL = "email"
    IBAN = "iban"
    CARD = "card"
    SSN = "ssn"
    IP = "ip"
    PHONE = "phone"
    URL = "url"


PERSONAL: Final = frozenset(Kind) - {Kind.URL}
"""What is looked for unless somebody asks otherwise: a web address rarely names a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One piece of personal data: its kind and its place in the text, in characters."""

    kind: Kind
    start: int
    end: int


def find_personal_data(text: str, *, kinds: frozenset[Kind] = PERSONAL) -> tuple[Finding, ...]:
    """Return what is found of these kinds, in the order of the text."""
    found: list[Finding] = []
    taken = bytearray(len(text))
    for kind, detect in _DETECTORS:
        if kind not in kinds:
            continue
        for start, end in detect(text):
            if taken.find(1, start, end) < 0:
                taken[start:end] = b"\1" * (end - start)
                found.append(Finding(kind=kind, start=start, end=end))
    return tuple(sorted(found, key=lambda finding: finding.start))


def redact(text: str, *, kinds: frozenset[Kind] = PERSONAL) -> tuple[str, Counter[Kind]]:
    """Return the text with each finding replaced by a mark such as `<EMAIL>`, and how many of each kind there were."""
    findings = find_personal_data(text, kinds=kinds)
    if not findings:
        return text, Counter()
    parts: list[str] = []
    at = 0
    for finding in findings:
        parts += [text[at : finding.start], f"<{finding.kind.upper()}>"]
        at = finding.end
    return "".join((*parts, text[at:])), Counter(finding.kind for finding in findings)


_LOCAL = re.compile(r"[\w.!#$%&'*+^`{|}~-]{1,64}\Z")
_DOMAIN = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}[A-Za-z]{2,24}(?![\w-])")
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?=[ ]?[A-Za-z0-9])")
_CARD = re.compile(r"(?<![\w.+-])\d(?:[ -]?\d){11,18}(?![\w-]|\.\d)")
_SSN = re.compile(r"(?<![\w+-])\d{3}([- ])\d{2}\1\d{4}(?![\w-])")
_BARE_SSN = re.compile(r"(?i:\bssn|social security)[^\d\n]{0,24}(\d{9})(?!\w)")
_IPV4 = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w]|\.\d)")
_IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f]{0,4}(?::{1,2}[0-9A-Fa-f]{1,4}){1,7}(?:::)?(?![\w:])")
_URL = re.compile(r"\b(?:https?://|www\.)[^\s<>\"'(){}\[\]]{4,400}", re.IGNORECASE)
_CARD_STARTS = re.compile(r"3[0-9]|4|5|6|2[2-7]|1800|2131")


def _emails(text: str) -> Iterator[tuple[int, int]]:
    at = text.find("@")
    while at >= 0:
        local = _LOCAL.search(text[max(0, at - 65) : at])
        domain = _DOMAIN.match(text, at + 1)
        if local and domain:
            yield at - len(local.group().lstrip(".'")), domain.end()
        at = text.find("@", at + 1)


def _ibans(text: str) -> Iterator[tuple[int, int]]:
    for match in _IBAN.finditer(text):
        if end := _iban_end(text, match.start()):
            yield match.start(), end


def _iban_end(text: str, start: int) -> int:
    """Return where the IBAN that begins at `start` ends (its country decides how long it is), or 0."""
    country = text[start : start + 2].upper()
    wanted = _IBAN_LENGTHS.get(country, 0)
    at = start
    letters: list[str] = []
    while len(letters) < wanted and at < len(text):
        character = text[at]
        if character.isascii() and character.isalnum():
            letters.append(character)
        elif character not in " -" or text[at - 1] in " -":
            return 0
        at += 1
    if not wanted or len(letters) < wanted or (at < len(text) and text[at].isalnum()):
        return 0
    try:
        iban.validate("".join(letters).upper(), check_country=False)
    except ValidationError:
        return 0
    return at


def _cards(text: str) -> Iterator[tuple[int, int]]:
    for match in _CARD.finditer(text):
        digits = re.sub(r"[ -]", "", match.group())
        if _CARD_STARTS.match(digits) and len(set(digits)) > 2 and luhn.is_valid(digits):
            yield match.span()


def _social_security_numbers(text: str) -> Iterator[tuple[int, int]]:
    for match in _SSN.finditer(text):
        if ssn.is_valid(match.group().replace(" ", "-")):
            yield match.span()
    for match in _BARE_SSN.finditer(text):
        if ssn.is_valid(match.group(1)):
            yield match.span(1)


def _addresses(text: str) -> Iterator[tuple[int, int]]:
    for pattern in (_IPV4, _IPV6):
        for match in pattern.finditer(text):
            candidate = match.group()
            if any(character.isdigit() for character in candidate) and _is_address(candidate):
                yield match.span()


def _is_address(candidate: str) -> bool:
    try:
        ipaddress.ip_address(candidate)
    except ValueError:
        return False
    return True


def _urls(text: str) -> Iterator[tuple[int, int]]:
    for match in _URL.finditer(text):
        yield match.start(), match.start() + len(match.group().rstrip(".,;:!?"))


_DETECTORS: Final[tuple[tuple[Kind, Callable[[str], Iterator[tuple[int, int]]]], ...]] = (
    (Kind.EMAIL, _emails),
    (Kind.URL, _urls),
    (Kind.IBAN, _ibans),
    (Kind.CARD, _cards),
    (Kind.IP, _addresses),
    (Kind.SSN, _social_security_numbers),
    (Kind.PHONE, telephones),
)
"""The surest first: what one has taken no later one gets."""

_REGISTRY: Final = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 "
    "ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 "
    "LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 "
    "PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 "
    "YE30"
)
_IBAN_LENGTHS: Final = {pair[:2]: int(pair[2:]) for pair in _REGISTRY.split()}
"""Country -> characters of its IBANs (SWIFT's IBAN registry)."""
