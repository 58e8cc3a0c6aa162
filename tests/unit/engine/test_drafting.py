from __future__ import annotations

import random
from collections.abc import Sequence as Ordered

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.engine.drafting import LEVEL, Work, add_guesses
from appliance.engine.prefix_cache import PrefixCache
from appliance.engine.scheduler import Chunk, Limits, Scheduler, Sequence
from appliance.engine.speculation import MOST_DRAFTED, Acceptance, Source
from appliance.engine.step_cost import TILE, Attention, StepCost
from tests.unit.engine.kv_model import UnifiedCells, check

FLAT = StepCost(curve={1: 0.01, 64: 0.011})
CHEAP = StepCost(token=0.0001, curve={1: 0.0005, 64: 0.001})


def _said(position: int) -> int:
    """What the model says at a position, whatever came before; no three tokens come twice."""
    return 1000 + 7 * position


class Oracle:
    """A draft model that knows what will be said, and is wrong at every `wrong`th position."""

    def __init__(self, *, wrong: int = 0, holds: int = 10**6, cost: StepCost = CHEAP) -> None:
        self.cost = cost
        self.batch = 512
        self.known: dict[Sequence, int] = {}
        self.asked: list[list[Work]] = []
        self._wrong = wrong
        self._holds = holds

    def lacking(self, sequence: Sequence) -> int | None:
        if len(sequence.tokens) > self._holds:
            return None
        return len(sequence.tokens) - min(self.known.get(sequence, 0), len(sequence.tokens) - 1)

    def advance(self, work: Ordered[Work]) -> list[list[int]]:
        self.asked.append(list(work))
        guesses = []
        for entry in work:
            lacking = self.lacking(entry.sequence)
            assert lacking is not None
            assert 0 < entry.count <= lacking
            assert entry.guesses == 0 or entry.count == lacking
            length = len(entry.sequence.tokens)
            self.known[entry.sequence] = length - lacking + entry.count
            guesses.append([self._guess(length + at) for at in range(entry.guesses)])
        return guesses

    def _guess(self, position: int) -> int:
        return -1 if self._wrong and position % self._wrong == 0 else _said(position)


def _stream(tokens: int = 4, *, limit: int = 100, rate: float = 0.7, adapter: str = "") -> Sequence:
    text = [_said(at) for at in range(tokens)]
    return Sequence(
        tenant="t", tokens=text, prompt=tokens, limit=limit, slot=0, drafting=Acceptance(rate), adapter=adapter
    )


def _step(*streams: Sequence) -> list[Chunk]:
    return [Chunk(stream, len(stream.tokens) - 1, 1, last=True) for stream in streams]


def _guess(chunks: list[Chunk], oracle: Oracle, *, room: int = 60, seconds: float = 1.0) -> list[Chunk]:
    return add_guesses(chunks, oracle, cost=FLAT, room=room, seconds=seconds, least=8)


def test_streams_without_a_guess_get_one_and_the_others_keep_theirs() -> None:
    looked_up, free = _stream(), _stream()
    chunks = [Chunk(looked_up, 3, 3, last=True, draft=(1, 2)), *_step(free)]
    first, second = _guess(chunks, Oracle())
    assert first is chunks[0]
    assert second.source is Source.DRAFT
    assert second.draft == tuple(_said(4 + at) for at in range(len(second.draft)))
    assert second.count == 1 + len(second.draft) > 1


def test_where_it_cannot_pay_the_draft_model_is_not_run() -> None:
    dear = StepCost(curve={1: 0.02, 64: 0.03})
    cases = [
        (_step(_stream()), Oracle(cost=dear)),
        (_step(_stream(rate=0.05)), Oracle()),
        (_step(_stream(limit=5)), Oracle()),
        (_step(_stream(adapter="law")), Oracle()),
        (_step(_stream()), Oracle(holds=3)),
        ([], Oracle()),
    ]
    for chunks, oracle in cases:
        assert _guess(chunks, oracle) == chunks
        assert oracle.asked == []
    oracle = Oracle()
    assert _guess(cases[0][0], oracle, room=0) == cases[0][0]
    assert oracle.asked == []


def test_a_long_text_is_taken_in_by_parts_within_the_time_to_spare() -> None:
    stream, level, oracle = _stream(300, limit=4000), _stream(), Oracle()
    for _ in range(2):
        chunks = _guess(_step(stream, level), oracle, seconds=0.0128)
        assert [bool(chunk.draft) for chunk in chunks] == [False, True]
    assert [entry.count for work in oracle.asked for entry in work if entry.sequence is stream] == [128, 128]
    assert all(chunk.draft for chunk in _guess(_step(stream, level), oracle, seconds=0.0128))
    book, hasty = _stream(3000, limit=40_000), Oracle()
    _guess(_step(book, level), hasty, seconds=10.0)
    assert {entry.count for entry in hasty.asked[0] if entry.sequence is book} == {hasty.batch - 2 * LEVEL}
    late = Oracle()
    _guess(_step(stream), late, seconds=-1.0)
    assert [entry.count for entry in late.asked[0]] == [8]


def test_a_long_text_with_little_left_to_say_is_not_taken_in() -> None:
    oracle = Oracle()
    chunks = _step(_stream(300, limit=303))
    assert _guess(chunks, oracle) == chunks
    assert oracle.asked == []


def test_a_guess_ends_where_the_answer_must() -> None:
    (chunk,) = _guess(_step(_stream(4, limit=7)), Oracle())
    assert len(chunk.draft) == 2


def test_a_step_that_was_filled_to_a_tile_is_filled_anew_around_its_guesses() -> None:
    limits = Limits(slots=1, cells=4000, batch=512, outputs=32)
    cache = PrefixCache(cells=4000, sequences=4, memory=UnifiedCells(4000))
    dear = Attention(row=0.0001, tile=0.0001)
    scheduler = Scheduler(limits=limits, cache=cache)
    request = _stream(1000, limit=4000)
    request.slot = -1
    scheduler.submit(request)
    scheduler.complete(scheduler.plan(), 0.01)
    scheduler.complete(scheduler.plan(), 0.01)
    assert request.remaining == 0
    request.tokens.append(7)
    scheduler.cost = StepCost(token=1e-9, curve={1: 0.01, 64: 0.011}, attention=dear)
    chunks = scheduler.plan()
    assert (len(chunks), scheduler.padding) == (1, 0)  # one row alone is what a tile costs
    oracle = Oracle()
    oracle.known[request] = 1000
    room = scheduler.room_for_guesses(chunks)
    guessing = add_guesses(chunks, oracle, cost=scheduler.cost, room=room, seconds=1.0, least=8)
    rows = guessing[0].count
    assert rows > 1
    assert scheduler.filled(guessing) == guessing
    assert scheduler.padding == TILE - rows


@settings(max_examples=80, deadline=None)
@given(st.integers(), st.integers(1, 4), st.integers(48, 200), st.sampled_from([0, 1, 2, 5]), st.integers(10, 60))
def test_answers_are_the_same_whatever_is_guessed(seed: int, slots: int, cells: int, wrong: int, holds: int) -> None:
    """Real books: requests come, are preempted for lack of cells, and some are cancelled on the way."""
    dice = random.Random(seed)
    memory, oracle = UnifiedCells(cells), Oracle(wrong=wrong, holds=holds)
    limits = Limits(slots=slots, cells=cells, batch=64, outputs=32, reserve=1, reserve_ratio=0)
    cache = PrefixCache(cells=cells, sequences=slots * 4, memory=memory)
    scheduler = Scheduler(limits=limits, cache=cache, cost=FLAT)
    requests = [_stream(dice.randrange(3, 10), limit=40) for _ in range(5)]
    for request in requests:
        request.slot = -1
        scheduler.submit(request)
    doomed = requests[1] if dice.random() < 0.5 else None
    for _ in range(3000):
        if doomed is not None and len(doomed.tokens) > 20 and doomed.slot >= 0:
            scheduler.finish(doomed)
            doomed = None
        if not scheduler.busy:
            break
        chunks = scheduler.plan()
        room = scheduler.room_for_guesses(chunks)
        chunks = add_guesses(
            chunks, oracle, cost=FLAT, room=room, seconds=scheduler.spare_seconds(chunks), least=limits.least_chunk
        )
        memory.decode(chunks)
        scheduler.complete(chunks, 0.01)
        scheduler.cost = FLAT
        for chunk in chunks:
            if chunk.last:
                _take(scheduler, chunk)
        check(cache, memory)
    assert not scheduler.busy
    for request in requests:
        assert request.tokens == [_said(at) for at in range(len(request.tokens))]
    if wrong == 1:
        assert all(request.drafting.rate < 0.7 for request in requests if len(request.tokens) < holds)
        assert sum(len(entry) for entry in oracle.asked) < 5 * 25


def _take(scheduler: Scheduler, chunk: Chunk) -> None:
    sequence, accepted = chunk.sequence, 0
    while True:
        sequence.tokens.append(_said(len(sequence.tokens)))
        done = len(sequence.tokens) == sequence.limit
        if done or accepted == len(chunk.draft) or sequence.tokens[-1] != chunk.draft[accepted]:
            break
        accepted += 1
    if chunk.draft:
        assert len(chunk.draft) <= MOST_DRAFTED < LEVEL
        scheduler.accept(chunk, accepted)
    if done:
        scheduler.finish(sequence)
