"""Runs one installation of a tiny set of playbooks in a process of its own, so that a test can kill it.

Arguments: the folder of the playbooks, the root that stands for `/`, and a place that the playbooks write to.
Prints the result as JSON, or the problem with status 1. Events go to standard error, one JSON line each.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec

from appliance.kernel.errors import IntramurosError
from appliance.kernel.problem import problem_of
from installer.answers import check_answers
from installer.apply import Request, apply
from installer.events import StepEvent
from installer.places import Places
from installer.plan import make_plan
from installer.playbooks import digest_playbooks, read_book
from tests.unit.installer.complete_answers import complete_answers


class Hooks:
    """Tells on standard error and is never asked."""

    def event(self, event: StepEvent) -> None:
        print(msgspec.json.encode(event).decode(), file=sys.stderr, flush=True)

    def recovery_key(self) -> str | None:
        return None

    def cancelled(self) -> bool:
        return False


def main(playbooks: str, root: str, hostname: str, *flags: str) -> int:
    document: dict[str, Any] = complete_answers(hostname=hostname)
    answers = check_answers(document, name="answers.toml")
    folder = Path(playbooks)
    plan = make_plan(
        book="site",
        phases=read_book(folder, "site"),
        answers=answers,
        bundle="",
        playbooks_digest=digest_playbooks(folder),
    )
    request = Request(plan=plan, answers=answers, check="--check" in flags, restart="--restart" in flags)
    try:
        result = apply(request, Hooks(), places=Places(root=Path(root)))
    except IntramurosError as error:
        print(msgspec.json.encode(problem_of(error)).decode())
        return 1
    print(msgspec.json.encode(result).decode())
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
