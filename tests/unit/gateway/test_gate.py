"""Keys at the gate, and how many may be inside."""

from __future__ import annotations

from contextlib import ExitStack

import msgspec
import pytest

from appliance.access.keys import new_key
from appliance.api.types import PRIORITIES
from appliance.engine.frames import Priority
from appliance.gateway.gate import Turnstile, asker_of, authenticate, may_use, require_model
from appliance.gateway.plan import Asker
from appliance.gateway.refusals import Refusal
from appliance.gateway.table import KeyEntry, Limits

FRESH = new_key()
ENTRY = KeyEntry(id=FRESH.id, hash=FRESH.hash, name="desk", expires_at=1000.0, models=("a",))
KEYS = {ENTRY.id: ENTRY}


def bearer(text: str) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"x"), (b"authorization", text.encode("latin-1"))]


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_good_key_is_let_in(scheme: str) -> None:
    assert authenticate(bearer(f"{scheme} {FRESH.secret}"), KEYS, now=999.9) is ENTRY


@pytest.mark.parametrize(
    ("headers", "now", "code"),
    [
        ([], 0, "missing_api_key"),
        (bearer(""), 0, "missing_api_key"),
        (bearer("Bearer "), 0, "missing_api_key"),
        (bearer(f"Basic {FRESH.secret}"), 0, "missing_api_key"),
        (bearer("Bearer nonsense"), 0, "invalid_api_key"),
        (bearer("Bearer \xff\xfe"), 0, "invalid_api_key"),
        (bearer(f"Bearer {new_key().secret}"), 0, "invalid_api_key"),
        (bearer(f"Bearer im-{FRESH.id}-{'A' * 43}"), 0, "invalid_api_key"),
        (bearer(f"Bearer {FRESH.secret}"), 1000.0, "expired_api_key"),
    ],
)
def test_everyone_else_is_told_why_but_not_what(headers: list[tuple[bytes, bytes]], now: float, code: str) -> None:
    with pytest.raises(Refusal) as caught:
        authenticate(headers, KEYS, now=now)
    assert (caught.value.status, caught.value.code) == (401, code)
    assert FRESH.secret not in caught.value.document().decode()


def test_an_expired_key_says_so_only_to_its_owner() -> None:
    with pytest.raises(Refusal) as caught:
        authenticate(bearer(f"Bearer im-{FRESH.id}-{'A' * 43}"), KEYS, now=2000.0)
    assert caught.value.code == "invalid_api_key"


def test_models_of_a_key() -> None:
    assert may_use(ENTRY, "a")
    assert may_use(ENTRY, "a:law")
    assert not may_use(ENTRY, "b:a")
    with pytest.raises(Refusal) as caught:
        require_model(ENTRY, "b")
    assert caught.value.status == 403
    require_model(KeyEntry(id="x", hash="", name="", models=()), "b")


@pytest.mark.parametrize(("name", "priority"), list(zip(PRIORITIES, Priority, strict=True)))
def test_what_an_engine_learns_of_a_key(name: str, priority: Priority) -> None:
    document = {"id": "x", "hash": "", "name": "desk", "priority": name, "share_group": "law"}
    asker = asker_of(msgspec.convert(document, KeyEntry))
    assert asker == Asker(tenant="x", share="law", priority=priority)
    assert asker_of(ENTRY) == Asker(tenant=FRESH.id, share="", priority=Priority.INTERACTIVE)


A, B = Asker(tenant="a"), Asker(tenant="b")


def test_the_turnstile_counts_out_whoever_it_counted_in() -> None:
    turnstile, limits = Turnstile(), Limits(concurrency=3, key_concurrency=2)
    with turnstile.pass_through(A, limits), turnstile.pass_through(A, limits):
        with pytest.raises(Refusal, match="API key a"):
            turnstile.pass_through(A, limits).__enter__()
        with turnstile.pass_through(B, limits), pytest.raises(Refusal, match="The appliance"):
            turnstile.pass_through(B, limits).__enter__()
        assert turnstile.inside == 2
    with pytest.raises(ZeroDivisionError), turnstile.pass_through(A, limits):
        raise ZeroDivisionError
    assert turnstile.inside == 0


def test_lower_classes_leave_places_for_those_who_wait_for_every_token() -> None:
    turnstile, limits = Turnstile(), Limits(concurrency=8, key_concurrency=8)
    with ExitStack() as stack:
        for priority, places in ((Priority.BATCH, 6), (Priority.NORMAL, 7), (Priority.INTERACTIVE, 8)):
            asker = Asker(tenant="a", priority=priority)
            while turnstile.inside < places:
                stack.enter_context(turnstile.pass_through(asker, limits))
            with pytest.raises(Refusal, match="The appliance"):
                turnstile.pass_through(asker, limits).__enter__()
    with turnstile.pass_through(Asker(tenant="a", priority=Priority.BATCH), Limits(concurrency=1)):
        assert turnstile.inside == 1


def test_who_finds_no_place_is_told_when_one_gets_free() -> None:
    now = 0.0
    turnstile, limits = Turnstile(lambda: now), Limits(concurrency=3, key_concurrency=2)

    def told(asker: Asker) -> int:
        with pytest.raises(Refusal) as caught:
            turnstile.pass_through(asker, limits).__enter__()
        return caught.value.retry_after

    with turnstile.pass_through(A, limits), turnstile.pass_through(A, limits):
        assert told(A) == 1  # nothing is known yet
    with turnstile.pass_through(A, limits):
        now = 30.0
    with turnstile.pass_through(A, limits), turnstile.pass_through(A, limits):
        assert told(A) == 30 / 2
        with turnstile.pass_through(B, limits):
            assert told(B) == 30 / 3
