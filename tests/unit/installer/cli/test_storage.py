from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from appliance.cli.main import main
from installer.storage.header import read_header
from tests.unit.installer.storage.conftest import blank as blank
from tests.unit.installer.storage.conftest import ready as ready
from tests.unit.installer.storage.luks_image import OTHER_RECOVERY, PASSPHRASE, RECOVERY, Image

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may look at the volume's keys")


def call(image: Image, *words: str) -> int:
    root = image.places.table.parents[2]
    return main(["storage", *words, "--root", str(root)])


def private(folder: Path, text: str) -> str:
    file = folder / f"secret-{len(list(folder.iterdir()))}"
    file.touch(mode=0o600)
    file.write_text(f"{text}\n")
    return str(file)


def test_status_tells_a_program_what_is_to_be_done(ready: Image, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        call(ready, "status", "--json")
    assert caught.value.code == 4
    document = json.loads(capsys.readouterr().out)
    assert document["state"] == "locked"
    assert "locked" in {alert["code"] for alert in document["alerts"]}
    assert {slot["purpose"] for slot in document["volume"]["slots"]} == {"passphrase", "recovery"}


def test_keys_rotate_by_files_and_no_secret_is_said(
    ready: Image,
    memory: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recovery = private(memory, RECOVERY.upper())
    before = read_header(ready.device)
    new = private(memory, "another long passphrase")
    assert call(ready, "rotate", "passphrase", "--recovery-key-file", recovery, "--new-file", new) == 0
    new = private(memory, OTHER_RECOVERY)
    assert call(ready, "rotate", "recovery", "--recovery-key-file", recovery, "--new-file", new) == 0
    assert call(ready, "recovery", "--recovery-key-file", recovery) == 5
    said = "".join(capsys.readouterr())
    assert not any(secret in said for secret in (RECOVERY, OTHER_RECOVERY, PASSPHRASE, "another long"))
    assert not {slot.fingerprint for slot in before.slots} & {
        slot.fingerprint for slot in read_header(ready.device).slots
    }


def test_a_short_passphrase_and_a_missing_terminal_are_refused(
    ready: Image,
    memory: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recovery = private(memory, RECOVERY)
    with Path("/dev/null").open() as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        assert call(ready, "rotate", "passphrase", "--recovery-key-file", recovery) == 2
        assert call(ready, "rotate", "recovery", "--recovery-key-file", recovery) == 2
        assert call(ready, "recovery") == 2
        assert call(ready, "restore-header", "--recovery-key-file", recovery) == 2
    short = private(memory, "short")
    assert call(ready, "rotate", "passphrase", "--recovery-key-file", recovery, "--new-file", short) == 2


def test_a_header_is_restored_only_when_the_volume_is_named(ready: Image, memory: Path) -> None:
    recovery = private(memory, RECOVERY)
    with ready.device.open("r+b") as stream:
        stream.write(b"\0" * (16 << 20))
    assert call(ready, "restore-header", "--recovery-key-file", recovery, "--name", "something-else") == 2
    assert call(ready, "restore-header", "--recovery-key-file", recovery, "--name", "intramuros-data") == 0
    assert read_header(ready.device).slots


def test_a_key_for_an_unattended_installation_is_private_and_never_overwritten(memory: Path) -> None:
    file = memory / "recovery.key"
    assert main(["storage", "recovery", "--prepare", str(file)]) == 0
    assert file.stat().st_mode & 0o777 == 0o600
    key = file.read_text()
    assert main(["storage", "recovery", "--prepare", str(file)]) == 2
    assert file.read_text() == key


def test_without_a_volume_every_verb_says_so(memory: Path) -> None:
    for verb in ("status", "unlock", "reseal", "backup-header"):
        assert main(["storage", verb, "--root", str(memory)]) == 3
