"""The reader: accepts clients, reads their frames, turns submits into requests. Runs in the main thread.

Owns connections, the limits on open requests and the two ways to end (drain, stop). Never waits for the engine.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import time
from typing import Final

from appliance.engine.engine_loop import EngineLoop
from appliance.engine.frames import (
    VERSION,
    Accepted,
    Ask,
    Cancel,
    Detokenise,
    Failed,
    FrameError,
    Hello,
    Info,
    Piece,
    Step,
    Submit,
    Tokenise,
    Tokens,
    ToWorker,
)
from appliance.engine.grammar import Grammars
from appliance.engine.llama_context import LlamaModel
from appliance.engine.outbox import Connection, Emitter
from appliance.engine.prompt import PromptMaker
from appliance.engine.request import Request, space_of
from appliance.engine.sampling import Sampler
from appliance.engine.scheduler import Sequence
from appliance.kernel.errors import IntramurosError, Unavailable

MOST_CONNECTIONS: Final = 128
_RECEIVE: Final = 256 * 1024


class Intake:
    """Serves one listening socket until the engine ends."""

    def __init__(
        self,
        *,
        listener: socket.socket,
        engine: EngineLoop,
        emitter: Emitter,
        model: LlamaModel,
        prompts: PromptMaker,
        info: Info,
        most_open: int,
        drain_timeout: float,
    ) -> None:
        self._listener = listener
        self._engine = engine
        self._emitter = emitter
        self._model = model
        self._prompts = prompts
        self._grammars = Grammars(model)
        self._info = info
        self._most_open = most_open
        self._drain_timeout = drain_timeout
        self._connections: set[Connection] = set()
        self._selector = selectors.DefaultSelector()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._terminations = 0
        self._draining = False
        self._stop_at: float | None = None
        self._ended = False

    def terminate(self) -> None:
        """First call: drain. Second call: stop. From a signal handler in this thread."""
        self._terminations += 1
        os.eventfd_write(self._bell, 1)

    def engine_ended(self) -> None:
        """The engine thread is about to end; from that thread."""
        self._ended = True
        os.eventfd_write(self._bell, 1)

    def run(self) -> None:
        """Serve until the engine ended."""
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._bell, selectors.EVENT_READ, self._ring)
        while not self._ended:
            timeout = None if self._stop_at is None else max(0.0, self._stop_at - time.monotonic())
            for key, _ in self._selector.select(timeout):
                if isinstance(key.data, Connection):
                    self._read(key.data)
                else:
                    key.data()
            if self._stop_at is not None and time.monotonic() >= self._stop_at:
                self._engine.stop()
                self._stop_at = None
        self._grammars.close()

    def _ring(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._bell)
        if self._terminations > 1:
            self._engine.stop()
        elif self._terminations and not self._draining:
            self._draining = True
            self._selector.unregister(self._listener)
            self._listener.close()
            self._stop_at = time.monotonic() + self._drain_timeout
            self._engine.drain()

    def _accept(self) -> None:
        try:
            accepted, _ = self._listener.accept()
        except OSError:
            return  # the client went away, or no descriptor is left: it will be tried again
        if len(self._connections) >= MOST_CONNECTIONS:
            accepted.close()
            return
        connection = Connection(accepted)
        self._connections.add(connection)
        self._selector.register(accepted, selectors.EVENT_READ, connection)

    def _read(self, connection: Connection) -> None:
        try:
            data = connection.socket.recv(_RECEIVE)
            if not data:
                self._hang_up(connection)
                return
            for frame in connection.stream.feed(data):
                self._handle(connection, frame)
        except BlockingIOError:
            return
        except (OSError, FrameError):
            self._hang_up(connection)

    def _hang_up(self, connection: Connection) -> None:
        self._selector.unregister(connection.socket)
        self._connections.discard(connection)
        self._engine.forget(connection)
        self._emitter.close(connection)

    def _handle(self, connection: Connection, frame: ToWorker) -> None:
        match frame:
            case Hello(version=version):
                if version != VERSION:
                    raise FrameError("engine.version", f"This worker speaks version {VERSION}, not {version}.")
                self._emitter.send(connection, self._info)
            case Ask():
                self._engine.report(connection, len(self._connections))
            case Cancel(id=number):
                self._engine.cancel(connection, number)
            case Submit():
                self._submit(connection, frame)
            case Tokenise() | Detokenise():
                self._convert(connection, frame)

    def _convert(self, connection: Connection, ask: Tokenise | Detokenise) -> None:
        prompts = self._prompts
        try:
            if isinstance(ask, Tokenise):
                answer = Tokens(id=ask.id, tokens=tuple(prompts.tokenise(ask)), text="", context=prompts.context)
            else:
                answer = Tokens(id=ask.id, tokens=(), text=prompts.text_of(ask.tokens), context=prompts.context)
        except IntramurosError as error:
            self._emitter.send(connection, _failed(ask.id, error))
        else:
            self._emitter.send(connection, answer)

    def _submit(self, connection: Connection, submit: Submit) -> None:
        if submit.id in connection.requests:
            raise FrameError("engine.duplicate_id", f"Request {submit.id} is still open on this connection.")
        try:
            self._check_room()
            prompt = self._prompts.prepare(submit)
            constraint = None if prompt.grammar is None else self._grammars.constraint(prompt.grammar)
        except IntramurosError as error:
            waiting = self._engine.waiting_time if error.retryable else 0.0
            self._emitter.send(connection, _failed(submit.id, error, retry_after=waiting))
            return
        params, tokens = submit.params, prompt.tokens
        request = Request(
            id=submit.id,
            connection=connection,
            sequence=Sequence(
                tenant=submit.tenant,
                tokens=tokens,
                prompt=len(tokens),
                limit=self._prompts.limit(submit, tokens),
                space=space_of(submit),
                priority=submit.priority,
            ),
            sampler=Sampler(
                params,
                vocabulary=self._model.vocabulary,
                ends=self._model.ends,
                prompt=tokens,
                constraint=constraint,
            ),
            answer=prompt.answer,
            submitted=time.monotonic(),
        )
        connection.requests[submit.id] = request
        self._emitter.send(connection, Accepted(id=submit.id, prompt_tokens=len(tokens)))
        if params.echo:
            shown = submit.prompt or self._prompts.text_of(submit.tokens or ())
            self._emitter.send(connection, Step(items=(Piece(id=submit.id, text=shown, tokens=0),)))
        self._engine.submit(request)

    def _check_room(self) -> None:
        if self._terminations:
            raise Unavailable("engine.draining", "This engine is being replaced and takes no new requests.")
        if sum(len(connection.requests) for connection in self._connections) >= self._most_open:
            raise Unavailable("engine.busy", f"{self._most_open} requests are open already.")


def _failed(number: int, error: IntramurosError, *, retry_after: float = 0.0) -> Failed:
    return Failed(
        id=number, code=error.code, message=error.message, retryable=error.retryable, retry_after=retry_after
    )
