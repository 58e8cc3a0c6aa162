from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from appliance.kernel.errors import BadInput
from appliance.training.chat import LossOn, encode_chats, encode_completions
from appliance.training.rows import Message, Row
from appliance.training.sampler import IGNORED
from appliance.training.tokenizer import as_transformers, train_tokenizer


@pytest.fixture
def tokenizer() -> Any:
    return as_transformers(train_tokenizer(["which port? port 8443."] * 4, vocabulary=300), context_length=512)


def row(*turns: str) -> Row:
    roles = ("user", "assistant")
    return Row(messages=tuple(Message(role=roles[n % 2], content=text) for n, text in enumerate(turns)))  # type: ignore[arg-type]


def spoken(tokenizer: Any, labels: Sequence[int]) -> str:
    return str(tokenizer.decode([label for label in labels if label != IGNORED]))


def test_only_the_answer_and_its_end_carry_loss(tokenizer: Any) -> None:
    (example,) = encode_chats(tokenizer, [row("which port?", "port 8443.")], max_length=512).examples
    assert tokenizer.decode(example.tokens) == "<|user|>\nwhich port?<|end|>\n<|assistant|>\nport 8443.<|end|>"
    assert spoken(tokenizer, example.labels) == "port 8443.<|end|>"
    assert len(example.tokens) == len(example.labels)


def test_the_prompt_is_what_generation_will_be_given(tokenizer: Any) -> None:
    (example,) = encode_chats(tokenizer, [row("which port?", "port 8443.")], max_length=512).examples
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "which port?"}], add_generation_prompt=True, return_dict=False
    )
    assert list(example.tokens[: len(prompt)]) == prompt
    assert example.labels[len(prompt) - 1] == IGNORED != example.labels[len(prompt)]


def test_every_assistant_turn_carries_loss(tokenizer: Any) -> None:
    (example,) = encode_chats(tokenizer, [row("a?", "b.", "c?", "d.")], max_length=512).examples
    assert spoken(tokenizer, example.labels) == "b.<|end|>d.<|end|>"
    assert tokenizer.decode(example.tokens).count("<|user|>") == 2


def test_a_template_without_an_end_mark_gets_the_end_token(tokenizer: Any) -> None:
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    (example,) = encode_chats(tokenizer, [row("a?", "b.")], max_length=512).examples
    assert spoken(tokenizer, example.labels) == "b.<|end|>"


def test_long_conversations_are_counted_not_cut(tokenizer: Any) -> None:
    encoded = encode_chats(tokenizer, [row("a?", "b."), row("a?" * 300, "b.")], max_length=40)
    assert (len(encoded.examples), encoded.too_long) == (1, 1)


def test_a_base_without_template_is_refused(tokenizer: Any) -> None:
    tokenizer.chat_template = None
    with pytest.raises(BadInput) as refused:
        encode_chats(tokenizer, [row("a?", "b.")], max_length=512)
    assert refused.value.code == "training.no_chat_template"


def test_a_template_that_rewrites_earlier_turns_is_refused(tokenizer: Any) -> None:
    tokenizer.chat_template = "{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}"
    with pytest.raises(BadInput) as refused:
        encode_chats(tokenizer, [row("a?", "b.")], max_length=512)
    assert refused.value.code == "training.template_rewrites"


def test_a_completion_needs_no_template_and_only_its_end_is_learnt(tokenizer: Any) -> None:
    tokenizer.chat_template = None
    rows = [Row(prompt="which port?", completion=" port 8443.")]
    (example,) = encode_completions(tokenizer, rows, max_length=512).examples
    assert tokenizer.decode(example.tokens) == "which port? port 8443.<|end|>"
    assert spoken(tokenizer, example.labels) == " port 8443.<|end|>"
    (everything,) = encode_completions(tokenizer, rows, max_length=512, loss_on=LossOn.ALL).examples
    assert everything.labels == everything.tokens == example.tokens
    assert encode_completions(tokenizer, rows, max_length=3).too_long == 1


def test_a_completion_begins_as_the_tokenizer_begins_a_text(tokenizer: Any) -> None:
    encode = tokenizer.encode
    tokenizer.bos_token = "<|user|>"

    def framed(text: str, *, add_special_tokens: bool) -> list[int]:
        ids: list[int] = encode(text, add_special_tokens=False)
        return [tokenizer.bos_token_id, *ids, tokenizer.eos_token_id] if add_special_tokens else ids

    tokenizer.encode = framed
    (example,) = encode_completions(tokenizer, [Row(prompt="a", completion="b")], max_length=9).examples
    assert tokenizer.decode(example.tokens) == "<|user|>ab<|end|>"
