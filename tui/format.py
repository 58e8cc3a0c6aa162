"""Values to text: sizes, spans of time, instants, shares, states. Pure; knows no terminal and no API type.

Text from outside (logs, names, answers) goes through `clean` before it reaches a terminal: control characters
and direction overrides in it could repaint the screen or disguise a name.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")

_WORDS = {
    "OK": ("ready", "live", "succeeded", "done", "ok", "resident"),
    "RUN": ("running", "starting", "stopping", "draining", "intent", "loading", "leaving"),
    "WAIT": ("queued", "waiting", "backing-off"),
    "WARN": ("interrupted", "warn", "refused"),
    "FAIL": ("failed", "unresponsive", "fail", "lost"),
    "OFF": ("stopped", "cancelled", "superseded", "revoked", "expired", "off", "absent", "pruned"),
}
_WORD_OF = {name: word for word, names in _WORDS.items() for name in names}
_GLYPHS = {"OK": "✓", "RUN": "▸", "WAIT": "·", "WARN": "▲", "FAIL": "✗", "OFF": "○"}
_GLYPHS_ASCII = {"OK": "+", "RUN": ">", "WAIT": ".", "WARN": "!", "FAIL": "x", "OFF": "-"}
_ASCII = str.maketrans(
    {
        **{_GLYPHS[word]: _GLYPHS_ASCII[word] for word in _GLYPHS},
        **dict.fromkeys("–—−─", "-"),
        **dict.fromkeys("’‘", "'"),
        **dict.fromkeys("“”«»", '"'),
        **dict.fromkeys("•", "*"),
        **dict.fromkeys("→", ">"),
        **dict.fromkeys("…", "~"),
        "×": "x",
        "\u00a0": " ",
    }
)
_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


def size(amount: int) -> str:
    """Bytes as `12 B`, `3.4 MiB`, `412 GiB`."""
    value = float(amount)
    for unit in _UNITS:
        if abs(value) < 1024 or unit == _UNITS[-1]:
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" or value >= 99.95 else f"{value:.1f} {unit}"


def count(number: int) -> str:
    """A number with thousands apart: `12,345`."""
    return f"{number:,}"


def parameters(number: int) -> str:
    """Model sizes as the field says them: `1.1 M`, `7.6 B`."""
    for unit, scale in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= scale:
            return f"{number / scale:.3g} {unit}"
    return str(number)


def share(fraction: float) -> str:
    """`0.423` as `42 %`; never rounds up to 100."""
    return f"{min(int(fraction * 100), 100)} %"


def duration(seconds: float) -> str:
    """`45 s`, `6 min`, `2 h 05 min`, `3 d 4 h`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def instant(text: str) -> datetime | None:
    """Parse RFC 3339 as the API writes it; None for an empty or foreign text."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC) if text else None
    except ValueError:
        return None


def moment(text: str) -> str:
    """An instant in UTC to the minute: `2026-07-01 12:03`."""
    at = instant(text)
    return at.strftime("%Y-%m-%d %H:%M") if at else "-"


def brief_moment(text: str, now: datetime) -> str:
    """`12:03` on the same day, `06-30 12:03` within the year, else the date."""
    at = instant(text)
    if at is None:
        return "-"
    if at.date() == now.date():
        return at.strftime("%H:%M")
    return at.strftime("%m-%d %H:%M") if at.year == now.year else at.strftime("%Y-%m-%d")


def ago(text: str, now: datetime) -> str:
    """How long since an instant: `6 min ago`; `never` for an empty text."""
    at = instant(text)
    if at is None:
        return "never"
    seconds = (now - at).total_seconds()
    return "just now" if seconds < 5 else f"{duration(seconds)} ago"


def figure(value: float) -> str:
    """A metric to four figures, a count whole: `0.9132`, `12.5`, `3`, `2,224,896`."""
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def short(digest: str) -> str:
    """The first twelve digits of a digest."""
    return digest[:12]


def word_of(name: str) -> str:
    """Map a state's name to OK, RUN, WAIT, WARN, FAIL or OFF; an unknown one is WAIT."""
    return _WORD_OF.get(name.lower(), "WAIT")


def glyph(word: str, *, ascii: bool) -> str:
    """The sign beside a state's word."""
    return (_GLYPHS_ASCII if ascii else _GLYPHS)[word]


def bar(fraction: float, width: int, *, ascii: bool) -> str:
    """A progress bar of `width` cells."""
    full = round(max(0.0, min(1.0, fraction)) * width)
    on, off = ("#", ".") if ascii else ("█", "░")
    return on * full + off * (width - full)


def clean(text: str) -> str:
    """Make outside text harmless on a terminal: one line, no control characters, no direction overrides."""
    return _UNSAFE.sub("?", text.replace("\n", " ").replace("\t", " "))


def to_ascii(text: str) -> str:
    """Say it in ASCII, cell for cell: accents dropped, typographic signs replaced, the rest `?`."""
    if text.isascii():
        return text
    return "".join(_ascii_of(character) for character in text.translate(_ASCII))


def _ascii_of(character: str) -> str:
    if character.isascii():
        return character
    base = unicodedata.normalize("NFKD", character)[:1]
    return (base if base.isascii() else "?") * cells(character)


def cells(text: str) -> int:
    """How many terminal cells a text takes: wide East Asian characters two, combining marks none."""
    if text.isascii():
        return len(text)
    return sum(_cells_of(character) for character in text)


def _cells_of(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def fit(text: str, width: int, *, right: bool = False) -> str:
    """Cut (with `…`) or pad a text to exactly `width` cells."""
    text = clean(text)
    taken = cells(text)
    if taken > width:
        kept, taken = "", 0
        for character in text:
            if taken + _cells_of(character) > width - 1:
                break
            kept, taken = kept + character, taken + _cells_of(character)
        text, taken = (kept + "…", taken + 1) if width > 0 else ("", 0)
    gap = " " * (width - taken)
    return gap + text if right else text + gap


def wrap(text: str, width: int) -> list[str]:
    """Break outside text into lines of at most `width` cells, at spaces where there are any."""
    lines: list[str] = []
    for paragraph in text.splitlines() or [""]:
        current = ""
        for word in re.split(r"(?<= )", clean(paragraph)):
            while cells(current) + cells(word.rstrip()) > width:
                if not current:
                    head = _head(word, width)
                    lines.append(head)
                    word = word[len(head) :]
                else:
                    lines.append(current.rstrip())
                    current = ""
            current += word
        lines.append(current.rstrip())
    return lines


def _head(word: str, width: int) -> str:
    """What of a long word fits; fingerprints and paths are cut behind a mark of theirs where there is a late one."""
    taken = 0
    for index, character in enumerate(word):
        taken += _cells_of(character)
        if taken > width and index > 0:
            mark = max(word.rfind(one, 0, index) for one in ":/") + 1
            return word[: mark if mark > index // 2 else index]
    return word
