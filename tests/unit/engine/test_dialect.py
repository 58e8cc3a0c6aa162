from __future__ import annotations

import json
from collections.abc import Iterator

import msgspec
import pytest

from appliance.engine import dialect
from appliance.engine.dialect import HARMONY, HERMES, LLAMA, MAGISTRAL, MISTRAL, MISTRAL_NAMED, THINK, Dialect
from appliance.engine.frames import Asked, Call, Message, Tool
from appliance.engine.grammar import Grammars
from appliance.engine.llama_context import LlamaModel
from appliance.engine.template import ChatTemplate
from appliance.kernel.errors import BadInput

CITY = {"type": "object", "properties": {"city": {"$ref": "#/$defs/city"}}, "required": ["city"]}
PARAMETERS = CITY | {"additionalProperties": False, "$defs": {"city": {"enum": ["Paris", "Rome"]}}}
WEATHER = Tool(name="weather", description="Tells the weather.", parameters=json.dumps(PARAMETERS))
CLOCK = Tool(name="clock", description="", parameters='{"type": "object", "additionalProperties": false}')
BOTH = (WEATHER, CLOCK)


@pytest.fixture(scope="module")
def grammars(model: LlamaModel) -> Iterator[Grammars]:
    made = Grammars(model)
    yield made
    made.close()


def _call(form: dialect.CallFormat, name: str = "weather", arguments: str = '{"city": "Rome"}') -> str:
    if form.args:
        return f"{form.begin}{name}{form.args}{arguments}"
    call = f'{{"name": "{name}", "{form.key}": {arguments}}}'
    return f"{form.begin}[{call}]" if form.listed else f"{form.begin}\n{call}\n{form.end}".strip()


class Judge:
    """Says of a whole text whether it is an answer of that shape."""

    def __init__(
        self, model: LlamaModel, grammars: Grammars, asked: Asked, spoken: Dialect, *, thinking: bool = False
    ) -> None:
        grammar = dialect.grammar(asked, spoken, thinking=thinking, token_of=lambda _: None)
        assert grammar is not None
        self._model, self._grammars, self._grammar = model, grammars, grammar

    def accepts(self, text: str) -> bool:
        constraint = self._grammars.constraint(self._grammar)
        tokens = self._model.tokenise(text, special=False, begin=False)
        for token in tokens:
            if not constraint.allows(token):
                return False
            constraint.take(token)
        return constraint.complete or constraint.allows(next(iter(self._model.ends)))


@pytest.mark.parametrize("form", [HERMES, MISTRAL, MISTRAL_NAMED, LLAMA])
def test_every_format_is_held_to_the_functions(model: LlamaModel, grammars: Grammars, form: dialect.CallFormat) -> None:
    spoken = Dialect(calls=form)
    auto = Judge(model, grammars, Asked(tools=BOTH), spoken)
    subset = Judge(model, grammars, Asked(tools=BOTH, allowed=("clock",)), spoken)
    required = Judge(model, grammars, Asked(tools=BOTH, required=True), spoken)
    named = Judge(model, grammars, Asked(tools=BOTH, required=True, allowed=("clock",)), spoken)
    good, other, wrong = _call(form), _call(form, "clock", "{}"), _call(form, arguments='{"city": "Bonn"}')
    assert auto.accepts(good)
    assert auto.accepts("It rains in Rome.")
    assert required.accepts(good)
    assert named.accepts(other)
    for judge in (auto, required, named):
        assert not judge.accepts(wrong)
        assert not judge.accepts(_call(form, "launch", "{}"))
    assert not required.accepts("It rains in Rome.")
    assert not named.accepts(good)
    assert subset.accepts(other)
    assert subset.accepts("It rains in Rome.")
    assert not subset.accepts(good)


@pytest.mark.parametrize("form", [HERMES, MISTRAL, MISTRAL_NAMED])
@pytest.mark.parametrize("thought", [None, THINK])
def test_beside_functions_an_answer_has_the_shape(
    model: LlamaModel, grammars: Grammars, form: dialect.CallFormat, thought: dialect.ThoughtFormat | None
) -> None:
    schema = '{"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}'
    spoken = Dialect(calls=form, thought=thought)
    judge = Judge(model, grammars, Asked(schema=schema, tools=BOTH), spoken)
    assert judge.accepts('{"ok": true}')
    assert judge.accepts(_call(form))
    assert judge.accepts('<think>hm</think>\n{"ok": true}') == (thought is not None)
    for wrong in ("It rains.", "It rains. " + _call(form), '{"ok": 1}', '{"ok": true}' + _call(form)):
        assert not judge.accepts(wrong)
    assert judge.accepts(_call(form) + "\n" + _call(form)) != form.listed
    one = Judge(model, grammars, Asked(schema=schema, tools=BOTH, parallel=False), spoken)
    assert not one.accepts(_call(form) + "\n" + _call(form))
    forced = Judge(model, grammars, Asked(schema=schema, tools=BOTH, required=True), spoken)
    assert forced.accepts(_call(form))
    assert not forced.accepts('{"ok": true}')


def test_a_document_beside_bare_calls_is_refused() -> None:
    asked = Asked(schema='{"type": "object"}', tools=BOTH)
    with pytest.raises(BadInput, match="bare JSON"):
        dialect.grammar(asked, Dialect(calls=LLAMA), thinking=False, token_of=lambda _: None)
    forced = msgspec.structs.replace(asked, required=True)
    assert dialect.grammar(forced, Dialect(calls=LLAMA), thinking=False, token_of=lambda _: None)


def test_parallel_calls_only_where_they_are_allowed(model: LlamaModel, grammars: Grammars) -> None:
    for form, two in (
        (HERMES, _call(HERMES) + "\n" + _call(HERMES)),
        (MISTRAL_NAMED, _call(MISTRAL_NAMED) * 2),
        (MISTRAL, _call(MISTRAL)[:-1] + "," + _call(MISTRAL).removeprefix("[TOOL_CALLS][")),
    ):
        spoken = Dialect(calls=form)
        for required in (False, True):
            many = Judge(model, grammars, Asked(tools=BOTH, required=required), spoken)
            one = Judge(model, grammars, Asked(tools=BOTH, required=required, parallel=False), spoken)
            assert many.accepts(two)
            assert not one.accepts(two)
            assert one.accepts(_call(form))


def test_text_around_a_call_is_free(model: LlamaModel, grammars: Grammars) -> None:
    judge = Judge(model, grammars, Asked(tools=BOTH), Dialect())
    assert judge.accepts("Wait. " + _call(HERMES) + " and " + _call(HERMES, "clock", "{}") + " done")


def test_reasoning_comes_before_the_shape(model: LlamaModel, grammars: Grammars) -> None:
    asked = Asked(schema='{"type": "boolean"}')
    closed = Judge(model, grammars, asked, Dialect(thought=THINK))
    assert closed.accepts("true")
    assert closed.accepts("<think>hm, {}</think>\ntrue")
    assert not closed.accepts("<think>hm</think>yes")
    magistral = Judge(model, grammars, asked, Dialect(thought=MAGISTRAL))
    assert magistral.accepts("[THINK]hm[/THINK]true")
    assert not magistral.accepts("<think>hm</think>true")
    inside = Judge(model, grammars, asked, Dialect(thought=THINK), thinking=True)
    assert inside.accepts("hm</think>\n\ntrue")
    assert not inside.accepts("true")


def test_the_shape_is_that_of_the_final_channel(model: LlamaModel, grammars: Grammars) -> None:
    words = {"<|channel|>": "<|user|>", "<|message|>": "<|assistant|>", "<|end|>": "<|pad|>", "<|start|>": "<|pad|>"}

    def tokens(text: str) -> list[int]:
        for mark, word in words.items():  # tokens of their own that the small model has
            text = text.replace(mark, word)
        return model.tokenise(text, special=True, begin=False)

    grammar = dialect.grammar(
        Asked(schema='{"type": "boolean"}'),
        Dialect(channels=HARMONY),
        thinking=False,
        token_of=lambda mark: tokens(mark)[0] if mark in words else None,
    )
    assert grammar is not None

    def accepts(text: str) -> bool:
        constraint = grammars.constraint(grammar)
        for token in tokens(text):
            if not constraint.allows(token):
                return False
            constraint.take(token)
        return constraint.complete or constraint.allows(next(iter(model.ends)))

    thought, said = "<|channel|>analysis<|message|>hm {}<|end|><|start|>assistant", "<|channel|>final<|message|>true"
    assert accepts(said)
    assert accepts(thought + said)
    assert accepts(thought + thought + said)
    for wrong in ("true", thought, thought + "true", said.replace("true", "yes"), said.replace("final", "other")):
        assert not accepts(wrong)


def test_no_shape_is_no_grammar() -> None:
    assert dialect.grammar(Asked(), Dialect(thought=THINK), thinking=True, token_of=lambda _: None) is None


NATIVE = {
    HERMES: "{% if tools %}{{ tools | tojson }}{% endif %}<tool_call>{{ messages }}",
    MISTRAL: "{% if tools is not none %}{{ tools }}{% endif %}[TOOL_CALLS]{{ messages }}",
    MISTRAL_NAMED: "{% if tools is not none %}{{ tools }}{% endif %}[TOOL_CALLS]{{ messages }}[ARGS]",
    LLAMA: '{% if tools %}{"name": function name, "parameters": {} }{% endif %}{{ messages }}',
}


@pytest.mark.parametrize(("form", "source"), NATIVE.items())
def test_a_template_tells_its_format(form: dialect.CallFormat, source: str) -> None:
    found = Dialect.of(source, ChatTemplate(source).names)
    assert (found.calls, found.native, found.thought) == (form, True, None)


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages }} mentions <tool_call> only",
        "{% if tools %}{% endif %}<tool_call><function={{ messages }}",
        "{% for tools in messages %}{{ tools }}[TOOL_CALLS]{% endfor %}",
    ],
)
def test_other_templates_get_the_plain_format(source: str) -> None:
    found = Dialect.of(source, ChatTemplate(source).names)
    assert (found.calls, found.native) == (HERMES, False)


def test_reasoning_is_read_off_the_template() -> None:
    source = "{{ messages }}{% if enable_thinking is false %}<think></think>{% endif %}"
    found = Dialect.of(source, ChatTemplate(source).names)
    assert (found.thought, found.switchable) == (THINK, True)
    assert found.marks == ("<think>", "</think>", "<tool_call>", "</tool_call>")
    assert found.thinks_already("…<think>\n")
    assert not found.thinks_already("…<think>\n</think>\n")
    assert not Dialect().thinks_already("…<think>\n")
    source = "{{ messages }}[THINK]{{ thought }}[/THINK]"
    found = Dialect.of(source, ChatTemplate(source).names)
    assert (found.thought, found.switchable) == (MAGISTRAL, False)
    assert found.thinks_already("…[/INST][THINK]")
    source = "{{ messages }}<|channel|>final<|message|>{{ tools }}"
    found = Dialect.of(source, ChatTemplate(source).names)
    assert (found.channels, found.thought, found.calls, found.native) == (HARMONY, None, HERMES, False)
    assert found.reasons
    assert found.marks[:4] == HARMONY.marks


TALK = (
    Message(role="system", content="Be brief."),
    Message(role="user", content="Weather?"),
    Message(role="assistant", content="", calls=(Call(id="a", name="weather", arguments='{"city": "Rome"}'),)),
    Message(role="tool", content="rain", call="a", name="weather"),
    Message(role="tool", content="9:00", call="b", name="clock"),
)


def test_a_template_that_knows_functions_gets_them_as_hugging_face_does() -> None:
    turns = dialect.template_messages(TALK)
    function = {"name": "weather", "arguments": {"city": "Rome"}}
    assert turns[2]["tool_calls"] == [{"id": "a", "type": "function", "function": function}]
    assert turns[3] == {"role": "tool", "content": "rain", "tool_call_id": "a", "name": "weather"}
    assert dialect.template_tools((WEATHER,))[0]["function"]["parameters"] == PARAMETERS


@pytest.mark.parametrize(
    "arguments",
    ["{", '{"a": 18446744073709551616}', '{"a": "\\ud800"}', '{"\\udfff": 1}', f'{{"a": {"[" * 300}{"]" * 300}}}'],
)
def test_arguments_that_are_no_json_or_cannot_be_passed_on_stay_text(arguments: str) -> None:
    message = Message(role="assistant", content="", calls=(Call(id="a", name="x", arguments=arguments),))
    assert dialect.template_messages((message,))[0]["tool_calls"][0]["function"]["arguments"] == arguments


def test_other_templates_get_them_in_words() -> None:
    turns = dialect.explained(TALK, BOTH)
    assert [turn["role"] for turn in turns] == ["system", "user", "assistant", "user"]
    assert "weather" in turns[0]["content"]
    assert turns[0]["content"].endswith("Be brief.")
    assert turns[2]["content"] == '<tool_call>{"name": "weather", "arguments": {"city": "Rome"}}</tool_call>'
    assert turns[3]["content"] == "<tool_response>\nrain\n</tool_response>\n<tool_response>\n9:00\n</tool_response>"
    assert dialect.explained((Message(role="assistant", content="hi"),), BOTH)[0]["role"] == "user"
    assert dialect.explained(TALK[:2], ()) == [{"role": m.role, "content": m.content} for m in TALK[:2]]
