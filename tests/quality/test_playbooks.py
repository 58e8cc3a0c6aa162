"""The playbooks' gate: linters, and the rules that no linter knows."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.quality.sources import ROOT, texts

_PLAYBOOKS = ROOT / "playbooks"
_BIN = Path(sys.executable).parent
_ROLES = sorted(path.name for path in (_PLAYBOOKS / "roles").iterdir() if path.is_dir())
_KEYWORDS = frozenset(
    {"name", "when", "tags", "vars", "register", "loop", "loop_control", "notify", "listen", "no_log", "check_mode"}
    | {"changed_when", "failed_when", "become", "become_user", "environment", "args", "block", "rescue", "always"}
    | {"until", "retries", "delay", "ignore_errors", "run_once", "diff", "with_items", "delegate_to", "async", "poll"}
    | {"ignore_unreachable", "any_errors_fatal", "module_defaults", "timeout", "throttle"}
)
_COMMANDS = frozenset(
    {"ansible.builtin.command", "ansible.builtin.shell", "ansible.builtin.raw", "ansible.builtin.script"}
)

_SECRET_FILES = r"secrets_directory|_(password|passphrase|recovery|secret)_file|tls_key|\.hash"


class _Loader(yaml.SafeLoader):
    """Reads ansible's own tags as plain values."""


_Loader.add_multi_constructor("!", lambda loader, suffix, node: loader.construct_scalar(node))


def _tasks_of(path: Path) -> Iterator[dict[str, Any]]:
    for entry in yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader) or ():
        sections = ("tasks", "pre_tasks", "post_tasks", "handlers")
        if "hosts" in entry:
            for section in sections:
                yield from _flat(entry.get(section) or [])
        else:
            yield from _flat([entry])


def _flat(tasks: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for task in tasks:
        yield task
        for part in ("block", "rescue", "always"):
            yield from _flat(task.get(part) or [])


def _task_files() -> list[Path]:
    roles = _PLAYBOOKS / "roles"
    found = [*_PLAYBOOKS.glob("phase-*.yml"), *_PLAYBOOKS.glob("tasks/*.yml")]
    return sorted([*found, *roles.glob("*/tasks/**/*.yml"), *roles.glob("*/handlers/*.yml")])


_TASKS = [(path, task) for path in _task_files() for task in _tasks_of(path)]


def _where(path: Path, task: dict[str, Any]) -> str:
    return f"{path.relative_to(_PLAYBOOKS)}: {task.get('name', '?')}"


def _actions(task: dict[str, Any]) -> list[str]:
    return [name for name in task if name not in _KEYWORDS]


def test_ansible_lint_is_content(tmp_path: Path) -> None:
    argv = [str(_BIN / "ansible-lint"), "--offline", "--profile", "production", "--nocolor", "-q"]
    environment = {
        "PATH": f"{_BIN}:/usr/bin:/bin",
        "HOME": "/nonexistent",
        "LANG": "C.UTF-8",
        "ANSIBLE_HOME": "/nonexistent",
    }
    outcome = subprocess.run(
        [*argv, "-c", str(_PLAYBOOKS / ".ansible-lint"), "site.yml", "harden.yml"],
        cwd=_PLAYBOOKS,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
        env=environment,
    )
    assert outcome.returncode == 0, outcome.stdout[-8000:] + outcome.stderr[-2000:]


@pytest.mark.parametrize("role", _ROLES)
def test_role_is_complete(role: str) -> None:
    folder = _PLAYBOOKS / "roles" / role
    for name in ("README.md", "defaults/main.yml", "meta/argument_specs.yml", "tasks/main.yml"):
        assert (folder / name).is_file(), f"{role} has no {name}"
    defaults = yaml.safe_load((folder / "defaults" / "main.yml").read_text()) or {}
    options = yaml.safe_load((folder / "meta" / "argument_specs.yml").read_text())["argument_specs"]
    described = {name for entry in options.values() for name in entry.get("options") or {}}
    assert not set(defaults) - described, f"{role}: not in argument_specs: {sorted(set(defaults) - described)}"
    foreign = [name for name in {*defaults, *described} if not name.startswith(f"{role}_")]
    assert not foreign, f"{role}: public variables begin with {role}_: {foreign}"
    hidden = folder / "vars" / "main.yml"
    inner = yaml.safe_load(hidden.read_text()) or {} if hidden.is_file() else {}
    assert all(name.startswith(f"__{role}_") for name in inner), f"{role}: vars begin with __{role}_: {sorted(inner)}"
    assert len((folder / "tasks" / "main.yml").read_text().splitlines()) <= 60, f"{role}: main.yml only lists topics"


def test_every_variable_that_is_given_is_a_role_s_own() -> None:
    given = yaml.safe_load((_PLAYBOOKS / "group_vars" / "all.yml").read_text())
    described: set[str] = set()
    for path in _PLAYBOOKS.glob("roles/*/meta/argument_specs.yml"):
        for entry in yaml.safe_load(path.read_text())["argument_specs"].values():
            described |= set(entry.get("options") or {})
    assert not set(given) - described, f"group_vars/all.yml sets what no role takes: {sorted(set(given) - described)}"


def test_only_builtin_modules_and_our_own() -> None:
    ours = {path.stem for path in _PLAYBOOKS.rglob("library/*.py")}
    foreign = [
        f"{_where(path, task)}: {name}"
        for path, task in _TASKS
        for name in _actions(task)
        if not name.startswith("ansible.builtin.") and name not in ours
    ]
    assert not foreign, "The box has no collections: " + "; ".join(foreign)


def test_commands_say_what_a_change_is() -> None:
    silent = [
        _where(path, task)
        for path, task in _TASKS
        for name in _COMMANDS & set(task)
        if "changed_when" not in task and "/handlers/" not in str(path) and not _runs_once(task, name)
    ]
    assert not silent, "changed_when is missing: " + "; ".join(silent)


def _runs_once(task: dict[str, Any], name: str) -> bool:
    """Tell whether the module itself knows by a file that there is nothing to do."""
    given = task[name] if isinstance(task[name], dict) else {}
    return bool({"creates", "removes"} & ({*given} | {*(task.get("args") or {})}))


def test_tasks_have_names() -> None:
    nameless = [str(path) for path, task in _TASKS if not task.get("name")]
    assert not nameless


def test_what_reads_secrets_logs_nothing() -> None:
    """A task that takes the content of a secret file into a variable or an argument must not tell it."""
    telling = []
    for path, task in _TASKS:
        text = yaml.safe_dump(task)
        reads = "ansible.builtin.slurp" in task or re.search(r"lookup\(.(ansible\.builtin\.)?file", text)
        if reads and re.search(_SECRET_FILES, text) and "no_log" not in task and "block" not in task:
            telling.append(_where(path, task))
    assert not telling, "no_log is missing: " + "; ".join(telling)


def test_no_source_but_the_bundle() -> None:
    """Nothing is fetched: a URL in a task is a route out. Names of standards in comments and README files may be."""
    named = [
        f"{path}:{number}: {line.strip()}"
        for path, text in texts(".yml", ".j2", ".sh", ".py", ".conf")
        if path.parts[0] == "playbooks"
        for number, line in enumerate(text.splitlines(), 1)
        if re.search(r"https?://(?!127\.0\.0\.1|localhost|\[::1\]|\{\{|[\"'*/])", line.partition("#")[0])
    ]
    assert not named, "\n".join(named)
