"""What the installer's tests share: a folder in memory, and answers that are complete."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from installer.answers import Answers, check_answers
from tests.unit.installer.complete_answers import complete_answers


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder of the test's own on tmpfs, as /run is on a box."""
    folder = Path(tempfile.mkdtemp(prefix="intramuros-test-", dir="/dev/shm"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def answers() -> Answers:
    return check_answers(complete_answers(), name="answers.toml")
