"""Who owns an import name, and what the command line must not load to be quick."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.quality.sources import ROOT, modules

_HEAVY = {
    "ansible",
    "ansible_runner",
    "torch",
    "transformers",
    "peft",
    "llama_cpp",
    "textual",
    "rich",
    "openai",
    "sqlalchemy",
}
_OURS = [name for name in ("appliance", "tui", "installer") if (ROOT / name / "__init__.py").exists()]
_LIST_MODULES = """
import atexit, json, sys
atexit.register(lambda: print("\\nMODULES " + json.dumps(sorted(sys.modules)), file=sys.__stdout__))
sys.argv = {argv!r}
from appliance.cli.main import main
raise SystemExit(main())
"""


@pytest.mark.parametrize("name", _OURS)
def test_import_name_has_one_owner(name: str) -> None:
    owners = importlib.metadata.packages_distributions().get(name, [])
    assert set(owners) == {"intramuros-appliance"}, f"{name} belongs to {owners}. Run: make setup"


@pytest.mark.parametrize("words", [["--help"], ["status", "--help"], ["status"]], ids=" ".join)
def test_command_line_loads_nothing_heavy(words: list[str], tmp_path: Path) -> None:
    argv = ["intramuros", *words]
    if words == ["status"]:
        argv += ["--state", str(tmp_path / "none")]
    outcome = subprocess.run(
        [sys.executable, "-c", _LIST_MODULES.format(argv=argv)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=os.environ | {"INTRAMUROS_PATIENCE": "0"},
    )
    last = outcome.stdout.rstrip().rpartition("\n")[2]
    assert last.startswith("MODULES "), outcome.stderr
    loaded = {name.partition(".")[0] for name in json.loads(last.removeprefix("MODULES "))}
    assert not loaded & _HEAVY, f"`{' '.join(argv)}` imports {sorted(loaded & _HEAVY)}: import them where they are used"


def test_only_tasks_of_a_domain_know_jobs() -> None:
    """A domain does not know that it is run as a job; its `*_task.py` modules are the one border between the two."""
    domains = {"catalog", "datasets", "training", "evaluation", "conversion", "registry", "engine", "rollout"}
    breaches = [
        f"{path} imports {name}"
        for path, tree in modules("appliance")
        if path.parts[1] in domains and not path.stem.endswith("_task")
        for name in _imported(tree)
        if name.startswith("appliance.jobs")
    ]
    assert not breaches, "Move it to a *_task.py module: " + "; ".join(breaches)


def test_package_roots_hold_a_docstring_only() -> None:
    crowded = [
        str(path)
        for path, tree in modules("appliance", "installer", "tui", "tools", "benchmarks")
        if path.name == "__init__.py" and not (len(tree.body) == 1 and ast.get_docstring(tree))
    ]
    assert not crowded, f"An __init__.py holds a docstring, nothing else: {crowded}"


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
