"""Extract from a SCAP datastream which of its rules stand for which CIS and ANSSI requirements.

    python -m tools.write_control_references ssg-debian_0.1.82-1_all.deb

The table is committed: the catalogue of controls is checked against it by a test, and the evidence uses it to lay our
verdict beside OpenSCAP's. The numbers are the datastream's own, never ours from memory.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, parse

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "installer" / "evidence" / "benchmarks" / "ssg_debian12.json"
_XCCDF = "{http://checklists.nist.gov/xccdf/1.2}"
_BENCHMARK = "usr/share/xml/scap/ssg/content/ssg-debian12-xccdf.xml"
_CIS = "https://www.cisecurity.org/benchmark/debian_linux/"
_ANSSI = "https://cyber.gouv.fr/sites/default/files/document/linux_configuration-en-v2.pdf"
_PROFILES = {
    "cis_level1_server": "cis1",
    "cis_level2_server": "cis2",
    "anssi_bp28_minimal": "anssi-minimal",
    "anssi_bp28_intermediary": "anssi-intermediary",
    "anssi_bp28_enhanced": "anssi-enhanced",
    "anssi_bp28_high": "anssi-high",
}


def references(benchmark: Element, *, version: str) -> dict[str, Any]:
    """Return the table: every rule that CIS or ANSSI ask for, with its numbers and the profiles that select it."""
    selected: dict[str, list[str]] = {}
    for profile in benchmark.iter(f"{_XCCDF}Profile"):
        short = _PROFILES.get(profile.get("id", "").removeprefix("xccdf_org.ssgproject.content_profile_"))
        for choice in profile.findall(f"{_XCCDF}select") if short else ():
            if choice.get("selected") == "true" and "_rule_" in choice.get("idref", ""):
                selected.setdefault(_short(choice.get("idref", "")), []).append(short or "")
    rules = {}
    for rule in benchmark.iter(f"{_XCCDF}Rule"):
        found = rule.findall(f"{_XCCDF}reference")
        cis = sorted({text for ref in found if ref.get("href") == _CIS and (text := ref.text)})
        anssi = sorted({text for ref in found if ref.get("href") == _ANSSI and (text := ref.text)})
        name = _short(rule.get("id", ""))
        title = rule.find(f"{_XCCDF}title")
        if cis or anssi or name in selected:
            rules[name] = {
                "title": " ".join("".join(title.itertext()).split()) if title is not None else name,
                "cis": cis,
                "anssi": anssi,
                "profiles": sorted(selected.get(name, [])),
            }
    return {
        "source": f"ssg-debian {version}, {_BENCHMARK.rsplit('/', 1)[1]}",
        "licence": "BSD-3-Clause, Copyright 2012-2017 Red Hat, Inc. (ComplianceAsCode/content)",
        "benchmarks": {"cis": "CIS Debian Linux 12 Benchmark 1.1.0", "anssi": "ANSSI-BP-028 2.0"},
        "rules": rules,
    }


def _short(identifier: str) -> str:
    return identifier.rsplit("content_rule_", 1)[-1]


def text_of(table: dict[str, Any]) -> str:
    """Lay the table out with one rule a line, so that a change of the datastream reads well in a diff."""
    head = [f"  {json.dumps(key)}: {json.dumps(table[key])}," for key in ("source", "licence", "benchmarks")]
    rules = [f"    {json.dumps(name)}: {json.dumps(rule)}" for name, rule in sorted(table["rules"].items())]
    return "{\n" + "\n".join(head) + '\n  "rules": {\n' + ",\n".join(rules) + "\n  }\n}\n"


def main(arguments: list[str]) -> int:
    """Unpack the package and write the table."""
    package = Path(arguments[0])
    version = package.name.split("_")[1]
    with tempfile.TemporaryDirectory() as work:
        subprocess.run(["dpkg-deb", "-x", package, work], check=True)
        benchmark = parse(Path(work) / _BENCHMARK).getroot()  # a package whose signature apt has checked
    TABLE.write_text(text_of(references(benchmark, version=version)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
