from __future__ import annotations

import json

import pytest
from sqlalchemy import text

from appliance.api import types as t
from appliance.audit.verify_audit import verify_lines
from appliance.kernel.settings import Settings
from appliance.services import audit, keys
from appliance.services.context import Appliance, Context
from tests.factories.appliance import context, open_test_appliance, trail


def make(ctx: Context, count: int) -> None:
    for number in range(count):
        keys.create(ctx, t.CreateKey(name=f"key-{number}"))


def test_pages_go_back_to_the_first_event_without_gaps(ctx: Context) -> None:
    make(ctx, 5)
    seen, before = [], 0
    while True:
        page = audit.page(ctx, before=before, limit=2, action="")
        seen += [entry.seq for entry in page.entries]
        if not (before := page.next):
            break
    assert seen == list(range(len(seen), 0, -1))
    assert len(seen) == 5


def test_actions_are_chosen_by_their_beginning_and_taken_literally(ctx: Context) -> None:
    make(ctx, 2)
    assert len(audit.page(ctx, before=0, limit=100, action="key.").entries) == 2
    assert audit.page(ctx, before=0, limit=100, action="%").entries == ()


def test_limits_are_kept_within_bounds(ctx: Context) -> None:
    make(ctx, 2)
    assert len(audit.page(ctx, before=0, limit=0, action="").entries) == 1
    assert len(audit.page(ctx, before=0, limit=10**9, action="").entries) == 2


def test_a_checkpoint_is_signed_every_so_many_events_and_on_request(tmp_path_factory: pytest.TempPathFactory) -> None:
    opened = open_test_appliance(tmp_path_factory.mktemp("state"), settings=Settings(audit_checkpoint_events=3))
    ctx = context(opened)
    make(ctx, 7)
    assert audit.verify(ctx).checkpoints == 2
    opened.trail.sign_head(opened.database)
    opened.trail.sign_head(opened.database)
    assert audit.verify(ctx).checkpoints == 3
    opened.database.close()


def test_an_export_records_itself_and_verifies_alone(appliance: Appliance, ctx: Context) -> None:
    make(ctx, 2)
    lines = audit.export(ctx)
    assert verify_lines(list(lines), public_key=appliance.trail.key.public_bytes).ok
    assert trail(ctx)[-1] == ("audit.export", "done")
    assert "audit.export" in {json.loads(line).get("action") for line in lines}


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE audit_events SET actor = 'nobody' WHERE seq = 2",
        "DELETE FROM audit_events WHERE seq = 2",
        "DELETE FROM audit_events WHERE seq = 3",
        "UPDATE audit_checkpoints SET hash = prev FROM audit_events WHERE audit_events.seq = 3",
    ],
)
def test_a_change_behind_our_back_is_found(tmp_path_factory: pytest.TempPathFactory, change: str) -> None:
    opened = open_test_appliance(tmp_path_factory.mktemp("state"))
    ctx = context(opened)
    make(ctx, 3)
    opened.trail.sign_head(opened.database)
    assert audit.verify(ctx).ok
    with opened.database.write() as connection:
        connection.execute(text(change))
    assert not audit.verify(ctx).ok
    opened.database.close()
