from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click
import pytest

from appliance.cli.main import _VERBS, _go_to_its_environment, cli, main


def commands() -> Iterator[tuple[str, click.Command]]:
    """Yield every command that can be typed, groups unfolded: `model list`."""
    for verb in _VERBS:
        command = cli.get_command(click.Context(cli), verb)
        assert command is not None
        yield from unfolded(verb, command)


def unfolded(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    """Yield a command, or those of a group, however deep."""
    if not isinstance(command, click.Group):
        yield name, command
        return
    for word, inner in command.commands.items():
        yield from unfolded(f"{name} {word}", inner)


COMMANDS = dict(commands())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_verb_takes_state_and_json_and_says_what_it_does(name: str) -> None:
    options = {option for parameter in COMMANDS[name].params for option in parameter.opts}
    of_the_box = _VERBS[name.split()[0]][0].startswith("installer.")  # has no state directory: it is one machine
    assert ({"--json"} if of_the_box else {"--state", "--json"}) <= options
    line = COMMANDS[name].get_short_help_str(limit=200)
    assert line.endswith(".")
    assert len(line) > 10


def test_the_overview_names_every_verb_and_its_own_module_agrees(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for verb, (module, attribute, line) in _VERBS.items():
        assert f"  {verb} " in text
        assert line in " ".join(text.split())
        assert getattr(import_module(module), attribute).name == verb


def test_the_overview_loads_no_verb() -> None:
    program = "import sys; from appliance.cli.main import main; main(['--help']); print(*sys.modules, file=sys.stderr)"
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(finished.stderr.split())
    assert not loaded & {"sqlalchemy", "httpx2", "starlette", "textual", "torch", "psutil"}
    assert {name for name in loaded if name.startswith("appliance.cli.")} == {"appliance.cli.main"}


@pytest.mark.parametrize("arguments", [["nonsense"], ["model"], ["model", "show"], ["up", "--port", "0"]])
def test_what_cannot_be_typed_is_a_usage_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Usage" in captured.err


# The HTTP library leaves the socket of a refused connection to the garbage collector.
refused_connection = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@refused_connection
def test_an_error_is_one_line_and_a_hint_on_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INTRAMUROS_PATIENCE", "0")
    assert main(["status", "--state", str(tmp_path)]) == 6
    captured = capsys.readouterr()
    assert captured.out == ""
    first, second = captured.err.splitlines()
    assert first.startswith("intramuros: ")
    assert first.endswith("[api.not_running]")
    assert "intramuros up" in second


@refused_connection
def test_with_json_an_error_is_a_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INTRAMUROS_PATIENCE", "0")
    assert main(["status", "--json", "--state", str(tmp_path)]) == 6
    document = json.loads(capsys.readouterr().err)
    assert (document["code"], document["exit_code"], document["retryable"]) == ("api.not_running", 6, True)


def test_stopping_what_does_not_run_is_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["down", "--json", "--state", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out) == {"stopped": False}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["key", "create", "x", "--out", "{folder}/present"], "key.file_exists"),
        (["key", "create", "x", "--out", "{folder}/absent/key"], "key.file_place"),
        (["dataset", "import", "example:../secret", "--name", "x"], "dataset.no_example"),
        (["dataset", "import", "x.csv", "--name", "x", "--map", "prompt"], "dataset.mapping"),
        (["train", "seed", "--corpus", "x", "--set", "steps"], "recipe.pair"),
        (["undeploy", "x"], "deploy.not_confirmed"),
        (["model", "approve", "x", "--to", "prod", "--approver", "bob"], "approval.incomplete"),
        (["backup", "restore", "--to", "{folder}/new"], "backup.no_password"),
    ],
)
def test_what_is_wrong_by_itself_is_refused_without_asking_the_daemon(
    arguments: list[str], code: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "present").write_text("")
    given = [argument.format(folder=tmp_path) for argument in arguments]
    main([*given, "--json", "--state", str(tmp_path)])
    said = capsys.readouterr().err.splitlines()
    assert json.loads(said[-1])["code"] == code


def test_a_verb_stays_in_its_environment_where_there_is_only_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", "/opt/intramuros/current/venv")
    _go_to_its_environment("installer.cli.plan")  # no such environment here: it goes on in this one
    monkeypatch.setattr(sys, "prefix", "/usr")
    _go_to_its_environment("installer.cli.plan")


def test_a_verb_of_the_appliance_on_a_box_that_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on a box where the installer was prepared: its environment lacks the client's packages."""
    home = tmp_path / "installer" / "venv"
    home.mkdir(parents=True)
    monkeypatch.setitem(sys.modules, "appliance.api.client", None)
    with pytest.raises(ModuleNotFoundError):
        main(["status", "--json", "--state", str(tmp_path)])  # a defect of any other environment
    monkeypatch.setattr("appliance.cli.main._INSTALLER_HOME", home)
    monkeypatch.setattr("appliance.cli.main._APPLIANCE_HOME", tmp_path / "current" / "venv")
    monkeypatch.setattr(sys, "prefix", str(home))
    assert main(["status", "--json", "--state", str(tmp_path)]) == 4
    assert json.loads(capsys.readouterr().err)["code"] == "cli.not_installed"


def test_a_verb_of_the_other_environment_is_run_there(tmp_path: Path) -> None:
    """As on a box: two environments side by side, the command called in the wrong one."""
    other = tmp_path / "installer" / "venv" / "bin" / "intramuros"
    other.parent.mkdir(parents=True)
    other.write_text("#!/bin/sh\necho there: $*\n")
    other.chmod(0o755)
    program = (
        "import sys; from pathlib import Path; from appliance.cli import main as m\n"
        f"m._BOX = Path({str(tmp_path)!r}); m._INSTALLER_HOME = m._BOX / 'installer' / 'venv'\n"
        "sys.prefix = str(m._BOX / 'current' / 'venv'); m.main(sys.argv[1:])\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program, "plan", "--json"], capture_output=True, text=True, timeout=60, check=True
    )
    assert finished.stdout == "there: plan --json\n"
