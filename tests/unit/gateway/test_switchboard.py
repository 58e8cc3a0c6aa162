"""Tables in force, links and their retirement."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from appliance.gateway.engine_link import ClientGone
from appliance.gateway.hang_up import while_listening
from appliance.gateway.switchboard import Switchboard
from appliance.gateway.table import OBSTACLE_SECONDS, KeyEntry, Limits, Listen, Route, RoutingTable, encode_table
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


def parked(on: Switchboard, model: str, *, parked: bool = True, obstacle: str = "") -> None:
    """Adopt a table in which one route is, or is no longer, out of memory."""
    route = msgspec.structs.replace(on.table.routes[model], parked=parked, obstacle=obstacle)
    made = msgspec.structs.replace(on.table, routes={**on.table.routes, model: route})
    on.adopt(made, encode_table(made))


async def test_a_request_waits_until_the_model_is_in_memory_and_the_daemon_can_see_it() -> None:
    switch = board(a=1)
    parked(switch, "a")
    waiting = asyncio.ensure_future(switch.until_loaded("a"))
    await asyncio.sleep(0)
    assert switch.revisions()["1"].waiting == 1
    parked(switch, "a")
    await asyncio.sleep(0)
    assert not waiting.done()
    parked(switch, "a", parked=False)
    route = await asyncio.wait_for(waiting, 5)
    assert route is not None
    assert not route.parked
    assert switch.revisions()["1"].waiting == 0


async def test_what_cannot_be_loaded_and_what_is_gone_is_told_at_once() -> None:
    switch = board(a=1)
    parked(switch, "a", obstacle="no room")
    route = await switch.until_loaded("a")
    assert route is not None
    assert route.obstacle == "no room"
    parked(switch, "a")
    waiting = asyncio.ensure_future(switch.until_loaded("a"))
    await asyncio.sleep(0)
    adopt(switch)
    assert await asyncio.wait_for(waiting, 5) is None


async def test_waiting_has_an_end() -> None:
    switch = board(a=1)
    made = msgspec.structs.replace(switch.table, limits=Limits(load_timeout=0.01))
    switch.adopt(made, encode_table(made))
    parked(switch, "a")
    route = await asyncio.wait_for(switch.until_loaded("a"), 5)
    assert route is not None
    assert route.parked
    assert switch.revisions()["1"].waiting == 0


async def test_a_client_that_hangs_up_while_it_waits_is_forgotten() -> None:
    switch = board(a=1)
    parked(switch, "a")

    async def gone() -> dict[str, str]:
        await asyncio.sleep(0.01)
        return {"type": "http.disconnect"}

    with pytest.raises(ClientGone):
        await while_listening(gone, switch.until_loaded("a"))
    await asyncio.sleep(0)
    assert switch.revisions()["1"].waiting == 0


def test_use_is_told_as_the_newest_of_begin_and_end() -> None:
    switch = board(a=1)
    route = switch.route("a")
    assert route is not None
    assert switch.revisions()["1"].used == 0
    link = switch.link(route)
    exchange = link.hold()
    begun = switch.revisions()["1"].used
    link.release(exchange)
    assert switch.revisions()["1"].used >= begun > 1e9


async def test_how_long_a_load_took_says_when_the_next_may_be_over() -> None:
    now, made = 100.0, table(a=1)
    switch = Switchboard(made, encode_table(made), lambda: now)

    async def wait() -> asyncio.Future[Route | None]:
        parked(switch, "a")
        waiting = asyncio.ensure_future(switch.until_loaded("a"))
        await asyncio.sleep(0)
        return waiting

    first = await wait()
    assert switch.load_seconds(switch.table.routes["a"]) == 0
    now += 30
    parked(switch, "a", parked=False)
    await first
    second = await wait()
    assert switch.load_seconds(switch.table.routes["a"]) == 30
    now += 12
    assert switch.load_seconds(switch.table.routes["a"]) == 18
    parked(switch, "a", obstacle="no room")
    assert switch.load_seconds(switch.table.routes["a"]) == OBSTACLE_SECONDS
    await second
    third = await wait()
    now += 5
    parked(switch, "a", parked=False)
    await third
    parked(switch, "a")
    assert switch.load_seconds(switch.table.routes["a"]) == 5
