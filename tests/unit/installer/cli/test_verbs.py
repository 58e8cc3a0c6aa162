"""The installer's verbs on the command line, as far as they change nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from appliance.cli.main import main
from appliance.kernel.errors import BadInput, Conflict
from installer.cli.hooks import TerminalHooks
from installer.cli.output import Narrator
from installer.findings import Finding, Level, in_the_way
from installer.storage.recovery_key import normalise
from tests.console.terminal import Terminal


def test_example_can_be_checked_and_planned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["answers", "example"]) == 0
    file = tmp_path / "answers.toml"
    file.write_text(capsys.readouterr().out)
    assert main(["answers", "check", str(file)]) == 0
    assert "can be used" in capsys.readouterr().out
    assert main(["plan", "--answers", str(file), "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert [phase["name"] for phase in plan["phases"]][:2] == ["packages", "ground"]


def test_faults_of_the_file_end_with_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "answers.toml"
    file.write_text('hostname = "x"\nhostnam = "y"\n')
    assert main(["answers", "check", str(file), "--json"]) == 2
    problem = json.loads(capsys.readouterr().err)
    assert problem["code"] == "answers.invalid"
    assert str(file) in problem["message"]


def test_preflight_prints_findings_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["answers", "example"]) == 0
    file = tmp_path / "answers.toml"
    file.write_text(capsys.readouterr().out)
    assert main(["preflight", "--answers", str(file), "--json"]) == 4
    findings = json.loads(capsys.readouterr().out)
    assert {"storage.device", "secret"} <= {each["what"] for each in findings if each["level"] == "FAIL"}


def test_what_is_in_the_way_is_counted() -> None:
    bad = Finding(level=Level.FAIL, what="memory", found="1.0 GiB")
    assert in_the_way([bad]) == "1 thing is in the way"
    assert in_the_way([bad, bad]) == "2 things are in the way"


def test_check_without_answers_is_refused_and_no_wizard_begins(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert main(["install", "--check", "--json"]) == 2
    assert json.loads(capsys.readouterr().err)["code"] == "install.needs_answers"


def test_recovery_key_goes_to_a_new_file_only(tmp_path: Path) -> None:
    out = tmp_path / "key"
    hooks = TerminalHooks(Narrator(as_json=False), recovery_key_out=out)
    key = hooks.recovery_key()
    assert normalise(out.read_text()) == key
    assert out.stat().st_mode & 0o777 == 0o600
    with pytest.raises(Conflict, match="exists already"):
        hooks.recovery_key()
    assert normalise(out.read_text()) == key
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Conflict):
        TerminalHooks(Narrator(as_json=False), recovery_key_out=link).recovery_key()


def test_recovery_key_is_never_made_for_nobody() -> None:
    with pytest.raises(BadInput, match="no terminal"):
        TerminalHooks(Narrator(as_json=False), recovery_key_out=None).recovery_key()


def test_hash_of_a_password_is_made_for_people_and_never_replaces_a_file(tmp_path: Path) -> None:
    file = tmp_path / "anna.hash"

    def typed(secret: str) -> tuple[int, str]:
        with Terminal(file, term="xterm", program=("appliance.cli.main", "answers", "password")) as terminal:
            if not file.exists():
                terminal.shows("assword:")
                terminal.type(f"{secret}\r")
                terminal.shows("epeat for confirmation:")
                terminal.type(f"{secret}\r")
            return terminal.ends(), terminal.text

    status, said = typed("correct horse battery")
    assert (status, "has not all of upper and lower case" in said) == (2, True), said
    assert not file.exists()
    status, said = typed("Correct-Horse-7-Battery")
    assert status == 0, said
    assert "Battery" not in said
    assert file.read_text().startswith("$y$")
    assert file.stat().st_mode & 0o777 == 0o600
    assert typed("Correct-Horse-7-Battery")[0] == 4
