"""Turns conversations into tokens and labels with the base model's own chat template.

Loss falls on what the assistant says and on the token that ends its turn, nowhere else. Each assistant turn is
tokenised apart from its prompt, exactly as it will be when the model generates it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from appliance.kernel.errors import BadInput
from appliance.training.rows import Row
from appliance.training.sampler import IGNORED, Example


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """Conversations ready for training, and how many were too long."""

    examples: tuple[Example, ...]
    too_long: int


def encode_chats(tokenizer: Any, rows: Sequence[Row], *, max_length: int) -> Encoded:
    """Encode rows that hold messages. Raises BadInput when the template cannot mark the assistant's part."""
    if not tokenizer.chat_template:
        raise BadInput(
            "training.no_chat_template",
            "The base model has no chat template, so questions and answers cannot be told apart.",
            hint="Use a base model whose folder has chat_template.jinja.",
        )
    encoded = [_encode(tokenizer, row.plain_messages()) for row in rows if row.messages]
    fitting = tuple(example for example in encoded if len(example.tokens) <= max_length)
    return Encoded(examples=fitting, too_long=len(encoded) - len(fitting))


def _encode(tokenizer: Any, messages: list[dict[str, str]]) -> Example:
    tokens: list[int] = []
    labels: list[int] = []
    written = ""
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        prompt = _render(tokenizer, messages[:index], add_generation_prompt=True)
        whole = _render(tokenizer, messages[: index + 1], add_generation_prompt=False)
        if not (prompt.startswith(written) and whole.startswith(prompt)):
            raise BadInput(
                "training.template_rewrites",
                "The chat template rewrites earlier turns, so the assistant's part cannot be marked.",
                hint="Use a base model whose template only appends.",
            )
        answer, gap = _split_turn(tokenizer, whole[len(prompt) :])
        asked = _ids(tokenizer, prompt[len(written) :])
        tokens += [*asked, *answer, *gap]
        labels += [IGNORED] * len(asked) + answer + [IGNORED] * len(gap)
        written = whole
    # What follows the last answer is never asked for.
    end = len(labels)
    while end and labels[end - 1] == IGNORED:
        end -= 1
    return Example(tokens=tuple(tokens[:end]), labels=tuple(labels[:end]))


def _split_turn(tokenizer: Any, turn: str) -> tuple[list[int], list[int]]:
    """Return the tokens of an answer with its end token, and those of the white space behind it."""
    spoken = turn.rstrip()
    answer, gap = _ids(tokenizer, spoken), _ids(tokenizer, turn[len(spoken) :])
    if not answer or answer[-1] not in tokenizer.all_special_ids:
        answer.append(tokenizer.eos_token_id)
    return answer, gap


def _render(tokenizer: Any, messages: list[dict[str, str]], *, add_generation_prompt: bool) -> str:
    text: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=add_generation_prompt)
    return text


def _ids(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return ids
