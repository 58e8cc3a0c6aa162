"""Files: owners and permissions, lines, settings."""

from __future__ import annotations

import re
from collections.abc import Iterable

from appliance.kernel.paths import BOX_FILE
from installer.evidence.checks.finding import Finding, finding, in_words, listed, meets
from installer.evidence.control import Absent, Content, File, Setting
from installer.evidence.machine import DoesNotApply, Machine

_STATE = "{state}"


def file(check: File, machine: Machine) -> Finding:
    """Every file that exists belongs to whom it shall, and gives no more permissions than it may."""
    most = int(check.mode, 8)
    paths = [_resolved(path, machine) for path in check.paths]
    names = _existing(paths, machine)
    expected = f"{'/'.join(check.owner)}:{'/'.join(check.group)} and no more than {check.mode}"
    source = ["stat", "-c", "%n %U:%G %04a", *paths]
    if not names:
        if check.absent_is_fine:
            return finding(ok=True, observed="not there", expected=expected, source=source)
        return finding(ok=False, observed="missing", expected=expected, source=source)
    wrong: list[str] = []
    right: list[str] = []
    for name in names:
        facts = machine.facts(name)
        if facts is None:
            continue
        said = f"{name} {facts.owner}:{facts.group} {facts.mode:04o}"
        fine = facts.owner in check.owner and facts.group in check.group and not facts.mode & ~most
        (right if fine else wrong).append(said)
    return finding(ok=not wrong, observed=listed(wrong or right), expected=expected, source=source)


def absent(check: Absent, machine: Machine) -> Finding:
    """None of the files exists."""
    names = _existing(check.paths, machine)
    return finding(
        ok=not names, observed=listed(names) or "not there", expected="not there", source=["ls", "-d", *check.paths]
    )


def content(check: Content, machine: Machine) -> Finding:
    """Look for lines; comments do not count."""
    lines = _lines(check.paths, machine)
    source = ["grep", "-Ev", r"^\s*(#|$)", *check.paths]
    expected = "; ".join([*(f"a line {each}" for each in check.has), *(f"no line {each}" for each in check.lacks)])
    if lines is None:
        if check.absent_is_fine:
            return finding(ok=True, observed="no such file", expected=expected, source=source)
        return finding(ok=False, observed="no such file", expected=expected, source=source)
    missing = [each for each in check.has if not any(re.search(each, line) for line in lines)]
    bad = [line for each in check.lacks for line in lines if re.search(each, line)]
    shown = [line for each in check.has for line in lines if re.search(each, line)]
    seen = listed(bad) or (f"no line {listed(missing)}" if missing else listed(shown) or "no such line")
    return finding(ok=not missing and not bad, observed=seen, expected=expected, source=source)


def setting(check: Setting, machine: Machine) -> Finding:
    """Resolve one key over files that are read one after the other."""
    lines = _lines(check.paths, machine)
    if lines is None:
        raise DoesNotApply(f"{' and '.join(check.paths)}: not there")
    pattern = re.compile(rf"^\s*{re.escape(check.key)}(?:\s*=\s*|\s+|\s*$)(.*)$")
    values = [found[1].split("#")[0].strip().strip('"') for line in lines if (found := pattern.match(line))]
    value = (values[0] if check.first else values[-1]) if values else None
    return finding(
        ok=meets(value, check.value),
        observed="not set" if value is None else f"{check.key} {value}".strip(),
        expected=f"{check.key} {in_words(check.value)}",
        source=["grep", "-E", rf"^\s*{check.key}\b", *check.paths],
    )


def _resolved(path: str, machine: Machine) -> str:
    """Return a path below the appliance's data as it is on this box, which names that folder in a file."""
    if _STATE not in path:
        return path
    if (state := machine.read(str(BOX_FILE))) is None:
        raise DoesNotApply(f"{BOX_FILE}: not there")
    return path.replace(_STATE, state.strip())


def _existing(patterns: Iterable[str], machine: Machine) -> list[str]:
    return [name for pattern in patterns for name in machine.find(pattern)]


def _lines(patterns: Iterable[str], machine: Machine) -> list[str] | None:
    texts = [text for name in _existing(patterns, machine) if (text := machine.read(name)) is not None]
    if not texts:
        return None
    return [line.strip() for text in texts for line in text.splitlines() if line.strip() and line.strip()[0] != "#"]
