"""`intramuros evidence …`: what of the hardening is in effect, checked live, signed, beside other scanners."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from appliance.kernel.clock import from_text, utc_now
from appliance.kernel.durable import write_file
from appliance.kernel.errors import BadInput, GateRefused, IntegrityFailure, storage_errors
from appliance.kernel.terminal import counted, harmless, table, when
from installer.cli.evidence_waivers import unwaive, waive, waivers
from installer.cli.output import json_option, require_root, show
from installer.evidence import signing_key
from installer.evidence.archive import ROOT, Archive
from installer.evidence.catalogue import load_catalogue, load_rules
from installer.evidence.collect import Collected, Places, collect
from installer.evidence.control import Profile, Status
from installer.evidence.document import Evidence, Verdict
from installer.evidence.drift import drift, since_installation
from installer.evidence.machine import ThisMachine
from installer.evidence.referees import openscap
from installer.evidence.referees.compare import uncovered
from installer.evidence.referees.lynis import unanswered
from installer.evidence.report_csv import csv_report
from installer.evidence.report_html import html_report
from installer.evidence.report_oscal import oscal_report
from installer.evidence.scan import Scan, Watcher, keep_scan, kept_scan, run_referees
from installer.evidence.signing_key import load_or_create_key
from installer.evidence.summary import changes, find_verdicts, headline, with_status
from installer.evidence.verify_evidence import Unreadable, describe, read_public_key

_OVERDUE = timedelta(hours=49)
_AHEAD = timedelta(minutes=5)

archive_option = click.option(
    "--archive", type=click.Path(path_type=Path), default=ROOT, show_default=True, help="Folder of all evidences."
)
profile_option = click.option(
    "--profile", type=click.Choice([str(each) for each in Profile]), help="Default: what this box was installed with."
)


@click.group()
def evidence() -> None:
    """Show and prove what of the hardening is in effect."""


for _command in (waive, unwaive, waivers):
    evidence.add_command(_command)


@evidence.command("collect")
@archive_option
@profile_option
@click.option("--label", default="", help="A word for this collection, such as: before.")
@click.option("--fail-on-drift", is_flag=True, help="End with status 9 while what was in order is not any more.")
@json_option
def collect_(archive: Path, profile: str | None, label: str, fail_on_drift: bool, as_json: bool) -> None:
    """Check every control live, and write one signed evidence."""
    require_root("collect evidence")
    collected = _collect(Archive(archive), profile=profile, label=label, scan=kept_scan(archive))
    _show_collected(collected, as_json=as_json)
    if fail_on_drift and collected.drifted:
        raise GateRefused(
            "evidence.drift",
            f"Not in order any more: {', '.join(collected.drifted)}.",
            hint="`intramuros evidence show NAME` shows what was seen; `intramuros harden` puts it right.",
        )


@evidence.command()
@archive_option
@profile_option
@click.option("--only", type=click.Choice(openscap.PROFILES), multiple=True, help="Only this profile of OpenSCAP.")
@click.option("--no-lynis", is_flag=True, help="Leave Lynis out.")
@click.option("--label", default="", help="A word for this collection, such as: before.")
@json_option
def scan(archive: Path, profile: str | None, only: tuple[str, ...], no_lynis: bool, label: str, as_json: bool) -> None:
    """Run OpenSCAP and Lynis, then collect with their verdicts beside ours."""
    require_root("scan this box")
    found = run_referees(
        load_rules(), profiles=only or openscap.PROFILES, with_lynis=not no_lynis, watcher=_watcher(quiet=as_json)
    )
    keep_scan(archive, found)
    _show_collected(_collect(Archive(archive), profile=profile, label=label, scan=found), as_json=as_json)


@evidence.command("list")
@archive_option
@json_option
def list_(archive: Path, as_json: bool) -> None:
    """List the evidences, oldest first."""
    store = Archive(archive)
    rows = [_row(store.read(identifier)) for identifier in store.ids()]
    show(
        rows,
        lambda: table(
            ("ID", "NUMBER", "LABEL", "PROFILE", "PASS", "FAIL", "WAIVED", "N/A", "ERROR", "SCORE"),
            [
                (
                    row["id"],
                    str(row["sequence"]),
                    row["label"] or "-",
                    row["profile"],
                    *(str(row["counts"][key]) for key in ("pass", "fail", "waived", "not-applicable", "error")),
                    f"{row['score']} %",
                )
                for row in rows
            ],
            empty="Nothing was collected yet. Run: intramuros evidence collect",
        ),
        as_json=as_json,
    )


@evidence.command("show")
@click.argument("names", nargs=-1)
@click.option("--id", "identifier", default="", help="Evidence; default the newest.")
@click.option("--all", "everything", is_flag=True, help="What passes and what does not apply, too.")
@archive_option
@json_option
def show_(names: tuple[str, ...], identifier: str, everything: bool, archive: Path, as_json: bool) -> None:
    """Show what is not in order, or the controls NAMES: ids, CIS numbers, ANSSI recommendations or rules."""
    store = Archive(archive)
    document = store.read(identifier or store.newest())
    if names:
        listed = find_verdicts(document, names)
        if not listed:
            raise BadInput("evidence.no_control", f"No control of evidence {document.id} is named {', '.join(names)}.")
    elif everything:
        listed = document.controls
    else:
        listed = with_status(document, Status.FAIL, Status.ERROR, Status.WAIVED)
    if as_json:
        show(listed if names else document, str, as_json=True)
        return
    show(listed, lambda: _verdict_text(document, listed, in_full=bool(names)), as_json=False)


@evidence.command()
@archive_option
@click.option(
    "--public-key", default="", help="The key you expect: PEM file, or base64. Default, for root: this box's own."
)
@click.option("--expect", default="", help="A digest that was noted elsewhere and must occur.")
@json_option
def verify(archive: Path, public_key: str, expect: str, as_json: bool) -> None:
    """Check every signature, every attachment and the chain."""
    verdict = Archive(archive).verify(public_key=_expected_key(public_key), expect=expect.lower())
    show(verdict, lambda: describe(verdict), as_json=as_json)
    if not verdict.ok:
        raise IntegrityFailure("evidence.broken", f"The evidence does not verify ({verdict.code}): {verdict.problem}.")


@evidence.command()
@archive_option
@json_option
def status(archive: Path, as_json: bool) -> None:
    """Say in one look whether this box is in order and watched. Status 9 when it is not."""
    store = Archive(archive)
    newest = store.read(store.newest())
    earlier = store.before(newest.id)
    drifted = drift(since_installation(earlier), newest)
    age = utc_now() - from_text(newest.collected_at)
    problems = [
        *(
            ["the last collection is older than two days: see `systemctl status intramuros-evidence`"]
            * (age > _OVERDUE)
        ),
        *(["the last collection is dated in the future: see `timedatectl`"] * (age < -_AHEAD)),
        *(f"{each.id} {each.title}: {each.status}" for each in with_status(newest, Status.FAIL, Status.ERROR)),
        *(
            f"{each.id} {each.title}: it passed, and does not apply any more"
            for each in with_status(newest, Status.NOT_APPLICABLE)
            if each.id in drifted
        ),
        *(f"the waiver of {each} has expired" for each in newest.expired_waivers),
    ]
    answer = {
        "newest": _row(newest),
        "age_hours": round(age.total_seconds() / 3600, 1),
        "newly_failing": list(drift(earlier[-1:], newest)),
        "drifted": list(drifted),
        "problems": problems,
    }
    show(answer, lambda: "\n".join([f"{newest.id}: {headline(newest)}", *problems]), as_json=as_json)
    if problems:
        raise GateRefused("evidence.not_in_order", f"Not in order: {counted(len(problems), 'thing')}, listed above.")


@evidence.command()
@click.argument("first", default="")
@click.argument("second", default="")
@archive_option
@json_option
def diff(first: str, second: str, archive: Path, as_json: bool) -> None:
    """Show what changed from FIRST (default: the one before) to SECOND (default: the newest)."""
    store = Archive(archive)
    listed = store.ids()
    after = store.read(second or store.newest())
    if not first and len(listed) < 2:
        raise BadInput("evidence.nothing_before", "There is one evidence only, so nothing to compare it with.")
    before = store.read(first or listed[max(0, listed.index(after.id) - 1)])
    found = changes(before, after)
    show(
        {"before": _row(before), "after": _row(after), "changes": found},
        lambda: "\n".join(
            [
                f"before  {before.id}  {headline(before)}",
                f"after   {after.id}  {headline(after)}",
                table(
                    ("CONTROL", "BEFORE", "AFTER", "TITLE", "SEEN NOW"),
                    [(each.id, each.before, each.after, each.title, each.observed_after[:60]) for each in found],
                    empty="No control changed.",
                ),
            ]
        ),
        as_json=as_json,
    )


_FORMATS: dict[str, Callable[[Evidence, Evidence | None, str], str]] = {
    "html": html_report,
    "csv": csv_report,
    "oscal": oscal_report,
}


@evidence.command()
@click.argument("identifier", default="")
@click.option("--format", "form", type=click.Choice(list(_FORMATS)), default="html", show_default=True)
@click.option("--output", type=click.Path(path_type=Path), help="File to write; default: standard output.")
@click.option("--against", default="", help="Evidence to compare with; default the oldest.")
@archive_option
@json_option
def report(identifier: str, form: str, output: Path | None, against: str, archive: Path, as_json: bool) -> None:
    """Write an evidence (default: the newest) as HTML, CSV or OSCAL assessment results."""
    store = Archive(archive)
    document = store.read(identifier or store.newest())
    before = store.read(against or store.ids()[0])
    digest = store.digest_of(document.id)
    text = _FORMATS[form](document, None if before.id == document.id else before, digest)
    if output is None:
        click.echo(text, nl=False)
        return
    with storage_errors("writing the report"):
        write_file(output.absolute(), text.encode(), mode=0o640)
    show(
        {"file": str(output), "format": form, "evidence": document.id, "sha256": digest},
        lambda: f"{output}: evidence {document.id} as {form}",
        as_json=as_json,
    )


@evidence.command()
@click.option("--key", type=click.Path(path_type=Path), default=signing_key.PATH, show_default=True)
@json_option
def key(key: Path, as_json: bool) -> None:
    """Print the public half of the key that signs, and where the stand-alone verifier lies."""
    require_root("read the evidence key")
    found, _ = load_or_create_key(key)
    verifier = Path(signing_key.__file__).with_name("verify_evidence.py")
    show(
        {"public_key": found.public_base64, "key_id": found.key_id, "pem": found.public_pem, "verifier": str(verifier)},
        lambda: f"{found.public_pem}key id    {found.key_id}\nverifier  {verifier}",
        as_json=as_json,
    )


def _expected_key(argument: str) -> bytes | None:
    """Return the key to hold signatures against; who is not root has only the one that the evidence names."""
    try:
        if argument:
            return read_public_key(argument)
    except Unreadable as error:
        raise BadInput("evidence.no_key", f"{error}.") from error
    if os.geteuid() == 0 and signing_key.PATH.exists():
        return load_or_create_key(signing_key.PATH)[0].public_bytes
    return None


# --- what the verbs share --------------------------------------------------------------------------------------


def _collect(store: Archive, *, profile: str | None, label: str, scan: Scan | None) -> Collected:
    return collect(
        store,
        ThisMachine(),
        catalogue=load_catalogue(),
        rules=load_rules(),
        now=datetime.now(UTC),
        places=Places(),
        profile=Profile(profile) if profile else None,
        label=label,
        scan=scan,
    )


def _show_collected(collected: Collected, *, as_json: bool) -> None:
    document = collected.evidence
    answer = _row(document) | {
        "folder": str(collected.folder),
        "sha256": collected.digest,
        "newly_failing": list(collected.newly_failing),
        "drifted": list(collected.drifted),
        "public_key": document.public_key,
        "expired_waivers": list(document.expired_waivers),
    }
    if collected.key_created:
        _say("A key that signs this box's evidence was made. Give its public half to whoever checks:")
        _say(collected.public_pem.strip())
    for each in document.expired_waivers:
        _say(f"EXPIRED: the waiver of {each} counts no longer.")
    show(answer, lambda: _collected_text(collected), as_json=as_json)


def _collected_text(collected: Collected) -> str:
    document = collected.evidence
    lines = [
        f"evidence  {document.id}, number {document.sequence}, profile {document.profile}",
        f"result    {headline(document)}",
        f"digest    {collected.digest}",
        f"folder    {collected.folder}",
    ]
    for profile in document.referees.openscap:
        counted = ", ".join(f"{count} {result}" for result, count in openscap.counts(profile).items())
        lines.append(f"openscap  {profile.profile}: {counted}")
        missing = uncovered(document.controls, profile)
        lines += [f"          fails and no control of ours covers it: {', '.join(missing)}"] if missing else []
    if document.referees.lynis is not None:
        second = document.referees.lynis
        lines.append(f"lynis     hardening index {second.hardening_index}, {len(second.suggestions)} suggestions")
        lines += [f"          without an answer: {', '.join(unanswered(second))}"] if unanswered(second) else []
    if document.referees.openscap:
        lines.append(f"differ    {len(document.referees.disagreements)} verdicts differ from OpenSCAP's")
    if collected.drifted:
        lines.append(f"DRIFT     not in order any more: {', '.join(collected.drifted)}")
    return "\n".join(lines)


def _verdict_text(document: Evidence, listed: tuple[Verdict, ...], *, in_full: bool) -> str:
    if not in_full:
        head = f"{document.id}  {when(document.collected_at)}  {headline(document)}"
        rows = [(str(each.status), each.id, each.title, (each.observed or each.reason)[:70]) for each in listed]
        return f"{head}\n{table(('STATUS', 'CONTROL', 'TITLE', 'SEEN'), rows, empty='Everything is in order.')}"
    blocks = []
    for each in listed:
        refs = [*(f"CIS {number}" for number in each.cis), *(f"ANSSI {number}" for number in each.anssi), *each.ssg]
        lines = [f"{each.id}  {each.status}  {each.title}", f"  asked for  {each.expected}"]
        lines += [f"  seen       {each.observed}", f"  by         {each.source}"]
        lines += [f"  because    {each.reason}"] if each.reason else []
        if each.waiver is not None:
            lines.append(f"  waived     until {each.waiver.expiry} by {each.waiver.owner}: {each.waiver.reason}")
        blocks.append("\n".join([*lines, f"  see        {', '.join(refs) or 'our own rule'}"]))
    return "\n".join(blocks)


def _row(document: Evidence) -> dict[str, Any]:
    return {
        "id": document.id,
        "sequence": document.sequence,
        "label": document.label,
        "profile": document.profile,
        "counts": document.counts(),
        "score": document.score(),
    }


def _watcher(*, quiet: bool) -> Watcher:
    """Progress goes to stderr: one line that moves on a terminal, a line for every 50 rules elsewhere."""
    if quiet:
        return Watcher()
    live = sys.stderr.isatty()

    def rule(profile: str, done: int, name: str, result: str) -> None:
        if live:
            print(f"\r\x1b[K{done:4} {harmless(name)[:60]} {result}", end="", file=sys.stderr, flush=True)
        elif done % 50 == 0:
            print(f"  {done} rules of {profile}", file=sys.stderr)

    return Watcher(rule=rule, step=lambda text: _say(f"{chr(10) if live else ''}{text}"))


def _say(text: str) -> None:
    print(harmless(text), file=sys.stderr)
