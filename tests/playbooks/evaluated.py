"""An expression of a playbook as Ansible evaluates it, in a process of its own: it patches the interpreter it is in."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

_PROGRAM = """import json, sys
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
given = json.load(sys.stdin)
loader = DataLoader()
known = loader.load_from_file(given["file"], trusted_as_template=True) if given["file"] else {}
found = Templar(loader=loader, variables={**known, **given["variables"]}).template(trust_as_template(given["text"]))
print(json.dumps(found))
"""


def evaluated(text: str, variables: dict[str, Any], *, file: Path | None = None) -> Any:
    """Return what a template becomes with these variables, and with those of a file of variables below them."""
    given = {"text": text, "variables": variables, "file": str(file) if file else ""}
    said = subprocess.run(
        [sys.executable, "-c", _PROGRAM], input=json.dumps(given), capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout)
