"""The thread of a worker that encodes: take a micro-batch, compute it, hand the rows over. Keeps nothing of a text.

Invariant: every request that entered ends with one `Finished` or `Failed`, unless its connection ended.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from appliance.engine.compute_thread import ComputeThread
from appliance.engine.encoder import Encoder, Passage
from appliance.engine.encoder_queue import MicroBatches, Taken
from appliance.engine.frames import Failed, Finished, FinishReason, Priority, Rows, State
from appliance.engine.meters import Meters
from appliance.engine.outbox import Connection, Emitter
from appliance.kernel.errors import InternalError


@dataclass(slots=True, eq=False, kw_only=True)
class EncodeRequest:
    """One request inside the worker. Times are seconds of one monotonic clock; zero means not yet."""

    id: int
    connection: Connection
    tenant: str
    passages: list[Passage]
    submitted: float
    priority: Priority = Priority.INTERACTIVE
    started: float = 0.0
    done: int = 0
    tokens: int = field(init=False)

    def __post_init__(self) -> None:
        self.tokens = sum(len(passage.tokens) for passage in self.passages)


class EncoderLoop(ComputeThread):
    """The thread that turns passages into rows."""

    def __init__(self, encoder: Encoder, emitter: Emitter, on_end: Callable[[], None]) -> None:
        super().__init__("encoder", emitter, on_end)
        self._encoder = encoder
        self._queue: MicroBatches[EncodeRequest] = MicroBatches(
            tokens=encoder.batch, sequences=encoder.sequences, padded=encoder.padded
        )
        self._open: dict[EncodeRequest, None] = {}
        self._meters = Meters(stall_after=math.inf)

    @property
    def waiting_time(self) -> float:
        """Nobody can tell; a batch is short."""
        return 0.0

    def submit(self, request: EncodeRequest) -> None:
        """Queue a request; from the reader."""
        self._tell(lambda: self._enter(request))

    def cancel(self, connection: Connection, number: int) -> None:
        """End a request of this connection if it is still there; from the reader."""
        request: EncodeRequest | None = connection.requests.get(number)
        if request is not None:
            self._tell(lambda: self._cancel(request))  # the number may be another's when this is heard

    def forget(self, connection: Connection) -> None:
        """Drop everything of a connection that ended; from the reader."""
        self._tell(lambda: self._forget(connection))

    def _warm_up(self) -> None:
        """Touch every weight, and refuse what does not give the numbers that were announced."""
        tokens = (0,) * min(16, self._encoder.context)
        rows = self._encoder.compute([Passage(tokens, len(tokens))])
        if rows.shape != (1, self._encoder.width) or not np.isfinite(rows).all():
            raise InternalError("engine.rows", f"The model gives rows of shape {rows.shape}, or no numbers.")

    def _loop(self) -> None:
        while True:
            self._hear()
            if self._stopping or (self._draining and not self._open):
                return
            if batch := self._queue.take():
                self._step(batch)
            else:
                self._bell.wait()
                self._bell.clear()

    def _step(self, batch: list[Taken[EncodeRequest]]) -> None:
        began = time.monotonic()
        passages = [passage for taken in batch for passage in taken.passages]
        rows = self._encoder.compute(passages)
        now = time.monotonic()
        tokens = sum(len(passage.tokens) for passage in passages)
        self._meters.step(streams=len(batch), tokens=tokens, seconds=now - began)
        packed = rows.astype("<f4", copy=False)
        at = 0
        for taken in batch:
            request, count = taken.owner, len(taken.passages)
            if not request.started:
                request.started = began
                self._meters.start(prompt=request.tokens, cached=0, waited=began - request.submitted)
            own = tuple(packed[number].tobytes() for number in range(at, at + count))
            at += count
            self._emitter.send(request.connection, Rows(id=request.id, first=taken.first, rows=own))
            request.done += count
            if request.done == len(request.passages):
                self._leave(request, "stop", now)

    def _enter(self, request: EncodeRequest) -> None:
        self._open[request] = None
        self._queue.add(request.tenant, request, request.passages, request.priority)

    def _leave(self, request: EncodeRequest, reason: FinishReason, now: float) -> None:
        self._take_out(request)
        started = request.started or now
        waited, computed = started - request.submitted, now - started
        if reason == "cancelled":
            self._meters.cancelled += 1
        else:
            self._meters.finish(tokens=0, length=request.tokens, queue=waited, prompt=computed, generation=0.0)
        self._emitter.send(
            request.connection,
            Finished(
                id=request.id,
                reason=reason,
                prompt_tokens=request.tokens,
                completion_tokens=0,
                cached_tokens=0,
                queue_seconds=waited,
                prompt_seconds=computed,
                generation_seconds=0.0,
            ),
        )

    def _take_out(self, request: EncodeRequest) -> None:
        self._queue.remove(request)
        self._open.pop(request, None)
        request.connection.requests.pop(request.id, None)

    def _cancel(self, request: EncodeRequest) -> None:
        if request in self._open:
            self._leave(request, "cancelled", time.monotonic())

    def _forget(self, connection: Connection) -> None:
        for request in list(connection.requests.values()):
            self._take_out(request)
            self._meters.cancelled += 1

    def _fail_all(self) -> None:
        for request in list(self._open):
            self._take_out(request)
            self._meters.failed += 1
            self._emitter.send(
                request.connection,
                Failed(id=request.id, code="engine.stopped", message="The engine stopped.", retryable=True),
            )

    def _state(self, connections: int) -> State:
        meters = self._meters
        active = sum(request.started > 0 for request in self._open)
        return State(
            active=active,
            waiting=len(self._open) - active,
            draining=self._draining,
            cells=self._encoder.batch,
            free_cells=self._encoder.batch,
            cached_cells=0,
            connections=connections,
            steps=meters.steps,
            step_seconds=meters.step_seconds,
            step_streams=meters.step_streams,
            batch=self._encoder.batch,
            batch_tokens=meters.batch_tokens,
            prompt_tokens=meters.prompt_tokens,
            prompt_seconds=meters.prompt_seconds,
            cached_tokens=0,
            completion_tokens=0,
            finished=meters.finished,
            failed=meters.failed,
            cancelled=meters.cancelled,
            preempted=0,
            longest=meters.longest,
            times=meters.times(),
        )
