from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.engine.block_store import BLOCK, BlockStore
from appliance.engine.prefix_cache import Bounds, PrefixCache, common_prefix
from tests.unit.engine.kv_model import UnifiedCells, check

PROMPT = list(range(100))


class Bench:
    """A cache over plain cells, and requests that compute what they do not find."""

    def __init__(
        self,
        *,
        sequences: int = 4,
        cells: int = 1000,
        sharing: bool = True,
        bounds: Bounds | None = None,
        memory: int = 0,
    ) -> None:
        self.cells = UnifiedCells(cells)
        self.store = BlockStore(memory=memory) if memory else None
        self.cache = PrefixCache(
            cells=cells, sequences=sequences, memory=self.cells, bounds=bounds, store=self.store, sharing=sharing
        )

    def start(self, space: str, tokens: list[int]) -> tuple[int, int]:
        """Open and compute all of `tokens`: (sequence, reused)."""
        opened = self.cache.open(space, tokens)
        assert opened is not None
        self.cache.keep_bounds()
        sequence, reused = opened
        held = self.cells.sequences.setdefault(sequence, [])
        assert held == [[space, token] for token in tokens[:reused]]
        assert self.cache.evict(len(tokens) - reused)
        held += [[space, token] for token in tokens[reused:]]
        self.cache.extend(sequence, tokens[reused:])
        check(self.cache, self.cells)
        return opened

    def serve(self, space: str, tokens: list[int]) -> int:
        """A whole request; returns what it found."""
        sequence, reused = self.start(space, tokens)
        self.cache.close(sequence)
        check(self.cache, self.cells)
        return reused

    def finds(self, space: str, tokens: list[int]) -> int:
        return self.cache.match(space, tokens)[0]


def test_busy_sequence_lends_its_prefix() -> None:
    bench = Bench()
    bench.start("a", PROMPT)
    assert bench.cache.open("a", [*PROMPT[:60], 7, 7]) == (1, 60)
    assert bench.cache.used == bench.cells.used == 100


def test_other_space_finds_nothing() -> None:
    bench = Bench(memory=1 << 20)
    bench.serve("a", PROMPT)
    assert bench.cache.match("b", PROMPT) == (0, 0)
    assert bench.start("b", PROMPT)[1] == 0


def test_last_token_is_always_computed() -> None:
    bench = Bench()
    bench.start("a", PROMPT)
    assert bench.cache.match("a", PROMPT) == (99, 0)


def test_short_prefixes_are_not_shared() -> None:
    bench = Bench()
    bench.start("a", PROMPT)
    assert bench.cache.match("a", [*PROMPT[:15], 500, 501]) == (0, 0)
    assert bench.cache.match("a", [*PROMPT[:16], 500, 501]) == (16, 0)


def test_idle_sequence_is_continued_as_it_is() -> None:
    bench = Bench()
    sequence, _ = bench.start("a", PROMPT)
    bench.cache.close(sequence)
    assert bench.cache.match("a", [*PROMPT, 1, 2]) == (100, 100)
    assert bench.cache.open("a", [*PROMPT, 1, 2]) == (sequence, 100)
    assert bench.cache.evictable == 0


def test_private_runs_go_before_proven_ones_however_old() -> None:
    bench = Bench(cells=300, sequences=8)
    shared = PROMPT[:60]
    bench.serve("a", [*shared, *range(200, 240)])
    bench.serve("a", [*shared, *range(300, 340)])
    bench.serve("a", list(range(1000, 1100)))
    assert bench.cache.evict(300 - 60)
    assert bench.finds("a", [*shared, 5]) == 60
    assert bench.finds("a", [*range(1000, 1100), 5]) == 0
    assert bench.cache.evict(300)
    assert bench.cells.used == 0


def test_least_recently_used_goes_first() -> None:
    bench = Bench(cells=200)
    bench.serve("a", PROMPT)
    bench.serve("a", [n + 500 for n in PROMPT])
    assert bench.cache.evict(100)
    assert (bench.finds("a", [*PROMPT, 1]), bench.finds("a", [*(n + 500 for n in PROMPT), 1])) == (0, 100)


def test_a_long_run_is_cut_from_its_end() -> None:
    bench = Bench(cells=1000)
    bench.serve("a", list(range(900)))
    assert bench.cache.evict(200)
    assert bench.finds("a", [*range(900), 1]) == 12 * BLOCK
    check(bench.cache, bench.cells)


def test_a_sequence_whose_cells_all_live_on_in_others_is_not_kept() -> None:
    bench = Bench(sequences=2)
    first, _ = bench.start("a", PROMPT)
    assert bench.cache.open("a", [*PROMPT, 7]) == (1, 100)
    bench.cache.close(first)
    assert bench.cells.sequences[first] == []
    check(bench.cache, bench.cells)


def test_busy_sequences_are_never_evicted() -> None:
    bench = Bench(cells=150)
    bench.start("a", PROMPT)
    assert not bench.cache.evict(51)
    assert bench.cells.used == 100


def test_all_ids_busy_opens_nothing() -> None:
    bench = Bench(sequences=1)
    bench.start("a", PROMPT)
    assert bench.cache.open("a", PROMPT) is None


def test_only_id_is_taken_over_when_it_is_also_the_source() -> None:
    bench = Bench(sequences=1)
    bench.serve("a", PROMPT)
    assert bench.cache.open("a", [*PROMPT[:50], 7, 7]) == (0, 0)
    assert bench.cache.used == bench.cells.used == 0


def test_without_sharing_nothing_stays() -> None:
    bench = Bench(sharing=False, memory=1 << 20)
    bench.serve("a", PROMPT)
    assert bench.cells.used == 0
    assert bench.serve("a", PROMPT) == 0


def test_private_cells_are_bounded_once_another_request_runs() -> None:
    bench = Bench(cells=4096, sequences=16, bounds=Bounds(private=100, proven=1000))
    for start in (0, 1000, 2000):
        bench.serve("a", list(range(start, start + 90)))
    assert [bench.finds("a", list(range(start, start + 90))) for start in (0, 1000, 2000)] == [0, 89, 89]
    bench.serve("a", list(range(3000, 3500)))
    assert bench.finds("a", list(range(3000, 3500))) == 499
    bench.start("a", list(range(4000, 4020)))
    assert bench.finds("a", list(range(3000, 3500))) == BLOCK


def test_proven_cells_have_a_bound_of_their_own() -> None:
    bench = Bench(cells=4096, sequences=16, bounds=Bounds(private=0, proven=300))
    for start in (0, 1000):
        for own in range(3):
            bench.serve("a", [*range(start, start + 200), start + 500 + own, 7])
    bench.start("a", list(range(9000, 9100)))
    assert bench.finds("a", [*range(1000, 1200), 9]) == 200
    assert bench.cache.evictable <= 300
    assert bench.finds("a", [*range(200), 9]) == BLOCK


def test_proven_cells_make_room_for_another_request_where_the_second_tier_keeps_them() -> None:
    for memory, stay in ((1 << 20, 0), (100, 200)):  # a block has more than 100 bytes
        bench = Bench(cells=4096, sequences=16, memory=memory, bounds=Bounds(private=0, proven=300))
        bench.serve("b", list(range(BLOCK)))
        for own in range(3):
            bench.serve("a", [*range(200), 500 + own, 7])
        sequence, _ = bench.start("a", list(range(9000, 9100)))
        assert bench.cache.evictable == stay
        bench.cache.close(sequence)
        assert bench.serve("a", [*range(200), 9]) == (200 if stay else 3 * BLOCK)


def test_what_was_evicted_comes_back_from_the_second_tier() -> None:
    bench = Bench(cells=600, memory=1 << 20)
    tokens = list(range(300))
    bench.serve("a", tokens)
    assert bench.cache.evict(600)
    assert bench.finds("a", [*tokens, 1]) == 0
    assert bench.serve("a", [*tokens, 1]) == 4 * BLOCK
    assert bench.cache.restored == 4 * BLOCK
    assert bench.serve("b", [*tokens, 1]) == 0


def test_a_shared_prefix_is_not_loaded_twice() -> None:
    bench = Bench(cells=1000, sequences=8, memory=1 << 20, bounds=Bounds(private=0, proven=1000))
    common = list(range(100))
    for own in (1000, 2000, 3000):
        bench.serve("a", [*common, *range(own, own + 200)])
    assert bench.serve("a", [*common, *range(1000, 1200), 5]) == 4 * BLOCK
    assert bench.cells.used == bench.cache.used


def test_a_block_that_cannot_be_loaded_is_forgotten() -> None:
    bench = Bench(cells=600, memory=1 << 20)
    tokens = list(range(300))
    bench.serve("a", tokens)
    bench.cache.evict(600)
    bench.cells.refuses = True
    assert bench.serve("a", [*tokens, 1]) == 0
    assert bench.store is not None
    assert bench.store.get(next(bench.store.keys("a", tokens))) is None


def test_a_request_that_comes_back_proves_nothing() -> None:
    bench = Bench(cells=300, sequences=8)
    sequence, _ = bench.start("a", PROMPT)
    bench.cache.close(sequence)
    assert bench.cache.open("a", [*PROMPT, 7], again=True) == (sequence, 100)
    bench.cache.close(sequence)
    bench.serve("a", [*range(200, 260), 1])
    bench.serve("a", [*range(200, 260), 2])
    assert bench.cache.evict(220)
    assert bench.finds("a", [*range(200, 260), 3]) == 60


@settings(deadline=None)
@given(st.lists(st.integers(0, 1)), st.lists(st.integers(0, 1)), st.integers(0, 3))
def test_common_prefix_is_what_a_loop_finds(run: list[int], tokens: list[int], start: int) -> None:
    expected = 0
    for left, right in zip(run, tokens[start:], strict=False):
        if left != right:
            break
        expected += 1
    assert common_prefix(run, tokens, start, len(tokens)) == expected


@settings(max_examples=200, deadline=None)
@given(st.integers(), st.integers(2, 6), st.integers(120, 900), st.sampled_from([0, 4000, 1 << 20]), st.booleans())
def test_whatever_happens_the_books_are_right(
    seed: int, sequences: int, cells: int, memory: int, bounded: bool
) -> None:
    """Random requests over few documents: open, extend, close, evict; two spaces with the same tokens."""
    dice = random.Random(seed)
    bounds = Bounds(private=dice.randrange(cells), proven=dice.randrange(cells)) if bounded else None
    bench = Bench(sequences=sequences, cells=cells, bounds=bounds, memory=memory)
    cache, busy = bench.cache, dict[int, tuple[str, list[int]]]()
    for _ in range(60):
        act = dice.random()
        if act < 0.4:
            space, document, length = dice.choice("ab"), dice.randrange(3), dice.randrange(1, 280)
            tokens = [1000 * document + n for n in range(length)] + [5000 + dice.randrange(40)] * dice.randrange(1, 4)
            opened = cache.open(space, tokens)
            if opened is not None:
                if dice.random() < 0.7:
                    cache.keep_bounds()
                sequence, reused = opened
                assert sequence not in busy
                assert reused < len(tokens)
                assert bench.cells.sequences.setdefault(sequence, []) == [[space, token] for token in tokens[:reused]]
                busy[sequence] = (space, tokens[:reused])
                if not cache.evict(len(tokens) - reused):
                    del busy[sequence]
                    cache.close(sequence)
                else:
                    bench.cells.sequences[sequence] += [[space, token] for token in tokens[reused:]]
                    cache.extend(sequence, tokens[reused:])
                    busy[sequence] = (space, tokens)
        elif act < 0.6 and busy:
            sequence = dice.choice(list(busy))
            if cache.evict(1):
                space, tokens = busy[sequence]
                token = dice.randrange(3)
                bench.cells.sequences[sequence].append([space, token])
                cache.extend(sequence, [token])
                busy[sequence] = (space, [*tokens, token])
        elif act < 0.9 and busy:
            sequence = dice.choice(list(busy))
            del busy[sequence]
            cache.close(sequence)
        else:
            cache.evict(dice.randrange(cells))
        check(cache, bench.cells)
        for sequence, (space, tokens) in busy.items():
            assert bench.cells.sequences[sequence] == [[space, token] for token in tokens]
    for sequence in busy:
        cache.close(sequence)
    assert cache.evict(cells)
    assert bench.cells.used == cache.used == 0
