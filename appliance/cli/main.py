"""`intramuros`: finds the verb, loads its module, and turns errors into one line and an exit status.

stdout is data, stderr is for people. Nothing heavy is imported before a verb needs it.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Final

import click

from appliance.kernel.errors import Conflict, IntramurosError, storage_failure
from appliance.kernel.terminal import harmless

_BOX: Final = Path("/opt/intramuros")
_INSTALLER_HOME: Final = _BOX / "installer" / "venv"
_APPLIANCE_HOME: Final = _BOX / "current" / "venv"

_VERBS: dict[str, tuple[str, str, str]] = {
    # verb: module, attribute, one line for --help
    "up": ("appliance.cli.power", "up", "Start the appliance."),
    "down": ("appliance.cli.power", "down", "Stop the appliance in order."),
    "status": ("appliance.cli.status", "status", "Show the whole appliance at a glance."),
    "doctor": ("appliance.cli.doctor", "doctor", "Check this machine and this state directory."),
    "console": ("appliance.cli.console", "console", "Open the terminal console."),
    "tour": ("appliance.cli.tour", "tour", "Walk the whole way once: data, tune, gate, serve, roll back, restore."),
    "model": ("appliance.cli.model", "model", "Import, register, promote, convert and remove models."),
    "dataset": ("appliance.cli.dataset", "dataset", "Import and inspect data sets."),
    "train": ("appliance.cli.train", "train", "Train from nothing, fine-tune, and plan both."),
    "run": ("appliance.cli.run", "run", "Show everything about a run, or prove that it can be repeated."),
    "search": ("appliance.cli.search", "search", "Look for the best values of a recipe's fields."),
    "kfold": ("appliance.cli.kfold", "kfold", "Cross-validate a recipe."),
    "pipeline": ("appliance.cli.pipeline", "pipeline", "Carry out a file of steps from data to deployment."),
    "suite": ("appliance.cli.suite", "suite", "Take in and show what models are measured with."),
    "eval": ("appliance.cli.evaluate", "evaluate", "Measure a model, or compare two, on a suite or data set."),
    "job": ("appliance.cli.job", "job", "Follow, cancel and resume jobs."),
    "fleet": ("appliance.cli.fleet", "fleet", "List the boxes that train together."),
    "deploy": ("appliance.cli.deploy", "deploy", "Serve a model version under a name."),
    "rollback": ("appliance.cli.deploy", "rollback", "Bring the previous version of a deployment back."),
    "deployments": ("appliance.cli.deploy", "deployments", "List what is served, with its revisions."),
    "serving": ("appliance.cli.serving", "serving", "See and steer which models are in memory."),
    "tune": ("appliance.cli.tune", "tune", "Measure how a model is served fastest on this box."),
    "undeploy": ("appliance.cli.deploy", "undeploy", "Stop serving a name."),
    "ask": ("appliance.cli.deploy", "ask", "Ask a deployment one question."),
    "key": ("appliance.cli.key", "key", "Create, list and revoke API keys."),
    "approver": ("appliance.cli.approver", "approver", "Make and enrol approvers' keys."),
    "audit": ("appliance.cli.audit", "audit", "Read, verify and export the audit trail."),
    "tls": ("appliance.cli.tls", "tls", "Show, renew, import and revoke certificates of a box."),
    "metrics": ("appliance.cli.metrics", "metrics", "Print the appliance's figures for Prometheus."),
    "backup": ("appliance.cli.backup", "backup", "Take, verify and restore backups."),
    "install": ("installer.cli.install", "install", "Install this box from a bundle, or go on where it stopped."),
    "preflight": ("installer.cli.preflight", "preflight", "Check this machine before it is installed."),
    "plan": ("installer.cli.plan", "plan", "Print every step of an installation without running it."),
    "answers": ("installer.cli.answers", "answers", "Write and check the answer file of an installation."),
    "runs": ("installer.cli.runs", "runs", "See what installation and hardening runs did."),
    "bundle": ("installer.cli.bundle", "bundle", "Collect, build, verify and inspect offline bundles."),
    "storage": ("installer.cli.storage", "storage", "Look after the encrypted data volume."),
    "harden": ("installer.cli.harden", "harden", "Harden this machine, or take a hardening run back."),
    "lifeline": ("installer.cli.lifeline", "lifeline", "See or use the way back while a change is unproven."),
    "evidence": ("installer.cli.evidence", "evidence", "Prove what of the hardening is in effect."),
}


class _LazyGroup(click.Group):
    """Knows every verb's name and help line, and imports a verb's module only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _VERBS:
            return None
        module, attribute, _ = _VERBS[cmd_name]
        _go_to_its_environment(module)
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(name, line) for name, (_, _, line) in _VERBS.items()])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="intramuros-appliance", prog_name="intramuros")
def cli() -> None:
    """Intramuros, the AI appliance within your walls.

    Every verb takes --state DIR (default: $INTRAMUROS_STATE, this box's, or ./var) and --json.
    """


def _go_to_its_environment(module: str) -> None:
    """On a box the installer's verbs have a virtual environment of their own: run this command there instead.

    One command, two environments: the installer must work while there is no appliance, and be replaced apart from it.
    """
    prefix = _INSTALLER_HOME if module.startswith("installer.") else _APPLIANCE_HOME
    program = prefix / "bin" / "intramuros"
    here = Path(sys.prefix)
    if here.is_relative_to(_BOX) and here.resolve() != prefix.resolve() and program.exists():
        os.execv(program, [str(program), *sys.argv[1:]])  # noqa: S606 - a fixed path, no shell wanted


def _is_prepared_only() -> bool:
    """Whether this is the installer's environment on a box that has no appliance yet, whose packages it lacks."""
    return Path(sys.prefix).resolve() == _INSTALLER_HOME.resolve() and not _APPLIANCE_HOME.exists()


def main(argv: list[str] | None = None) -> int:
    """Run one verb and return the exit status."""
    as_json = "--json" in (sys.argv[1:] if argv is None else argv)
    try:
        result = cli.main(args=argv, standalone_mode=False, prog_name="intramuros")
        return result if isinstance(result, int) else 0
    except click.exceptions.Abort:
        print("interrupted", file=sys.stderr)
        return 130
    except click.ClickException as error:
        error.show(file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        sys.stderr.close()
        return 141
    except IntramurosError as error:
        return _report(error, as_json=as_json)
    except OSError as error:
        return _report(storage_failure(error, doing="running this command"), as_json=as_json)
    except ModuleNotFoundError:
        if not _is_prepared_only():
            raise
        missing = Conflict(
            "cli.not_installed",
            "The appliance is not installed on this box yet.",
            hint="Install it: intramuros install --bundle DIR",
        )
        return _report(missing, as_json=as_json)


def _report(error: IntramurosError, *, as_json: bool) -> int:
    if as_json:
        import msgspec

        from appliance.kernel.problem import problem_of

        print(msgspec.json.encode(problem_of(error)).decode(), file=sys.stderr)
    else:
        print(harmless(f"intramuros: {error.message} [{error.code}]"), file=sys.stderr)
        if error.hint:
            print(harmless(f"  {error.hint}"), file=sys.stderr)
    return error.exit_code


def run() -> None:
    """Entry of the installed script."""
    sys.exit(main())


if __name__ == "__main__":
    run()
