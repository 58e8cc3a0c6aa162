"""The state directory that the tests of staging and restoring share."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from tests.unit.backups.state_directory import StateDirectory


@pytest.fixture
def state(tmp_path: Path) -> StateDirectory:
    made = StateDirectory(tmp_path / "state")
    with closing(made.connect()) as connection:
        for number in range(5):
            made.register(connection, f"blob {number}".encode())
    return made
