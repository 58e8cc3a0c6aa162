"""Reads playbooks and roles without running them: phases, roles and the names of their tasks, in order.

Names and tags only, for the plan, the fraction of a run, and control ids. Conditions are ansible's business: a task
that is listed may be skipped on this machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from appliance.kernel.canonical import digest_of, sha256_file
from appliance.kernel.errors import IntegrityFailure, NotFound

_ROLE_ACTIONS = frozenset(
    {"import_role", "include_role", "ansible.builtin.import_role", "ansible.builtin.include_role"}
)
_FILE_ACTIONS = frozenset(
    {"import_tasks", "include_tasks", "ansible.builtin.import_tasks", "ansible.builtin.include_tasks"}
)
_PLAYBOOK_ACTIONS = frozenset({"import_playbook", "ansible.builtin.import_playbook"})
_DEPTH = 8


class _Loader(yaml.SafeLoader):
    """YAML as ansible writes it: its own tags are read as plain values."""


def _plain(loader: _Loader, _suffix: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return loader.construct_scalar(node)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_mapping(node, deep=True) if isinstance(node, yaml.MappingNode) else None


_Loader.add_multi_constructor("!", _plain)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskLine:
    """A task by its name, with the control ids it carries."""

    name: str
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleLine:
    """A role, or one entry of it, with its tasks in order."""

    name: str
    tasks: tuple[TaskLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One playbook file that is run on its own and ends with a mark."""

    name: str
    title: str
    file: Path
    roles: tuple[RoleLine, ...]

    @property
    def task_count(self) -> int:
        """Return how many tasks it has, at most about."""
        return sum(len(role.tasks) for role in self.roles) + 1


def read_book(folder: Path, name: str) -> tuple[Phase, ...]:
    """Return the phases of `site` or `harden` in order. Raises NotFound or IntegrityFailure (not as we write them)."""
    file = folder / f"{name}.yml"
    phases = []
    for play in _documents(file):
        target = next((play[action] for action in _PLAYBOOK_ACTIONS if action in play), None)
        if target is None:
            raise IntegrityFailure("playbooks.layout", f"{file} holds a play; it lists the files of phases only.")
        phases.append(_phase(folder, file.parent / str(target)))
    return tuple(phases)


def digest_playbooks(folder: Path) -> str:
    """Return the digest of every file below the playbooks' folder, names included."""
    return digest_of(
        {
            str(path.relative_to(folder)): sha256_file(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file() and "__pycache__" not in path.parts
        }
    )


def _phase(folder: Path, file: Path) -> Phase:
    plays = _documents(file)
    roles: list[RoleLine] = []
    for play in plays:
        for entry in play.get("roles") or ():
            role = entry if isinstance(entry, str) else str(entry.get("role") or entry.get("name"))
            roles.append(_role(folder, role, "main"))
        for section in ("pre_tasks", "tasks", "post_tasks"):
            roles += _inline(folder, file, play.get(section) or [])
    name = file.stem.removeprefix("phase-")
    return Phase(name=name, title=str(plays[0].get("name") or name), file=file, roles=tuple(roles))


def _inline(folder: Path, file: Path, tasks: list[dict[str, Any]]) -> Iterator[RoleLine]:
    """Return what a play does outside its roles; a role that is imported there stands by its own name."""
    for task in tasks:
        action = next((task[name] for name in _ROLE_ACTIONS if name in task), None)
        if action is not None:
            yield _role(folder, str(action["name"]), str(action.get("tasks_from") or "main").removesuffix(".yml"))
        elif not any(name in task for name in _FILE_ACTIONS) and (lines := tuple(_lines(file.parent, [task], _DEPTH))):
            yield RoleLine(name=f"play {file.stem}", tasks=lines)


def _role(folder: Path, name: str, entry: str) -> RoleLine:
    tasks = folder / "roles" / name / "tasks"
    lines = tuple(_lines(tasks, _documents(tasks / f"{entry}.yml"), _DEPTH))
    return RoleLine(name=name if entry == "main" else f"{name} ({entry})", tasks=lines)


def _lines(folder: Path, tasks: list[dict[str, Any]], depth: int) -> Iterator[TaskLine]:
    for task in tasks:
        inner = [step for part in ("block", "rescue", "always") for step in task.get(part) or ()]
        target = next((task[name] for name in _FILE_ACTIONS if name in task), None)
        if inner:
            yield from _lines(folder, inner, depth)
        elif target is not None and depth > 0:
            given = target.get("file") if isinstance(target, dict) else target
            if (path := folder / str(given)).is_file():  # a name that is computed at run time is none
                yield from _lines(folder, _documents(path), depth - 1)
        elif not any(name.endswith("meta") for name in task):
            tags = task.get("tags") or ()
            yield TaskLine(
                name=str(task.get("name") or next(iter(task))),
                tags=(tags,) if isinstance(tags, str) else tuple(str(tag) for tag in tags),
            )


def _documents(file: Path) -> list[dict[str, Any]]:
    try:
        loaded = yaml.load(file.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506  a SafeLoader
    except FileNotFoundError as error:
        raise NotFound("playbooks.missing", f"There is no {file}.", hint="Is the bundle complete?") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise IntegrityFailure("playbooks.syntax", f"{file} is not valid YAML: {error}.") from error
    if loaded is None:
        return []
    if not isinstance(loaded, list) or not all(isinstance(entry, dict) for entry in loaded):
        raise IntegrityFailure("playbooks.layout", f"{file} is not a list of plays or tasks.")
    return loaded
