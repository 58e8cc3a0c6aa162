"""What `preflight`, `plan`, `install` and `harden` do first: find the playbooks, read the answers, make the plan."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from appliance.kernel.errors import Conflict, NotFound
from installer.answers import Answers, parse_answers, read_text_of
from installer.cli.output import findings_table, say
from installer.findings import failures, in_the_way
from installer.plan import Plan, make_plan
from installer.playbooks import digest_playbooks, read_book

force_admin_option = click.option(
    "--force-admin", is_flag=True, help="Go on although your own address is in no network of administrators."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedBundle:
    """A bundle whose every file was verified."""

    root: Path
    version: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Answers, plan and bundle that belong together."""

    answers: Answers
    text: bytes
    """What the answers were read from."""
    plan: Plan
    bundle: OpenedBundle | None


def prepare(
    answers_file: Path,
    *,
    book: str,
    bundle: OpenedBundle | None,
    playbooks: Path | None = None,
    only: Sequence[str] = (),
) -> Prepared:
    """Read the answers and plan. Raises what reading raises; nothing is changed."""
    text = read_text_of(answers_file)
    answers = parse_answers(text, name=str(answers_file))
    folder = playbooks if playbooks is not None else find_playbooks(bundle)
    plan = make_plan(
        book=book,
        phases=read_book(folder, book),
        answers=answers,
        bundle=bundle.digest if bundle is not None else "",
        playbooks_digest=digest_playbooks(folder),
        only=only,
    )
    return Prepared(answers=answers, text=text, plan=plan, bundle=bundle)


def refuse_unless_ready(prepared: Prepared, *, force_admin: bool, as_json: bool, hardening_only: bool = False) -> None:
    """Look at the machine before anything is changed, and say what is wrong. Raises Conflict `install.not_ready`."""
    from installer.facts import gather
    from installer.preflight import preflight

    findings = preflight(
        gather(prepared.answers),
        prepared.answers,
        bundle_version=prepared.bundle.version if prepared.bundle else None,
        force_admin=force_admin,
        hardening_only=hardening_only,
    )
    bad = failures(findings)
    shown = [finding for finding in findings if finding.level != "OK"]
    if shown and not as_json:
        say(findings_table(shown))
    if bad:
        raise Conflict(
            "install.not_ready",
            f"{in_the_way(bad)}: " + "; ".join(f"{finding.what}: {finding.found}" for finding in bad) + ".",
            hint="See all of it with: intramuros preflight",
        )


def find_playbooks(bundle: OpenedBundle | None) -> Path:
    """Return the playbooks of the bundle, of this installation, or of this source tree. Raises NotFound."""
    installed = Path(sys.prefix).parent / "playbooks"
    beside = Path(__file__).resolve().parents[2] / "playbooks"
    candidates = [bundle.root / "playbooks"] if bundle is not None else [installed, beside]
    for folder in candidates:
        if (folder / "site.yml").is_file():
            return folder
    raise NotFound(
        "playbooks.missing",
        f"No playbooks in {' or '.join(str(folder) for folder in candidates)}.",
        hint="Name the bundle: --bundle DIR",
    )
