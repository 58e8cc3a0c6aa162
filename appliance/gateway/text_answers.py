"""The documents of /v1/completions, whole and as events. Source: OpenAI API reference."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from appliance.engine.frames import Piece, TokenLogprob
from appliance.gateway.answers import DONE, NOT_COUNTED, Choice, Identity, Usage, event, floor
from appliance.gateway.refusals import Refusal


class TextLogprobs(msgspec.Struct, frozen=True, kw_only=True):
    """Lists of equal length, one entry per token of the answer's text; offsets are characters of all the text."""

    tokens: tuple[str, ...]
    token_logprobs: tuple[float, ...]
    top_logprobs: tuple[dict[str, float], ...]
    text_offset: tuple[int, ...]


class TextChoice(msgspec.Struct, frozen=True, kw_only=True):
    """One choice, or what is new of it."""

    index: int
    text: str
    logprobs: TextLogprobs | None = None
    finish_reason: str | None = None


class TextAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer, or one event of a stream."""

    id: str
    object: str = "text_completion"
    created: int
    model: str
    system_fingerprint: str
    choices: tuple[TextChoice, ...]
    usage: Usage | msgspec.UnsetType | None = msgspec.UNSET


class TextForm:
    """Writes them for one answer."""

    def __init__(self, identity: Identity, *, counted: bool = False, measured: bool = False) -> None:
        """`counted`: a stream shall end with the counts of tokens. `measured`: log-probabilities were asked for."""
        self._of = identity
        self._counted = counted
        self._measured = measured

    def opening(self, index: int) -> bytes:
        return b""

    def piece(self, index: int, choice: Choice, piece: Piece) -> bytes:
        logprobs = _text_logprobs(choice, piece.logprobs) if piece.logprobs else None
        return event(self._answer(TextChoice(index=index, text=piece.text, logprobs=logprobs)))

    def closing(self, index: int, choice: Choice) -> bytes:
        return event(self._answer(TextChoice(index=index, text="", finish_reason=choice.reason)))

    def ending(self, choices: Sequence[Choice], usage: Usage) -> bytes:
        return event(self._answer(usage=usage)) + DONE if self._counted else DONE

    def failure(self, refusal: Refusal) -> bytes:
        return event(refusal.document())

    def whole(self, choices: Sequence[Choice], usage: Usage) -> bytes:
        written = (
            TextChoice(
                index=index,
                text="".join(choice.texts),
                logprobs=_text_logprobs(choice, choice.logprobs) if self._measured else None,
                finish_reason=choice.reason,
            )
            for index, choice in enumerate(choices)
        )
        return self._answer(*written, usage=usage)

    def _answer(self, *choices: TextChoice, usage: Usage | None = None) -> bytes:
        of = self._of
        answer = TextAnswer(
            id=of.id,
            created=of.created,
            model=of.model,
            system_fingerprint=of.system_fingerprint,
            choices=choices,
            usage=usage or NOT_COUNTED[self._counted],
        )
        return msgspec.json.encode(answer)


def _text_logprobs(choice: Choice, logprobs: Sequence[TokenLogprob]) -> TextLogprobs:
    return TextLogprobs(
        tokens=tuple(entry.chosen.text for entry in logprobs),
        token_logprobs=tuple(floor(entry.chosen) for entry in logprobs),
        top_logprobs=tuple({one.text: floor(one) for one in entry.top} for entry in logprobs),
        text_offset=tuple(choice.echoed + entry.offset for entry in logprobs),
    )
