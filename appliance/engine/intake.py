"""Turns the submits of clients into requests for the engine that generates: prompt, sampler, text stream."""

from __future__ import annotations

import socket
import time

from appliance.engine.detokenise import TextStream
from appliance.engine.engine_loop import EngineLoop
from appliance.engine.frames import Accepted, Encode, Info, Piece, Step, Submit
from appliance.engine.llama_context import LlamaModel
from appliance.engine.outbox import Connection, Emitter
from appliance.engine.prompt import PromptMaker
from appliance.engine.reader import Reader
from appliance.engine.request import Request
from appliance.engine.sampling import Sampler
from appliance.engine.scheduler import Sequence
from appliance.kernel.errors import BadInput


class Intake(Reader):
    """The reader of an engine that generates."""

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
        super().__init__(
            listener=listener,
            engine=engine,
            emitter=emitter,
            info=info,
            most_open=most_open,
            drain_timeout=drain_timeout,
        )
        self._engine = engine
        self._model = model
        self._prompts = prompts

    def _work(self, connection: Connection, frame: Submit | Encode) -> None:
        if isinstance(frame, Encode):
            raise BadInput("engine.kind", "This worker generates text; it computes no vectors, scores or labels.")
        tokens = self._prompts.tokens(frame)
        params = frame.params
        request = Request(
            id=frame.id,
            connection=connection,
            sequence=Sequence(
                tenant=frame.tenant, tokens=tokens, prompt=len(tokens), limit=self._prompts.limit(frame, tokens)
            ),
            sampler=Sampler(params, vocabulary=self._model.vocabulary, ends=self._model.ends, prompt=tokens),
            text=TextStream(params.stop),
            submitted=time.monotonic(),
        )
        connection.requests[frame.id] = request
        self._emitter.send(connection, Accepted(id=frame.id, prompt_tokens=len(tokens)))
        if params.echo and frame.prompt:
            self._emitter.send(connection, Step(items=(Piece(id=frame.id, text=frame.prompt, tokens=0),)))
        self._engine.submit(request)
