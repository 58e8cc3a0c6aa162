"""The whole API through the official client: a real gateway over TLS, a real engine, a small model that can it all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import httpx
import jsonschema
import openai
import psutil
import pytest
from pydantic import BaseModel, Field

from appliance.gateway.table import Limits
from tests.factories.engine_client import running_worker
from tests.factories.gateway_box import GatewayBox
from tests.factories.tiny_llama import make_tiny_gguf

pytestmark = pytest.mark.slow

CLOSE = "</think>"
ASKED: dict[str, Any] = {"model": "desk", "messages": [{"role": "user", "content": "Which port?"}]}
AVOIDED = (" ", "\n", "\t", "<think>")
HOT: dict[str, Any] = {"temperature": 1.2, "max_tokens": 200, "logit_bias": {}}
"""random weights like to go on: the fixture `restrained` forbids them spaces and reasoning here"""
CITY = {
    "type": "object",
    "properties": {"city": {"$ref": "#/$defs/name"}, "days": {"type": "integer", "minimum": 1, "maximum": 14}},
    "required": ["city", "days"],
    "additionalProperties": False,
    "$defs": {"name": {"type": "string", "minLength": 1, "maxLength": 8}},
}
WEATHER: Any = {"type": "function", "function": {"name": "weather", "description": "Tells it.", "parameters": CITY}}
CLOCK: Any = {"type": "function", "function": {"name": "clock"}}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_gguf(tmp_path_factory.mktemp("able"), able=True, context=2048)


@pytest.fixture(scope="module")
def unstarted(tmp_path_factory: pytest.TempPathFactory) -> GatewayBox:
    made = GatewayBox(tmp_path_factory.mktemp("box"))
    made.limits = Limits(body_limit=4 << 20)
    return made


@pytest.fixture(scope="module")
def engine(model: Path, unstarted: GatewayBox) -> Iterator[psutil.Process]:
    with running_worker(model, unstarted.serve("desk", 1), "--context", "8192", "--slots", "16") as worker:
        yield psutil.Process(worker.pid)


@pytest.fixture(scope="module")
def box(engine: psutil.Process, unstarted: GatewayBox) -> Iterator[GatewayBox]:
    assert engine.is_running()
    with unstarted.running():
        yield unstarted


@pytest.fixture
def client(box: GatewayBox) -> Iterator[openai.OpenAI]:
    http = openai.DefaultHttpxClient(verify=box.trust(), timeout=60)
    with openai.OpenAI(base_url=box.url, api_key=box.key.secret, max_retries=0, http_client=http) as made:
        yield made


@pytest.fixture
def http(box: GatewayBox) -> Iterator[httpx.Client]:
    with _http(box) as made:
        yield made


def _http(box: GatewayBox) -> httpx.Client:
    headers, url = {"authorization": f"Bearer {box.key.secret}"}, f"https://localhost:{box.port}"
    return httpx.Client(base_url=url, verify=box.trust(), headers=headers, timeout=60)


@pytest.fixture(scope="module", autouse=True)
def restrained(box: GatewayBox) -> None:
    """Fill in what HOT forbids."""
    with _http(box) as http:
        HOT["logit_bias"] = {str(token(http, text)): -100 for text in AVOIDED}


def token(http: httpx.Client, text: str) -> int:
    """The number of a text that is one token."""
    (number,) = http.post("/tokenize", json={"model": "desk", "prompt": text}).raise_for_status().json()["tokens"]
    return int(number)


SCHEMAS: dict[str, dict[str, Any]] = {
    "flat": CITY,
    "choices": {"type": "array", "items": {"enum": ["a", 1, None, {"b": [True]}]}, "minItems": 1, "maxItems": 4},
    "tuple": {"type": "array", "prefixItems": [{"type": "boolean"}, {"const": "x"}], "items": False, "minItems": 2},
    "union": {
        "anyOf": [
            {"type": "object", "properties": {"k": {"const": "a"}, "n": {"type": "number"}}, "required": ["k", "n"]}
            | {"additionalProperties": False},
            {"type": "object", "properties": {"k": {"const": "b"}}, "required": ["k"], "additionalProperties": False},
        ]
    },
    "merged": {
        "allOf": [
            {"type": "object", "properties": {"a": {"type": "integer", "multipleOf": 7}}, "required": ["a"]},
            {"properties": {"a": {"minimum": -50, "maximum": 50}}, "additionalProperties": False},
        ]
    },
    "tree": {
        "$ref": "#/$defs/node",
        "$defs": {
            "node": {
                "type": "object",
                "properties": {
                    "v": {"type": "boolean"},
                    "next": {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 1},
                },
                "required": ["v", "next"],
                "additionalProperties": False,
            }
        },
    },
    "pattern": {"type": "string", "pattern": "^[a-c]{2,4}-[0-9]+$", "maxLength": 12},
    "formats": {
        "type": "object",
        "properties": {f: {"type": "string", "format": f} for f in ("date", "time", "date-time", "uuid", "ipv4")},
        "required": ["date", "uuid", "ipv4"],
        "additionalProperties": False,
    },
    "map": {
        "type": "object",
        "patternProperties": {"^x[0-9]$": {"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 9}},
        "additionalProperties": False,
        "maxProperties": 3,
    },
    "optional": {
        "type": "object",
        "properties": {name: {"type": ["boolean", "null"]} for name in "abcdef"},
        "required": ["f"],
        "additionalProperties": False,
    },
    "numbers": {"type": "array", "items": {"type": "number", "minimum": -1.5, "maximum": 2.25}, "maxItems": 3},
    "oneOf": {"oneOf": [{"type": "boolean"}, {"type": "null"}, {"type": "integer", "minimum": 0, "maximum": 9}]},
}


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS.keys())
def test_every_answer_that_ends_is_valid(client: openai.OpenAI, schema: dict[str, Any]) -> None:
    validator = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)(schema)
    form: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}
    answer = client.chat.completions.create(**ASKED, **HOT, n=8, seed=1, response_format=form)
    ended = [choice.message.content or "" for choice in answer.choices if choice.finish_reason == "stop"]
    assert len(ended) >= 4
    for text in ended:
        validator.validate(json.loads(text))


def test_any_object_is_an_object(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        **ASKED, **HOT, n=8, seed=3, presence_penalty=0.5, response_format={"type": "json_object"}
    )
    assert all((choice.message.content or "").startswith("{") for choice in answer.choices)
    for choice in answer.choices:
        if choice.finish_reason == "stop":
            assert isinstance(json.loads(choice.message.content or ""), dict)


class Ticket(BaseModel):
    """A thing that a client wants back."""

    kind: Literal["bug", "wish"]
    urgent: bool
    points: int = Field(ge=0, le=9)


def test_pydantic_models_come_back(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(**ASKED, **HOT, seed=5, response_format=Ticket)
    assert isinstance(answer.choices[0].message.parsed, Ticket)
    response = client.responses.parse(model="desk", input="A ticket, please.", text_format=Ticket)
    assert isinstance(response.output_parsed, Ticket)


BOMBS: dict[str, Any] = {
    "nesting": json.loads('{"items":' * 60 + "{}" + "}" * 60),
    "alternatives": {"anyOf": [{"const": i} for i in range(2000)]},
    "choices": {"enum": list(range(5000))},
    "pattern": {"type": "string", "pattern": "(a|b)*" * 200},
    "text": {"description": "x" * 100_000},
    "itself": {"$ref": "#"},
    "uri": {"type": "object", "properties": {f"p{i}": {"type": "string", "format": "uri"} for i in range(490)}},
    "merging": {"allOf": [{"anyOf": [{"minLength": i}, {"maxLength": i + j}]} for i in range(1, 15) for j in range(2)]},
}


BOMB_MEMORY = 256 << 20
"""bytes that one may take"""


@pytest.mark.parametrize("schema", BOMBS.values(), ids=BOMBS.keys())
def test_bombs_are_refused_in_time_and_others_are_served_meanwhile(
    client: openai.OpenAI, engine: psutil.Process, schema: Any
) -> None:
    form: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    quick = client.with_options(timeout=15)
    before = _peak(engine)

    def explode() -> str | None:
        try:
            quick.chat.completions.create(**ASKED, max_tokens=20, response_format=form)
        except openai.BadRequestError as error:
            return error.code
        return "served"

    with ThreadPoolExecutor() as pool:
        bombs = [pool.submit(explode) for _ in range(3)]
        others = [quick.chat.completions.create(**ASKED, max_tokens=2) for _ in range(3)]
        codes = {bomb.result() for bomb in bombs}
    assert codes <= {"schema_too_large", "schema_too_complex", "invalid_schema", "served"}
    assert all(other.usage for other in others)
    assert _peak(engine) - before < BOMB_MEMORY


def _peak(engine: psutil.Process) -> int:
    """The most memory that an engine and its children ever had, each (bytes)."""
    pids = [process.pid for process in (engine, *engine.children(recursive=True))]
    lines = [line for pid in pids for line in Path(f"/proc/{pid}/status").read_text().splitlines()]
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


def test_functions_are_called_and_answered(client: openai.OpenAI) -> None:
    for choice in ("required", {"type": "function", "function": {"name": "weather"}}):
        more: Any = {"tools": [WEATHER, CLOCK], "tool_choice": choice, "parallel_tool_calls": False}
        answer = client.chat.completions.create(**ASKED, **HOT, seed=2, **more)
        assert answer.choices[0].finish_reason == "tool_calls"
        (call,) = answer.choices[0].message.tool_calls or []
        assert call.type == "function"
        if call.function.name == "weather":
            jsonschema.validate(json.loads(call.function.arguments), CITY)
    talk: Any = [*ASKED["messages"], answer.choices[0].message.model_dump(exclude_none=True)]
    talk.append({"role": "tool", "tool_call_id": call.id, "content": "rain"})
    again = client.chat.completions.create(model="desk", messages=talk, tools=[WEATHER, CLOCK], max_tokens=3)
    assert again.usage is not None
    assert again.usage.prompt_tokens > (answer.usage.prompt_tokens if answer.usage else 0)


def test_calls_stream_in_parts(client: openai.OpenAI) -> None:
    more: Any = {"tools": [WEATHER], "tool_choice": "required", "parallel_tool_calls": False, "seed": 4}
    whole = client.chat.completions.create(**ASKED, **HOT, **more).choices[0].message.tool_calls or []
    expected = whole[0]
    assert expected.type == "function"
    with client.chat.completions.stream(**ASKED, **HOT, **more) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion().choices[0]
    assert kinds.count("tool_calls.function.arguments.delta") > 3
    assert final.finish_reason == "tool_calls"
    (call,) = final.message.tool_calls or []
    assert call.function.arguments == expected.function.arguments


def _made(message: Any) -> list[tuple[str, Any]]:
    """Names and arguments of a message's calls, which all follow their functions."""
    calls = message.tool_calls or []
    assert len({call.id for call in calls}) == len(calls)
    made = [(call.function.name, json.loads(call.function.arguments)) for call in calls]
    schemas: dict[str, dict[str, Any]] = {"weather": CITY, "clock": {"maxProperties": 0}}
    for name, arguments in made:
        jsonschema.validate(arguments, schemas[name])
    return made


def test_several_calls_in_one_answer(client: openai.OpenAI, http: httpx.Client) -> None:
    asked: Any = ASKED | HOT | {"tools": [WEATHER, CLOCK], "tool_choice": "required", "max_tokens": 500}
    asked["logit_bias"] = HOT["logit_bias"] | {str(token(http, "<|end|>")): -1}
    answer = client.chat.completions.create(**asked, n=8, seed=1)
    ended = [choice for choice in answer.choices if choice.finish_reason == "tool_calls"]
    several = next(choice for choice in ended if len(_made(choice.message)) > 1)
    parts, made = next(found for seed in range(1, 17) if len((found := _streamed_calls(client, asked, seed))[1]) > 1)
    assert parts == [(index, arguments) for index, (_, arguments) in enumerate(made)]
    talk: Any = [*ASKED["messages"], several.message.model_dump(exclude_none=True)]
    talk += [{"role": "tool", "tool_call_id": c.id, "content": "rain"} for c in several.message.tool_calls or []]
    assert client.chat.completions.create(model="desk", messages=talk, max_tokens=2).usage is not None
    one = client.chat.completions.create(**asked, n=8, seed=1, parallel_tool_calls=False)
    assert [(len(_made(c.message)), c.finish_reason) for c in one.choices] == [(1, "tool_calls")] * 8


def _streamed_calls(
    client: openai.OpenAI, asked: dict[str, Any], seed: int
) -> tuple[list[tuple[int, Any]], list[tuple[str, Any]]]:
    """The calls as their parts told them, and as the client put them together; nothing where the answer was cut.

    A seed need not draw alone what it drew among others: how many share a batch decides the last bit of its sums.
    """
    parts: dict[int, str] = {}
    with client.chat.completions.stream(**asked, seed=seed) as stream:
        try:
            for event in stream:
                if event.type == "tool_calls.function.arguments.delta":
                    parts[event.index] = parts.get(event.index, "") + event.arguments_delta
            final = stream.get_final_completion().choices[0]
        except openai.LengthFinishReasonError:
            return [], []
    return [(index, json.loads(text)) for index, text in parts.items()], _made(final.message)


def test_some_of_the_functions_are_allowed(client: openai.OpenAI) -> None:
    named = [{"type": "function", "function": {"name": "clock"}}]
    choice: Any = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": named}}
    asked: Any = ASKED | HOT | {"tools": [WEATHER, CLOCK]}
    answer = client.chat.completions.create(**asked, n=4, seed=1, tool_choice=choice, parallel_tool_calls=False)
    assert {name for c in answer.choices for name, _ in _made(c.message)} == {"clock"}
    choice["allowed_tools"]["mode"] = "auto"
    free = client.chat.completions.create(**asked, n=4, seed=1, tool_choice=choice)
    assert any(c.message.content for c in free.choices)
    assert free.usage is not None
    assert answer.usage is not None
    assert free.usage.prompt_tokens == answer.usage.prompt_tokens  # all are explained, so the cached prompt holds
    tools: Any = [{"type": "function", "name": name} for name in ("weather", "clock")]
    flat: Any = {"type": "allowed_tools", "mode": "required", "tools": tools[1:]}
    response = client.responses.create(
        model="desk", input="Weather?", tools=tools, tool_choice=flat, parallel_tool_calls=False
    )
    assert [item.name for item in response.output if item.type == "function_call"] == ["clock"]
    assert response.tool_choice.model_dump() == flat  # type: ignore[union-attr]


def test_a_format_beside_functions(client: openai.OpenAI) -> None:
    form: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": Ticket.model_json_schema()}}
    asked: Any = ASKED | HOT | {"tools": [WEATHER, CLOCK], "response_format": form, "max_tokens": 300}
    answer = client.chat.completions.create(**asked, n=8, seed=1)
    called = [choice for choice in answer.choices if choice.message.tool_calls]
    assert all(_made(choice.message) for choice in called if choice.finish_reason == "tool_calls")
    written = [c for c in answer.choices if c not in called and c.finish_reason == "stop"]
    assert called
    assert written
    for choice in written:
        Ticket.model_validate_json(choice.message.content or "")


def test_left_to_itself_a_model_may_just_talk(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(**ASKED, **HOT, n=4, seed=1, tools=[WEATHER, CLOCK])
    for choice in answer.choices:
        for call in choice.message.tool_calls or ():
            assert call.type == "function"
            json.loads(call.function.arguments)
    assert any(choice.message.content for choice in answer.choices)


def test_reasoning_is_kept_apart_and_counted(client: openai.OpenAI, http: httpx.Client) -> None:
    bias = {str(token(http, CLOSE)): 12}
    hot = HOT | {"logit_bias": bias}
    answer = client.chat.completions.create(**ASKED, **hot, seed=1, reasoning_effort="low")
    message = answer.choices[0].message.model_dump()
    assert answer.usage is not None
    assert answer.usage.completion_tokens_details is not None
    assert 0 < (answer.usage.completion_tokens_details.reasoning_tokens or 0) < answer.usage.completion_tokens
    assert CLOSE not in message["content"] + message.get("reasoning_content", "")
    shaped = client.chat.completions.create(
        **ASKED, **hot, seed=1, reasoning_effort="low", response_format={"type": "json_object"}
    )
    assert (shaped.choices[0].message.content or "").startswith("{")
    plain = client.chat.completions.create(**ASKED, **HOT, seed=1, reasoning_effort="none")
    assert plain.usage is not None
    assert plain.usage.completion_tokens_details is not None
    assert plain.usage.completion_tokens_details.reasoning_tokens == 0


def test_filling_in_uses_the_models_own_tokens(client: openai.OpenAI, http: httpx.Client) -> None:
    prompt = "<|fim_prefix|>def f(<|fim_suffix|>): pass<|fim_middle|>"
    filled = client.completions.create(
        model="desk", prompt="def f(", suffix="): pass", max_tokens=8, temperature=0, extra_body={"ignore_eos": True}
    )
    tokens = http.post("/tokenize", json={"model": "desk", "prompt": prompt}).json()["tokens"]
    same = client.completions.create(
        model="desk", prompt=tokens, max_tokens=8, temperature=0, extra_body={"ignore_eos": True}
    )
    assert filled.choices[0].text == same.choices[0].text
    assert filled.usage is not None
    assert filled.usage.prompt_tokens == len(tokens)


def test_tokens_and_back(http: httpx.Client) -> None:
    asked = {"model": "desk", "prompt": "naïve café <|end|>"}
    answer = http.post("/tokenize", json=asked).json()
    assert answer["count"] == len(answer["tokens"])
    assert answer["max_model_len"] == 2048
    back = http.post("/detokenize", json={"model": "desk", "tokens": answer["tokens"]}).json()
    assert back == {"prompt": "naïve café <|end|>"}
    spelled = http.post("/tokenize", json=asked | {"parse_special": False}).json()
    assert spelled["count"] > answer["count"]
    talk = http.post("/tokenize", json={"model": "desk", "messages": ASKED["messages"]}).json()
    said = http.post("/v1/chat/completions", json=ASKED | {"max_tokens": 1}).json()
    assert talk["count"] == said["usage"]["prompt_tokens"]
    for body, status in (({"model": "desk"}, 400), ({"model": "x", "prompt": "a"}, 404)):
        assert http.post("/tokenize", json=body).status_code == status
    unknown = http.post("/detokenize", json={"model": "desk", "tokens": [99_999]})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (400, "invalid_request_error")


def test_responses_whole_and_streamed(client: openai.OpenAI) -> None:
    asked: Any = {"model": "desk", "input": "Which port?", "instructions": "Be brief.", "temperature": 0}
    whole = client.responses.create(**asked, max_output_tokens=12)
    assert (whole.status, whole.store) == ("incomplete", False)
    events = list(client.responses.create(**asked, max_output_tokens=12, stream=True))
    assert (events[0].type, events[-1].type) == ("response.created", "response.incomplete")
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == whole.output_text
    assert whole.usage is not None
    assert whole.usage.output_tokens == 12
    with client.responses.stream(model="desk", input="A ticket, please.", text_format=Ticket) as stream:
        for _ in stream:
            pass
        assert isinstance(stream.get_final_response().output_parsed, Ticket)


def test_responses_call_functions(client: openai.OpenAI) -> None:
    tool: Any = {"type": "function", "name": "weather", "description": "Tells it.", "parameters": CITY, "strict": True}
    asked: Any = {"model": "desk", "tools": [tool], "tool_choice": "required", "parallel_tool_calls": False}
    question: Any = [{"role": "user", "content": "Weather?"}]
    first = client.responses.create(**asked, input=question)
    (call,) = first.output
    assert call.type == "function_call"
    jsonschema.validate(json.loads(call.arguments), CITY)
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}
    second = client.responses.create(
        model="desk", input=[*question, *(item.model_dump() for item in first.output), result], max_output_tokens=3
    )
    assert second.usage is not None
    assert second.usage.input_tokens > 10
    streamed = list(client.responses.create(**asked, input=question, stream=True))
    done = [event for event in streamed if event.type == "response.function_call_arguments.done"]
    jsonschema.validate(json.loads(done[0].arguments), CITY)


def test_log_probabilities_and_choices(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(**ASKED, n=3, logprobs=True, top_logprobs=3, max_tokens=6, seed=1)
    assert len(answer.choices) == 3
    for choice in answer.choices:
        assert choice.logprobs is not None
        for entry in choice.logprobs.content or ():
            assert len(entry.top_logprobs) == 3
            assert entry.logprob <= 0
    response = client.responses.create(
        model="desk", input="x", max_output_tokens=4, top_logprobs=2, include=["message.output_text.logprobs"]
    )
    (item,) = response.output
    assert item.type == "message"
    assert item.content[0].type == "output_text"
    assert len(item.content[0].logprobs or ()) > 0


def test_log_probabilities_are_those_of_the_text(client: openai.OpenAI, http: httpx.Client) -> None:
    asked: Any = ASKED | HOT | {"seed": 1, "max_tokens": 40, "logprobs": True}
    whole = client.chat.completions.create(**asked).choices[0].message.content or ""
    stop = next(whole[at : at + 2] for at in range(8, 30) if whole[at : at + 2].isascii())
    cut = client.chat.completions.create(**asked, stop=stop).choices[0]
    chunks = list(client.chat.completions.create(**asked, stop=stop, stream=True))
    streamed = [e for c in chunks if c.choices[0].logprobs for e in c.choices[0].logprobs.content or ()]
    assert cut.logprobs is not None
    assert [e.bytes for e in streamed] == [e.bytes for e in cut.logprobs.content or ()]
    assert cut.message.content == whole[: whole.index(stop)]
    assert _text(streamed).startswith(cut.message.content)
    assert not _text(streamed[:-1]).startswith(cut.message.content)  # the last one holds the end of it

    bias = {str(token(http, CLOSE)): 8}
    thought = client.chat.completions.create(**asked | {"logit_bias": bias}, reasoning_effort="low").choices[0]
    assert thought.message.content
    assert thought.logprobs is not None
    assert _text(thought.logprobs.content or ()).lstrip() == thought.message.content

    events = list(
        client.responses.create(
            model="desk", input="Größe?", temperature=1.5, max_output_tokens=60, top_logprobs=1, stream=True
        )
    )
    told = [e for event in events if event.type == "response.output_text.delta" for e in event.logprobs]
    last = events[-1]
    assert last.type in ("response.incomplete", "response.completed")
    item = last.response.output[0]
    assert item.type == "message"
    assert item.content[0].type == "output_text"
    assert [e.bytes for e in item.content[0].logprobs or ()] == [e.to_dict()["bytes"] for e in told]
    assert any("\ufffd" in e.token for e in told)


def _text(entries: Any) -> str:
    return bytes(byte for entry in entries for byte in entry.bytes).decode(errors="replace")


def test_text_offsets_are_characters(client: openai.OpenAI) -> None:
    asked: Any = {"model": "desk", "prompt": "Straße", "temperature": 1.5, "seed": 3, "logprobs": 0, "max_tokens": 80}
    choice = client.completions.create(**asked, echo=True).choices[0]
    logprobs = choice.logprobs
    assert logprobs is not None
    places = list(zip(logprobs.tokens or (), logprobs.text_offset or (), strict=True))
    assert places[0][1] == len("Straße")
    whole = [(text, at) for text, at in places if "\ufffd" not in text]
    assert len(whole) > 10
    assert all(choice.text.startswith(text, at) for text, at in whole)
    assert len(whole) < len(places)  # and there were halves between them


def test_what_a_model_cannot_do_is_said(client: openai.OpenAI, http: httpx.Client) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="desk", input="x", previous_response_id="resp_1")
    assert (caught.value.code, caught.value.param) == ("unsupported", "previous_response_id")
    wrong = http.get("/v1/responses")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    assert http.get("/v1/responses/resp_1").json()["error"]["code"] == "unknown_url"


ODD = {"integer": "99999999999999999999", "surrogate": '"\\ud800"', "depth": "[" * 900 + "]" * 900}


@pytest.mark.parametrize("value", ODD.values(), ids=ODD.keys())
def test_json_that_no_frame_can_carry_ends_no_engine(http: httpx.Client, engine: psutil.Process, value: str) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "clock", "arguments": f'{{"a": {value}}}'}}
    talk = [*ASKED["messages"], {"role": "assistant", "tool_calls": [call]}]
    talk.append({"role": "tool", "tool_call_id": "c", "content": "rain"})
    body = {"model": "desk", "messages": talk, "max_tokens": 2}
    assert http.post("/v1/chat/completions", json=body).status_code == 200
    asked = json.dumps(ASKED | {"tools": [CLOCK], "max_tokens": 2})
    odd = asked.replace('{"name": "clock"}', f'{{"name": "clock", "parameters": {{"default": {value}}}}}')
    refused = http.post("/v1/chat/completions", content=odd.encode(), headers={"content-type": "application/json"})
    assert (refused.status_code, asked == odd) == (400, False)
    assert engine.is_running()


def test_the_description_is_there_for_those_with_a_key(http: httpx.Client) -> None:
    described = http.get("/openapi.json").raise_for_status().json()
    assert described["openapi"] == "3.1.0"
    assert "/v1/responses" in described["paths"]
    assert http.get("/openapi.json", headers={"authorization": ""}).status_code == 401
