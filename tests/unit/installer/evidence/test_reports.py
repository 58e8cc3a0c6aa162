"""What others read: HTML without anything from elsewhere, CSV without formulas, OSCAL that NIST's schema accepts."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.kernel.errors import InternalError
from installer.evidence.archive import Archive
from installer.evidence.document import Evidence
from installer.evidence.report_csv import csv_report
from installer.evidence.report_html import html_report
from installer.evidence.report_oscal import OSCAL_VERSION, assessment_results, check, oscal_report
from tests.factories.evidence import NOW, SSHD, collected, hardened, owned, said, waiver_file
from tests.unit.installer.evidence.test_referees import collected_with_scan


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Evidence, Evidence, str]:
    """A box before, and after with one failure, one waiver and a hostile value."""
    machine = hardened()
    machine.programs[SSHD] = said("permitrootlogin yes\n")
    before = collected(tmp_path, machine, label="before").evidence
    waiver_file(tmp_path, {"IM-SSH-01": "2027-01-01"})
    machine.programs[SSHD] = said('permitrootlogin <script>alert("1")</script>&\x1b[31m\n')
    machine.files["/etc/shadow"] = owned(0o644, group="=shadow")
    found = collected(tmp_path, machine, at=NOW + timedelta(days=1))
    return before, found.evidence, found.digest


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in {"src", "href", "action", "data", "background"}]


def test_html_fetches_nothing_and_runs_nothing(pair: tuple[Evidence, Evidence, str]) -> None:
    before, after, digest = pair
    text = html_report(after, before, digest)
    page = _Page()
    page.feed(text)
    assert page.links == []
    assert not {"script", "img", "link", "iframe", "object"} & set(page.tags)
    for outside in ("http:", "https:", "//", "url(", "@import"):
        assert outside not in text
    assert "default-src 'none'" in text
    assert "@media print" in text
    assert "&lt;script&gt;" in text
    assert "\x1b" not in text


def test_html_says_what_a_security_team_asks(pair: tuple[Evidence, Evidence, str]) -> None:
    before, after, digest = pair
    text = html_report(after, before, digest)
    for wanted in (digest, after.public_key, "The site decided so.", "Ada", "2027-01-01", before.id, "For the worse"):
        assert wanted in text
    assert "There is no earlier evidence" in html_report(before, None, digest)


def test_html_shows_our_verdict_beside_openscaps(tmp_path: Path) -> None:
    found = collected_with_scan(tmp_path)
    text = html_report(found.evidence, None, found.digest)
    assert "Where we differ from OpenSCAP: 1" in text
    assert "sshd_disable_root_login: fail" in text
    assert "Hardening index 86" in text
    assert "partition_for_home" in text


def test_contrast_of_every_text_is_seven_to_one_and_more(pair: tuple[Evidence, Evidence, str]) -> None:
    """WCAG 2.2, success criterion 1.4.6, on white."""
    before, after, digest = pair
    colours = set(re.findall(r"[^-]color: (#[0-9a-f]{6})", html_report(after, before, digest)))
    assert len(colours) >= 5
    for colour in colours:
        channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
        assert 1.05 / (luminance + 0.05) >= 7, colour


def test_csv_has_a_line_a_control_and_no_formula(pair: tuple[Evidence, Evidence, str]) -> None:
    before, after, digest = pair
    rows = list(csv.DictReader(io.StringIO(csv_report(after, before, digest))))
    assert [row["control"] for row in rows] == [each.id for each in after.controls]
    assert rows[0]["waiver_owner"] == "Ada"
    assert rows[0]["before"] == "fail"
    hostile = msgspec.structs.replace(after, controls=(msgspec.structs.replace(after.controls[0], observed="=1+1"),))
    assert next(csv.DictReader(io.StringIO(csv_report(hostile, None, digest))))["observed"] == "'=1+1"


def test_oscal_is_valid_and_always_the_same(pair: tuple[Evidence, Evidence, str]) -> None:
    before, after, digest = pair
    document: dict[str, Any] = json.loads(oscal_report(after, before, digest))
    assert document == json.loads(oscal_report(after, None, digest))
    content = document["assessment-results"]
    assert content["metadata"]["oscal-version"] == OSCAL_VERSION
    result = content["results"][0]
    states = {each["target"]["target-id"]: each["target"]["status"]["state"] for each in result["findings"]}
    assert states == {
        "im-ssh-01": "not-satisfied",
        "im-net-21": "satisfied",
        "im-file-05": "not-satisfied",
        "im-file-18": "satisfied",
    }
    assert [(each["status"], "deadline" in each) for each in result["risks"]] == [
        ("deviation-approved", True),
        ("open", False),
    ]
    assert len(result["observations"]) == len(after.controls)


def test_oscal_of_a_box_on_which_nothing_applies(tmp_path: Path) -> None:
    found = collected(tmp_path)
    nothing = msgspec.structs.replace(found.evidence, controls=found.evidence.controls[-1:])
    oscal_report(nothing, None, found.digest)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content.pop("import-ap"),
        lambda content: content.update(surprise=1),
        lambda content: content["metadata"].update({"last-modified": "yesterday"}),
        lambda content: content.update(uuid="1"),
        lambda content: content["results"][0]["findings"][0]["target"]["status"].update(state="perhaps"),
        lambda content: content["results"][0]["findings"][0]["target"].update({"target-id": "not a token"}),
    ],
)
def test_a_document_that_is_not_oscal_is_never_written(tmp_path: Path, damage: Any) -> None:
    found = collected(tmp_path)
    document = assessment_results(found.evidence, found.digest)
    check(document)
    damage(document["assessment-results"])
    with pytest.raises(InternalError, match="schema"):
        check(document)


def test_reports_come_from_what_was_signed(tmp_path: Path) -> None:
    found = collected(tmp_path)
    assert Archive(tmp_path / "evidence").read(found.evidence.id) == found.evidence
