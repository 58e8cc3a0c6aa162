"""`intramuros install`: from a verified bundle and answers to a box that serves. Without answers, the wizard asks."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from appliance.kernel.errors import BadInput
from appliance.kernel.terminal import harmless, table
from installer import handover, secrets
from installer.answers import Answers
from installer.apply import Request, apply, unfinished
from installer.cli.bundle_option import bundle_option, open_bundle
from installer.cli.harden import objects_of
from installer.cli.hooks import TerminalHooks
from installer.cli.output import Narrator, duration, json_option, require_root, say, show
from installer.cli.prepare import Prepared, force_admin_option, prepare, refuse_unless_ready
from installer.harden.lifeline import LateWrites
from installer.harden.recorder import ChangeRecorder
from installer.in_effect import secrets_in_effect, volume_is_ready
from installer.password import require_passphrase
from installer.places import Places
from installer.plan import plan_text


@click.command()
@click.option(
    "--answers", "answers_file", type=click.Path(path_type=Path), help="Answer file; without it, a wizard asks."
)
@bundle_option
@click.option("--check", is_flag=True, help="Say what would change, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask before it begins.")
@click.option("--restart", is_flag=True, help="Begin anew although an unfinished run could go on.")
@force_admin_option
@click.option(
    "--recovery-key-out",
    type=click.Path(path_type=Path),
    help="Write the data volume's recovery key to this new file instead of showing it.",
)
@click.option("--tier", help="How the wizard draws: rich, basic, mono or line.")
@json_option
def install(
    answers_file: Path | None,
    bundle: Path | None,
    check: bool,
    yes: bool,
    restart: bool,
    force_admin: bool,
    recovery_key_out: Path | None,
    tier: str | None,
    as_json: bool,
) -> None:
    """Install this box from a bundle. Interrupted, the same command goes on where it was."""
    require_root("install this box")
    if answers_file is None:
        given_too = {"--check": check, "--restart": restart, "--force-admin": force_admin}
        given_too["--recovery-key-out"] = recovery_key_out is not None
        _open_wizard(bundle, tier, as_json=as_json, meaningless=[name for name, on in given_too.items() if on])
        return
    places = Places()
    prepared = prepare(answers_file, book="site", bundle=open_bundle(bundle, required=True, remember=not check))
    refuse_unless_ready(prepared, force_admin=force_admin, as_json=as_json)
    given = _collect_secrets(prepared.answers, places, check=check)
    if not (yes or check):
        _ask_first(prepared, places)
    hooks = TerminalHooks(Narrator(as_json=as_json), recovery_key_out=recovery_key_out)
    hooks.listen()
    result = apply(
        Request(
            plan=prepared.plan,
            answers=prepared.answers,
            answers_text=prepared.text,
            bundle_root=prepared.bundle.root if prepared.bundle else None,
            secrets=given,
            check=check,
            restart=restart,
        ),
        hooks,
        places=places,
        watchers=() if check else (_recorder(prepared, places), LateWrites()),
    )
    word = "would change" if check else "changed"

    def told() -> str:
        line = f"run {result.run}: {result.changed} {word} in {duration(result.seconds)}"
        if check:
            return line
        found = table(("THE BOX", ""), handover.facts(prepared.answers), empty="")
        return "\n".join((line, "", found, "", *handover.steps(prepared.answers)))

    show(result, told, as_json=as_json)


def _recorder(prepared: Prepared, places: Places) -> ChangeRecorder:
    """Return who keeps what hardening changes, so that `intramuros harden rollback` can take it back."""
    return ChangeRecorder(objects=objects_of(places), phases=[step.phase for step in prepared.plan.steps])


def _open_wizard(bundle: Path | None, tier: str | None, *, as_json: bool, meaningless: list[str]) -> None:
    if meaningless:  # `--check` above all: whoever says it expects that nothing is changed
        raise BadInput(
            "install.needs_answers",
            f"{meaningless[0]} needs an answer file; the wizard does not know it.",
            hint="Name the answer file: --answers FILE. The wizard's own: /var/lib/intramuros/wizard/answers.toml",
        )
    if as_json or not sys.stdin.isatty():
        raise BadInput(
            "install.no_answers",
            "No answers were given, and this is no terminal to ask them on.",
            hint="Name the answer file: --answers FILE. One to begin with: intramuros answers example",
        )
    from tui.install.main import run_install  # here alone: the installer works without the console

    status = run_install(bundle=bundle, tier=tier)
    if status != 0:
        sys.exit(status)


def _collect_secrets(answers: Answers, places: Places, *, check: bool) -> dict[str, bytes]:
    given = secrets.read_sources(answers, in_effect=secrets_in_effect(answers, places))
    for name in () if check or volume_is_ready(places) else secrets.missing(answers, places.secrets):
        if not sys.stdin.isatty():
            raise BadInput(
                "install.secret_missing",
                f"The secret {name} is in no file, and this is no terminal to ask for it.",
                hint="Name its file in the answers: storage.passphrase_file",
            )
        text: str = click.prompt(name.replace("_", " "), hide_input=True, confirmation_prompt=True, err=True)
        require_passphrase(text)
        given[name] = text.encode() + b"\n"
    return given


def _ask_first(prepared: Prepared, places: Places) -> None:
    say(plan_text(prepared.plan, tasks=False))
    if (run := unfinished(places, digest=prepared.plan.digest)) is not None:
        say(f"Run {run.head.run} did not end; it goes on after: {', '.join(run.finished) or 'nothing'}.")
    if prepared.answers.storage.mode == "luks":
        say(harmless(f"Everything on {prepared.answers.storage.device} will be lost, unless it is our volume already."))
    if not sys.stdin.isatty():
        raise BadInput("install.unconfirmed", "Nobody can be asked here.", hint="Say --yes to install unattended.")
    if not click.confirm("Begin?", default=False, err=True):
        raise click.Abort
