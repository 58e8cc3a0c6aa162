"""The engine thread: plan, compute, sample, hand over. The only thread that touches the context.

Owns the step. Other threads talk to it through its inbox alone, which it empties between two steps; frames leave
through the emitter. Invariant: every request that entered ends with one `Finished` or `Failed`, unless its connection
ended.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from appliance.engine.frames import Failed, FinishReason, Piece, State, Step
from appliance.engine.llama_context import LlamaContext, LlamaModel
from appliance.engine.outbox import Connection, Emitter
from appliance.engine.prefix_cache import PrefixCache
from appliance.engine.request import Request
from appliance.engine.sampling import Likelihood
from appliance.engine.scheduler import Chunk, Limits, Plan, Scheduler, Sequence
from appliance.kernel.errors import InternalError


@dataclass(slots=True)
class _Totals:
    steps: int = 0
    step_seconds: float = 0.0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    finished: int = 0
    failed: int = 0
    cancelled: int = 0


GATHER_QUIET: Final = 0.002
GATHER_LONGEST: Final = 0.008
"""An idle engine begins when nothing has arrived for the first, at the latest after the second (seconds)."""


class EngineLoop(threading.Thread):
    """Runs requests until it is drained, stopped or broken; then calls `on_end` from its thread."""

    def __init__(
        self, model: LlamaModel, context: LlamaContext, limits: Limits, emitter: Emitter, on_end: Callable[[], None]
    ) -> None:
        super().__init__(name="engine", daemon=True)
        self._model = model
        self._context = context
        self._emitter = emitter
        self._on_end = on_end
        cache = PrefixCache(
            cells=limits.cells,
            sequences=limits.sequences,
            sharing=model.shares_prefixes,
            idle_cells=limits.idle_cells,
        )
        self._scheduler = Scheduler(limits=limits, cache=cache)
        self._requests: dict[Sequence, Request] = {}
        self._totals = _Totals()
        self._inbox: deque[Callable[[], None]] = deque()
        self._bell = threading.Event()
        self._warm = threading.Event()
        self._draining = False
        self._stopping = False
        self.defect: str | None = None

    def begin(self) -> None:
        """Start the thread and return when it is warm. Raises InternalError when the model cannot compute.

        The thread warms up itself: libgomp keeps a pool of threads for each thread that ever computed, and once all
        pools together outnumber the cores it stops spinning at barriers, which costs a fifth of the speed.
        """
        self.start()
        self._warm.wait()
        if self.defect is not None:
            raise InternalError("engine.warm_up", f"The model cannot compute: {self.defect}.")

    def _warm_up(self) -> None:
        """Touch every weight and measure the two costs that the prefill budget needs."""
        limits, cost = self._scheduler.limits, self._scheduler.cost
        prompt = min(128, limits.batch, limits.cells // 2)
        for _ in range(2):
            sequence = Sequence(tenant="", tokens=[0] * (prompt + 1), prompt=prompt, limit=limits.cells, slot=0)
            self._context.clear()
            seconds = []
            for start, count in ((0, prompt), (prompt, 1)):
                began = time.monotonic()
                self._context.decode([Chunk(sequence, start, count, last=True)])
                seconds.append(time.monotonic() - began)
            cost.token, cost.decode = seconds[0] / prompt, seconds[1]
        self._context.clear()

    def submit(self, request: Request) -> None:
        """Queue a request; from the reader."""
        self._tell(lambda: self._enter(request))

    def cancel(self, connection: Connection, number: int) -> None:
        """End a request of this connection if it is still there; from the reader."""
        self._tell(lambda: self._cancel(connection, number))

    def forget(self, connection: Connection) -> None:
        """Cancel everything of a connection that ended; from the reader."""
        self._tell(lambda: self._forget(connection))

    def report(self, connection: Connection, connections: int) -> None:
        """Send one `State`; from the reader."""
        self._tell(lambda: self._emitter.send(connection, self._state(connections)))

    def drain(self) -> None:
        """End when nothing is left to do; from the reader."""
        self._draining = True
        self._bell.set()

    def stop(self) -> None:
        """Fail what is left and end after the present step; from the reader."""
        self._stopping = True
        self._bell.set()

    def run(self) -> None:
        """The thread."""
        try:
            self._warm_up()
            self._warm.set()
            self._loop()
        except Exception as error:  # noqa: BLE001 - border: a defect here ends the process, cleanly
            frames = traceback.extract_tb(error.__traceback__)
            where = f"{frames[-1].name}:{frames[-1].lineno}"
            self.defect = str(error) if isinstance(error, InternalError) else f"{type(error).__name__} in {where}"
        try:
            self._fail_all()
        finally:
            self._warm.set()
            self._on_end()

    def _tell(self, act: Callable[[], None]) -> None:
        self._inbox.append(act)
        self._bell.set()

    def _loop(self) -> None:
        while True:
            while self._inbox:
                self._inbox.popleft()()
            if self._stopping or (self._draining and not self._scheduler.busy):
                return
            if self._scheduler.busy:
                self._step()
            else:
                self._bell.wait()
                self._gather()

    def _gather(self) -> None:
        """An idle engine lets requests that come together begin together: their prompts then share one batch.

        Else the first would go alone, and the others' prompts be cut small for the sake of its next tokens.
        """
        latest = time.monotonic() + GATHER_LONGEST
        self._bell.clear()
        while time.monotonic() < latest and self._bell.wait(GATHER_QUIET):
            self._bell.clear()

    def _step(self) -> None:
        began = time.monotonic()
        plan = self._scheduler.plan()
        self._context.move(plan.moves)
        outputs = self._context.decode(plan.chunks)
        if outputs is None:
            if not self._scheduler.shed():
                raise InternalError("engine.cells", "The context has no room for the only running request.")
            return
        rows = self._context.logits(len(outputs)) if outputs else None
        now = time.monotonic()
        self._scheduler.complete(plan, now - began)
        self._totals.steps += 1
        self._totals.step_seconds += now - began
        self._note_starts(plan, began)
        answers: dict[Connection, list[Piece]] = {}
        ended: list[tuple[Request, FinishReason]] = []
        asking = [self._requests[chunk.sequence] for chunk in plan.chunks if chunk.last]
        for row, (request, index) in enumerate(zip(asking, outputs, strict=True)):
            assert rows is not None
            request.answered = request.answered or now
            sampler = request.sampler
            likelihood = None if sampler.logprobs is None else Likelihood(rows[row], top=sampler.logprobs)
            token = sampler.choose(rows[row], self._context.handle, index)
            piece, reason = request.take(token, ends=self._model.ends, pieces=self._model.pieces, likelihood=likelihood)
            answers.setdefault(request.connection, []).append(piece)
            if reason is not None:
                ended.append((request, reason))
        self._totals.completion_tokens += len(asking)
        for connection, pieces in answers.items():
            self._emitter.send(connection, Step(items=tuple(pieces)))
        for request, reason in ended:
            self._leave(request, reason, now)

    def _note_starts(self, plan: Plan, began: float) -> None:
        for chunk in plan.chunks:
            request = self._requests[chunk.sequence]
            if not request.started:
                request.started = began
                self._totals.prompt_tokens += chunk.sequence.prompt
                self._totals.cached_tokens += chunk.sequence.reused or 0

    def _enter(self, request: Request) -> None:
        self._requests[request.sequence] = request
        self._scheduler.submit(request.sequence)

    def _leave(self, request: Request, reason: FinishReason, now: float) -> None:
        self._take_out(request)
        if reason == "cancelled":
            self._totals.cancelled += 1
        else:
            self._totals.finished += 1
        self._emitter.send(request.connection, request.finished(reason, now))

    def _take_out(self, request: Request) -> None:
        self._scheduler.finish(request.sequence)
        del self._requests[request.sequence]
        request.connection.requests.pop(request.id, None)
        request.sampler.close()

    def _cancel(self, connection: Connection, number: int) -> None:
        request = connection.requests.get(number)
        if request is not None:
            self._leave(request, "cancelled", time.monotonic())

    def _forget(self, connection: Connection) -> None:
        for request in list(connection.requests.values()):
            self._take_out(request)
            self._totals.cancelled += 1

    def _fail_all(self) -> None:
        """Nothing more will be computed: tell everybody who still waits."""
        while self._inbox:
            self._inbox.popleft()()
        for request in list(self._requests.values()):
            self._requests.pop(request.sequence)
            request.connection.requests.pop(request.id, None)
            self._totals.failed += 1
            self._emitter.send(
                request.connection,
                Failed(id=request.id, code="engine.stopped", message="The engine stopped.", retryable=True),
            )

    def _state(self, connections: int) -> State:
        scheduler, totals = self._scheduler, self._totals
        return State(
            active=len(scheduler.running),
            waiting=scheduler.waiting,
            draining=self._draining,
            cells=scheduler.cache.cells,
            free_cells=scheduler.cache.free + scheduler.cache.evictable,
            cached_cells=scheduler.cache.evictable,
            connections=connections,
            steps=totals.steps,
            step_seconds=totals.step_seconds,
            prompt_tokens=totals.prompt_tokens,
            cached_tokens=totals.cached_tokens,
            completion_tokens=totals.completion_tokens,
            finished=totals.finished,
            failed=totals.failed,
            cancelled=totals.cancelled,
            preempted=scheduler.preempted,
        )
