from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.engine.block_store import BlockStore
from appliance.engine.frames import Priority
from appliance.engine.prefix_cache import Bounds, PrefixCache
from appliance.engine.scheduler import Chunk, Limits, Scheduler, Sequence
from appliance.engine.step_cost import TILE, Attention, StepCost
from tests.unit.engine.kv_model import UnifiedCells, check

BATCH = Priority.BATCH


def _scheduler(
    *, slots: int = 4, cells: int = 4096, batch: int = 512, reserve: int = 8, memory: UnifiedCells | None = None
) -> Scheduler:
    limits = Limits(slots=slots, cells=cells, batch=batch, reserve=reserve, reserve_ratio=0)
    cache = PrefixCache(
        cells=cells, sequences=slots * 4, memory=memory or UnifiedCells(cells), store=BlockStore(memory=1 << 16)
    )
    return Scheduler(limits=limits, cache=cache)


def _request(
    tenant: str = "t", prompt: int = 10, answer: int = 5, first: int = 0, priority: Priority = Priority.INTERACTIVE
) -> Sequence:
    tokens = list(range(first, first + prompt))
    return Sequence(tenant=tenant, space=tenant, tokens=tokens, prompt=prompt, limit=prompt + answer, priority=priority)


def _step(scheduler: Scheduler, seconds: float = 0.01) -> list[Chunk]:
    """One step of a model that always says token 1."""
    chunks = scheduler.plan()
    memory = scheduler.cache._memory
    assert isinstance(memory, UnifiedCells)
    memory.decode(chunks)
    scheduler.complete(chunks, seconds)
    for chunk in chunks:
        if chunk.last:
            chunk.sequence.tokens.append(1)
            if len(chunk.sequence.tokens) >= chunk.sequence.limit:
                scheduler.finish(chunk.sequence)
    return chunks


def test_decoding_goes_before_prompts() -> None:
    scheduler = _scheduler()
    scheduler.submit(first := _request())
    _step(scheduler)
    scheduler.submit(second := _request(first=100))
    chunks = _step(scheduler)
    assert [(chunk.sequence, chunk.count) for chunk in chunks] == [(first, 1), (second, 10)]


def test_prompt_is_cut_to_the_decode_target_only_while_someone_decodes() -> None:
    scheduler = _scheduler(batch=2048)
    scheduler.cost = StepCost(token=0.001, curve={1: 0.05})
    scheduler.submit(_request(prompt=900, answer=50))
    assert _step(scheduler)[0].count == 900
    scheduler.cost = StepCost(token=0.001, curve={1: 0.05})
    scheduler.submit(_request(prompt=900, first=5000))
    assert [chunk.count for chunk in scheduler.plan()] == [1, 150]


def test_a_prompt_advances_even_when_the_target_is_already_missed() -> None:
    scheduler = _scheduler()
    scheduler.submit(_request(answer=50))
    _step(scheduler)
    scheduler.cost = StepCost(token=1.0, curve={1: 9.0})
    scheduler.submit(_request(prompt=100, first=500))
    assert [chunk.count for chunk in scheduler.plan()] == [1, 32]


def test_a_prompt_gets_as_much_time_as_streams_that_take_the_target_alone() -> None:
    scheduler = _scheduler(batch=2048)
    scheduler.submit(_request(answer=50))
    _step(scheduler)
    scheduler.cost = StepCost(token=0.001, curve={1: 0.3})
    scheduler.submit(_request(prompt=900, first=500))
    assert [chunk.count for chunk in scheduler.plan()] == [1, 300]


def test_a_step_is_filled_up_with_prompts_first_and_then_with_nothing() -> None:
    scheduler = _scheduler(batch=2048)
    scheduler.submit(_request(prompt=900, answer=50))
    _step(scheduler)
    scheduler.cost = StepCost(token=0.005, curve={1: 0.17}, attention=Attention(row=2e-4, tile=1e-5))
    scheduler.submit(_request(prompt=80, first=5000))
    assert [chunk.count for chunk in _step(scheduler)] == [1, 63]  # time alone would allow 34
    assert scheduler.padding == 0
    assert [chunk.count for chunk in scheduler.plan()] == [1, 17]
    assert scheduler.padding == TILE - 18


def test_what_ended_requests_left_makes_way_when_another_begins() -> None:
    cells = UnifiedCells(4096)
    cache = PrefixCache(cells=4096, sequences=16, memory=cells, bounds=Bounds(private=0, proven=1000))
    scheduler = Scheduler(limits=Limits(slots=4, cells=4096, batch=512), cache=cache)
    scheduler.submit(_request(prompt=200, answer=1))
    _step(scheduler)
    assert cells.used == 200
    scheduler.submit(_request(prompt=50, answer=5, first=9000))
    _step(scheduler)
    assert cells.used == 50


def test_a_prompt_that_goes_on_is_cut_at_a_tile() -> None:
    scheduler = _scheduler(batch=2048)
    scheduler.submit(_request(prompt=50, answer=50))
    _step(scheduler)
    scheduler.submit(_request(prompt=900, first=5000))
    counts = []
    for _ in range(5):
        scheduler.cost = StepCost(token=0.001, curve={1: 0.02}, attention=Attention(row=1e-4, tile=1e-4))
        counts.append([chunk.count for chunk in _step(scheduler)])
    # Whole tiles, fewer of them the more stands before: 0.2 s allow 161, 119, 95, 85 and 78 tokens.
    assert counts == [[1, 191], [1, 127], [1, 127], [1, 63], [1, 63]]


def test_a_full_cache_is_not_filled_with_nothing() -> None:
    scheduler = _scheduler(cells=110)
    scheduler.cost = StepCost(token=1e-6, attention=Attention(row=1.0, tile=1e-9))
    scheduler.submit(_request(prompt=50, answer=5))
    assert [chunk.count for chunk in scheduler.plan()] == [50]
    assert scheduler.padding == TILE - 50
    _step(scheduler)
    scheduler.submit(_request(prompt=50, answer=5, first=500))
    assert [chunk.count for chunk in scheduler.plan()] == [1, 50]
    assert scheduler.padding == 0


def test_follower_waits_for_its_leader_and_computes_only_its_own_part() -> None:
    scheduler = _scheduler(batch=64)
    scheduler.cost = StepCost(token=1e-6)
    leader, follower = _request(prompt=100), _request(prompt=100)
    follower.tokens[90:] = range(900, 910)
    scheduler.submit(leader)
    scheduler.submit(follower)
    assert [chunk.sequence for chunk in _step(scheduler)] == [leader]
    assert [chunk.sequence for chunk in _step(scheduler)] == [leader]
    chunks = _step(scheduler)
    assert [(chunk.sequence, chunk.count) for chunk in chunks] == [(leader, 1), (follower, 10)]
    assert follower.reused == 90


def test_other_tenants_prompt_is_not_followed() -> None:
    scheduler = _scheduler()
    scheduler.submit(_request("a", prompt=100))
    scheduler.submit(_request("b", prompt=100))
    assert [chunk.start for chunk in _step(scheduler)] == [0, 0]


def test_tenants_take_turns() -> None:
    scheduler = _scheduler(slots=1)
    for number in range(3):
        scheduler.submit(_request("busy", answer=1, first=number * 100))
    scheduler.submit(_request("other", answer=1, first=900))
    served = [_step(scheduler)[0].sequence.tenant for _ in range(4)]
    assert served == ["busy", "other", "busy", "busy"]


def test_admission_waits_for_cells() -> None:
    scheduler = _scheduler(cells=64, reserve=8)
    scheduler.submit(_request(prompt=40, answer=20))
    scheduler.submit(_request(prompt=10, answer=20, first=500))
    _step(scheduler)
    assert (len(scheduler.running), scheduler.waiting) == (1, 1)


def test_newest_is_preempted_and_the_oldest_ends_first() -> None:
    scheduler = _scheduler(cells=64, reserve=1)
    old, new = _request(prompt=20, answer=40), _request(prompt=20, answer=40, first=500)
    scheduler.submit(old)
    scheduler.submit(new)
    ended: list[Sequence] = []
    while scheduler.busy:
        before = {sequence for sequence in (old, new) if len(sequence.tokens) == sequence.limit}
        _step(scheduler)
        ended += [s for s in (old, new) if len(s.tokens) == s.limit and s not in before]
    assert ended == [old, new]
    assert scheduler.preempted > 0


def test_cancelling_frees_the_cells() -> None:
    scheduler = _scheduler(cells=128)
    scheduler.submit(running := _request(prompt=100, answer=20))
    scheduler.submit(waiting := _request(prompt=100, answer=20, first=500))
    _step(scheduler)
    scheduler.finish(running)
    assert scheduler.cache.free + scheduler.cache.evictable == 128
    scheduler.finish(waiting)
    assert not scheduler.busy


def test_shed_gives_up_the_newest_but_never_the_last() -> None:
    scheduler = _scheduler()
    scheduler.submit(old := _request(answer=50))
    scheduler.submit(_request(first=100, answer=50))
    _step(scheduler)
    assert scheduler.shed()
    assert scheduler.running == [old]
    assert not scheduler.shed()


def test_requests_of_two_adapters_take_turns_and_never_share_a_batch() -> None:
    scheduler = _scheduler()
    scheduler.submit(plain := _request(tenant="a", answer=50))
    scheduler.submit(law := _request(tenant="b", answer=50))
    law.adapter = "law"
    seen = [{chunk.sequence.adapter for chunk in _step(scheduler, seconds=0.1)} for _ in range(6)]
    assert seen == [{""}, {""}, {"law"}, {"law"}, {""}, {""}]
    assert plain.slot >= 0 <= law.slot


def test_interactive_takes_the_place_of_batch_and_batch_resumes() -> None:
    scheduler = _scheduler(slots=2)
    jobs = [_request("job", answer=30, first=number * 100, priority=BATCH) for number in (1, 2)]
    for job in jobs:
        scheduler.submit(job)
    _step(scheduler)
    scheduler.submit(question := _request("user", answer=2, first=900))
    chunks = _step(scheduler)
    assert question in scheduler.running
    assert scheduler.running[0] is question
    assert [chunk.sequence for chunk in chunks] == [jobs[0], question]
    while scheduler.busy:
        _step(scheduler)
    assert [len(job.tokens) for job in jobs] == [40, 40]
    assert scheduler.preempted == 1


def test_batch_never_displaces_anybody() -> None:
    scheduler = _scheduler(slots=1)
    scheduler.submit(first := _request("a", answer=30, priority=BATCH))
    _step(scheduler)
    scheduler.submit(_request("b", priority=BATCH, first=100))
    _step(scheduler)
    assert scheduler.running == [first]


def test_prompts_of_batch_alone_may_be_long_whoever_decodes_in_batch() -> None:
    scheduler = _scheduler(batch=2048)
    scheduler.submit(_request(answer=50, priority=BATCH))
    _step(scheduler)
    scheduler.cost = StepCost(token=0.001, curve={1: 0.05})
    scheduler.submit(_request(prompt=900, first=5000, priority=BATCH))
    assert [chunk.count for chunk in scheduler.plan()] == [1, 900]


def test_a_short_prompt_does_not_wait_for_a_long_one_and_both_advance() -> None:
    scheduler = _scheduler(batch=200)
    scheduler.submit(document := _request(prompt=1000))
    _step(scheduler)
    scheduler.submit(question := _request(prompt=30, first=5000))
    assert [(chunk.sequence, chunk.count) for chunk in _step(scheduler)] == [(document, 170), (question, 30)]


def test_a_deep_document_does_not_ride_on_a_question_at_its_price() -> None:
    scheduler = _scheduler(cells=8192, batch=2048)
    scheduler.submit(_request(answer=400, first=7000))
    _step(scheduler)
    scheduler.submit(document := _request(prompt=4000, priority=BATCH))
    document_depth = 3000
    while document.computed < document_depth:
        _step(scheduler)
    scheduler.cost = StepCost(token=0.001, curve={1: 0.03}, attention=Attention(row=1e-5, tile=5e-5))
    scheduler.submit(question := _request(tenant="q", prompt=60, first=6000))
    counts = {id(chunk.sequence): chunk.count for chunk in scheduler.plan()}
    assert counts[id(question)] == 60
    assert id(document) not in counts


def test_a_follower_does_not_hold_up_its_tenants_other_requests() -> None:
    scheduler = _scheduler(batch=64)
    scheduler.cost = StepCost(token=1e-6)
    scheduler.submit(_request(prompt=300))
    scheduler.submit(_request(prompt=300))
    scheduler.submit(other := _request(prompt=10, first=5000))
    assert other in [chunk.sequence for chunk in _step(scheduler)]


def test_admission_reserves_a_part_of_the_answer() -> None:
    limits = Limits(slots=4, cells=1000, batch=512, reserve=8, reserve_ratio=0.25)
    memory = UnifiedCells(1000)
    scheduler = Scheduler(limits=limits, cache=PrefixCache(cells=1000, sequences=8, memory=memory))
    for number in range(4):
        scheduler.submit(_request(prompt=200, answer=400, first=1000 * number))
    _step(scheduler)
    assert [sequence.claim for sequence in scheduler.running] == [300, 300, 300]


def test_a_preempted_request_finds_its_cells_in_the_second_tier() -> None:
    scheduler = _scheduler(slots=2, cells=400, reserve=1)
    scheduler.submit(_request("a", prompt=150, answer=200))
    scheduler.submit(second := _request("b", prompt=150, answer=200, first=1000))
    while scheduler.busy:
        _step(scheduler)
    assert scheduler.preempted > 0
    assert len(second.tokens) == 350
    assert scheduler.cache.restored >= 128


REQUESTS = st.lists(
    st.tuples(
        st.sampled_from("abc"),  # tenant
        st.integers(0, 2),  # which document the prompt begins with
        st.integers(0, 60),  # how much of it
        st.integers(1, 20),  # own tokens
        st.integers(1, 30),  # answer
        st.integers(0, 6),  # arrives so many steps after the one before
        st.booleans(),  # is cancelled on the way
        st.sampled_from(Priority),
        st.sampled_from(["", "", "law"]),  # adapter
    ),
    min_size=1,
    max_size=14,
)


@settings(max_examples=150, deadline=None)
@given(REQUESTS, st.integers(112, 300), st.integers(1, 4), st.integers(8, 64), st.integers(0, 12), st.integers())
def test_every_request_ends_within_the_cells(
    requests: list[tuple[str, int, int, int, int, int, bool, Priority, str]],
    cells: int,
    slots: int,
    batch: int,
    reserve: int,
    seed: int,
) -> None:
    dice = random.Random(seed)
    model = UnifiedCells(cells)
    scheduler = _scheduler(slots=slots, cells=cells, batch=batch, reserve=reserve, memory=model)
    coming, open_requests, ended = list(enumerate(requests)), list[Sequence](), 0
    wait, doomed = 0, list[Sequence]()
    for _ in range(4000):
        while coming and wait <= 0:
            number, (tenant, document, shared, own, answer, wait, cancelled, priority, adapter) = coming.pop(0)
            tokens = [1000 * document + k for k in range(shared)] + [10_000 + 100 * number + k for k in range(own)]
            sequence = Sequence(
                tenant=tenant,
                space=tenant + adapter,
                adapter=adapter,
                tokens=tokens,
                prompt=len(tokens),
                limit=len(tokens) + answer,
                priority=priority,
            )
            scheduler.submit(sequence)
            open_requests.append(sequence)
            if cancelled:
                doomed.append(sequence)
        wait -= 1
        if doomed and dice.random() < 0.2 and doomed[0] in open_requests:
            gone = doomed.pop(0)
            scheduler.finish(gone)
            open_requests.remove(gone)
            ended += 1
        oldest = next((sequence for sequence in scheduler.running if sequence.priority is Priority.INTERACTIVE), None)
        chunks = scheduler.plan()
        assert sum(chunk.count for chunk in chunks) <= batch
        assert len({chunk.sequence.adapter for chunk in chunks}) <= 1
        assert oldest is None or oldest.slot >= 0
        assert chunks or not open_requests
        assert scheduler.running == sorted(scheduler.running, key=lambda sequence: sequence.priority)
        model.decode(chunks)
        scheduler.complete(chunks, dice.random() * 0.2)
        check(scheduler.cache, model)
        for chunk in chunks:
            if chunk.last:
                chunk.sequence.tokens.append(dice.randrange(5))
                if len(chunk.sequence.tokens) == chunk.sequence.limit:
                    scheduler.finish(chunk.sequence)
                    open_requests.remove(chunk.sequence)
                    ended += 1
        if ended == len(requests):
            break
    assert ended == len(requests)
    assert not scheduler.busy
    assert scheduler.cache.free + scheduler.cache.evictable == cells


@settings(max_examples=60, deadline=None)
@given(st.integers(), st.integers(1, 3), st.integers(40, 200))
def test_drafts_change_when_tokens_come_and_never_which(seed: int, slots: int, cells: int) -> None:
    """The model repeats a cycle of each request's own; guesses are checked as the engine does."""
    plain, _ = _cycle_through(seed, slots, cells, outputs=0)
    drafted, accepted = _cycle_through(seed, slots, cells, outputs=64)
    assert drafted == plain
    assert accepted >= 0


def test_drafts_are_accepted_where_text_repeats() -> None:
    assert _cycle_through(1, 2, 400, outputs=64)[1] > 10


def _cycle_through(seed: int, slots: int, cells: int, *, outputs: int) -> tuple[list[list[int]], int]:
    dice = random.Random(seed)
    memory = UnifiedCells(cells)
    limits = Limits(slots=slots, cells=cells, batch=64, outputs=outputs, reserve=1, reserve_ratio=0)
    cache = PrefixCache(cells=cells, sequences=slots * 4, memory=memory)
    flat = StepCost(curve={1: 0.01, 64: 0.011})
    scheduler = Scheduler(limits=limits, cache=cache, cost=flat)
    requests, accepted_tokens = [], 0
    for number in range(4):
        sequence = _request(prompt=dice.randrange(3, 10), answer=30, first=100 * number)
        requests.append(sequence)
        scheduler.submit(sequence)
    for _ in range(2000):
        if not scheduler.busy:
            break
        chunks = scheduler.plan()
        memory.decode(chunks)
        scheduler.complete(chunks, 0.01)
        scheduler.cost = flat
        for chunk in chunks:
            if chunk.last:
                sequence, accepted = chunk.sequence, 0
                while True:
                    sequence.tokens.append(50 + len(sequence.tokens) % 7 + (len(sequence.tokens) % 11 == 0))
                    done = len(sequence.tokens) == sequence.limit
                    right = accepted < len(chunk.draft) and sequence.tokens[-1] == chunk.draft[accepted]
                    if done or not right:
                        break
                    accepted += 1
                if chunk.draft:
                    scheduler.accept(chunk, accepted)
                    accepted_tokens += accepted
                if done:
                    scheduler.finish(sequence)
        check(cache, memory)
    assert not scheduler.busy
    return [sequence.tokens for sequence in requests], accepted_tokens
