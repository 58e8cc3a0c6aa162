"""A tiny set of playbooks for the real runner: phases of a test's own, ended as the product's are."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from tests.quality.sources import ROOT

_ENDING = ("tasks/mark_end.yml", "library/text_files.py")  # what marks the end of a phase, and the module it calls


def write_playbooks(folder: Path, phases: Mapping[str, str]) -> None:
    """Write the playbook `site` with these phases, name to YAML, in their order."""
    for name in _ENDING:
        (folder / name).parent.mkdir(parents=True)
        shutil.copy(ROOT / "playbooks" / name, folder / name)
    for name, text in phases.items():
        (folder / f"phase-{name}.yml").write_text(text)
    imports = "".join(f"- ansible.builtin.import_playbook: phase-{name}.yml\n" for name in phases)
    (folder / "site.yml").write_text(f"---\n{imports}")
