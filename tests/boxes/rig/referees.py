"""What scanners that are not ours say of a box: `intramuros evidence scan`, read from the evidence it left."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tests.boxes.rig.box import Box

CIS, ANSSI = "cis_level1_server", "anssi_bp28_enhanced"
_PACKAGES = ("openscap-scanner", "ssg-debian", "lynis")
_NOT_JUDGED = {"notselected", "notapplicable", "notchecked", "informational", "unknown"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Referees:
    """The scanners' verdicts on a box at one time."""

    document: dict[str, Any]

    @property
    def lynis_index(self) -> float:
        """Lynis's hardening index, 0 to 100."""
        return float(self.document["referees"]["lynis"]["hardening_index"])

    def rules(self, profile: str) -> dict[str, list[str]]:
        """Return a profile's rules by result: OpenSCAP's own words, and `waived` for one that fails with a waiver."""
        found: dict[str, list[str]] = {}
        for each in next(p for p in self.document["referees"]["openscap"] if p["profile"] == profile)["results"]:
            kind = "waived" if each.get("waiver") and each["result"] == "fail" else each["result"]
            found.setdefault(kind, []).append(each["rule"])
        return found

    def share(self, profile: str) -> float:
        """Return how many percent of the rules that apply pass."""
        judged = {kind: rules for kind, rules in self.rules(profile).items() if kind not in _NOT_JUDGED}
        return 100 * len(judged.get("pass", [])) / sum(map(len, judged.values()))


def install_scanners(box: Box) -> None:
    """Install the scanners from the medium, on a box that was prepared from it."""
    box.sh(f"apt-get install -y --no-install-recommends {' '.join(_PACKAGES)}", timeout=3600)


def scan(box: Box, label: str) -> Referees:
    """Scan a box that has the installer and the scanners' packages."""
    box.sh(f"intramuros evidence scan --label {label} --json", timeout=2 * 3600)
    return Referees(document=json.loads(box.sh("intramuros evidence show --json").out))
