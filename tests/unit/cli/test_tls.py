"""`intramuros tls` on the files of a box."""

from __future__ import annotations

import getpass
import json
from pathlib import Path

import pytest

from appliance.cli.main import main
from appliance.kernel.errors import NotFound


@pytest.fixture
def state(tmp_path: Path) -> Path:
    for name in ("authority", "edge", "public"):
        (tmp_path / name).mkdir()
    (tmp_path / "tls.toml").write_text(
        f'names = ["ai.example.org"]\nowner = "{getpass.getuser()}"\n'
        + "".join(f'{name} = "{tmp_path / name}"\n' for name in ("authority", "edge", "public"))
    )
    return tmp_path


def test_renewing_tells_whether_anything_changed(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["tls", "renew", "--state", str(state), "--json"]
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["changed"] is True
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["changed"] is False
    assert main(["tls", "show", "--state", str(state)]) == 0
    shown = capsys.readouterr().out
    assert "ai.example.org" in shown
    assert str(state / "public" / "ca.crt") in shown


def test_a_client_is_issued_listed_and_revoked(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = state / "billing.pem"
    assert main(["tls", "renew", "--state", str(state)]) == 0
    assert main(["tls", "client", "billing", "--out", str(out), "--state", str(state)]) == 0
    assert "BEGIN CERTIFICATE" in out.read_text()
    assert main(["tls", "revoke", "billing", "--state", str(state)]) == 0
    capsys.readouterr()
    assert main(["tls", "clients", "--state", str(state), "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["name"] == "billing"
    assert entry["revoked_at"]


def test_elsewhere_than_on_a_box_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tls", "renew", "--state", str(tmp_path)]) == NotFound.exit_code
    assert "tls.no_box" in capsys.readouterr().err
