"""LlamaIndex's ordinary calls, as its documentation shows them, against a gateway; runs in that client's environment.

    .venv-llamaindex/bin/python tests/clients/llamaindex_calls.py BASE_URL AUTHORITY KEY_FILE

Asks the deployments `desk`, which chats, and `embedder`. Prints each call that went well; a failed assertion ends it.
Annotations are not put off here: LlamaIndex reads a tool's parameters from them.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from ssl import create_default_context
from typing import Any, Literal

import httpx
from llama_index.core import Document, VectorStoreIndex
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel

Connection = dict[str, Any]
"""What every client of the box is made with."""


class Verdict(BaseModel):
    """What an answer in a schema is asked for."""

    good: bool
    grade: Literal["a", "b"]


def main(arguments: list[str]) -> int:
    """Make every call."""
    base, authority, key_file = arguments
    with httpx.Client(verify=create_default_context(cafile=authority), timeout=60) as http:
        key = Path(key_file).read_text().strip()
        connection = {"api_base": base, "api_key": key, "http_client": http, "max_retries": 0}
        for call in CALLS:
            call(connection)
            print(call.__name__)
    return 0


def messages_and_streams(connection: Connection) -> None:
    """A chat, whole and streamed, and a prompt without messages."""
    llm = _chat(connection)
    talk = [ChatMessage(role="system", content="Be brief."), ChatMessage(role="user", content="Which port?")]
    whole = llm.chat(talk)
    assert whole.raw.usage.completion_tokens == 8
    assert "".join(part.delta or "" for part in llm.stream_chat(talk)) == whole.message.content
    assert llm.complete("Which port?").text


def tools(connection: Connection) -> None:
    """A tool is chosen, called and its result told."""
    llm = _chat(connection, max_tokens=200)
    answer = llm.chat_with_tools([FunctionTool.from_defaults(_weather)], user_msg="Weather?", tool_required=True)
    (call,) = llm.get_tool_calls_from_response(answer)
    told = ChatMessage(
        role="tool", content=_weather(**call.tool_kwargs), additional_kwargs={"tool_call_id": call.tool_id}
    )
    talk = [ChatMessage(role="user", content="Weather?"), answer.message, told]
    assert _chat(connection).chat(talk).message.content is not None


def structured_output(connection: Connection) -> None:
    """An answer that is an object of a class."""
    held = _chat(connection, max_tokens=200).as_structured_llm(Verdict)
    assert isinstance(held.complete("Good?").raw, Verdict)


def plain_completions(connection: Connection) -> None:
    """A model that is told not to chat."""
    llm = _chat(connection, is_chat_model=False, is_function_calling_model=False)
    assert llm.complete("def answer").text == "".join(part.delta or "" for part in llm.stream_complete("def answer"))


def index_over_documents(connection: Connection) -> None:
    """Documents are embedded, the right one is found for a question, and the chat answers from it."""
    embedder = OpenAILikeEmbedding(model_name="embedder", embed_batch_size=2, **connection)
    texts = ["my card was stolen", "where is the money transfer", "a dog sleeps on the beach"]
    assert len({len(vector) for vector in embedder.get_text_embedding_batch(texts)}) == 1
    index = VectorStoreIndex.from_documents([Document(text=text) for text in texts], embed_model=embedder)
    answer = index.as_query_engine(llm=_chat(connection), similarity_top_k=1).query(texts[0])
    assert [node.get_content() for node in answer.source_nodes] == texts[:1]
    assert str(answer)


CALLS: tuple[Callable[[Connection], None], ...] = (
    messages_and_streams,
    tools,
    structured_output,
    plain_completions,
    index_over_documents,
)


def _chat(connection: Connection, **more: Any) -> Any:
    kind = {"is_chat_model": True, "is_function_calling_model": True, "context_window": 2048}
    return OpenAILike(model="desk", **{**connection, **kind, "temperature": 0.0, "max_tokens": 8, **more})


def _weather(city: Literal["Paris", "Rome"]) -> str:
    """Tell the weather of a city."""
    return f"rain in {city}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
