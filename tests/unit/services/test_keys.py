from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from appliance.access.keys import hash_secret
from appliance.api import types as t
from appliance.kernel.clock import from_text
from appliance.kernel.errors import BadInput, Conflict, NotFound
from appliance.services import audit, keys
from appliance.services.context import Context
from appliance.store.schema import api_keys
from tests.factories.appliance import head, trail


def test_the_secret_is_told_once_and_only_its_hash_is_kept(ctx: Context) -> None:
    fresh = keys.create(ctx, t.CreateKey(name="test", models=("chat",)))
    with ctx.appliance.database.read() as connection:
        row = connection.execute(api_keys.select()).one()
    assert row.hash == hash_secret(fresh.secret)
    assert fresh.secret not in repr((row, keys.list_keys(ctx), audit.page(ctx, before=0, limit=500, action="")))
    assert keys.list_keys(ctx) == (fresh.key,)


@pytest.mark.parametrize("days", [0, 1, 36_500])
def test_a_key_ends_after_its_days(ctx: Context, days: int) -> None:
    view = keys.create(ctx, t.CreateKey(name="test", days=days)).key
    if days == 0:
        assert view.expires_at == ""
    else:
        left = from_text(view.expires_at) - datetime.now(UTC)
        assert timedelta(days=days, minutes=-1) < left <= timedelta(days=days)


@pytest.mark.parametrize("days", [-1, 36_501, 10**12])
def test_a_life_that_makes_no_sense_is_refused(ctx: Context, days: int) -> None:
    with pytest.raises(BadInput) as raised:
        keys.create(ctx, t.CreateKey(name="test", days=days))
    assert raised.value.code == "key.days"
    assert keys.list_keys(ctx) == ()


def test_a_key_is_revoked_once(ctx: Context) -> None:
    key = keys.create(ctx, t.CreateKey(name="test")).key
    before = head(ctx)
    assert keys.revoke(ctx, key.id).revoked_at
    with pytest.raises(Conflict):
        keys.revoke(ctx, key.id)
    with pytest.raises(NotFound):
        keys.revoke(ctx, "nobody")
    assert trail(ctx, since=before) == [("key.revoke", "done")]


def test_a_key_has_a_class_and_may_have_a_share_group(ctx: Context) -> None:
    plain = keys.create(ctx, t.CreateKey(name="plain")).key
    night = keys.create(ctx, t.CreateKey(name="night", priority="batch", share_group="law")).key
    assert (plain.priority, plain.share_group) == ("interactive", "")
    assert (night.priority, night.share_group) == ("batch", "law")
    assert {key.id: key for key in keys.list_keys(ctx)} == {plain.id: plain, night.id: night}
    newest = audit.page(ctx, before=0, limit=1, action="key.create").entries[0]
    assert (newest.detail["priority"], newest.detail["share_group"]) == ("batch", "law")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (t.CreateKey(name="x", priority="urgent"), "key.priority"),
        (t.CreateKey(name="x", share_group="A B"), "name.invalid"),
    ],
)
def test_a_class_or_group_that_cannot_be_is_refused(ctx: Context, body: t.CreateKey, code: str) -> None:
    with pytest.raises(BadInput) as raised:
        keys.create(ctx, body)
    assert raised.value.code == code
    assert keys.list_keys(ctx) == ()


def test_names_are_checked(ctx: Context) -> None:
    for body in (t.CreateKey(name="Bad Name"), t.CreateKey(name="x", models=("Bad Name",))):
        with pytest.raises(BadInput):
            keys.create(ctx, body)
