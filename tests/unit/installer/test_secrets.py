from __future__ import annotations

import stat
from pathlib import Path

import msgspec
import pytest

from appliance.kernel.errors import Conflict, Forbidden, NotFound
from installer import secrets
from installer.answers import check_answers
from installer.in_effect import secrets_in_effect
from installer.places import Places
from installer.secrets import STORAGE_PASSPHRASE, STORAGE_RECOVERY_KEY, TLS_KEY, Scrubber
from installer.storage.table import Table, write_table
from tests.unit.installer.complete_answers import complete_answers

_LUKS = {"mode": "luks", "device": "/dev/vdb", "unlock": ["passphrase"]}


def test_kept_private_and_wiped(memory: Path) -> None:
    folder = memory / "secrets"
    with secrets.secrets_directory(folder, given={STORAGE_PASSPHRASE: b"correct horse\n"}):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / STORAGE_PASSPHRASE).stat().st_mode) == 0o600
        assert secrets.laid(folder) == [STORAGE_PASSPHRASE]
    assert not folder.exists()


def test_what_was_laid_before_is_used_and_wiped(memory: Path) -> None:
    folder = memory / "secrets"
    secrets.lay(folder, STORAGE_PASSPHRASE, b"correct horse\n")
    with secrets.secrets_directory(folder, given={}):
        assert secrets.laid(folder) == [STORAGE_PASSPHRASE]
    assert not folder.exists()


def test_a_failure_wipes_too(memory: Path) -> None:
    def fail() -> None:
        with secrets.secrets_directory(memory / "secrets", given={STORAGE_PASSPHRASE: b"x"}):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not (memory / "secrets").exists()


def test_confirmed_recovery_key_outlives_an_interruption(memory: Path) -> None:
    folder = memory / "secrets"
    with secrets.secrets_directory(folder, given={STORAGE_PASSPHRASE: b"x\n", STORAGE_RECOVERY_KEY: b"key\n"}):
        pass
    assert secrets.laid(folder) == [STORAGE_RECOVERY_KEY]
    secrets.wipe(folder)
    assert not folder.exists()


def test_a_folder_on_disk_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Conflict, match="not in memory"):
        secrets.lay(tmp_path / "secrets", STORAGE_PASSPHRASE, b"x")
    assert not (tmp_path / "secrets" / STORAGE_PASSPHRASE).exists()


def test_secret_files_must_be_private(tmp_path: Path, memory: Path) -> None:
    file = tmp_path / "pass"
    file.write_text("correct horse battery\n")
    file.chmod(0o644)
    answers = check_answers(complete_answers(storage={**_LUKS, "passphrase_file": str(file)}), name="a")
    with pytest.raises(Forbidden, match="0644"):
        secrets.read_sources(answers)
    assert "0644" in secrets.source_faults(answers)[0][1]
    file.chmod(0o600)
    assert secrets.read_sources(answers) == {STORAGE_PASSPHRASE: b"correct horse battery\n"}
    assert secrets.source_faults(answers) == []
    assert secrets.missing(answers, memory) == []


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("hash", "Correct-Horse-7-Battery", "holds no hash"),
        ("hash", "$y$j9T$x$y\n$y$j9T$x$z", "holds no hash"),
        ("hash", "$6$rounds=5000$abc$def", ""),
        ("hash", "!", "holds no hash"),
        ("passphrase", "correct horse", "shorter than 14"),
        ("passphrase", "correct horse\nbattery staple", "not one line"),
        ("passphrase", " \n", "is empty"),
        ("passphrase", "correct horse battery\n", ""),
    ],
)
def test_secret_that_would_lock_people_out_is_told_beforehand(
    tmp_path: Path, name: str, content: str, fault: str
) -> None:
    file = tmp_path / name
    file.write_text(content)
    file.chmod(0o600)
    named = (
        {"admin": {"password_hash_file": str(file)}}
        if name == "hash"
        else {"storage": {**_LUKS, "passphrase_file": str(file)}}
    )
    found = secrets.source_faults(check_answers(complete_answers(**named), name="a"))
    assert [fault in text for _, text in found] == ([True] if fault else [])


def test_file_of_a_secret_that_the_box_has_taken_over_may_be_gone(tmp_path: Path) -> None:
    file = tmp_path / "pass"
    answers = check_answers(complete_answers(storage={**_LUKS, "passphrase_file": str(file)}), name="a")
    with pytest.raises(NotFound):
        secrets.read_sources(answers)
    assert secrets.source_faults(answers)
    assert secrets.read_sources(answers, in_effect={STORAGE_PASSPHRASE}) == {}
    assert secrets.source_faults(answers, in_effect={STORAGE_PASSPHRASE}) == []
    file.write_text("correct horse\n")
    file.chmod(0o644)
    with pytest.raises(Forbidden):  # what is there still has to be private
        secrets.read_sources(answers, in_effect={STORAGE_PASSPHRASE})


def test_passphrase_is_taken_over_once_the_volume_is_ready(tmp_path: Path) -> None:
    answers = check_answers(complete_answers(storage=_LUKS), name="a")
    places = Places(root=tmp_path)
    table = Table(uuid="u", device="/dev/vdb", name="n", mount="/srv/intramuros", ready=False)
    write_table(places.volume_table, table)
    assert STORAGE_PASSPHRASE not in secrets_in_effect(answers, places)
    write_table(places.volume_table, msgspec.structs.replace(table, ready=True))
    assert STORAGE_PASSPHRASE in secrets_in_effect(answers, places)


def test_key_of_a_provided_certificate_is_taken_over_once_that_is_served(tmp_path: Path) -> None:
    given = tmp_path / "server.pem"
    tls = {"mode": "provided", "certificate": str(given), "key": str(tmp_path / "gone.key")}
    answers = check_answers(complete_answers(tls=tls), name="a")
    places = Places(root=tmp_path)
    assert TLS_KEY not in secrets_in_effect(answers, places)
    served = tmp_path / "srv" / "intramuros" / "edge" / "gateway.crt"
    served.parent.mkdir(parents=True)
    block = "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n"
    given.write_text("subject=box\r\n" + block.format("AAEC\r\nAwQF"))
    served.write_text(block.format("AAECAwQF"))
    assert TLS_KEY not in secrets_in_effect(answers, places), "the gateway's file with the key is not there"
    (served.parent / "gateway.pem").touch()
    assert TLS_KEY in secrets_in_effect(answers, places)
    assert secrets.source_faults(answers, in_effect=secrets_in_effect(answers, places)) == []
    served.write_text(block.format("AAECAwQF") + block.format("BgcI"))
    assert TLS_KEY not in secrets_in_effect(answers, places), "the chain was changed"
    given.write_text(block.format("CQoL"))
    assert TLS_KEY not in secrets_in_effect(answers, places)
    for path in (given, served):
        path.write_text("no certificate")
    assert TLS_KEY not in secrets_in_effect(answers, places)


def test_missing_passphrase_has_to_be_asked_for(memory: Path) -> None:
    answers = check_answers(complete_answers(storage=_LUKS), name="a")
    assert secrets.missing(answers, memory) == [STORAGE_PASSPHRASE]
    secrets.lay(memory, STORAGE_PASSPHRASE, b"x")
    assert secrets.missing(answers, memory) == []


def test_scrubber_learns_while_a_run_goes_on(memory: Path) -> None:
    scrub = Scrubber(memory)
    assert scrub("the passphrase is correct horse") == "the passphrase is correct horse"
    secrets.lay(memory, STORAGE_PASSPHRASE, b"correct horse\n")
    assert scrub("the passphrase is correct horse") == "the passphrase is [hidden]"
    secrets.wipe(memory, keep=())
    assert scrub("the passphrase is correct horse") == "the passphrase is [hidden]"
    assert Scrubber(None)("correct horse") == "correct horse"
