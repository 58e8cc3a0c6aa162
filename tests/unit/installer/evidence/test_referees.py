"""Scanners that are not ours: reading what they wrote, hostile XML refused, and where they and we differ."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from appliance.kernel.errors import BadInput, IntegrityFailure, NotFound, Unavailable
from installer.evidence.catalogue import load_rules
from installer.evidence.collect import Collected
from installer.evidence.control import Status
from installer.evidence.document import ProfileResult, RuleResult, Verdict
from installer.evidence.referees import lynis, openscap
from installer.evidence.referees.compare import disagreements, uncovered
from installer.evidence.scan import Scan, keep_scan, kept_scan
from tests.factories.evidence import SSHD, collected, hardened, said, waiver_file

_RULE = "xccdf_org.ssgproject.content_rule_"
XCCDF = f"""<?xml version="1.0" encoding="UTF-8"?>
<Benchmark xmlns="http://checklists.nist.gov/xccdf/1.2" id="b">
  <version>0.1.82</version>
  <Rule id="{_RULE}sshd_disable_root_login"><version>9</version></Rule>
  <TestResult id="t" end-time="2026-11-25T12:00:00+00:00" test-system="cpe:/a:redhat:openscap:1.3.7">
    <profile idref="xccdf_org.ssgproject.content_profile_cis_level1_server"/>
    <rule-result idref="{_RULE}sshd_disable_root_login"><result>fail</result></rule-result>
    <rule-result idref="{_RULE}package_ufw_installed"><result>notapplicable</result></rule-result>
    <rule-result idref="{_RULE}partition_for_home"><result>fail</result></rule-result>
    <rule-result idref="{_RULE}sysctl_net_ipv4_tcp_syncookies"><result>pass</result></rule-result>
  </TestResult>
</Benchmark>
""".encode()
BOMB = b"""<?xml version="1.0"?><!DOCTYPE b [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]><b>&c;</b>"""
EXTERNAL = b"""<?xml version="1.0"?><!DOCTYPE b [<!ENTITY x SYSTEM "file:///etc/shadow">]><b>&x;</b>"""
LYNIS = b"""# Lynis Report
lynis_version=3.1.7
report_datetime_end=2026-11-25 12:03:00
hardening_index=86
lynis_tests_done=270
warning[]=MAIL-8818|Found some information disclosure|-|-|
suggestion[]=BOOT-5122|Set a password on GRUB boot loader|-|-|
suggestion[]=NEW-0001|Something that nobody has answered|detail|-|
"""


def result() -> ProfileResult:
    return openscap.read_results(XCCDF, load_rules().rules)


def test_results_are_read_and_what_does_not_apply_is_counted_apart() -> None:
    found = result()
    assert (found.profile, found.content, found.scanner) == (
        "cis_level1_server",
        "0.1.82",
        "cpe:/a:redhat:openscap:1.3.7",
    )
    assert openscap.counts(found) == {"fail": 2, "notapplicable": 1, "pass": 1}
    assert openscap.read_results(gzip.compress(XCCDF), load_rules().rules) == found
    assert (
        next(each.title for each in found.results if each.rule == "sshd_disable_root_login") == "Disable SSH Root Login"
    )


@pytest.mark.parametrize(
    "xml", [BOMB, EXTERNAL, b"", b"<a>", b"\x1f\x8bnot gzip", XCCDF[:-40]],
    ids=["bomb", "external", "empty", "cut", "no-gzip", "truncated"],
)  # fmt: skip
def test_hostile_and_damaged_xml_is_refused(xml: bytes) -> None:
    with pytest.raises(IntegrityFailure):
        openscap.read_results(xml, {})


def test_a_packed_bomb_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(IntegrityFailure, match="larger than"):
        openscap.read_results(gzip.compress(b" " * 5000), {}, largest=1000)


def test_xml_without_results_is_no_scan() -> None:
    with pytest.raises(BadInput):
        openscap.read_results(b"<Benchmark/>", {})


def test_a_missing_datastream_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="missing"):
        openscap.scan("x", tmp_path, on_progress=lambda *_: None, datastream=tmp_path / "none.xml")


def test_lynis_report() -> None:
    found = lynis.read_report(LYNIS, {"BOOT-5122": "The site decides."})
    assert (found.version, found.hardening_index, found.tests) == ("3.1.7", 86, 270)
    assert found.warnings == ("MAIL-8818: Found some information disclosure",)
    assert found.suggestions[0].answer == "The site decides."
    assert found.suggestions[1].text == "Something that nobody has answered (detail)"
    assert lynis.unanswered(found) == ("NEW-0001",)
    with pytest.raises(BadInput):
        lynis.read_report(b"lynis_version=3\n")


def verdict(status: Status, *rules: str) -> Verdict:
    return Verdict(
        id="IM-X-01",
        title="t",
        role="r",
        cis=(),
        anssi=(),
        ssg=rules,
        status=status,
        expected="",
        observed="",
        source="",
    )


def profile(**results: str) -> ProfileResult:
    listed = tuple(RuleResult(rule=rule, title=rule, result=found) for rule, found in results.items())
    return ProfileResult(profile="p", content="", scanner="", scanned_at="", results=listed)


@pytest.mark.parametrize(
    ("status", "results", "different"),
    [
        (Status.PASS, {"a": "pass", "b": "pass"}, []),
        (Status.PASS, {"a": "pass", "b": "fail"}, ["b"]),
        (Status.PASS, {"a": "notapplicable", "b": "notchecked"}, []),
        (Status.NOT_APPLICABLE, {"a": "fail", "b": "pass"}, ["a"]),
        (Status.FAIL, {"a": "fail", "b": "pass"}, []),
        (Status.FAIL, {"a": "pass", "b": "pass"}, ["a", "b"]),
        (Status.FAIL, {"a": "pass", "b": "notapplicable"}, ["a"]),
        (Status.WAIVED, {"a": "fail", "b": "fail"}, []),
        (Status.ERROR, {"a": "pass", "b": "pass"}, ["a", "b"]),
        (Status.FAIL, {}, []),
    ],
)
def test_disagreements_go_both_ways(status: Status, results: dict[str, str], different: list[str]) -> None:
    found = disagreements([verdict(status, "a", "b")], [profile(**results)], {"a": "known"})
    assert [each.rule for each in found] == different
    assert all((each.explanation == "known") is (each.rule == "a") for each in found)


def test_failures_that_nobody_of_us_looks_at_are_listed() -> None:
    assert uncovered([verdict(Status.PASS, "a")], profile(a="fail", b="fail", c="pass")) == ("b",)


def scanned() -> Scan:
    files = {"xccdf-cis_level1_server.xml.gz": gzip.compress(XCCDF, mtime=0), "lynis-report.dat": LYNIS}
    return Scan(openscap=(result(),), lynis=lynis.read_report(LYNIS), files=files)


def collected_with_scan(root: Path) -> Collected:
    """A machine where root may log in, with a scan beside it and a waiver for /home."""
    waiver_file(root, {"partition_for_home": "2027-01-01"})
    machine = hardened()
    machine.programs[SSHD] = said("permitrootlogin no\n")
    return collected(root, machine, scan=scanned())


def test_a_scan_is_kept_and_goes_into_the_evidence(tmp_path: Path) -> None:
    keep_scan(tmp_path / "evidence", scanned())
    keep_scan(tmp_path / "evidence", scanned())
    assert kept_scan(tmp_path / "evidence") == scanned()
    found = collected_with_scan(tmp_path)
    names = {each.name for each in found.evidence.attachments}
    assert {"lynis-report.dat", "xccdf-cis_level1_server.xml.gz"} <= names
    assert [each.rule for each in found.evidence.referees.disagreements] == ["sshd_disable_root_login"]
    assert openscap.counts(found.evidence.referees.openscap[0]) == {
        "fail": 1,
        "notapplicable": 1,
        "pass": 1,
        "waived": 1,
    }


def test_a_damaged_scan_is_named(tmp_path: Path) -> None:
    assert kept_scan(tmp_path) is None
    keep_scan(tmp_path, scanned())
    (tmp_path / "scan" / "scan.json").write_text("{")
    with pytest.raises(IntegrityFailure, match="evidence scan"):
        kept_scan(tmp_path)


@pytest.mark.parametrize(
    ("crashes", "signal_name", "succeeds"), [(2, "SEGV", True), (3, "SEGV", False), (1, "KILL", False)]
)
def test_scanner_that_crashes_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crashes: int, signal_name: str, succeeds: bool
) -> None:
    """A stand-in for oscap: it writes a result at once, and dies by a signal until it has been started often enough."""
    script, started = tmp_path / "oscap", tmp_path / "started"
    script.write_text(
        f"""#!/bin/sh
echo once >> {started}
echo xccdf_org.ssgproject.content_rule_one:pass
for file; do [ "$before" = --results ] && echo "<of attempt $(wc -l < {started})/>" > "$file"; before=$file; done
[ "$(wc -l < {started})" -gt {crashes} ] || kill -{signal_name} $$
"""
    )
    script.chmod(0o755)
    datastream = tmp_path / "content.xml"
    datastream.touch()
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    told: list[int] = []

    def scanned() -> bytes:
        return openscap.scan("p", tmp_path, on_progress=lambda _p, done, *_: told.append(done), datastream=datastream)

    if succeeds:
        assert scanned() == b"<of attempt 3/>\n"
        assert told == [1, 1, 1]
    else:
        with pytest.raises(Unavailable, match="oscap ended with -"):
            scanned()
        assert len(started.read_text().splitlines()) == crashes
