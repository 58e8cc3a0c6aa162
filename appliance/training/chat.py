"""Turns rows into tokens and labels, conversations with the base model's own chat template.

Loss falls on what the assistant says and on the token that ends its turn, unless all of it is asked for; of a
completion on what completes the prompt and on the end token. Each assistant turn is tokenised apart from its prompt,
exactly as it will be when the model generates it. Nothing is cut: what is too long is left out and counted, so no
answer loses its end and no example its whole answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from jinja2 import TemplateError

from appliance.kernel.errors import BadInput
from appliance.training.rows import Row
from appliance.training.sampler import IGNORED, Example
from appliance.weights.token_ids import int32


class LossOn(StrEnum):
    """Which tokens carry loss."""

    ANSWERS = "answers"
    LAST_ANSWER = "last answer"
    ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """Conversations ready for training, and how many were too long."""

    examples: tuple[Example, ...]
    too_long: int

    @property
    def longest(self) -> int:
        """Tokens of the longest example."""
        return max((len(example.tokens) for example in self.examples), default=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """Two answers to one conversation; both examples begin with the same tokens."""

    chosen: Example
    rejected: Example

    @property
    def length(self) -> int:
        """Tokens of the longer one."""
        return max(len(self.chosen.tokens), len(self.rejected.tokens))


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedPreferences:
    """Preferences ready for training, and how many were too long."""

    pairs: tuple[Preference, ...]
    too_long: int


def encode_chats(tokenizer: Any, rows: Sequence[Row], *, max_length: int, loss_on: LossOn = LossOn.ANSWERS) -> Encoded:
    """Encode rows that hold messages. Raises BadInput when the template cannot mark the assistant's part."""
    _require_template(tokenizer)
    encoded = [_encode(tokenizer, row.plain_messages(), loss_on) for row in rows if row.messages and not row.chosen]
    return _fitting(encoded, max_length)


def encode_completions(
    tokenizer: Any, rows: Sequence[Row], *, max_length: int, loss_on: LossOn = LossOn.ANSWERS
) -> Encoded:
    """Encode rows with a prompt and what completes it, without any template: as `/v1/completions` is asked."""
    begin, end = _begin_tokens(tokenizer), _end_token(tokenizer)
    examples = []
    for row in rows:
        asked, answer = [*begin, *_ids(tokenizer, row.prompt)], [*_ids(tokenizer, row.completion), end]
        tokens = int32([*asked, *answer])
        labels = tokens if loss_on is LossOn.ALL else int32([*([IGNORED] * len(asked)), *answer])
        examples.append(Example(tokens=tokens, labels=labels))
    return _fitting(examples, max_length)


def encode_preferences(tokenizer: Any, rows: Sequence[Row], *, max_length: int) -> EncodedPreferences:
    """Encode rows with two answers; the loss is on those answers alone. Raises BadInput as `encode_chats` does."""
    _require_template(tokenizer)
    pairs = []
    for row in rows:
        if row.messages and row.chosen and row.rejected:
            chosen, rejected = (
                _encode(
                    tokenizer, [*row.plain_messages(), {"role": "assistant", "content": answer}], LossOn.LAST_ANSWER
                )
                for answer in (row.chosen, row.rejected)
            )
            pairs.append(Preference(chosen=chosen, rejected=rejected))
    fitting = tuple(pair for pair in pairs if pair.length <= max_length)
    return EncodedPreferences(pairs=fitting, too_long=len(pairs) - len(fitting))


def encode_texts(tokenizer: Any, texts: Iterable[str], *, max_length: int) -> Encoded:
    """Encode plain text for the next-token loss, each closed by the end token; a long text becomes several examples."""
    end = _end_token(tokenizer)
    examples = []
    for text in texts:
        tokens = [*_ids(tokenizer, text), end]
        for start in range(0, len(tokens), max_length):
            piece = int32(tokens[start : start + max_length])
            # The first token of a piece is nobody's next one: a piece of one token would teach nothing.
            if len(piece) > 1:
                examples.append(Example(tokens=piece, labels=piece))
    return Encoded(examples=tuple(examples), too_long=0)


def _fitting(examples: list[Example], max_length: int) -> Encoded:
    fitting = tuple(example for example in examples if len(example.tokens) <= max_length)
    return Encoded(examples=fitting, too_long=len(examples) - len(fitting))


def _require_template(tokenizer: Any) -> None:
    if not tokenizer.chat_template:
        raise BadInput(
            "training.no_chat_template",
            "The base model has no chat template, so questions and answers cannot be told apart.",
            hint="Give one as the recipe's chat_template, or use a base model whose folder has chat_template.jinja.",
        )


def _encode(tokenizer: Any, messages: list[dict[str, str]], loss_on: LossOn) -> Example:
    tokens: list[int] = []
    labels: list[int] = []
    written = ""
    last = max((index for index, message in enumerate(messages) if message["role"] == "assistant"), default=-1)
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        prompt = _render(tokenizer, messages[:index], add_generation_prompt=True)
        whole = _render(tokenizer, messages[: index + 1], add_generation_prompt=False)
        if not (prompt.startswith(written) and whole.startswith(prompt)):
            raise BadInput(
                "training.template_rewrites",
                "The chat template rewrites earlier turns, so the assistant's part cannot be marked.",
                hint="Use a base model whose template only appends, or give one as the recipe's chat_template.",
            )
        answer, gap = _split_turn(tokenizer, whole[len(prompt) :])
        asked = _ids(tokenizer, prompt[len(written) :])
        heard = index == last or loss_on is not LossOn.LAST_ANSWER
        tokens += [*asked, *answer, *gap]
        labels += [IGNORED] * len(asked) + (answer if heard else [IGNORED] * len(answer)) + [IGNORED] * len(gap)
        written = whole
    # What follows the last answer is never asked for.
    end = len(labels)
    while end and labels[end - 1] == IGNORED:
        end -= 1
    kept = int32(tokens[:end])
    return Example(tokens=kept, labels=kept if loss_on is LossOn.ALL else int32(labels[:end]))


def _split_turn(tokenizer: Any, turn: str) -> tuple[list[int], list[int]]:
    """Return the tokens of an answer with its end token, and those of the white space behind it."""
    spoken = turn.rstrip()
    answer, gap = _ids(tokenizer, spoken), _ids(tokenizer, turn[len(spoken) :])
    if not answer or answer[-1] not in tokenizer.all_special_ids:
        answer.append(_end_token(tokenizer))
    return answer, gap


def _end_token(tokenizer: Any) -> int:
    end: int | None = tokenizer.eos_token_id
    if end is None:
        raise BadInput(
            "training.no_end_token",
            "The base model's tokenizer has no end token, so the model could not learn where an answer ends.",
            hint="Set eos_token in its tokenizer_config.json, or use a chat template that ends turns by one.",
        )
    return end


def _begin_tokens(tokenizer: Any) -> list[int]:
    """What the tokenizer puts before a text, as the engine does too; what it would put behind is left out."""
    around: list[int] = tokenizer.encode("", add_special_tokens=True)
    return [token for token in around[:1] if token == tokenizer.bos_token_id]


def _render(tokenizer: Any, messages: list[dict[str, str]], *, add_generation_prompt: bool) -> str:
    try:
        text: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=add_generation_prompt)
    except TemplateError as error:
        raise BadInput(
            "training.template_fails",
            f"The chat template cannot write a conversation: {str(error)[:200]}.",
            hint="Correct the template, or the order of roles in the data set.",
        ) from error
    return text


def _ids(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return ids
