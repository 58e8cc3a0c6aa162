"""How one model writes what is not plain text: its reasoning and its function calls, and the grammar for both.

Models agree on nothing but their chat template, so the template's source tells. A template that knows no functions, or
writes calls in a way not known here, gets the functions explained in words (`explained`) and is held to the plainest
format by the same grammar. Pure: no model and no process.
Source: Hugging Face's conventions for chat templates (`tools`, `tool_calls`); the formats of Hermes, Llama 3, Mistral;
OpenAI's harmony format.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from appliance.engine.frames import Asked, Message, Tool
from appliance.engine.schema_rules import document, moved
from appliance.kernel.errors import BadInput

_DEEPEST: Final = 100
"""How deep arguments may be nested that are given to a template; what walks through them recurses."""
_GAP: Final = r"/[ \n\t]{0,8}/"


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFormat:
    """Calls stand between `begin` and `end`, as JSON objects `{"name": …, KEY: {…}}`; in a list if `listed`.

    With `args` a call is NAME `args` {…} instead.
    """

    begin: str
    end: str
    key: str = "arguments"
    listed: bool = False
    args: str = ""


HERMES: Final = CallFormat(begin="<tool_call>", end="</tool_call>")
MISTRAL: Final = CallFormat(begin="[TOOL_CALLS]", end="", listed=True)
MISTRAL_NAMED: Final = CallFormat(begin="[TOOL_CALLS]", end="", args="[ARGS]")
LLAMA: Final = CallFormat(begin="", end="", key="parameters")


@dataclass(frozen=True, slots=True, kw_only=True)
class ThoughtFormat:
    """Reasoning stands between `begin` and `end`, before the answer."""

    begin: str
    end: str


THINK: Final = ThoughtFormat(begin="<think>", end="</think>")
MAGISTRAL: Final = ThoughtFormat(begin="[THINK]", end="[/THINK]")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelFormat:
    """An answer is several messages, each `channel` NAME `message` text `end`; a further one begins with `start`.

    What is said stands in the channel `said`, the reasoning in `thought`. The marks are tokens of their own.
    """

    start: str
    channel: str
    message: str
    end: str
    thought: str
    said: str

    @property
    def marks(self) -> tuple[str, ...]:
        """The words between which a message stands."""
        return (self.start, self.channel, self.message, self.end)


HARMONY: Final = ChannelFormat(
    start="<|start|>", channel="<|channel|>", message="<|message|>", end="<|end|>", thought="analysis", said="final"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """What a chat template's source says of its model."""

    calls: CallFormat = HERMES
    native: bool = False
    """whether the template itself explains the functions and writes calls and their results"""
    thought: ThoughtFormat | None = None
    """how the model marks its reasoning, if it does"""
    channels: ChannelFormat | None = None
    """how it keeps its reasoning apart, if it does so instead"""
    switchable: bool = False
    """whether reasoning can be switched off (the template reads `enable_thinking`)"""

    @classmethod
    def of(cls, source: str, names: frozenset[str]) -> Dialect:
        """Read it off a template's source and the names of the variables that it takes."""
        calls = None
        if "tools" in names:
            if "[TOOL_CALLS]" in source:
                calls = MISTRAL_NAMED if MISTRAL_NAMED.args in source else MISTRAL
            elif HERMES.begin in source and "<function=" not in source:
                calls = HERMES
            elif '"parameters"' in source:
                calls = LLAMA
        thought = next((form for form in (THINK, MAGISTRAL) if form.begin in source and form.end in source), None)
        channels = HARMONY if HARMONY.channel in source and HARMONY.message in source else None
        return cls(
            calls=calls or HERMES,
            native=calls is not None,
            thought=thought if channels is None else None,
            channels=channels,
            switchable="enable_thinking" in names,
        )

    @property
    def reasons(self) -> bool:
        """Whether the model reasons before it answers."""
        return self.thought is not None or self.channels is not None

    @property
    def marks(self) -> tuple[str, ...]:
        """The words that open and close the parts of an answer."""
        thinking: tuple[str, ...] = (self.thought.begin, self.thought.end) if self.thought else ()
        if self.channels is not None:
            thinking = self.channels.marks
        return (*thinking, *filter(None, (self.calls.begin, self.calls.end)))

    def thinks_already(self, rendered: str) -> bool:
        """Tell whether a rendered prompt ends inside the model's reasoning."""
        return self.thought is not None and rendered.rstrip().endswith(self.thought.begin)


def grammar(asked: Asked, dialect: Dialect, *, thinking: bool, token_of: Callable[[str], int | None]) -> str | None:
    """The Lark grammar of an answer, or None where anything goes.

    `thinking`: the prompt ends inside the reasoning. `token_of` gives the one token that a mark is, if it is one.
    BadInput `engine.shape` where a call and a document of the schema look the same.
    """

    def mark(text: str) -> str:
        token = token_of(text)
        return json.dumps(text) if token is None else f"<[{token}]>"

    def until(name: str, text: str) -> str:
        """A rule for anything up to and including a mark."""
        return f"{name}: TEXT {mark(text)}" if token_of(text) is not None else f"{name}[lazy]: TEXT {mark(text)}"

    if asked.tools:
        rules = _call_rules(asked, dialect.calls, mark, until)
    elif asked.schema is not None:
        rules = [f"answer: {document(json.loads(asked.schema))}"]
    else:
        return None
    rules.append(r"TEXT: /(.|\n)*/")
    if (channels := dialect.channels) is not None:
        channel, message = mark(channels.channel), mark(channels.message)
        rules.append(until("thought", channels.end))
        rules.append(f'lead: {channel} "{channels.thought}" {message} thought {mark(channels.start)} "assistant"')
        return "\n".join([f'start: lead* {channel} "{channels.said}" {message} answer', *rules])
    if dialect.thought is None:
        return "\n".join(["start: answer", *rules])
    rules.append(until("thought", dialect.thought.end))
    if thinking:
        return "\n".join([f"start: thought {_GAP} answer", *rules])
    return "\n".join([f"start: ({mark(dialect.thought.begin)} thought {_GAP})? answer", *rules])


def _call_rules(
    asked: Asked, form: CallFormat, mark: Callable[[str], str], until: Callable[[str, str], str]
) -> list[str]:
    wanted = [tool for tool in asked.tools if not asked.allowed or tool.name in asked.allowed]
    rules = []
    for index, tool in enumerate(wanted):
        if form.args:
            rules.append(f"call_{index}: {json.dumps(tool.name)} {mark(form.args)} arguments_{index}")
            rules.append(f"arguments_{index}: {document(json.loads(tool.parameters))}")
        else:
            rules.append(f"call_{index}: {_call_document(tool, form.key)}")
    rules.append("call: " + " | ".join(f"call_{index}" for index in range(len(wanted))))
    if not form.begin:  # a call is the whole answer, so there is one at most
        if asked.required:
            return ["answer: call", *rules]
        if asked.schema is not None:
            raise BadInput(
                "engine.shape",
                "This model writes its calls as bare JSON, which cannot be told from an answer in JSON: ask for a "
                "format or offer tools, not both.",
            )
        return ["answer: (call | PLAIN)?", r"PLAIN: /[^{ \n\t](.|\n)*/", *rules]
    more = "" if not asked.parallel else f'({_GAP} "," {_GAP} call)*' if form.listed else ""
    inner = f'"[" {_GAP} call {more} {_GAP} "]"' if form.listed else "call"
    body = f"{_GAP} {inner} {_GAP} {mark(form.end)}" if form.end else f"{_GAP} {inner}"
    repeated = asked.parallel and not form.listed
    if asked.required or asked.schema is not None:
        rules.append(f"block: {mark(form.begin)} {body}")
        rules.append(f"calls: block ({_GAP} block)*" if repeated else "calls: block")
        if asked.required or asked.schema is None:
            rules.append("answer: calls")
        else:
            rules += [f"document: {document(json.loads(asked.schema))}", "answer: calls | document"]
    else:
        rules.append(until("head", form.begin))
        rules.append(f"block: head {body}")
        rules.append("answer: block* TEXT" if repeated else f"answer: TEXT | block {_GAP}")
    return rules


def _call_document(tool: Tool, key: str) -> str:
    """The grammar of one call. References inside the parameters keep pointing at what they meant."""
    parameters = moved(json.loads(tool.parameters), f"#/properties/{key}")
    return document(
        {
            "type": "object",
            "properties": {"name": {"const": tool.name}, key: parameters},
            "required": ["name", key],
            "additionalProperties": False,
        }
    )


def template_messages(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    """Messages as a template that knows functions takes them."""
    return [_native(message) for message in messages]


def template_tools(tools: tuple[Tool, ...]) -> list[dict[str, Any]]:
    """Functions as a template takes them."""
    return [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description,
                "parameters": json.loads(tool.parameters),
            },
        }
        for tool in tools
    ]


def explained(messages: tuple[Message, ...], tools: tuple[Tool, ...]) -> list[dict[str, Any]]:
    """Messages for a template that knows no functions: these, earlier calls and their results become plain words."""
    plain: list[dict[str, Any]] = []
    after_result = False
    for message in messages:
        if message.role == "tool":
            text = f"<tool_response>\n{message.content}\n</tool_response>"
            if after_result:  # one turn, for many templates insist that turns alternate
                plain[-1]["content"] += f"\n{text}"
            else:
                plain.append({"role": "user", "content": text})
        else:
            calls = [
                f'{HERMES.begin}{{"name": {json.dumps(call.name)}, "arguments": {call.arguments}}}{HERMES.end}'
                for call in message.calls
            ]
            plain.append({"role": message.role, "content": "\n".join(filter(None, [message.content, *calls]))})
        after_result = message.role == "tool"
    if tools:
        listed = "\n".join(json.dumps(tool["function"], ensure_ascii=False) for tool in template_tools(tools))
        words = _WORDS.format(tools=listed, begin=HERMES.begin, end=HERMES.end)
        first = next((turn for turn in plain if turn["role"] in ("system", "user")), None)
        if first is None:
            plain.insert(0, {"role": "user", "content": words})
        else:
            first["content"] = f"{words}\n\n{first['content']}"
    return plain


_WORDS: Final = """These functions can be called, one JSON description a line:
{tools}
To call one, write {begin}{{"name": NAME, "arguments": {{…}}}}{end} and nothing after it. Call functions only where \
they help; otherwise answer in plain words."""


def _native(message: Message) -> dict[str, Any]:
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.calls:
        turn["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": _object(call.arguments)}}
            for call in message.calls
        ]
    if message.role == "tool":
        turn |= {"tool_call_id": message.call, "name": message.name}
    return turn


def _object(text: str) -> Any:
    """Arguments as templates want them: an object, unless a client sent something else, or what no frame can carry."""
    try:
        value = json.loads(text)
        msgspec.msgpack.encode(value)  # refuses integers beyond 64 bits and half surrogates
    except (ValueError, OverflowError, RecursionError):
        return text
    return text if _nested(value, _DEEPEST) else value


def _nested(value: Any, depth: int) -> bool:
    """Whether a JSON value is nested deeper than that."""
    level = [value]
    for _ in range(depth):
        level = [
            part
            for entry in level
            if isinstance(entry, list | dict)
            for part in (entry if isinstance(entry, list) else entry.values())
        ]
    return bool(level)
