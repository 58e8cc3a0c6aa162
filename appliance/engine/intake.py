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

from appliance.engine.detokenise import TextStream
from appliance.engine.engine_loop import EngineLoop
from appliance.engine.frames import (
    VERSION,
    Accepted,
    Ask,
    Cancel,
    Failed,
    FrameError,
    Hello,
    Info,
    Piece,
    Step,
    Submit,
    ToWorker,
)
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

    def _submit(self, connection: Connection, submit: Submit) -> None:
        if submit.id in connection.requests:
            raise FrameError("engine.duplicate_id", f"Request {submit.id} is still open on this connection.")
        try:
            self._check_room()
            tokens = self._prompts.tokens(submit)
        except IntramurosError as error:
            self._emitter.send(
                connection,
                Failed(
                    id=submit.id,
                    code=error.code,
                    message=error.message,
                    retryable=error.retryable,
                    retry_after=self._engine.waiting_time if error.retryable else 0.0,
                ),
            )
            return
        params = submit.params
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
            sampler=Sampler(params, vocabulary=self._model.vocabulary, ends=self._model.ends, prompt=tokens),
            text=TextStream(params.stop),
            submitted=time.monotonic(),
        )
        connection.requests[submit.id] = request
        self._emitter.send(connection, Accepted(id=submit.id, prompt_tokens=len(tokens)))
        if params.echo and submit.prompt:
            self._emitter.send(connection, Step(items=(Piece(id=submit.id, text=submit.prompt, tokens=0),)))
        self._engine.submit(request)

    def _check_room(self) -> None:
        if self._terminations:
            raise Unavailable("engine.draining", "This engine is being replaced and takes no new requests.")
        if sum(len(connection.requests) for connection in self._connections) >= self._most_open:
            raise Unavailable("engine.busy", f"{self._most_open} requests are open already.")
