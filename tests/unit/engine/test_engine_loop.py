"""The engine thread with a real model, in this process: what no client could time from outside."""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec
import numpy as np
import pytest

from appliance.engine.answer import Answer
from appliance.engine.block_store import BlockStore
from appliance.engine.draft_model import DraftModel
from appliance.engine.engine_loop import GATHER_QUIET, EngineLoop
from appliance.engine.frames import Failed, Finished, FromWorker, Sampling, State, Step, worker_stream
from appliance.engine.llama_context import LlamaContext, LlamaModel
from appliance.engine.outbox import Connection, Emitter
from appliance.engine.prefix_cache import PrefixCache
from appliance.engine.request import Request
from appliance.engine.sampling import Sampler
from appliance.engine.scheduler import Chunk, Limits, Sequence
from appliance.engine.step_cost import TILE, Attention, StepCost
from tests.factories.tiny_llama import make_tiny_gguf

CELLS = 8192
DOCUMENT = [int(token) for token in np.random.default_rng(1).integers(0, 380, 6000)]
GREEDY = Sampling(temperature=0.0, max_tokens=8, ignore_eos=True)


class _FlatCost(StepCost):
    """More rows cost nothing, as on an accelerator, and that does not change."""

    def observe(self, *, rows: int, prompt_tokens: int, seconds: float, pieces: object = ()) -> None:
        assert rows + prompt_tokens > 0


class Harness:
    """An engine and one client of it."""

    def __init__(
        self,
        model: LlamaModel,
        *,
        prompt_target: float,
        tenant_queue: int,
        outputs: int,
        draft: LlamaModel | None,
        draft_cells: int,
        backend_sampling: bool = False,
    ) -> None:
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
        self.draft: DraftModel | None = None
        if draft is not None:
            own = LlamaContext(draft, cells=draft_cells, batch=draft_cells, ubatch=64, sequences=2, threads=1)
            self.draft = DraftModel(draft, own, slots=2, vocabulary=model.vocabulary)
        self.engine = EngineLoop(
            model,
            self.context,
            limits,
            self.cache,
            self.emitter,
            on_end=lambda: None,
            draft=self.draft,
            backend_sampling=backend_sampling,
        )
        self.client, accepted = socket.socketpair()
        self.client.settimeout(60)
        self.connection = Connection(accepted)
        self.frames: list[FromWorker] = []
        self._arrived: deque[FromWorker] = deque()
        self._stream = worker_stream()

    def guesses_pay(self) -> None:
        """Let more rows cost nothing, and the draft model next to it; no request has come yet.

        Nor is a step filled up then because of what was measured, which changes the order of sums.
        """
        self.engine._scheduler.cost = _FlatCost(curve={1: 1.0, 64: 1.01})
        if self.draft is not None:
            self.draft.cost = _FlatCost(token=0.0001, curve={1: 0.05, 64: 0.06})

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
    model: LlamaModel,
    *,
    prompt_target: float = 1.0,
    tenant_queue: int = 8,
    outputs: int = 0,
    draft: LlamaModel | None = None,
    draft_cells: int = CELLS,
    backend_sampling: bool = False,
) -> Iterator[Harness]:
    harness = Harness(
        model,
        prompt_target=prompt_target,
        tenant_queue=tenant_queue,
        outputs=outputs,
        draft=draft,
        draft_cells=draft_cells,
        backend_sampling=backend_sampling,
    )
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


def _wait(event: threading.Event) -> None:
    assert event.wait(10)


def test_a_cancel_that_comes_too_late_is_not_for_the_next_of_that_number(model: LlamaModel) -> None:
    with _running(model) as harness:
        first = harness.submit(1, DOCUMENT[:50])
        harness.end_of(1)
        heard = threading.Event()
        harness.engine._tell(lambda: _wait(heard))
        harness.connection.requests[1] = first  # it was still there when this was read
        harness.engine.cancel(harness.connection, 1)
        harness.submit(1, DOCUMENT[:50])
        heard.set()
        end = harness.end_of(1)
        assert isinstance(end, Finished)
        assert end.reason == "length"


def test_a_step_that_is_to_be_filled_up_is_computed_so(model: LlamaModel, monkeypatch: pytest.MonkeyPatch) -> None:
    with _running(model) as harness:
        harness.engine._scheduler.cost = StepCost(token=1e-6, attention=Attention(row=1.0, tile=1e-9))
        rows: list[tuple[int, int]] = []
        decode = harness.context.decode

        def noted(chunks: list[Chunk], *, padding: int = 0) -> list[int]:
            rows.append((sum(chunk.count for chunk in chunks), padding))
            return decode(chunks, padding=padding)

        monkeypatch.setattr(harness.context, "decode", noted)
        harness.submit(1, DOCUMENT[:40])
        assert isinstance(harness.end_of(1), Finished)
        assert rows[0] == (40, TILE - 40)
        assert harness.state().free_cells == CELLS


@pytest.mark.parametrize(("ended", "came", "patient"), [(2, 1, True), (2, 2, False), (0, 1, False)])
def test_an_idle_engine_waits_longer_for_as_many_as_ended_together(
    model: LlamaModel, monkeypatch: pytest.MonkeyPatch, ended: int, came: int, patient: bool
) -> None:
    harness = Harness(model, prompt_target=1.0, tenant_queue=8, outputs=0, draft=None, draft_cells=CELLS)
    engine, waits = harness.engine, list[float]()

    def wait(timeout: float) -> bool:
        waits.append(timeout)
        return False

    monkeypatch.setattr(engine._bell, "wait", wait)
    engine._ended, engine._ended_at = ended, time.monotonic()
    with harness.client, harness.connection.socket:
        for number in range(came):
            harness.submit(number, DOCUMENT[:20])
        engine._gather()
    assert engine._scheduler.waiting == came
    assert any(timeout > GATHER_QUIET for timeout in waits) == patient
    assert bool(waits) == (came != ended)


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
        of_tokens = (state.times.first_token, state.times.per_output_token, state.times.inter_token)
        assert [sum(times.counts) for times in of_tokens if times] == [3, 3, 3 * 7]
        assert sum(state.times.queue.counts) == 3
        assert sum(state.times.step.counts) == state.steps
        assert state.batch_tokens == 3 * (60 + 7)


def test_guessed_tokens_change_the_pace_and_not_the_answer(model: LlamaModel) -> None:
    prompt = DOCUMENT[:40] * 3
    few = Sampling(temperature=0.0, ignore_eos=True, logit_bias=dict.fromkeys((40, 41, 42), 1000.0))
    answers = {}
    for outputs in (0, 8):
        with _running(model, outputs=outputs) as harness:
            harness.guesses_pay()
            harness.submit(1, prompt, answer=120, params=few)
            harness.end_of(1)
            state = harness.state()
            answers[outputs] = _text(harness, 1)
            assert (state.drafted_tokens > 0) == (outputs > 0)
            assert state.accepted_tokens <= state.drafted_tokens
            assert state.completion_tokens == 120
            assert state.steps <= 121 - state.accepted_tokens
    assert answers[0] == answers[8]


SAMPLED = Sampling(temperature=1.0, seed=7, ignore_eos=True)


@pytest.fixture(scope="module")
def stranger(model: LlamaModel, tmp_path_factory: pytest.TempPathFactory) -> LlamaModel:
    """Another random model with the same tokenizer."""
    return LlamaModel(make_tiny_gguf(tmp_path_factory.mktemp("stranger"), seed=5))


def _answers(harness: Harness, params: Sampling, *, count: int = 3) -> list[str]:
    """Answers of requests that run one after the other: side by side their sums depend on who came when."""
    for number in range(count):
        harness.submit(number, DOCUMENT[number * 70 : number * 70 + 60], answer=60, params=params)
        harness.end_of(number)
    return [_text(harness, number) for number in range(count)]


@pytest.mark.parametrize("params", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_a_draft_model_changes_the_pace_and_not_the_answer(
    model: LlamaModel, stranger: LlamaModel, params: Sampling
) -> None:
    with _running(model) as harness:
        harness.guesses_pay()
        plain = _answers(harness, params)
        steps = harness.state().steps
    with _running(model, outputs=8, draft=model) as harness:
        harness.guesses_pay()
        assert _answers(harness, params) == plain
        state = harness.state()
        right = state.draft_model_accepted / state.draft_model_drafted
        assert right > 0.9 if params is GREEDY else 0 < right < 1
        assert state.steps <= steps - state.accepted_tokens
        assert 0 < state.draft_model_seconds < state.step_seconds
        assert harness.draft is not None
        assert harness.draft.used == 0
    with _running(model, outputs=8, draft=stranger) as harness:
        harness.guesses_pay()
        assert _answers(harness, params) == plain
        state = harness.state()
        assert 0 < state.draft_model_drafted < 150
        assert state.draft_model_accepted < 0.3 * state.draft_model_drafted
        before = state.draft_model_drafted
        assert _answers(harness, params) == [text * 2 for text in plain]
        assert harness.state().draft_model_drafted - before < 10


def test_prompt_lookup_goes_first(model: LlamaModel) -> None:
    few = Sampling(temperature=0.0, ignore_eos=True, logit_bias=dict.fromkeys((40, 41, 42), 1000.0))
    with _running(model, outputs=8, draft=model) as harness:
        harness.guesses_pay()
        harness.submit(1, DOCUMENT[:40] * 3, answer=120, params=few)
        harness.end_of(1)
        state = harness.state()
        assert state.drafted_tokens > state.draft_model_drafted > 0
        assert state.accepted_tokens > state.draft_model_accepted


def test_where_a_step_of_more_rows_costs_as_much_as_more_steps_the_draft_model_is_not_run(model: LlamaModel) -> None:
    with _running(model, outputs=8, draft=model) as harness:
        harness.engine._scheduler.cost = _FlatCost(curve={1: 1.0, 2: 2.0, 64: 64.0})
        measured = harness.state().draft_model_seconds
        _answers(harness, GREEDY)
        state = harness.state()
        assert (state.draft_model_drafted, state.draft_model_seconds) == (0, measured)


def test_a_full_draft_context_only_ends_drafting(model: LlamaModel) -> None:
    with _running(model) as harness:
        harness.guesses_pay()
        plain = _answers(harness, GREEDY)
    with _running(model, outputs=8, draft=model, draft_cells=256) as harness:
        harness.guesses_pay()
        for number in range(2):
            harness.submit(10 + number, DOCUMENT[1000 + number : 1240 + number], answer=40)
        for number in range(2):
            end = harness.end_of(10 + number)
            assert isinstance(end, Finished)
            assert end.completion_tokens == 40
        assert _answers(harness, GREEDY) == plain
        assert harness.state().draft_model_drafted > 0


def test_a_cancelled_request_leaves_nothing_in_the_draft_model(model: LlamaModel) -> None:
    with _running(model, outputs=8, draft=model) as harness:
        harness.guesses_pay()
        harness.submit(1, DOCUMENT[:60], answer=4000)
        harness.until(lambda frame: isinstance(frame, Step))
        harness.engine.cancel(harness.connection, 1)
        end = harness.end_of(1)
        assert isinstance(end, Finished)
        assert end.reason == "cancelled"
        assert harness.draft is not None
        assert harness.state().active == harness.draft.used == 0


def _text(harness: Harness, number: int) -> str:
    steps = (frame for frame in harness.frames if isinstance(frame, Step))
    return "".join(piece.text for step in steps for piece in step.items if piece.id == number)


_WITH_ROWS = msgspec.structs.replace(GREEDY, logprobs=0)
_BIASED = msgspec.structs.replace(GREEDY, logit_bias={70: 100.0}, max_tokens=3)


@pytest.mark.parametrize("drafting", [False, True])
def test_tokens_drawn_with_the_model_are_those_drawn_after_it(model: LlamaModel, drafting: bool) -> None:
    asked = (GREEDY, _WITH_ROWS, _BIASED, GREEDY, _BIASED)
    texts: dict[bool, list[list[str]]] = {}
    for there in (False, True):
        with _running(
            model, outputs=8 * drafting, draft=model if drafting else None, backend_sampling=there
        ) as harness:
            harness.guesses_pay()
            for number, params in enumerate(asked):  # two slots: rows wanted beside a chain, and chains exchanged
                harness.submit(number, DOCUMENT[10 * number : 10 * number + 40], params=params)
            for number in range(len(asked)):
                assert isinstance(harness.end_of(number), Finished)
            steps = [item for frame in harness.frames if isinstance(frame, Step) for item in frame.items]
            texts[there] = [[item.text for item in steps if item.id == number] for number in range(len(asked))]
            assert (harness.state().drafted_tokens > 0) == drafting
    assert texts[True] == texts[False]
    assert all(any(text) for text in texts[True])


def test_a_draw_that_can_only_be_the_best_token_is_that_one_with_the_model_too(model: LlamaModel) -> None:
    sure = (GREEDY, Sampling(temperature=1.0, min_p=1.0, max_tokens=8), Sampling(temperature=1e-40, max_tokens=8))
    with _running(model, backend_sampling=True) as harness:
        for number, params in enumerate(sure):
            harness.submit(number, DOCUMENT[:40], params=msgspec.structs.replace(params, max_tokens=8))
            assert isinstance(harness.end_of(number), Finished)
        assert _text(harness, 0) == _text(harness, 1) == _text(harness, 2) != ""


def test_two_requests_that_draw_from_one_chain_do_not_draw_the_same(model: LlamaModel) -> None:
    hot = Sampling(temperature=5.0, max_tokens=12, ignore_eos=True)
    with _running(model, backend_sampling=True) as harness:
        answers = []
        for number in range(3):
            harness.submit(number, DOCUMENT[:40], params=hot, answer=12)
            assert isinstance(harness.end_of(number), Finished)
            steps = [item for frame in harness.frames if isinstance(frame, Step) for item in frame.items]
            answers.append("".join(item.text for item in steps if item.id == number))
    assert len(set(answers)) == 3
