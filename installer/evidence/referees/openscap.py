"""OpenSCAP with the ssg-debian12 datastream: runs it, and reads what it wrote.

The results are XML of a megabyte and more that others may have touched: they are read by defusedxml, one element after
the other, without entities or a document type.
"""

from __future__ import annotations

import gzip
import io
import re
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from defusedxml.common import DefusedXmlException  # type: ignore[import-untyped]
from defusedxml.ElementTree import ParseError, iterparse  # type: ignore[import-untyped]

from appliance.kernel import process
from appliance.kernel.errors import BadInput, IntegrityFailure, NotFound, Unavailable
from installer.evidence.catalogue import Rule
from installer.evidence.document import ProfileResult, RuleResult

DATASTREAM = Path("/usr/share/xml/scap/ssg/content/ssg-debian12-ds.xml")
PROFILES = ("cis_level1_server", "anssi_bp28_enhanced")
_PREFIX = "xccdf_org.ssgproject.content_"
_XCCDF = "{http://checklists.nist.gov/xccdf/1.2}"
_LARGEST = 256 << 20
_TIMEOUT = 3600.0
_ATTEMPTS = 3
"""oscap looks at a system with threads, of which one crashes now and then; a crash says nothing about the system."""
_PROGRESS = re.compile(rf"^{_PREFIX}rule_(\S+):(\w+)$")

Progress = Callable[[str, int, str, str], None]
"""profile, how many rules are done, the newest rule, its result"""


def scan(profile: str, work: Path, *, on_progress: Progress, datastream: Path = DATASTREAM) -> bytes:
    """Evaluate one profile and return the XCCDF results; a scanner that crashes is started again. Raises NotFound or
    Unavailable."""
    if not datastream.is_file():
        raise NotFound(
            "evidence.no_datastream",
            f"OpenSCAP's content {datastream} is missing.",
            hint="Install ssg-debian 0.1.82 from the bundle's referees; Debian 12's own version has no content for it.",
        )
    results, log = work / f"{profile}.xml", work / f"{profile}.log"
    argv = ["oscap", "xccdf", "eval", "--progress", "--profile", f"{_PREFIX}profile_{profile}"]
    status, done = 0, 0
    for _ in range(_ATTEMPTS):
        results.unlink(missing_ok=True)
        log.write_bytes(b"")
        status, done = _evaluate([*argv, "--results", str(results), str(datastream)], log, profile, on_progress)
        if status >= 0 or status == -signal.SIGKILL:  # killed: by us after an hour, or because memory ran out
            break
    # 0: every rule passed; 2: at least one did not. Everything else is no result at all.
    if status not in {0, 2} or not results.is_file() or not done:
        tail = " ".join(log.read_text(encoding="utf-8", errors="replace").split("\n")[-4:]).strip()
        raise Unavailable("evidence.openscap_failed", f"oscap ended with {status}: {tail}")
    return results.read_bytes()


def _evaluate(argv: list[str], log: Path, profile: str, on_progress: Progress) -> tuple[int, int]:
    """Run the scanner once; return its exit status, a signal as a negative number, and how many rules it told of."""
    try:
        child = process.start(argv, log=log)
    except FileNotFoundError as error:
        raise NotFound(
            "evidence.no_openscap", "OpenSCAP is not installed.", hint="Install openscap-scanner from the bundle."
        ) from error
    with log.open(encoding="utf-8", errors="replace") as lines:
        done = _follow(child, lines, profile, on_progress)
    return child.returncode, done


def _follow(child: subprocess.Popen[bytes], lines: io.TextIOBase, profile: str, on_progress: Progress) -> int:
    """Report each rule while the scanner runs; it is killed when it runs for an hour."""
    done, partial, waited = 0, "", 0.0
    while True:
        running = child.poll() is None
        for line in (partial + lines.read()).splitlines(keepends=True):
            partial = "" if line.endswith("\n") else line
            if line.endswith("\n") and (found := _PROGRESS.match(line.strip())):
                done += 1
                on_progress(profile, done, found[1], found[2])
        if not running:
            return done
        try:
            child.wait(timeout=0.25)
        except subprocess.TimeoutExpired:
            waited += 0.25
        if waited > _TIMEOUT:
            child.kill()
            child.wait()
            return 0


def read_results(xml: bytes, rules: Mapping[str, Rule], *, largest: int = _LARGEST) -> ProfileResult:
    """Read an XCCDF result file (or its gzip). Raises IntegrityFailure for hostile or damaged XML."""
    found: list[RuleResult] = []
    profile, scanned_at, scanner, content = "", "", "", ""
    try:
        for tag, attributes, text in _elements(_plain(xml, largest)):
            if tag == "rule-result":
                name = attributes.get("idref", "").removeprefix(f"{_PREFIX}rule_")
                title = rules[name].title if name in rules else name
                found.append(RuleResult(rule=name, title=title, result=text))
            elif tag == "TestResult":
                scanned_at, scanner = attributes.get("end-time", ""), attributes.get("test-system", "")
            elif tag == "profile":
                profile = attributes.get("idref", "").removeprefix(f"{_PREFIX}profile_")
            elif tag == "Benchmark":
                content = text
    except (ParseError, DefusedXmlException, gzip.BadGzipFile, EOFError, ValueError) as error:
        raise IntegrityFailure(
            "evidence.xccdf", f"The XCCDF results cannot be read: {error or repr(error)}."
        ) from error
    if not found or not profile:
        raise BadInput("evidence.xccdf_empty", "The XCCDF file holds no results of a profile.")
    return ProfileResult(
        profile=profile,
        content=content,
        scanner=scanner,
        scanned_at=scanned_at,
        results=tuple(sorted(found, key=lambda each: each.rule)),
    )


def _plain(xml: bytes, largest: int) -> BinaryIO:
    stream: BinaryIO = io.BytesIO(xml)
    if xml[:2] == b"\x1f\x8b":
        with gzip.open(stream) as packed:
            data = packed.read(largest + 1)
    else:
        data = xml
    if len(data) > largest:
        raise ValueError(f"larger than {largest} bytes")
    return io.BytesIO(data)


def _elements(stream: BinaryIO) -> Iterator[tuple[str, dict[str, str], str]]:
    """Yield the elements of interest, each cleared after use so that memory stays flat."""
    version, inside = "", False
    for event, element in iterparse(stream, events=("start", "end"), forbid_dtd=True):
        tag = element.tag.removeprefix(_XCCDF)
        if event == "start":
            if tag == "TestResult":
                inside = True
                yield "TestResult", dict(element.attrib), ""
            continue
        if tag == "version" and not inside and not version:
            version = (element.text or "").strip()
            yield "Benchmark", {}, version
        elif inside and tag == "profile":
            yield "profile", dict(element.attrib), ""
        elif inside and tag == "rule-result":
            result = element.find(f"{_XCCDF}result")
            yield "rule-result", dict(element.attrib), (result.text or "").strip() if result is not None else "unknown"
        if tag in {"Rule", "Group", "Profile", "Value", "rule-result"}:
            element.clear()


def counts(result: ProfileResult) -> dict[str, int]:
    """Return how many rules have each result; what does not apply is never mixed with what passed."""
    found: dict[str, int] = {}
    for each in result.results:
        key = "waived" if each.waiver is not None and each.result == "fail" else each.result
        found[key] = found.get(key, 0) + 1
    return dict(sorted(found.items()))
