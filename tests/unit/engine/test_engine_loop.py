"""The engine thread with a real model, in this process: what no client could time from outside."""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from appliance.engine.answer import Answer
from appliance.engine.block_store import BlockStore
from appliance.engine.engine_loop import EngineLoop
from appliance.engine.frames import Failed, Finished, FromWorker, Sampling, State, Step, worker_stream
from appliance.engine.llama_context import LlamaContext, LlamaModel
from appliance.engine.outbox import Connection, Emitter
from appliance.engine.prefix_cache import PrefixCache
from appliance.engine.request import Request
from appliance.engine.sampling import Sampler
from appliance.engine.scheduler import Limits, Sequence
from appliance.engine.step_cost import StepCost

CELLS = 8192
DOCUMENT = [int(token) for token in np.random.default_rng(1).integers(0, 380, 6000)]
GREEDY = Sampling(temperature=0.0, max_tokens=8, ignore_eos=True)


class _FlatCost(StepCost):
    """More rows cost nothing, as on an accelerator, and that does not change."""

    def observe(self, *, rows: int, prompt_tokens: int, seconds: float) -> None:
        assert rows + prompt_tokens > 0


class Harness:
    """An engine and one client of it."""

    def __init__(self, model: LlamaModel, *, prompt_target: float, tenant_queue: int, outputs: int) -> None:
        self.model = model
        self.context = LlamaContext(model, cells=CELLS, batch=CELLS, ubatch=64, sequences=8, threads=1)
        limits = Limits(
            slots=2,
            cells=CELLS,
            batch=CELLS,
            outputs=outputs,
            prompt_target=prompt_target,
            tenant_queue=tenant_queue,
        )
        self.store = BlockStore(memory=64 << 20)
        self.cache = PrefixCache(cells=CELLS, sequences=8, memory=self.context, store=self.store)
        self.emitter = Emitter()
        self.engine = EngineLoop(model, self.context, limits, self.cache, self.emitter, on_end=lambda: None)
        self.client, accepted = socket.socketpair()
        self.client.settimeout(60)
        self.connection = Connection(accepted)
        self.frames: list[FromWorker] = []
        self._arrived: deque[FromWorker] = deque()
        self._stream = worker_stream()

    def submit(
        self, number: int, tokens: list[int], *, space: str = "a", answer: int = 8, params: Sampling = GREEDY
    ) -> Request:
        request = Request(
            id=number,
            connection=self.connection,
            sequence=Sequence(
                tenant=space, space=space, tokens=list(tokens), prompt=len(tokens), limit=len(tokens) + answer
            ),
            sampler=Sampler(params, vocabulary=self.model.vocabulary, ends=self.model.ends, prompt=tokens),
            answer=Answer(),
            submitted=time.monotonic(),
        )
        self.connection.requests[number] = request
        self.engine.submit(request)
        return request

    def until(self, wanted: Callable[[FromWorker], bool]) -> FromWorker:
        """The next frame of this kind; what comes before is kept in `frames`."""
        while True:
            while self._arrived:
                self.frames.append(self._arrived.popleft())
                if wanted(self.frames[-1]):
                    return self.frames[-1]
            self._arrived.extend(self._stream.feed(self.client.recv(1 << 16)))

    def end_of(self, number: int) -> Finished | Failed:
        end = self.until(lambda frame: isinstance(frame, Finished | Failed) and frame.id == number)
        assert isinstance(end, Finished | Failed)
        return end

    def state(self) -> State:
        self.engine.report(self.connection, 1)
        state = self.until(lambda frame: isinstance(frame, State))
        assert isinstance(state, State)
        return state


@contextmanager
def _running(
    model: LlamaModel, *, prompt_target: float = 1.0, tenant_queue: int = 8, outputs: int = 0
) -> Iterator[Harness]:
    harness = Harness(model, prompt_target=prompt_target, tenant_queue=tenant_queue, outputs=outputs)
    harness.emitter.start()
    harness.engine.begin()
    try:
        yield harness
    finally:
        harness.engine.stop()
        harness.engine.join()
        harness.emitter.finish()
        harness.client.close()
        harness.connection.socket.close()


def test_cancelling_in_a_long_prompt_ends_its_step_and_frees_its_cells(model: LlamaModel) -> None:
    with _running(model, prompt_target=1000.0) as harness:
        harness.submit(1, DOCUMENT)
        while harness.engine._heavy is None:
            time.sleep(0.001)
        harness.engine.cancel(harness.connection, 1)
        end = harness.end_of(1)
        assert isinstance(end, Finished)
        assert (end.reason, end.completion_tokens) == ("cancelled", 0)
        state = harness.state()
        assert (state.active, state.free_cells, state.aborted_steps, state.cancelled) == (0, CELLS, 1, 1)
        harness.submit(2, DOCUMENT[:50])
        assert isinstance(harness.end_of(2), Finished)


def test_one_tenant_cannot_fill_the_queue(model: LlamaModel) -> None:
    with _running(model, tenant_queue=3) as harness:
        for number in range(20):
            harness.submit(number, DOCUMENT[: 400 + number])
        harness.submit(99, DOCUMENT[1000:1400], space="b")
        other = harness.end_of(99)
        refused = [frame for frame in harness.frames if isinstance(frame, Failed)]
        assert isinstance(other, Finished)
        assert {(frame.code, frame.retryable) for frame in refused} == {("engine.busy", True)}
        assert all(frame.retry_after >= 0 for frame in refused)
        assert harness.state().refused == len(refused) > 0


def test_cells_from_the_second_tier_give_the_same_answer(model: LlamaModel) -> None:
    with _running(model) as harness:
        answers = []
        for number in range(3):
            harness.submit(number, DOCUMENT[:700])
            end = harness.end_of(number)
            assert isinstance(end, Finished)
            answers.append((end.cached_tokens, _text(harness, number)))
            if number == 1:
                harness.cache.evict(CELLS)  # the engine is idle: nobody else looks at the cache
                assert harness.state().cached_cells == 0
        assert [cached for cached, _ in answers] == [0, 699, 640]
        assert len({text for _, text in answers}) == 1
        assert harness.state().stored_bytes > 0


def test_times_are_counted_once_for_each_request_and_token(model: LlamaModel) -> None:
    with _running(model) as harness:
        for number in range(3):
            harness.submit(number, DOCUMENT[number * 100 : number * 100 + 60])
        for _ in range(3):
            harness.until(lambda frame: isinstance(frame, Finished))
        state = harness.state()
        assert state.times is not None
        counted = [
            sum(times.counts) for times in (state.times.queue, state.times.first_token, state.times.per_output_token)
        ]
        assert counted == [3, 3, 3]
        assert sum(state.times.inter_token.counts) == 3 * 7
        assert sum(state.times.step.counts) == state.steps
        assert state.batch_tokens == 3 * (60 + 7)


def test_guessed_tokens_change_the_pace_and_not_the_answer(model: LlamaModel) -> None:
    prompt = DOCUMENT[:40] * 3
    few = Sampling(temperature=0.0, ignore_eos=True, logit_bias=dict.fromkeys((40, 41, 42), 1000.0))
    answers = {}
    for outputs in (0, 8):
        with _running(model, outputs=outputs) as harness:
            harness.engine._scheduler.cost = _FlatCost(curve={1: 1.0, 64: 1.01})
            harness.submit(1, prompt, answer=120, params=few)
            harness.end_of(1)
            state = harness.state()
            answers[outputs] = _text(harness, 1)
            assert (state.drafted_tokens > 0) == (outputs > 0)
            assert state.accepted_tokens <= state.drafted_tokens
            assert state.completion_tokens == 120
            assert state.steps <= 121 - state.accepted_tokens
    assert answers[0] == answers[8]


def _text(harness: Harness, number: int) -> str:
    steps = (frame for frame in harness.frames if isinstance(frame, Step))
    return "".join(piece.text for step in steps for piece in step.items if piece.id == number)
