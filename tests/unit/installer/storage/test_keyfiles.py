from __future__ import annotations

from pathlib import Path

import pytest

from appliance.kernel.errors import BadInput, Conflict, Forbidden
from installer.storage.keyfiles import given_secret, key_files


def test_keys_are_private_and_gone_afterwards(memory: Path) -> None:
    with key_files(memory / "run") as keys:
        file = keys.put("passphrase", "secret\n")
        assert file.read_bytes() == b"secret", "the line break of a file is not typed at the boot prompt"
        assert file.stat().st_mode & 0o777 == 0o600
        assert file.parent.stat().st_mode & 0o777 == 0o700
    assert not file.parent.exists()


def test_keys_are_gone_after_a_failure(memory: Path) -> None:
    def fail() -> None:
        with key_files(memory / "run") as keys:
            keys.put("passphrase", "secret")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list((memory / "run").iterdir()) == []


def test_what_a_killed_command_left_is_removed_and_a_living_one_is_left_alone(memory: Path) -> None:
    dead, alive = memory / "run/keys.4194304", memory / "run/keys.1"  # the first is above every pid
    for folder in (dead, alive):
        folder.mkdir(parents=True)
        (folder / "passphrase").write_text("secret")
    with key_files(memory / "run"):
        assert not dead.exists()
        assert alive.exists()


def test_no_key_is_written_to_a_disk(tmp_path: Path) -> None:
    with pytest.raises(Conflict, match="not in memory"), key_files(Path("/var/tmp") / tmp_path.name):
        pass
    (Path("/var/tmp") / tmp_path.name).rmdir()


@pytest.mark.parametrize("text", [b"", b"\n", b"two\nlines\n", b"nul\0byte"])
def test_a_secret_is_exactly_one_line(memory: Path, text: bytes) -> None:
    file = memory / "secret"
    file.touch(mode=0o600)
    file.write_bytes(text)
    with pytest.raises(BadInput, match="exactly one line"):
        given_secret(file)


def test_a_secret_that_others_may_read_is_refused(memory: Path) -> None:
    file = memory / "secret"
    file.write_text("secret")
    file.chmod(0o644)
    with pytest.raises(Forbidden):
        given_secret(file)
