from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.services import audit
from appliance.services.context import Appliance, Context
from tests.factories.appliance import context, open_test_appliance


@pytest.fixture
def appliance(tmp_path: Path) -> Iterator[Appliance]:
    """An open appliance; whatever a test did to it, its audit chain must verify."""
    opened = open_test_appliance(tmp_path / "state")
    yield opened
    verdict = audit.verify(context(opened, user="auditor"))
    assert verdict.ok, verdict.problem
    opened.database.close()


@pytest.fixture
def ctx(appliance: Appliance) -> Context:
    """A call by alice, who holds every role."""
    return context(appliance)
