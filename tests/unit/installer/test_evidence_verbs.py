"""`intramuros evidence …` as people and programs call it."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from appliance.cli.main import main
from appliance.kernel.clock import utc_now
from installer.evidence.report_oscal import check
from tests.factories.evidence import NOW, collected, hardened, owned, waiver_file


@pytest.fixture
def archive(tmp_path: Path) -> list[str]:
    """Two collections, the second with a failure and an expired waiver; what points at them."""
    collected(tmp_path, label="before")
    waiver_file(tmp_path, {"IM-SSH-01": "2026-11-25"})
    machine = hardened()
    machine.files["/etc/shadow"] = owned(0o644, group="shadow")
    collected(tmp_path, machine, at=NOW + timedelta(days=1))
    return ["--archive", str(tmp_path / "evidence")]


def answer(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> Any:
    assert main(["evidence", *words, "--json"]) == status
    return json.loads(capsys.readouterr().out.splitlines()[0])


def test_list(archive: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    rows = answer(capsys, "list", *archive)
    assert [(row["sequence"], row["label"], row["counts"]["fail"]) for row in rows] == [(1, "before", 0), (2, "", 1)]
    assert main(["evidence", "list", *archive]) == 0
    assert "100.0 %" in capsys.readouterr().out


def test_show_what_is_not_in_order_and_one_control(archive: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evidence", "show", *archive]) == 0
    said = capsys.readouterr().out
    assert "IM-FILE-05" in said
    assert "IM-NET-21" not in said
    assert main(["evidence", "show", "sshd_disable_root_login", *archive]) == 0
    said = capsys.readouterr().out
    assert "sshd -T -C" in said
    assert "CIS 5.1.20" in said
    assert answer(capsys, "show", "IM-NET-21", *archive)[0]["observed"] == "1"
    assert main(["evidence", "show", "IM-XX-99", *archive]) == 2


def test_diff(archive: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert [each["id"] for each in answer(capsys, "diff", *archive)["changes"]] == ["IM-FILE-05"]


def test_status_names_every_problem(archive: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "status", *archive, status=9)
    assert found["newly_failing"] == ["IM-FILE-05"]
    assert any("IM-FILE-05" in problem for problem in found["problems"])
    assert any("waiver of IM-SSH-01 (until 2026-11-25) has expired" in problem for problem in found["problems"])


def test_status_tells_what_drifted_days_ago_and_what_does_not_apply_any_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = hardened()
    machine.files["/etc/shadow"] = owned(0o644, group="shadow")
    del machine.texts["/proc/sys/net/ipv4/tcp_syncookies"]
    collected(tmp_path, label="installed")
    for day in (1, 2):
        collected(tmp_path, machine, at=NOW + timedelta(days=day), label="daily")
    found = answer(capsys, "status", "--archive", str(tmp_path / "evidence"), status=9)
    assert (found["newly_failing"], set(found["drifted"])) == ([], {"IM-FILE-05", "IM-NET-21"})
    assert any("IM-NET-21" in problem and "does not apply any more" in problem for problem in found["problems"])


def test_status_tells_a_collection_dated_in_the_future(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    collected(tmp_path, at=utc_now() + timedelta(days=365))
    found = answer(capsys, "status", "--archive", str(tmp_path / "evidence"), status=9)
    assert found["problems"] == ["the last collection is dated in the future: see `timedatectl`"]


def test_verify(archive: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from installer.evidence.signing_key import load_or_create_key

    key = load_or_create_key(tmp_path / "etc" / "evidence.key")[0].public_base64
    assert answer(capsys, "verify", "--public-key", key, *archive)["ok"]
    next((tmp_path / "evidence").glob("2*Z/evidence.sig")).write_bytes(bytes(64))
    assert main(["evidence", "verify", "--public-key", key, *archive]) == 7
    assert "signature" in capsys.readouterr().err
    assert main(["evidence", "verify", "--public-key", "nonsense", *archive]) == 2


@pytest.mark.parametrize(("form", "start"), [("html", "<!DOCTYPE html>"), ("csv", "control,title"), ("oscal", "{")])
def test_report(archive: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str, start: str) -> None:
    output = tmp_path / "report"
    assert answer(capsys, "report", "--format", form, "--output", str(output), *archive)["format"] == form
    assert output.read_text().startswith(start)
    assert main(["evidence", "report", "--format", form, *archive]) == 0
    assert capsys.readouterr().out == output.read_bytes().decode()
    if form == "oscal":
        check(json.loads(output.read_text()))


def test_nothing_collected_yet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evidence", "show", "--archive", str(tmp_path / "none")]) == 3
    assert "evidence.none" in capsys.readouterr().err
