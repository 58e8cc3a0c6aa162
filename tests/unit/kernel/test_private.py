"""Private files: written for one owner, refused when found otherwise."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from appliance.kernel.errors import Forbidden, NotFound
from appliance.kernel.private import check_private, read_private, write_private


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    write_private(path, b"x")
    return path


def test_what_is_written_is_private_and_readable(secret: Path) -> None:
    assert secret.stat().st_mode & 0o777 == 0o600
    assert read_private(secret) == b"x"
    secret.chmod(0o400)
    check_private(secret)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o601, 0o700, 0o4600])
def test_a_wider_mode_is_refused_with_what_to_do(secret: Path, mode: int) -> None:
    secret.chmod(mode)
    for look in (read_private, check_private):
        with pytest.raises(Forbidden) as caught:
            look(secret)
        assert caught.value.code == "private.mode"
        assert f"chmod 600 {secret}" in caught.value.hint


def test_links_and_absent_files_are_refused(secret: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(secret)
    with pytest.raises(Forbidden) as caught:
        read_private(link)
    assert caught.value.code == "private.kind"
    with pytest.raises(NotFound):
        read_private(tmp_path / "nothing")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_somebody_elses_file_is_refused(secret: Path) -> None:
    os.chown(secret, 12345, -1)
    with pytest.raises(Forbidden) as caught:
        read_private(secret)
    assert caught.value.code == "private.owner"
