"""The engine thread: plan, compute, sample, hand over. The only thread that touches the context.

Owns the step; how it is told things, begins and ends stands in `compute_thread`. Invariant: every request that entered
ends with one `Finished` or `Failed`, unless its connection ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

from appliance.engine.backend_sampling import BackendSampling
from appliance.engine.compute_thread import ComputeThread
from appliance.engine.draft_model import DraftModel
from appliance.engine.drafting import add_guesses
from appliance.engine.frames import Failed, FinishReason, Piece, Priority, State, Step
from appliance.engine.llama_context import Interrupted, LlamaContext, LlamaModel, NoRoom
from appliance.engine.meters import Meters
from appliance.engine.outbox import Connection, Emitter
from appliance.engine.prefix_cache import PrefixCache
from appliance.engine.request import Request
from appliance.engine.sampling import Likelihood
from appliance.engine.scheduler import Chunk, Limits, Scheduler, Sequence
from appliance.engine.speculation import Source
from appliance.engine.warm_up import measured_cost
from appliance.kernel.errors import InternalError

GATHER_QUIET: Final = 0.002
GATHER_CROWD: Final = 0.01
GATHER_LONGEST: Final = 0.04
RETURN_WITHIN: Final = 0.05
"""An idle engine begins when nothing has arrived for the first, or for the second once several have come; at the latest
after the third (seconds).

Who got the end of an answer often asks the next thing at once: for the fourth it expects as many as ended together.
"""


class EngineLoop(ComputeThread):
    """The thread that generates."""

    def __init__(
        self,
        model: LlamaModel,
        context: LlamaContext,
        limits: Limits,
        cache: PrefixCache,
        emitter: Emitter,
        on_end: Callable[[], None],
        *,
        draft: DraftModel | None = None,
        backend_sampling: bool = False,
    ) -> None:
        super().__init__("engine", emitter, on_end)
        self._model = model
        self._context = context
        self._draft = draft
        self._backend_sampling = BackendSampling(context.handle) if backend_sampling else None
        self._scheduler = Scheduler(limits=limits, cache=cache)
        self._requests: dict[Sequence, Request] = {}
        self._meters = Meters(stall_after=2 * limits.decode_target)
        self._ended, self._ended_at = 0, 0.0  # requests that ended in one step, and when
        self._heavy: Sequence | None = None  # most of the batch that is being computed, if that is one prompt

    def _warm_up(self) -> None:
        """Touch every weight and measure what the scheduler predicts steps by."""
        limits = self._scheduler.limits
        self._scheduler.cost = measured_cost(self._context, streams=max(limits.slots, limits.outputs))
        if self._draft is not None:
            self._draft.warm_up()

    @property
    def waiting_time(self) -> float:
        """Estimated seconds until a request that came now would start, by Little's law; from any thread."""
        scheduler = self._scheduler
        return scheduler.waiting * self._meters.service / scheduler.limits.slots

    def submit(self, request: Request) -> None:
        """Queue a request; from the reader."""
        self._tell(lambda: self._enter(request))

    def cancel(self, connection: Connection, number: int) -> None:
        """End a request of this connection if it is still there; from the reader."""
        request: Request | None = connection.requests.get(number)
        if request is None:
            return
        self._tell(lambda: self._cancel(request))  # the number may be another's when this is heard
        if request.sequence is self._heavy:
            self._context.interrupt()

    def forget(self, connection: Connection) -> None:
        """Cancel everything of a connection that ended; from the reader."""
        self._tell(lambda: self._forget(connection))
        heavy = self._heavy
        if heavy is not None and any(request.sequence is heavy for request in list(connection.requests.values())):
            self._context.interrupt()

    def stop(self) -> None:
        """Fail what is left and end at once; from the reader."""
        super().stop()
        self._context.interrupt()

    def _loop(self) -> None:
        while True:
            self._hear()
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
        now = time.monotonic()
        latest = now + GATHER_LONGEST
        expected = self._ended if now < self._ended_at + RETURN_WITHIN else 0
        while not self._stopping:
            self._bell.clear()
            self._hear()
            missing = self._scheduler.waiting < expected
            if expected and not missing:
                return
            patience = latest - time.monotonic()
            quiet = GATHER_CROWD if self._scheduler.waiting > 1 else GATHER_QUIET
            if patience <= 0 or not self._bell.wait(patience if missing else min(patience, quiet)):
                return

    def _step(self) -> None:
        began = time.monotonic()
        chunks = self._scheduler.plan()
        drafting = 0.0
        if self._draft is not None and chunks:
            chunks, drafting = self._guess(self._draft, chunks)
        total = sum(chunk.count for chunk in chunks)
        self._context.allow()
        self._heavy = next((chunk.sequence for chunk in chunks if chunk.count > 1 and 2 * chunk.count > total), None)
        if self._heavy is not None and (self._inbox or self._stopping):
            # Whoever cancels leaves word first and then looks whether this is the prompt to interrupt.
            self._heavy = None
            return
        if self._backend_sampling is not None:
            for chunk in chunks:
                if chunk.last:
                    sampler = self._requests[chunk.sequence].sampler
                    self._backend_sampling.prepare(chunk.sequence.slot, sampler, rows=chunk.outputs)
        try:
            outputs = self._context.decode(chunks, padding=self._scheduler.padding)
        except NoRoom:
            if not self._scheduler.shed():
                raise InternalError("engine.cells", "The context has no room for the only running request.") from None
            return
        except Interrupted:
            self._meters.aborted_steps += 1
            return
        finally:
            self._heavy = None
        reads = any(self._requests[chunk.sequence].sampler.reads_rows for chunk in chunks if chunk.last)
        rows = self._context.logits(len(outputs)) if reads else None
        now = time.monotonic()
        self._scheduler.complete(chunks, now - began - drafting)
        self._meters.step(streams=len(chunks), tokens=total, seconds=now - began)
        self._note_starts(chunks, began)
        answers: dict[Connection, list[Piece]] = {}
        ended: list[tuple[Request, FinishReason]] = []
        at = 0
        for chunk in chunks:
            if chunk.last:
                request = self._requests[chunk.sequence]
                read = None if rows is None else rows[at : at + chunk.outputs]
                pieces, reason = self._take(request, chunk, read, outputs[at], now)
                answers.setdefault(request.connection, []).extend(pieces)
                at += chunk.outputs
                if reason is not None:
                    ended.append((request, reason))
        for connection, pieces in answers.items():
            self._emitter.send(connection, Step(items=tuple(pieces)))
        for request, reason in ended:
            self._leave(request, reason, now)
        if ended:
            self._ended, self._ended_at = len(ended), now

    def _guess(self, draft: DraftModel, chunks: list[Chunk]) -> tuple[list[Chunk], float]:
        """Let the draft model guess where that pays; returns the step and the seconds that the draft model took."""
        scheduler, before = self._scheduler, draft.seconds
        draft.retain(scheduler.running)
        guessing = add_guesses(
            chunks,
            draft,
            cost=scheduler.cost,
            room=scheduler.room_for_guesses(chunks),
            seconds=scheduler.spare_seconds(chunks),
            least=scheduler.limits.least_chunk,
        )
        seconds = draft.seconds - before
        scheduler.lanes.spend(seconds)
        return chunks if guessing is chunks else scheduler.filled(guessing), seconds

    def _take(
        self, request: Request, chunk: Chunk, rows: npt.NDArray[np.float32] | None, index: int, now: float
    ) -> tuple[list[Piece], FinishReason | None]:
        """Choose the next token, and more while they are those that were guessed. `index` is the first row's.

        There are `rows` where a sampler of the step reads them.
        """
        pieces: list[Piece] = []
        sampler, accepted = request.sampler, 0
        while True:
            row = None if rows is None else rows[accepted]
            likelihood = None
            if row is not None and sampler.logprobs is not None:
                likelihood = Likelihood(row, top=sampler.logprobs)
            token = sampler.choose(row, self._context.handle, index + accepted)
            piece, reason = request.take(token, ends=self._model.ends, pieces=self._model.pieces, likelihood=likelihood)
            pieces.append(piece)
            self._note_token(request, now)
            if reason is not None or accepted == len(chunk.draft) or token != chunk.draft[accepted]:
                break
            accepted += 1
        if chunk.draft:
            self._scheduler.accept(chunk, accepted)
            self._meters.guess(chunk.source, drafted=len(chunk.draft), accepted=accepted)
            if self._draft is not None and chunk.source is Source.DRAFT:
                self._draft.expectation.learn(drafted=len(chunk.draft), accepted=accepted)
        return pieces, reason

    def _note_starts(self, chunks: list[Chunk], began: float) -> None:
        for chunk in chunks:
            request = self._requests[chunk.sequence]
            if not request.started:
                request.started = began
                prompt, cached = chunk.sequence.prompt, chunk.sequence.reused or 0
                self._meters.start(prompt=prompt, cached=cached, waited=began - request.submitted)

    def _note_token(self, request: Request, now: float) -> None:
        if request.latest:
            self._meters.next_token(now - request.latest)
        else:
            request.answered = now
            self._meters.first_token(now - request.submitted)
        request.latest = now

    def _enter(self, request: Request) -> None:
        scheduler, tenant = self._scheduler, request.sequence.tenant
        self._requests[request.sequence] = request
        if self._draft is not None:
            request.sequence.drafting = self._draft.expectation.begin()
        if scheduler.queue.of(tenant) < scheduler.limits.tenant_queue:
            scheduler.submit(request.sequence)
            return
        self._meters.refused += 1
        self._fail(
            request,
            "engine.busy",
            f"{scheduler.limits.tenant_queue} requests of this client wait already.",
            retry_after=self.waiting_time,
        )

    def _leave(self, request: Request, reason: FinishReason, now: float) -> None:
        self._take_out(request)
        if reason == "cancelled":
            self._meters.cancelled += 1
        else:
            self._meters.finish(
                tokens=request.generated,
                length=len(request.sequence.tokens),
                queue=request.started - request.submitted,
                prompt=request.answered - request.started,
                generation=now - request.answered,
            )
        self._emitter.send(request.connection, request.finished(reason, now))

    def _take_out(self, request: Request) -> None:
        self._scheduler.finish(request.sequence)
        self._drop(request)

    def _drop(self, request: Request) -> None:
        del self._requests[request.sequence]
        if self._draft is not None:
            self._draft.forget(request.sequence)
        request.connection.requests.pop(request.id, None)
        request.sampler.close()

    def _cancel(self, request: Request) -> None:
        if request.sequence in self._requests:
            self._leave(request, "cancelled", time.monotonic())

    def _forget(self, connection: Connection) -> None:
        for request in list(connection.requests.values()):
            self._take_out(request)
            self._meters.cancelled += 1

    def _fail_all(self) -> None:
        for request in list(self._requests.values()):
            self._meters.failed += 1
            self._fail(request, "engine.stopped", "The engine stopped.")

    def _fail(self, request: Request, code: str, message: str, *, retry_after: float = 0.0) -> None:
        self._drop(request)
        self._emitter.send(
            request.connection,
            Failed(id=request.id, code=code, message=message, retryable=True, retry_after=retry_after),
        )

    def _state(self, connections: int) -> State:
        scheduler, cache, meters = self._scheduler, self._scheduler.cache, self._meters
        return State(
            active=len(scheduler.running),
            waiting=scheduler.waiting,
            draining=self._draining,
            cells=cache.cells,
            free_cells=cache.free + cache.evictable,
            cached_cells=cache.evictable,
            connections=connections,
            steps=meters.steps,
            step_seconds=meters.step_seconds,
            prompt_tokens=meters.prompt_tokens,
            cached_tokens=meters.cached_tokens,
            completion_tokens=meters.completion_tokens,
            finished=meters.finished,
            failed=meters.failed,
            cancelled=meters.cancelled,
            preempted=scheduler.preempted,
            batch=scheduler.limits.batch,
            batch_tokens=meters.batch_tokens,
            evicted_cells=cache.evicted,
            restored_cells=cache.restored,
            stored_bytes=cache.stored_bytes,
            stored_on_disk=cache.stored_on_disk,
            lost_blocks=cache.lost_blocks,
            stalls=meters.stalls,
            aborted_steps=meters.aborted_steps,
            drafted_tokens=sum(meters.drafted.values()),
            accepted_tokens=sum(meters.accepted.values()),
            refused=meters.refused,
            waiting_batch=scheduler.queue.waiting(Priority.BATCH),
            times=meters.times(),
            step_streams=meters.step_streams,
            prompt_seconds=meters.prompt_seconds,
            generation_seconds=meters.generation_seconds,
            longest=meters.longest,
            draft_model_drafted=meters.drafted[Source.DRAFT],
            draft_model_accepted=meters.accepted[Source.DRAFT],
            draft_model_seconds=0.0 if self._draft is None else self._draft.seconds,
        )
