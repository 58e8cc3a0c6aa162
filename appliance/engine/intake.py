"""Turns the submits of clients into requests for the engine that generates: prompt, sampler, text stream."""

from __future__ import annotations

import socket
import time

from appliance.engine.engine_loop import EngineLoop
from appliance.engine.frames import (
    Accepted,
    Detokenise,
    Encode,
    Info,
    Piece,
    Step,
    Submit,
    Tokenise,
    Tokens,
)
from appliance.engine.grammar import Constraint, Grammars
from appliance.engine.grammar_desk import GrammarDesk
from appliance.engine.llama_context import LlamaModel
from appliance.engine.outbox import Connection, Emitter
from appliance.engine.prompt import Prompt, PromptMaker
from appliance.engine.reader import Reader, known
from appliance.engine.request import Request, space_of
from appliance.engine.sampling import Sampler
from appliance.engine.scheduler import Sequence
from appliance.kernel.errors import BadInput, IntramurosError


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
        self._grammars = GrammarDesk(Grammars(model))
        self._grammars.start()

    def run(self) -> None:
        """Serve until the engine ended."""
        try:
            super().run()
        finally:
            self._grammars.close()

    def _convert(self, connection: Connection, ask: Tokenise | Detokenise) -> None:
        prompts = self._prompts
        if isinstance(ask, Tokenise):
            answer = Tokens(id=ask.id, tokens=tuple(prompts.tokenise(ask)), text="", context=prompts.context)
        else:
            answer = Tokens(id=ask.id, tokens=(), text=prompts.text_of(ask.tokens), context=prompts.context)
        self._emitter.send(connection, answer)

    def _work(self, connection: Connection, frame: Submit | Encode) -> None:
        if isinstance(frame, Encode):
            raise BadInput("engine.kind", "This worker generates text; it computes no vectors, scores or labels.")
        if frame.adapter and frame.adapter not in self._info.adapters:
            raise BadInput("engine.adapter", f"This worker has no adapter {frame.adapter!r}.")
        prompt = self._prompts.prepare(frame)
        if prompt.grammar is None:
            self._submit(connection, frame, prompt, None)
            return
        connection.prepared[frame.id] = False

        def told(made: Constraint | IntramurosError) -> None:
            self.tell(lambda: self._compiled(connection, frame, prompt, made))

        self._grammars.compile(frame.tenant, prompt.grammar, told)

    def _compiled(
        self, connection: Connection, frame: Submit, prompt: Prompt, made: Constraint | IntramurosError
    ) -> None:
        """Go on with a request whose grammar was compiled, unless its client is gone."""
        cancelled = connection.prepared.pop(frame.id)
        if connection not in self._connections:
            return
        try:
            if isinstance(made, IntramurosError):
                raise made
            self._submit(connection, frame, prompt, made)
        except Exception as error:  # noqa: BLE001 - border: what one request sets off must not end the others
            self._fail(connection, frame.id, known(error))
        if cancelled:
            self._engine.cancel(connection, frame.id)

    def _submit(self, connection: Connection, frame: Submit, prompt: Prompt, constraint: Constraint | None) -> None:
        params, tokens = frame.params, prompt.tokens
        shown = self._prompts.echo(frame) if params.echo else ""
        request = Request(
            id=frame.id,
            connection=connection,
            sequence=Sequence(
                tenant=frame.tenant,
                tokens=tokens,
                prompt=len(tokens),
                limit=self._prompts.limit(frame, tokens),
                space=space_of(frame),
                adapter=frame.adapter,
                priority=frame.priority,
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
        connection.requests[frame.id] = request
        self._emitter.send(connection, Accepted(id=frame.id, prompt_tokens=len(tokens)))
        if shown:
            self._emitter.send(connection, Step(items=(Piece(id=frame.id, text=shown, tokens=0),)))
        self._engine.submit(request)
