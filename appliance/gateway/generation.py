"""One generation: submit a plan to an engine and write what comes back, as a stream or as a whole.

Knows neither keys nor routes. The status line goes out with the first text, not before: until then an engine that
dies or refuses gives a plain error that a client may retry; afterwards an error event and the end of the stream.
"""

from __future__ import annotations

import time

from appliance.engine.frames import Accepted, Failed, Finished, FrameError, Piece, Rows
from appliance.gateway.answers import Choice, CompletionDetails, Form, PromptDetails, Usage
from appliance.gateway.engine_link import EngineLink, Exchange, Outcome
from appliance.gateway.hang_up import watched
from appliance.gateway.inlet import Receive
from appliance.gateway.observe import Visit
from appliance.gateway.plan import Asker, Plan
from appliance.gateway.refusals import Refusal, bad_request, engine_unavailable, from_engine, grammar_broken
from appliance.gateway.reply import Reply
from appliance.kernel.errors import Unavailable


class Generation:
    """The choices of one request and their token counts."""

    def __init__(self, plan: Plan, form: Form, visit: Visit, *, adapter: str = "") -> None:
        self._plan = plan
        self._adapter = adapter
        self._form = form
        self._visit = visit
        self._choices = [Choice() for _ in range(len(plan.queries) * plan.choices)]
        self._unfinished = len(self._choices)
        self._reasoning_tokens = 0

    async def run(self, link: EngineLink, asker: Asker, receive: Receive, reply: Reply) -> None:
        """Answer the request. Raises Refusal before the first byte, ClientGone when nobody listens any more."""
        exchange = link.hold()
        try:
            async with watched(receive, exchange):
                await self._submit(link, exchange, asker)
                if self._plan.stream:
                    await self._stream(exchange, reply)
                else:
                    await self._collect(exchange, reply)
        finally:
            link.release(exchange)

    async def _submit(self, link: EngineLink, exchange: Exchange, asker: Asker) -> None:
        try:
            await link.submit(exchange, self._plan.submits(asker, adapter=self._adapter))
        except Unavailable as error:
            raise engine_unavailable(self._plan.model) from error
        except FrameError as error:
            raise bad_request("The request is larger than an engine accepts.") from error

    async def _collect(self, exchange: Exchange, reply: Reply) -> None:
        while self._unfinished:
            for index, outcome in await exchange.take():
                choice = self._choices[index]
                if isinstance(outcome, Piece):
                    self._count(choice, outcome)
                    choice.take(outcome)
                else:
                    self._note(choice, index, outcome)
        await reply.json(self._form.whole(self._choices, self._usage()))

    async def _stream(self, exchange: Exchange, reply: Reply) -> None:
        while self._unfinished:
            outcomes = await exchange.take()
            try:
                events = self._events(outcomes)
            except Refusal as refusal:
                if not reply.started:
                    raise
                self._visit.code = refusal.code
                await reply.end_stream(self._form.failure(refusal))
                return
            if events:
                if not reply.started:
                    await reply.start_stream()
                await reply.stream(events)
        await reply.end_stream(self._form.ending(self._choices, self._usage()))

    def _events(self, outcomes: list[tuple[int, Outcome]]) -> bytes:
        form = self._form
        parts: list[bytes] = []
        for index, outcome in outcomes:
            choice = self._choices[index]
            if isinstance(outcome, Piece):
                self._count(choice, outcome)
                choice.take(outcome)
                if outcome.text or outcome.reasoning or outcome.calls:
                    self._open(choice, index, parts)
                    parts.append(form.piece(index, choice, outcome))
            elif self._note(choice, index, outcome):
                self._open(choice, index, parts)
                parts.append(form.closing(index, choice))
        return b"".join(parts)

    def _open(self, choice: Choice, index: int, parts: list[bytes]) -> None:
        if not choice.opened:
            choice.opened = True
            parts.append(self._form.opening(index))

    def _count(self, choice: Choice, piece: Piece) -> None:
        if not piece.tokens:
            choice.echoed += len(piece.text)  # the echoed prompt: text, but nothing generated
            return
        visit = self._visit
        choice.tokens += piece.tokens
        visit.completion_tokens += piece.tokens
        if visit.first_token is None:
            visit.first_token = time.monotonic()

    def _note(self, choice: Choice, index: int, outcome: Outcome) -> bool:
        """Take note of an outcome that is not text; True when the choice has ended well. Raises Refusal."""
        if isinstance(outcome, Failed):
            raise from_engine(outcome, self._plan.model, self._plan.paths)
        if isinstance(outcome, Rows):  # an engine that generates sends none
            return False
        first_of_query = index % self._plan.choices == 0
        if isinstance(outcome, Accepted):
            if first_of_query:  # OpenAI counts a prompt once, however many choices it has
                self._visit.prompt_tokens += outcome.prompt_tokens
            return False
        assert isinstance(outcome, Finished)
        if outcome.reason == "grammar":
            raise grammar_broken()
        if outcome.reason == "cancelled":  # not by us, or nobody would be here to hear it: the engine is going away
            raise engine_unavailable(self._plan.model)
        if first_of_query:
            self._visit.cached_tokens += outcome.cached_tokens
        choice.reason = outcome.reason
        self._reasoning_tokens += outcome.reasoning_tokens
        self._visit.completion_tokens += outcome.completion_tokens - choice.tokens  # the engine's own count wins
        self._unfinished -= 1
        return True

    def _usage(self) -> Usage:
        visit = self._visit
        return Usage(
            prompt_tokens=visit.prompt_tokens,
            completion_tokens=visit.completion_tokens,
            total_tokens=visit.prompt_tokens + visit.completion_tokens,
            prompt_tokens_details=PromptDetails(cached_tokens=visit.cached_tokens),
            completion_tokens_details=CompletionDetails(reasoning_tokens=self._reasoning_tokens),
        )
