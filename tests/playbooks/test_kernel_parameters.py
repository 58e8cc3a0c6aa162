"""The module that sets kernel parameters: only what differs, never a failure for what a container forbids."""

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
    - name: Set
      kernel_parameters:
        root: {root}
        values: {values}
      register: said
    - name: Tell
      ansible.builtin.copy:
        content: "{{{{ said | to_json }}}}"
        dest: {out}
        mode: "0600"
      check_mode: false
"""


@pytest.fixture
def parameters(tmp_path: Path) -> Path:
    root = tmp_path / "sys"
    (root / "net/ipv4").mkdir(parents=True)
    (root / "kernel").mkdir()
    (root / "net/ipv4/ip_forward").write_text("1\n")
    (root / "net/ipv4/ip_local_port_range").write_text("32768\t60999\n")
    (root / "kernel/sysrq").write_text("0\n")
    return root


def test_only_what_differs_is_written(parameters: Path, tmp_path: Path) -> None:
    said = _set(parameters, tmp_path, {"net.ipv4.ip_forward": "0", "kernel.sysrq": "0", "kernel.absent": "1"})
    assert said["changed"]
    assert (said["absent"], said["read_only"]) == (["kernel.absent"], [])
    assert said["diff"]["after"] == "net.ipv4.ip_forward = 0\n"
    assert (parameters / "net/ipv4/ip_forward").read_text() == "0\n"


def test_words_are_compared_and_not_spaces(parameters: Path, tmp_path: Path) -> None:
    assert not _set(parameters, tmp_path, {"net.ipv4.ip_local_port_range": "32768 60999"})["changed"]


def test_check_mode_writes_nothing(parameters: Path, tmp_path: Path) -> None:
    assert _set(parameters, tmp_path, {"net.ipv4.ip_forward": "0"}, "--check")["changed"]
    assert (parameters / "net/ipv4/ip_forward").read_text() == "1\n"


def _set(root: Path, folder: Path, values: dict[str, str], *words: str) -> dict[str, Any]:
    out = folder / "said.json"
    book = folder / "book.yml"
    book.write_text(_PLAYBOOK.format(root=root, values=json.dumps(values), out=out))
    program = Path(sys.executable).with_name("ansible-playbook")
    interpreter = f"ansible_python_interpreter={sys.executable}"
    words_before = [str(program), "-i", "localhost,", "-c", "local", "-e", interpreter]
    done = subprocess.run(
        [*words_before, *words, str(book)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(folder),
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_LIBRARY": str(ROOT / "playbooks" / "roles" / "kernel" / "library"),
            "ANSIBLE_LOCAL_TEMP": str(folder / "tmp"),
        },
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said: dict[str, Any] = json.loads(out.read_text())
    return said
