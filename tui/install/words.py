"""What the wizard's pages say, as lines: checks, answers and plan, the run, the report. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.kernel.terminal import counted
from installer.findings import Finding, Level
from tui import format as fmt
from tui.install.backend import PlannedStep, Report
from tui.install.fields import fields, sections
from tui.install.progress import Running
from tui.install.visit import Visit
from tui.text import Line, Look, Span, Tone, heading, hint, line, state

_TONES = {Level.OK: Tone.PLAIN, Level.WARN: Tone.WARN, Level.FAIL: Tone.BAD}


def check_lines(findings: Sequence[Finding], look: Look) -> list[Line]:
    """Every finding, the bad ones first and with what to do."""
    order = {Level.FAIL: 0, Level.WARN: 1, Level.OK: 2}
    lines: list[Line] = []
    for finding in sorted(findings, key=lambda one: order[one.level]):
        room = max(20, look.width - 34)
        parts = fmt.wrap(finding.found, room)
        first = line("   ", state(finding.level.lower(), look), f"  {fmt.fit(finding.what, 18)} ")
        lines.append((*first, Span(parts[0], _TONES[finding.level])))
        lines += [line(" " * 30, Span(part, _TONES[finding.level])) for part in parts[1:]]
        if finding.level is not Level.OK and finding.hint:
            lines += [line(" " * 32, Span(part, Tone.FAINT)) for part in fmt.wrap(finding.hint, room)]
    return lines


def summary(findings: Sequence[Finding]) -> tuple[str, Tone]:
    """Whether the box is ready, in a few words."""
    bad = sum(finding.level is Level.FAIL for finding in findings)
    doubtful = sum(finding.level is Level.WARN for finding in findings)
    if bad:
        return f"{counted(bad, 'thing')} must be mended first", Tone.BAD
    if doubtful:
        return f"ready, with {counted(doubtful, 'warning')}", Tone.WARN
    return "ready", Tone.GOOD


def review_lines(visit: Visit, look: Look) -> list[Line]:
    """What is wrong, what is doubtful, what will be destroyed, the answer file, and every step of the plan."""
    lines: list[Line] = []
    faults = visit.verdict.faults
    if faults:
        lines.append(heading("Not right yet"))
        where = {field.key: section.title for section in sections() for field in section.fields}
        for key, told in faults.items():
            lines += _told(f"{where[key]}, {fields()[key].label}: {told}", Tone.BAD, look)
    if visit.wiped:
        lines.append(heading("Will be destroyed"))
        lines += _told(f"Everything on {visit.wiped}. You type its name before it happens.", Tone.WARN, look)
    checks = [finding for finding in visit.findings if finding.level is not Level.OK]
    if checks:
        lines.append(heading("The box"))
        lines += check_lines(checks, look)
    warned = {finding.what for finding in checks}
    if doubts := [doubt for doubt in visit.doubts() if doubt.key not in warned]:
        lines.append(heading("Are these meant?"))
        for doubt in doubts:
            lines += _told(f"{doubt.key} {doubt.text}", Tone.WARN, look)
    if visit.plan:
        lines.append(heading("Plan"))
        lines += plan_lines(visit.plan, look)
    lines.append(heading("Answer file"))
    lines.append(hint(f"in {visit.answers_file}"))
    for text in visit.answer_text().splitlines():
        lines += [line(f"   {part}") for part in fmt.wrap(text, max(20, look.width - 4))]
    return lines


def plan_lines(plan: Sequence[PlannedStep], look: Look) -> list[Line]:
    """The steps, numbered."""
    lines: list[Line] = []
    for number, step in enumerate(plan, 1):
        tone = Tone.FAINT if step.skipped else Tone.PLAIN
        title, *rest = fmt.wrap(step.title, max(20, look.width - 8))
        lines.append(line(f"   {number:>2}  ", Span(title, tone)))
        lines += [line(" " * 7, Span(part, tone)) for part in rest]
        if step.detail:
            lines += [line(" " * 7, Span(part, Tone.FAINT)) for part in fmt.wrap(step.detail, max(20, look.width - 8))]
    return lines


def run_lines(running: Running, look: Look) -> list[Line]:
    """The phases with their state, what is done now, and how far it is."""
    lines: list[Line] = [()]
    for phase in running.phases:
        lines.append(
            line("   ", state(phase.state, look), f"  {fmt.fit(phase.title, 26)} ", _detail(phase.detail, look))
        )
    lines.append(())
    if running.failed:
        lines += _told(running.failed.line, Tone.BAD, look)
        return lines
    left = f", about {fmt.duration(running.eta)} left" if running.eta is not None else ""
    if not look.spoken:
        drawn = fmt.bar(running.fraction, max(10, look.width - 50), ascii=look.ascii)
        lines.append(line(f"   {drawn}  {fmt.share(running.fraction)}{left}"))
    if running.now:
        lines.append(line("   ", Span(fmt.fit(running.now, max(20, look.width - 6)).rstrip(), Tone.FAINT)))
    return lines


def log_lines(running: Running, look: Look) -> list[Line]:
    """What was told so far, wrapped."""
    return [line(f" {part}") for text in running.log for part in fmt.wrap(text, max(20, look.width - 2))]


def report_lines(report: Report, look: Look) -> list[Line]:
    """How it ended and what to do now."""
    lines: list[Line] = [()]
    if report.problem:
        lines += [heading("It did not finish")]
        lines += _told(f"{report.problem.code}: {report.problem.message}", Tone.BAD, look)
        lines += _told(report.problem.hint, Tone.PLAIN, look) if report.problem.hint else []
    else:
        lines.append(heading("The box is installed"))
    for name, value in report.facts:
        first, *rest = fmt.wrap(value, max(20, look.width - 18))
        lines.append(line(Span(f"   {fmt.fit(name, 12)} ", Tone.FAINT), first))
        lines += [line(" " * 16, part) for part in rest]
    if report.next:
        lines.append(heading("What to do now"))
        for number, sentence in enumerate(report.next, 1):
            first, *rest = fmt.wrap(sentence, max(20, look.width - 8))
            lines.append(line(f"   {number}  {first}"))
            lines += [line(" " * 6, part) for part in rest]
    return lines


def key_lines(key: str, look: Look) -> list[Line]:
    """The recovery key in numbered groups, and what it is for."""
    groups = key.split("-")
    told = (
        "This key opens the data volume when everything else fails. It is shown here once. Write it down or print it, "
        "and keep it away from the box. Then type two of its groups back."
    )
    lines: list[Line] = [(), *_told(told, Tone.PLAIN, look), ()]
    for number, group in enumerate(groups, 1):
        lines.append(line(Span(f"      group {number}   ", Tone.FAINT), Span(group, Tone.STRONG)))
    return lines


def _detail(text: str, look: Look) -> Span:
    return Span(fmt.fit(text, max(10, look.width - 40)).rstrip(), Tone.FAINT)


def _told(text: str, tone: Tone, look: Look) -> list[Line]:
    return [line("   ", Span(part, tone)) for part in fmt.wrap(text, max(20, look.width - 6))]
