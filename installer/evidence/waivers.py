"""Waivers: what a site cannot or does not want to meet, why, who answers for it, and until when.

The file is `/etc/intramuros/waivers.toml`. A waiver without reason, owner or expiry is refused by name; one that has
expired waives nothing and is reported. A waiver never changes what was seen: the control is shown as waived with both.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import msgspec

from appliance.kernel.durable import write_file
from appliance.kernel.errors import BadInput, NotFound, storage_errors

PATH = Path("/etc/intramuros/waivers.toml")
LONGEST_DAYS = 730
_DEFAULTS = Path(__file__).parent / "waivers.toml"


class Waiver(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One exception."""

    control: str
    """id of a control of ours, or a rule of the datastream"""
    reason: str
    owner: str
    """who answers for it: a name or a function that a person can ask"""
    expiry: date
    """last day on which it counts"""


class _Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    waiver: tuple[Waiver, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Waivers:
    """The waivers of a box on a day."""

    valid: tuple[Waiver, ...]
    expired: tuple[Waiver, ...]

    def of(self, name: str) -> Waiver | None:
        """Return the valid waiver of exactly this control or rule."""
        return next((each for each in self.valid if each.control == name), None)

    def covering(self, control: str, rules: Sequence[str]) -> Waiver | None:
        """Return the waiver of a control: its own, or the first of its rules' when every one of them is waived.

        A control that stands for several rules fails for any of them; a waiver of one must not hide the others.
        """
        found = [self.of(rule) for rule in rules]
        return self.of(control) or (found[0] if found and all(found) else None)


def load_waivers(path: Path, *, today: date, known: frozenset[str]) -> Waivers:
    """Read and validate a file; a missing one waives nothing. Raises BadInput that names each problem."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Waivers(valid=(), expired=())
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput("waivers.unreadable", f"The waivers {path} cannot be read: {error}.") from error
    listed = _parse(text, path)
    problems = [problem for each in listed for problem in problems_of(each, today=today, known=known)]
    names = [each.control for each in listed]
    problems += [f"{name} is waived twice" for name in sorted({each for each in names if names.count(each) > 1})]
    if problems:
        raise BadInput(
            "waivers.invalid",
            f"The waivers {path} cannot be accepted: {'; '.join(problems)}.",
            hint="Correct the file, or use `intramuros evidence waive`, which checks before it writes.",
        )
    return Waivers(
        valid=tuple(each for each in listed if each.expiry >= today),
        expired=tuple(each for each in listed if each.expiry < today),
    )


def problems_of(waiver: Waiver, *, today: date, known: frozenset[str]) -> list[str]:
    """Return what is wrong with a waiver. An expired one is not wrong: it only does not count."""
    name = waiver.control
    return [
        problem
        for wrong, problem in (
            (name not in known, f"{name} is neither a control nor a rule of the datastream"),
            (len(" ".join(waiver.reason.split())) < 12, f"{name} has no reason that explains anything"),
            (len("".join(waiver.owner.split())) < 2, f"{name} has no owner"),
            ((waiver.expiry - today).days > LONGEST_DAYS, f"{name} expires only in more than {LONGEST_DAYS} days"),
        )
        if wrong
    ]


def add_waiver(path: Path, waiver: Waiver, *, today: date, known: frozenset[str]) -> None:
    """Add a waiver, or replace the one of the same control. Raises BadInput."""
    problems = problems_of(waiver, today=today, known=known)
    if waiver.expiry < today:
        problems.append(f"{waiver.control} would be expired already")
    if problems:
        raise BadInput("waivers.refused", f"This waiver is not accepted: {'; '.join(problems)}.")
    kept = [each for each in _listed(path) if each.control != waiver.control]
    _write(path, [*kept, waiver])


def remove_waiver(path: Path, control: str) -> None:
    """Take a waiver away. Raises NotFound."""
    listed = _listed(path)
    kept = [each for each in listed if each.control != control]
    if len(kept) == len(listed):
        raise NotFound("waivers.unknown", f"{path} has no waiver of {control}.")
    _write(path, kept)


def shipped_waivers(*, today: date, owner: str, holds: Callable[[str], bool] | None = None) -> list[Waiver]:
    """Return what a box starts with: what software on one disk cannot meet. They run for a year.

    `holds` tells whether a condition of applicability.py holds on the box; without it those for any box are returned.
    """
    raw = tomllib.loads(_DEFAULTS.read_text(encoding="utf-8"))
    expiry = date(today.year + 1, today.month, min(today.day, 28))
    return [
        Waiver(control=each["control"], reason=each["reason"], owner=owner, expiry=expiry)
        for each in raw["waiver"]
        if holds is None
        or (("when" not in each or holds(each["when"])) and ("unless" not in each or not holds(each["unless"])))
    ]


def write_shipped(path: Path, *, today: date, owner: str, holds: Callable[[str], bool]) -> bool:
    """Write the waivers that are shipped for this box where there is no file yet; tell whether it was written."""
    if path.exists():
        return False
    _write(path, shipped_waivers(today=today, owner=owner, holds=holds))
    return True


def _listed(path: Path) -> list[Waiver]:
    try:
        return list(_parse(path.read_text(encoding="utf-8"), path))
    except FileNotFoundError:
        return []


def _parse(text: str, path: Path) -> tuple[Waiver, ...]:
    try:
        return msgspec.convert(tomllib.loads(text), _Document).waiver
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise BadInput(
            "waivers.invalid",
            f"The waivers {path} cannot be accepted: {error}.",
            hint="Each [[waiver]] needs control, reason, owner and expiry (a date such as 2027-06-30).",
        ) from error


def _write(path: Path, waivers: list[Waiver]) -> None:
    parts = ["# Exceptions of this box: what is not met, why, who answers for it and until when.\n"]
    for each in sorted(waivers, key=lambda waiver: waiver.control):
        parts.append(
            f"\n[[waiver]]\ncontrol = {_quoted(each.control)}\nreason = {_quoted(each.reason)}\n"
            f"owner = {_quoted(each.owner)}\nexpiry = {each.expiry.isoformat()}\n"
        )
    with storage_errors("writing the waivers"):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, "".join(parts).encode(), mode=0o644)


def _quoted(text: str) -> str:
    """Return a TOML basic string: JSON's escapes are TOML's, and DEL is the one more character TOML wants escaped."""
    return msgspec.json.encode(" ".join(text.split())).decode().replace("\x7f", "\\u007f")
