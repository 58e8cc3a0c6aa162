"""What `preflight`, `plan`, `install` and `harden` do first: find the playbooks, read the answers, make the plan."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.kernel.errors import NotFound
from installer.answers import Answers, read_answers
from installer.plan import Plan, make_plan
from installer.playbooks import digest_playbooks, read_book


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
    answers = read_answers(answers_file)
    folder = playbooks if playbooks is not None else find_playbooks(bundle)
    plan = make_plan(
        book=book,
        phases=read_book(folder, book),
        answers=answers,
        bundle=bundle.digest if bundle is not None else "",
        playbooks_digest=digest_playbooks(folder),
        only=only,
    )
    return Prepared(answers=answers, plan=plan, bundle=bundle)


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
