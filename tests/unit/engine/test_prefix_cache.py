from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.engine.prefix_cache import Copy, Drop, Move, PrefixCache, common_prefix

PROMPT = list(range(100))


def _cache(sequences: int = 4, cells: int = 1000, *, sharing: bool = True) -> PrefixCache:
    return PrefixCache(cells=cells, sequences=sequences, sharing=sharing)


def _resident(cache: PrefixCache, tenant: str, tokens: list[int]) -> int:
    moves: list[Move] = []
    opened = cache.open(tenant, tokens, moves)
    assert opened is not None
    sequence, reused = opened
    cache.extend(sequence, tokens[reused:])
    return sequence


def test_busy_sequence_lends_its_prefix() -> None:
    cache, moves = _cache(), list[Move]()
    first = _resident(cache, "a", PROMPT)
    assert cache.open("a", [*PROMPT[:60], 7, 7], moves) == (1, 60)
    assert moves == [Copy(source=first, target=1, length=60)]
    assert cache.used == 100


def test_other_tenant_finds_nothing() -> None:
    cache, moves = _cache(), list[Move]()
    cache.close(_resident(cache, "a", PROMPT), moves)
    assert cache.match("b", PROMPT) == (0, 0)
    assert cache.open("b", PROMPT, moves) == (1, 0)
    assert moves == []


def test_last_token_is_always_computed() -> None:
    cache = _cache()
    _resident(cache, "a", PROMPT)
    assert cache.match("a", PROMPT) == (99, 0)


def test_short_prefixes_are_not_shared() -> None:
    cache = _cache()
    _resident(cache, "a", PROMPT)
    assert cache.match("a", [*PROMPT[:15], 500, 501]) == (0, 0)
    assert cache.match("a", [*PROMPT[:16], 500, 501]) == (16, 0)


def test_idle_sequence_is_continued_without_a_copy() -> None:
    cache, moves = _cache(), list[Move]()
    sequence = _resident(cache, "a", PROMPT)
    cache.close(sequence, moves)
    assert cache.match("a", [*PROMPT, 1, 2]) == (100, 100)
    assert cache.open("a", [*PROMPT, 1, 2], moves) == (sequence, 100)
    assert moves == []
    assert cache.evictable == 0


def test_least_recently_used_goes_first_and_shared_cells_stay() -> None:
    cache, moves = _cache(cells=300), list[Move]()
    old = _resident(cache, "a", PROMPT)
    new = _resident(cache, "a", [*PROMPT[:50], *range(200, 250)])
    cache.close(new, moves)
    cache.close(old, moves)
    assert (cache.used, cache.evictable) == (150, 150)
    assert cache.evict(200, moves)
    assert moves == [Drop(new)]
    assert cache.used == 100
    assert cache.match("a", [*PROMPT, 1])[0] == 100


def test_busy_sequences_are_never_evicted() -> None:
    cache, moves = _cache(cells=150), list[Move]()
    _resident(cache, "a", PROMPT)
    assert not cache.evict(51, moves)
    assert moves == []


def test_all_ids_busy_opens_nothing() -> None:
    cache, moves = _cache(sequences=1), list[Move]()
    _resident(cache, "a", PROMPT)
    assert cache.open("a", PROMPT, moves) is None


def test_only_id_is_taken_over_when_it_is_also_the_source() -> None:
    cache, moves = _cache(sequences=1), list[Move]()
    cache.close(_resident(cache, "a", PROMPT), moves)
    assert cache.open("a", [*PROMPT[:50], 7, 7], moves) == (0, 0)
    assert moves == [Drop(0)]
    assert cache.used == 0


def test_without_sharing_nothing_stays() -> None:
    cache, moves = _cache(sharing=False), list[Move]()
    cache.close(_resident(cache, "a", PROMPT), moves)
    assert moves == [Drop(0)]
    assert cache.used == 0


@given(st.lists(st.integers(0, 1)), st.lists(st.integers(0, 1)), st.integers(0, 3))
def test_common_prefix_is_what_a_loop_finds(run: list[int], tokens: list[int], start: int) -> None:
    expected = 0
    for left, right in zip(run, tokens[start:], strict=False):
        if left != right:
            break
        expected += 1
    assert common_prefix(run, tokens, start, len(tokens)) == expected


def test_idle_sequences_beyond_their_bound_go_least_recently_used_first() -> None:
    held = PrefixCache(cells=4096, sequences=16, idle_cells=100)  # fewer than two of the sequences below
    opened = []
    for start in (0, 1000, 2000):
        tokens = list(range(start, start + 60))
        moves: list[Move] = []
        admitted = held.open("tenant", tokens, moves)
        assert admitted is not None
        held.extend(admitted[0], tokens)
        opened.append((admitted[0], tokens))
    for sequence, _ in opened:
        held.close(sequence, [])
    assert held.evictable <= 100
    kept = [held.match("tenant", tokens)[0] for _, tokens in opened]
    assert kept == [0, 0, 59]  # the last token is always computed, for its logits


def test_the_sequence_that_ended_last_stays_whatever_its_size() -> None:
    held = PrefixCache(cells=4096, sequences=16, idle_cells=10)
    tokens = list(range(500))
    admitted = held.open("tenant", tokens, [])
    assert admitted is not None
    held.extend(admitted[0], tokens)
    held.close(admitted[0], [])
    assert held.match("tenant", tokens)[0] == 499
