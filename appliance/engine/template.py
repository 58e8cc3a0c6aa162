"""Renders a model's chat template: hostile source from a GGUF file, run by Jinja's immutable sandbox.

Owns the environment that templates expect (as Hugging Face's `apply_chat_template` gives it) and the rule that users
cannot write control tokens. What a template may cost is bounded where it runs: `template_process`.
Invariant: no control token in the rendered text comes from a message.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
from jinja2.meta import find_undeclared_variables
from jinja2.sandbox import ImmutableSandboxedEnvironment

from appliance.kernel.errors import BadInput, IntegrityFailure

LARGEST_SOURCE: Final = 256 * 1024
LARGEST_TEXT: Final = 16 * 1024 * 1024

_BREAKS: Final = "".join(map(chr, range(0xFDD0, 0xFDF0)))
"""Noncharacters (Unicode 3.2, never assigned): one that no message contains marks a broken control token."""


class ChatTemplate:
    """One compiled template."""

    def __init__(self, source: str, *, bos: str = "", eos: str = "") -> None:
        """Compile. IntegrityFailure `engine.template` if it is too large or not Jinja."""
        if len(source) > LARGEST_SOURCE:
            raise IntegrityFailure(
                "engine.template", f"The chat template has {len(source)} characters, more than {LARGEST_SOURCE}."
            )
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = _now
        try:
            self.names = frozenset(find_undeclared_variables(environment.parse(source)))
            """the variables that the template takes, such as `messages`, `tools`, `enable_thinking`"""
            self._template = environment.from_string(source)
        except (jinja2.TemplateError, RecursionError, OverflowError, SyntaxError) as error:
            raise IntegrityFailure("engine.template", f"The chat template cannot be compiled: {error}.") from error
        self._tokens = {"bos_token": bos, "eos_token": eos}

    def render(self, messages: Sequence[dict[str, Any]], **more: Any) -> str:
        """The prompt text. BadInput `engine.template` with the template's own words or what went wrong in it.

        `more` are further variables: `tools` (None without any, as Hugging Face has it), `enable_thinking`.
        """
        variables = {"tools": None, **more, **self._tokens}
        try:
            text = self._template.render(messages=list(messages), add_generation_prompt=True, **variables)
        except _Raised as error:
            raise BadInput("engine.messages", f"The model's chat template refuses these messages: {error}.") from error
        except Exception as error:  # border to foreign code: a template may raise anything
            raise BadInput("engine.template", f"The chat template failed: {type(error).__name__}.") from error
        if len(text) > LARGEST_TEXT:
            raise BadInput("engine.template", f"The chat template wrote more than {LARGEST_TEXT} characters.")
        return text


class ControlTokens:
    """Breaks what looks like a control token in user text, so that the tokenizer sees plain text there."""

    def __init__(self, texts: Sequence[str]) -> None:
        longest_first = sorted(texts, key=len, reverse=True)
        whole = [re.escape(text) for text in longest_first]
        # The beginning of one at the end of a message could be completed by what the template writes after it.
        started = {re.escape(text[:cut]) + r"\Z" for text in longest_first for cut in range(1, len(text))}
        pattern = "|".join([*whole, *sorted(started, key=len, reverse=True)])
        self._lookahead = re.compile(f"(?=(?:{pattern}))") if pattern else None

    def guard(self, given: Any) -> tuple[Any, str]:
        """What users wrote (JSON values) with a mark inside every look-alike, and the mark; split the text there.

        BadInput `engine.messages` if every possible mark already occurs.
        """
        used: set[str] = set()

        def note(text: str) -> str:
            used.update(text)
            return text

        _each(given, note)
        mark = next((candidate for candidate in _BREAKS if candidate not in used), None)
        if mark is None:
            raise BadInput("engine.messages", "The messages contain every Unicode noncharacter from U+FDD0 to U+FDEF.")
        return _each(given, lambda text: self._broken(text, mark)), mark

    def _broken(self, text: str, mark: str) -> str:
        """`text` with the mark after the first character of each look-alike, overlapping ones included."""
        if self._lookahead is None:
            return text
        parts, last = [], 0
        for found in self._lookahead.finditer(text):
            parts.append(text[last : found.start() + 1])
            last = found.start() + 1
        return mark.join([*parts, text[last:]])


def _each(value: Any, change: Callable[[str], str]) -> Any:
    """The JSON value with every string in it changed, names of fields included."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_each(entry, change) for entry in value]
    if isinstance(value, dict):
        return {change(key): _each(entry, change) for key, entry in value.items()}
    return value


class _Raised(Exception):
    """`raise_exception` was called by the template."""


class _Generation(jinja2.ext.Extension):
    """`{% generation %}…{% endgeneration %}` marks answers for training; here it is only its content."""

    tags = {"generation"}  # noqa: RUF012 - the name and type jinja2 expects

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _raise_exception(message: object) -> None:
    raise _Raised(" ".join(str(message).split())[:200].rstrip("."))


def _now(form: str) -> str:
    return datetime.now().astimezone().strftime(form)


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)
