"""The module that writes a drop-in beside many units: whole files, right modes, nothing on a second run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.quality.sources import ROOT

_PLAYBOOK = """\
- hosts: localhost
  gather_facts: false
  tasks:
    - name: Write
      unit_drop_ins:
        name: {name}
        root: {root}
        units: {units}
      register: said
      ignore_errors: true
    - name: Tell
      ansible.builtin.copy:
        content: "{{{{ said | to_json }}}}"
        dest: {out}
        mode: "0600"
      check_mode: false
"""
_UNITS = {"one.service": "[Service]\nUMask=0077\n", "two.timer": "[Timer]\n"}


def run(folder: Path, *options: str, units: dict[str, str] | None = None, name: str = "50-x.conf") -> dict[str, Any]:
    """Run the module on the folder `units` and return what it said."""
    (folder / "units").mkdir(exist_ok=True)
    book, out = folder / "play.yml", folder / "said.json"
    book.write_text(
        _PLAYBOOK.format(name=json.dumps(name), root=folder / "units", units=json.dumps(units or _UNITS), out=out)
    )
    subprocess.run(
        [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "localhost,", "-c", "local", str(book), *options],
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(folder),
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_LIBRARY": str(ROOT / "playbooks" / "roles" / "sandbox" / "library"),
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    said: dict[str, Any] = json.loads(out.read_text())
    return said


def test_files_are_written_once(tmp_path: Path) -> None:
    assert run(tmp_path)["changed_units"] == ["one.service", "two.timer"]
    path = tmp_path / "units" / "one.service.d" / "50-x.conf"
    assert path.read_text() == _UNITS["one.service"]
    assert (path.stat().st_mode & 0o7777, path.parent.stat().st_mode & 0o7777) == (0o644, 0o755)
    assert [entry.name for entry in path.parent.iterdir()] == ["50-x.conf"]
    assert run(tmp_path)["changed"] is False


@pytest.mark.parametrize("drift", ["text", "mode", "folder"])
def test_drift_is_repaired_and_nothing_else(tmp_path: Path, drift: str) -> None:
    run(tmp_path)
    path = tmp_path / "units" / "one.service.d" / "50-x.conf"
    match drift:
        case "text":
            path.write_text("[Service]\n")
        case "mode":
            path.chmod(0o666)
        case _:
            path.parent.chmod(0o777)
    assert run(tmp_path)["changed_units"] == ["one.service"]
    assert run(tmp_path)["changed"] is False


def test_check_mode_tells_and_writes_nothing(tmp_path: Path) -> None:
    said = run(tmp_path, "--check")
    assert said["changed"] is True
    assert said["diff"][0]["after"] == _UNITS["one.service"]
    assert list((tmp_path / "units").iterdir()) == []


@pytest.mark.parametrize("name", ["../evil.conf", "noconf"])
def test_a_name_that_is_no_drop_ins_is_refused(tmp_path: Path, name: str) -> None:
    assert "is no name of a drop-in" in run(tmp_path, name=name)["msg"]
