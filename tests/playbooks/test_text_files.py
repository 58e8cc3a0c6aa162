"""The module that writes several files: whole ones, right modes, nothing on a second run."""

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
      text_files:
        folders: {folders}
        mode: "0640"
        files: {files}
      register: said
      ignore_errors: true
    - name: Tell
      ansible.builtin.copy:
        content: "{{{{ said | to_json }}}}"
        dest: {out}
        mode: "0600"
      check_mode: false
"""


def run(folder: Path, *options: str, files: dict[str, str] | None = None, folders: bool = True) -> dict[str, Any]:
    """Run the module and return what it said."""
    book, out = folder / "play.yml", folder / "said.json"
    wanted = wanted_files(folder) if files is None else files
    book.write_text(_PLAYBOOK.format(folders=folders, files=json.dumps(wanted), out=out))
    subprocess.run(
        [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "localhost,", "-c", "local", str(book), *options],
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(folder),
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_LIBRARY": str(ROOT / "playbooks" / "library"),
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    said: dict[str, Any] = json.loads(out.read_text())
    return said


def wanted_files(folder: Path) -> dict[str, str]:
    """Return two files in folders of their own."""
    return {f"{folder}/one.d/50-x.conf": "[Service]\nUMask=0077\n", f"{folder}/two.d/50-x.conf": "[Timer]\n"}


def test_files_are_written_once(tmp_path: Path) -> None:
    assert run(tmp_path)["changed_files"] == list(wanted_files(tmp_path))
    path = tmp_path / "one.d" / "50-x.conf"
    assert path.read_text() == "[Service]\nUMask=0077\n"
    assert (path.stat().st_mode & 0o7777, path.parent.stat().st_mode & 0o7777) == (0o640, 0o755)
    assert [entry.name for entry in path.parent.iterdir()] == ["50-x.conf"]
    assert run(tmp_path)["changed"] is False


@pytest.mark.parametrize("drift", ["text", "mode", "folder", "link", "gone"])
def test_drift_is_repaired_and_nothing_else(tmp_path: Path, drift: str) -> None:
    run(tmp_path)
    path = tmp_path / "one.d" / "50-x.conf"
    match drift:
        case "text":
            path.write_text("[Service]\n")
        case "mode":
            path.chmod(0o666)
        case "folder":
            path.parent.chmod(0o777)
        case "link":
            path.rename(tmp_path / "elsewhere")
            path.symlink_to(tmp_path / "elsewhere")
        case _:
            path.unlink()
    assert run(tmp_path)["changed_files"] == [str(path)]
    assert not path.is_symlink()
    assert run(tmp_path)["changed"] is False


def test_check_mode_tells_and_writes_nothing(tmp_path: Path) -> None:
    said = run(tmp_path, "--check")
    assert said["changed"] is True
    assert said["diff"][0]["after"] == "[Service]\nUMask=0077\n"
    assert not list(tmp_path.glob("*.d"))


def test_folder_that_nobody_makes_is_told(tmp_path: Path) -> None:
    said = run(tmp_path, folders=False)
    assert "one.d/50-x.conf cannot be written: [Errno 2]" in said["msg"]


@pytest.mark.parametrize("name", ["relative.conf", "/etc/../evil.conf"])
def test_path_that_is_not_absolute_is_refused(tmp_path: Path, name: str) -> None:
    assert "is no absolute path" in run(tmp_path, files={name: "x"})["msg"]
