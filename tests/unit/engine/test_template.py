from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.engine.template import ChatTemplate, ControlTokens
from appliance.kernel.errors import BadInput, IntegrityFailure

MESSAGES = [{"role": "user", "content": "hi"}]
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content | trim + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CONTROLS = ["<|im_start|>", "<|im_end|>", "<s>", "<<s>"]


def test_chat_markup_is_rendered() -> None:
    assert ChatTemplate(CHATML).render(MESSAGES) == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"


def test_special_tokens_and_hugging_face_extras_are_there() -> None:
    source = (
        "{{ bos_token }}{% generation %}{{ messages | tojson }}{% endgeneration %}{{ strftime_now('%Y') | length }}"
    )
    assert ChatTemplate(source, bos="<s>").render([{"role": "é", "content": ""}]) == (
        '<s>[{"role": "é", "content": ""}]4'
    )


def test_the_templates_own_refusal_is_reported() -> None:
    with pytest.raises(BadInput, match="roles must alternate") as caught:
        ChatTemplate("{{ raise_exception('roles must alternate') }}").render(MESSAGES)
    assert caught.value.code == "engine.messages"


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.append(1) }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ cycler.__init__.__globals__ }}",
        "{% for i in range(10**9) %}{% endfor %}",
        "{% include 'x' %}",
        "{{ undefined_name.field }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    ],
)
def test_templates_cannot_reach_out(source: str) -> None:
    with pytest.raises(BadInput) as caught:
        ChatTemplate(source).render(MESSAGES)
    assert caught.value.code == "engine.template"


@pytest.mark.parametrize("source", ["{% if %}", "{% nonsense %}", "{#" + "x" * 300_000 + "#}"])
def test_templates_that_are_not_templates_are_refused(source: str) -> None:
    with pytest.raises(IntegrityFailure):
        ChatTemplate(source)


def test_ordinary_text_is_not_touched() -> None:
    messages = [{"role": "user", "content": "a < b, <div>, <|not a token|>"}]
    assert ControlTokens(CONTROLS).guard(messages)[0] == messages


@given(st.text(alphabet="<|>s_imendstar ", max_size=40), st.sampled_from(["user", "<|im_start|>", "<"]))
def test_no_control_token_comes_from_a_message(content: str, role: str) -> None:
    messages = [{"role": role, "content": content}, {"role": "user", "content": "x"}]
    guarded, mark = ControlTokens(CONTROLS).guard(messages)
    rendered = ChatTemplate(CHATML).render(guarded)
    whole = re.compile("|".join(map(re.escape, CONTROLS)))
    found = [token for part in rendered.split(mark) for token in whole.findall(part)]
    assert found == ["<|im_start|>", "<|im_end|>"] * 2 + ["<|im_start|>"]
    assert rendered.replace(mark, "") == ChatTemplate(CHATML).render(messages)


def test_a_mark_that_users_wrote_is_not_used() -> None:
    guarded, mark = ControlTokens(CONTROLS).guard([{"role": "user", "content": "\ufdd0<s>"}])
    assert mark == "\ufdd1"
    assert guarded[0]["content"] == "\ufdd0<\ufdd1s>"


def test_messages_with_every_mark_are_refused() -> None:
    with pytest.raises(BadInput):
        ControlTokens(CONTROLS).guard([{"role": "user", "content": "".join(map(chr, range(0xFDD0, 0xFDF0)))}])
