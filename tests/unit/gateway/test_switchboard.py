"""Tables in force, links and their retirement."""

from __future__ import annotations

from appliance.gateway.switchboard import Switchboard
from appliance.gateway.table import KeyEntry, Listen, Route, RoutingTable, encode_table
from appliance.kernel.canonical import sha256_hex


def table(**revisions: int) -> RoutingTable:
    routes = {
        name: Route(revision=revision, socket=f"/run/{revision}", model_ref="m@1", digest="d", created=1)
        for name, revision in revisions.items()
    }
    keys = (KeyEntry(id="k", hash="h", name="n"),)
    return RoutingTable(listen=Listen(certificate="c", key="k"), routes=routes, keys=keys)


def board(**revisions: int) -> Switchboard:
    made = table(**revisions)
    return Switchboard(made, encode_table(made))


def adopt(on: Switchboard, **revisions: int) -> None:
    made = table(**revisions)
    on.adopt(made, encode_table(made))


def test_the_digest_tells_the_table_in_force() -> None:
    switch = board(a=1)
    adopt(switch, a=2)
    assert switch.digest == sha256_hex(encode_table(table(a=2)))
    assert set(switch.keys) == {"k"}


def test_an_unchanged_revision_keeps_its_link() -> None:
    switch = board(a=1, b=2)
    route = switch.route("a")
    assert route is not None
    link = switch.link(route)
    adopt(switch, a=1, b=3)
    assert switch.link(route) is link
    assert not link.retired


def test_a_replaced_revision_is_shown_until_its_last_request_ended() -> None:
    switch = board(a=1)
    route = switch.route("a")
    assert route is not None
    link = switch.link(route)
    exchange = link.hold()
    adopt(switch, a=2)
    states = switch.revisions()
    assert (states["1"].active, states["1"].retired, states["2"].active) == (1, True, 0)
    link.release(exchange)
    assert set(switch.revisions()) == {"2"}


def test_a_revision_that_comes_back_is_counted_once() -> None:
    switch = board(a=1)
    route = switch.route("a")
    assert route is not None
    old = switch.link(route)
    old.hold()
    adopt(switch, a=2)
    adopt(switch, a=1)
    assert switch.link(route) is not old
    switch.link(route).hold()
    assert switch.revisions()["1"].active == 2


def test_two_names_on_one_revision_share_a_link() -> None:
    switch = board(a=1, b=1)
    first, second = switch.route("a"), switch.route("b")
    assert first is not None
    assert second is not None
    assert switch.link(first) is switch.link(second)
    assert switch.route("c") is None
