"""The catalogue: the controls in `controls/*.toml`, one file a topic, and the rules of the datastream they stand for.

Adding a control is adding an entry to one of the files; a test compares its numbers with the datastream's.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import msgspec

from appliance.kernel.canonical import digest_of
from appliance.kernel.errors import InternalError
from installer.evidence.control import Control

_HERE = Path(__file__).parent
_CONTROLS = _HERE / "controls"
_RULES = _HERE / "benchmarks" / "ssg_debian12.json"


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule of the datastream."""

    title: str
    cis: tuple[str, ...]
    anssi: tuple[str, ...]
    profiles: tuple[str, ...]


class RuleTable(msgspec.Struct, frozen=True, kw_only=True):
    """What tools/write_control_references.py extracted."""

    source: str
    licence: str
    benchmarks: dict[str, str]
    rules: dict[str, Rule]


class Topic(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file of the catalogue."""

    topic: str
    order: int
    control: tuple[Control, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """Every control, in the order of the files."""

    topics: tuple[Topic, ...]
    digest: str

    @property
    def controls(self) -> tuple[Control, ...]:
        """All controls."""
        return tuple(control for topic in self.topics for control in topic.control)

    def by_id(self) -> Mapping[str, Control]:
        """Return the controls by their ids."""
        return {control.id: control for control in self.controls}

    def by_rule(self) -> Mapping[str, tuple[Control, ...]]:
        """Return, for each rule of the datastream that a control stands for, these controls."""
        found: dict[str, tuple[Control, ...]] = {}
        for control in self.controls:
            for rule in control.refs.ssg:
                found[rule] = (*found.get(rule, ()), control)
        return found


@cache
def load_catalogue(directory: Path = _CONTROLS) -> Catalogue:
    """Read and validate every file. Raises InternalError: the catalogue is part of the product."""
    topics = []
    for path in sorted(directory.glob("*.toml")):
        try:
            topics.append(msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Topic))
        except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
            raise InternalError("evidence.catalogue", f"The catalogue's file {path.name} is wrong: {error}.") from error
    topics.sort(key=lambda topic: topic.order)
    catalogue = Catalogue(topics=tuple(topics), digest=digest_of(msgspec.to_builtins(topics)))
    ids = [control.id for control in catalogue.controls]
    twice = sorted({each for each in ids if ids.count(each) > 1})
    if twice:
        raise InternalError("evidence.catalogue", f"The catalogue names {', '.join(twice)} twice.")
    return catalogue


@cache
def load_rules() -> RuleTable:
    """Read the table of the datastream's rules."""
    return msgspec.json.decode(_RULES.read_bytes(), type=RuleTable)
