"""Reads YAML that a person wrote as plain data, and remembers on which line everything stands.

The core schema of YAML 1.2: `1e-3` is a number, `no` and `2026-01-01` are text. Tags, anchors and aliases are refused,
so a file cannot build objects or grow when it is read; so are a key given twice and more than 1 MiB.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from appliance.kernel.errors import BadInput
from appliance.kernel.text_file import read_text

_Path = tuple[str | int, ...]

_DEPTH: Final = 64
_SCALARS: Final[tuple[tuple[str, str, list[str]], ...]] = (
    ("tag:yaml.org,2002:null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("tag:yaml.org,2002:int", r"^[-+]?[0-9]+$", list("-+0123456789")),
    ("tag:yaml.org,2002:float", r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", list("-+.0123456789")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainDocument:
    """A document's value, and the line (from 1) on which each path of keys and indices begins."""

    name: str
    value: Any
    lines: Mapping[_Path, int]

    def line(self, *path: str | int) -> int:
        """Return the line of a path, or of the nearest thing around it that is there."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def where(self, *path: str | int) -> str:
        """Return `FILE, line N` for a message."""
        return f"{self.name}, line {self.line(*path)}"

    def before(self, *path: str | int) -> str:
        """Return `FILE, line N: ` to begin a message with; nothing where no file was read, whose name is empty."""
        return f"{self.where(*path)}: " if self.name else ""

    def part(self, *path: str | int) -> PlainDocument:
        """Return what stands at a path as a document of its own, with the lines that it has in the file."""
        value = self.value
        for key in path:
            value = value[key]
        depth = len(path)
        lines = {place[depth:]: line for place, line in self.lines.items() if place[:depth] == path}
        return PlainDocument(name=self.name, value=value, lines=lines)


class _CoreLoader(yaml.SafeLoader):
    """Safe loading with the scalars of YAML 1.2 instead of those of 1.1."""

    yaml_implicit_resolvers: Any = {}  # noqa: RUF012 - PyYAML's own way; it copies the table on the first change


for _tag, _pattern, _first in _SCALARS:
    _CoreLoader.add_implicit_resolver(_tag, re.compile(_pattern), _first)


def read_plain_yaml(file: Path) -> PlainDocument:
    """Read a file. Raises NotFound (`yaml.not_found`) or BadInput (`yaml.invalid`) naming the line."""
    return parse_plain_yaml(read_text(file).encode(), name=file.name)


def parse_plain_yaml(data: bytes, *, name: str) -> PlainDocument:
    """Parse one document. Raises BadInput (`yaml.invalid`) naming the line."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _invalid(f"{name}, line {data[: error.start].count(10) + 1}: byte {error.start} is not UTF-8") from error
    try:
        # A SafeLoader of ours: it builds nothing but numbers, text, lists and mappings.
        loader = _CoreLoader(text)
        _refuse_references(loader, name)
        loader = _CoreLoader(text)
        node = loader.get_single_node()
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "it cannot be read as YAML"
        raise _invalid(f"{name}, line {mark.line + 1 if mark else 1}: {problem}") from error
    lines: dict[_Path, int] = {}
    value = None if node is None else _value(node, (), lines, name)
    return PlainDocument(name=name, value=value, lines=lines)


def _refuse_references(loader: Any, name: str) -> None:
    depth = 0
    while loader.check_event():
        event = loader.get_event()
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _invalid(f"{name}, line {line}: anchors and aliases are not allowed")
        if getattr(event, "tag", None):
            raise _invalid(f"{name}, line {line}: the tag {event.tag} is not allowed")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEPTH:
            raise _invalid(f"{name}, line {line}: it is nested deeper than {_DEPTH}")


def _value(node: Any, path: _Path, lines: dict[_Path, int], name: str) -> Any:
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise _invalid(f"{name}, line {line}: a key must be a word")
            key = str(key_node.value)
            if key in found:
                raise _invalid(f"{name}, line {line}: {key} is given twice")
            lines[*path, key] = line
            found[key] = _value(value_node, (*path, key), lines, name)
        return found
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, (*path, index), lines, name) for index, item in enumerate(node.value)]
    return _scalar(node, name)


def _scalar(node: Any, name: str) -> Any:
    text = str(node.value)
    match node.tag.rpartition(":")[2]:
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "int" if len(text) <= 20:
            return int(text)
        case "float" | "int":
            number = float(text)
            if number in (float("inf"), float("-inf")):
                raise _invalid(f"{name}, line {node.start_mark.line + 1}: {text[:40]} is too large a number")
            return number
    return text


def _invalid(fault: str) -> BadInput:
    return BadInput("yaml.invalid", f"{fault}.", hint="Correct that line.")
