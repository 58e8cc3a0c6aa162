"""LangChain's client of the API, used as its documentation shows and not changed: real gateway, real engine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import openai
import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI
from pydantic import BaseModel, SecretStr

from tests.factories.engine_client import running_worker
from tests.factories.gateway_box import GatewayBox
from tests.factories.tiny_llama import make_tiny_gguf

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayBox]:
    model = make_tiny_gguf(tmp_path_factory.mktemp("tiny"), context=2048)
    made = GatewayBox(tmp_path_factory.mktemp("box"))
    with running_worker(model, made.serve("desk", 1), "--context", "8192"), made.running():
        yield made


@pytest.fixture
def connection(box: GatewayBox) -> Iterator[dict[str, Any]]:
    """What a client of this box is made with."""
    with openai.DefaultHttpxClient(verify=box.trust(), timeout=60) as http:
        yield {
            "model": "desk",
            "base_url": box.url,
            "api_key": SecretStr(box.key.secret),
            "http_client": http,
            "max_retries": 0,
            "seed": 1,
        }


@tool
def weather(city: Literal["Paris", "Rome"]) -> str:
    """Tell the weather of a city."""
    return f"rain in {city}"


class Verdict(BaseModel):
    """What is asked for."""

    good: bool
    grade: Literal["a", "b"]


def test_messages_and_streams(connection: dict[str, Any]) -> None:
    chat = ChatOpenAI(**connection, max_completion_tokens=8, temperature=0, logprobs=True, stream_usage=True)
    talk = [SystemMessage("Be brief."), HumanMessage("Which port?")]
    whole = chat.invoke(talk)
    assert whole.usage_metadata is not None
    assert whole.usage_metadata["output_tokens"] == 8
    assert len(whole.response_metadata["logprobs"]["content"]) == 8
    chunks = list(chat.stream(talk))
    assert "".join(str(chunk.content) for chunk in chunks) == whole.content
    assert any(chunk.usage_metadata for chunk in chunks)
    assert [answer.content for answer in chat.batch([talk, talk])] == [whole.content, whole.content]


def test_tools_round_trip(connection: dict[str, Any]) -> None:
    chat = ChatOpenAI(**connection, max_completion_tokens=200)
    bound = chat.bind_tools([weather], tool_choice="weather", parallel_tool_calls=False)
    question = HumanMessage("Weather?")
    answer = bound.invoke([question])
    assert isinstance(answer, AIMessage)
    (call,) = answer.tool_calls
    result = weather.invoke(call)
    assert isinstance(result, ToolMessage)
    assert str(result.content).startswith("rain in ")
    after = chat.bind(max_completion_tokens=3).invoke([question, answer, result])
    assert isinstance(after, AIMessage)
    streamed: Any = None
    for chunk in bound.stream([question]):
        streamed = chunk if streamed is None else streamed + chunk
    assert streamed is not None
    assert streamed.tool_calls[0]["args"] == call["args"]


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_output(connection: dict[str, Any], method: Any) -> None:
    chat = ChatOpenAI(**connection, max_completion_tokens=200).with_structured_output(Verdict, method=method)
    assert isinstance(chat.invoke("Good?"), Verdict)


def test_responses(connection: dict[str, Any]) -> None:
    chat = ChatOpenAI(**connection | {"seed": None}, use_responses_api=True, max_completion_tokens=6, temperature=0)
    whole = chat.invoke("Which port?")
    assert whole.usage_metadata is not None
    assert whole.usage_metadata["output_tokens"] == 6
    assert whole.text
    assert "".join(chunk.text for chunk in chat.stream("Which port?")) == whole.text


def test_plain_completions(connection: dict[str, Any]) -> None:
    complete = OpenAI(**connection, max_tokens=5, temperature=0)
    assert complete.invoke("def answer") == "".join(complete.stream("def answer"))
