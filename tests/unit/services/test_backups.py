from __future__ import annotations

import shutil

import pytest

from appliance.kernel.errors import IntramurosError, NotFound
from appliance.services import backups
from appliance.services.context import Appliance, Context
from tests.factories.appliance import head, trail

pytestmark = pytest.mark.skipif(shutil.which("restic") is None, reason="restic is not installed")


def test_before_the_first_backup_there_is_nothing_to_verify(ctx: Context) -> None:
    before = head(ctx)
    assert backups.list_backups(ctx) == ()
    with pytest.raises(NotFound) as raised:
        backups.verify(ctx)
    assert raised.value.code == "backup.none"
    assert trail(ctx, since=before) == []


def test_a_backup_that_fails_is_recorded_with_its_code(appliance: Appliance, ctx: Context) -> None:
    appliance.paths.backups.write_text("a file where the repository belongs")
    before = head(ctx)
    with pytest.raises(IntramurosError):
        backups.create(ctx)
    assert trail(ctx, since=before) == [("backup.create", "intent"), ("backup.create", "failed")]
