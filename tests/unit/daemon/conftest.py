from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.services.context import Appliance
from tests.factories.appliance import open_test_appliance


@pytest.fixture
def appliance(tmp_path: Path) -> Iterator[Appliance]:
    opened = open_test_appliance(tmp_path / "state")
    yield opened
    opened.database.close()
