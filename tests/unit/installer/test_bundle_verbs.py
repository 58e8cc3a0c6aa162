"""`intramuros bundle …` as people and programs see it: data on stdout, people on stderr, stable exit codes."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest

from appliance.cli.main import main
from installer.bundle.progress import Amount
from installer.cli.bundle import _reporter, _size
from tests.factories.bundle import PASSPHRASE, Publisher, make_inputs, make_publisher


@pytest.fixture(scope="module")
def publisher(tmp_path_factory: pytest.TempPathFactory) -> Publisher:
    return make_publisher(tmp_path_factory.mktemp("publisher") / "keys")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_inputs(tmp_path_factory.mktemp("inputs") / "inputs", model_size=2 << 20)


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = main(["bundle", *words])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_build_inspect_verify_join(
    capsys: pytest.CaptureFixture[str], publisher: Publisher, inputs: Path, tmp_path: Path
) -> None:
    medium, trust, receipts = tmp_path / "medium", tmp_path / "trust", tmp_path / "receipts"
    status, out, err = run(
        capsys,
        "build",
        f"--inputs={inputs}",
        f"--keys={publisher.folder}",
        f"--passphrase-file={publisher.passphrase_file}",
        f"--out={medium}",
        "--part-size=1M",
        "--json",
    )
    assert status == 0, err
    built = json.loads(out)
    assert (built["sequence"], built["closure"]) == (202611251200, 2)
    status, out, _ = run(capsys, "inspect", str(medium), "--files")
    assert status == 0
    assert "bundle number 202611251200" in out
    assert "bookworm/main wanted 1:1.0-1" in out
    assert "intramuros bundle verify" in out
    assert json.loads(run(capsys, "inspect", str(medium), "--json")[1])["kinds"]["package"]["files"] == 2
    common = (f"--trust={trust}", "--json")
    status, out, err = run(capsys, "verify", str(medium), f"--receipts={receipts}", *common)
    assert (status, json.loads(err)["code"]) == (3, "bundle.no_trust")
    fingerprint = f"--root-fingerprint={publisher.root_fingerprint}"
    status, out, err = run(capsys, "verify", str(medium), f"--receipts={receipts}", fingerprint, *common)
    assert status == 0, err
    assert json.loads(out)["manifest_sha256"] == built["manifest_sha256"]
    assert Path(json.loads(out)["receipt"]).parent == receipts
    status, out, err = run(capsys, "join", str(medium), str(tmp_path / "joined"), *common)
    assert (status, json.loads(out)["joined"]) == (0, ["models/seed.gguf"]), err
    (medium / "extra").write_bytes(b"")
    status, out, err = run(capsys, "verify", str(medium), "--no-remember", *common)
    assert (status, out, json.loads(err.splitlines()[-1])["code"]) == (7, "", "bundle.unlisted")


def test_date_and_sequence(
    capsys: pytest.CaptureFixture[str],
    publisher: Publisher,
    inputs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = (f"--inputs={inputs}", f"--keys={publisher.folder}", f"--passphrase-file={publisher.passphrase_file}")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1800000000")
    status, out, err = run(capsys, "build", *words, f"--out={tmp_path / 'a'}", "--skip-closure-proof", "--json")
    assert (status, json.loads(out)["sequence"]) == (0, 202701150800), err
    given = ("--date=2027-03-01T10:00:00+02:00", "--sequence=7", "--skip-closure-proof", "--json")
    status, out, err = run(capsys, "build", *words, f"--out={tmp_path / 'b'}", *given)
    assert (status, json.loads(out)["sequence"]) == (0, 7), err
    described = json.loads(run(capsys, "inspect", str(tmp_path / "b"), "--json")[1])
    assert described["built"] == "2027-03-01T08:00:00Z"
    assert run(capsys, "build", *words, f"--out={tmp_path / 'c'}", "--date=tomorrow")[0] == 2


def test_keys(capsys: pytest.CaptureFixture[str], publisher: Publisher, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(publisher.folder, tmp_path / "keys"))
    status, out, _ = run(capsys, "keys", "show", str(folder))
    assert status == 0
    assert publisher.fingerprint[:4] in out
    assert publisher.root_fingerprint in out
    passphrase = f"--passphrase-file={publisher.passphrase_file}"
    status, out, err = run(capsys, "keys", "rotate", str(folder), "--replace=release", passphrase, "--json")
    assert (status, json.loads(out)["root_version"]) == (0, 2), err
    assert run(capsys, "keys", "init", str(folder), passphrase)[0] == 4
    assert PASSPHRASE.decode() not in out + err


def test_sizes() -> None:
    assert [_size(text) for text in ("4G", "3900M", "1048576", "2K")] == [(1 << 32) - 1, 3900 << 20, 1 << 20, 2048]


def test_progress_for_people() -> None:
    stream = io.StringIO()
    now = [0.0]
    report = _reporter(stream, clock=lambda: now[0])

    def amount(files: int) -> Amount:
        return Amount(what="verified", files=files, files_total=9, size=5, size_total=9, seconds_left=61.0)

    report(amount(1))
    assert stream.getvalue() == ""  # not a terminal: a line every five seconds
    now[0] = 6.0
    report(amount(2))
    report(amount(9))
    assert stream.getvalue() == "verified: 2 of 9 files, 5 B of 9 B, 61 s left\nverified: 9 of 9 files, 5 B of 9 B\n"
