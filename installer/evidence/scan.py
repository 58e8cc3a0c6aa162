"""One run of the referees, kept until the next one, so that every collection can lay its verdicts beside theirs.

/var/lib/intramuros/evidence/scan/{scan.json, xccdf-PROFILE.xml.gz, lynis-report.dat}
"""

from __future__ import annotations

import gzip
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from appliance.kernel.durable import publish_directory
from appliance.kernel.errors import IntegrityFailure, storage_errors
from installer.evidence.catalogue import RuleTable
from installer.evidence.document import LynisResult, ProfileResult
from installer.evidence.referees import lynis, openscap

FOLDER = "scan"
_SUMMARY = "scan.json"


class _Summary(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    openscap: tuple[ProfileResult, ...]
    lynis: LynisResult | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """What the referees said, with their own files."""

    openscap: tuple[ProfileResult, ...]
    lynis: LynisResult | None
    files: Mapping[str, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Watcher:
    """Where progress goes."""

    rule: openscap.Progress = lambda profile, done, rule, result: None
    step: Callable[[str], None] = lambda text: None


def run_referees(rules: RuleTable, *, profiles: tuple[str, ...], with_lynis: bool, watcher: Watcher) -> Scan:
    """Run OpenSCAP for each profile and Lynis. Raises NotFound, Unavailable or IntegrityFailure."""
    results: list[ProfileResult] = []
    files: dict[str, bytes] = {}
    second: LynisResult | None = None
    with tempfile.TemporaryDirectory(prefix="intramuros-scan-") as name:
        work = Path(name)
        for profile in profiles:
            watcher.step(f"OpenSCAP, profile {profile}")
            xml = openscap.scan(profile, work, on_progress=watcher.rule)
            results.append(openscap.read_results(xml, rules.rules))
            files[f"xccdf-{profile}.xml.gz"] = gzip.compress(xml, mtime=0)
        if with_lynis:
            report = lynis.scan(work, on_start=lambda: watcher.step("Lynis"))
            second = lynis.read_report(report)
            files["lynis-report.dat"] = report
    return Scan(openscap=tuple(results), lynis=second, files=files)


def keep_scan(root: Path, scan: Scan) -> None:
    """Replace the kept scan. Raises StorageFailure."""
    final, fresh, old = root / FOLDER, root / f".{FOLDER}.new", root / f".{FOLDER}.old"
    summary = msgspec.json.encode(_Summary(openscap=scan.openscap, lynis=scan.lynis))
    with storage_errors("keeping the scan"):
        root.mkdir(parents=True, exist_ok=True, mode=0o750)
        for left in (fresh, old):
            shutil.rmtree(left, ignore_errors=True)
        fresh.mkdir(mode=0o750)
        for name, data in {**scan.files, _SUMMARY: summary}.items():
            (fresh / name).write_bytes(data)
        if final.exists():
            final.rename(old)
        publish_directory(fresh, final)
        shutil.rmtree(old, ignore_errors=True)


def kept_scan(root: Path) -> Scan | None:
    """Return the last scan, None when there was none. Raises IntegrityFailure."""
    folder = root / FOLDER
    if not (folder / _SUMMARY).is_file():
        return None
    try:
        summary = msgspec.json.decode((folder / _SUMMARY).read_bytes(), type=_Summary)
        files = {child.name: child.read_bytes() for child in folder.iterdir() if child.name != _SUMMARY}
    except (OSError, msgspec.DecodeError) as error:
        raise IntegrityFailure(
            "evidence.scan_damaged",
            f"The kept scan in {folder} cannot be read: {error}.",
            hint="Run: intramuros evidence scan",
        ) from error
    return Scan(openscap=summary.openscap, lynis=summary.lynis, files=files)
