from __future__ import annotations

import os
from pathlib import Path

import pytest

from appliance.kernel.errors import BadInput, Forbidden, IntramurosError, NotFound
from appliance.kernel.paths import StatePaths
from appliance.kernel.sources import identity_of, open_regular, resolve_source


def test_links_are_resolved_once(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("x")
    (tmp_path / "link").symlink_to("real")
    assert resolve_source(str(tmp_path / "link"), state=StatePaths(tmp_path / "state")) == tmp_path / "real"


@pytest.mark.parametrize("given", [None, 3, "", "a\0b", "relative"])
def test_what_is_no_absolute_path_is_bad_input(tmp_path: Path, given: object) -> None:
    with pytest.raises(BadInput):
        resolve_source(given, state=StatePaths(tmp_path))


def test_a_loop_and_an_absent_path_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(BadInput) as raised:
        resolve_source(str(tmp_path / "loop"), state=StatePaths(tmp_path))
    assert raised.value.code == "source.unreadable"
    with pytest.raises(NotFound):
        resolve_source(str(tmp_path / "absent"), state=StatePaths(tmp_path))


@pytest.mark.parametrize("inside", ["secrets/ca.key", "intramuros.sqlite3", "tls/gateway.crt"])
def test_the_appliances_own_state_is_forbidden(tmp_path: Path, inside: str) -> None:
    (tmp_path / inside).parent.mkdir(exist_ok=True)
    (tmp_path / inside).write_text("x")
    with pytest.raises(Forbidden):
        resolve_source(str(tmp_path / inside), state=StatePaths(tmp_path))


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", Path("/dev/zero"), tmp_path):
        with pytest.raises(IntramurosError) as raised:
            open_regular(path)
        assert raised.value.code == "source.not_a_file"
    with pytest.raises(NotFound):
        open_regular(tmp_path / "absent")


def test_identity_changes_with_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("x")
    with open_regular(path) as stream:
        before = identity_of(stream)
        assert identity_of(stream) == before
        with path.open("a") as writer:
            writer.write("y")
        assert identity_of(stream) != before
