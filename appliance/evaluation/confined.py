"""Regular expressions and templates that somebody else wrote, run where they can be stopped.

A pattern such as `(a+)+$` and a template with three nested loops cost more than any machine has; neither can be told
by looking at it. Both run in a child that the kernel ends after its CPU time or beyond its memory (`limited_child`).
"""

from __future__ import annotations

import re
import resource
import sys
from types import TracebackType
from typing import IO, Any, Final

import jinja2
import msgspec
from jinja2.sandbox import ImmutableSandboxedEnvironment

from appliance.kernel.errors import BadInput
from appliance.kernel.limited_child import CpuLimit, LimitedChild, limit_this_process, read_frame, write_frame

CPU_SECONDS: Final = 1.0
MEMORY_BYTES: Final = 512 * 1024 * 1024
_LARGEST: Final = 1 << 20


class _Search(msgspec.Struct, frozen=True, tag=True):
    pattern: str
    text: str


class _Render(msgspec.Struct, frozen=True, tag=True):
    source: str
    values: dict[str, Any]
    native: bool
    """whether a list or a number is wanted, not text"""


class _Reply(msgspec.Struct, frozen=True):
    value: Any = None
    problem: str = ""


class Confined:
    """A child that searches and renders; a context manager. Not for use by two threads at once."""

    def __init__(self) -> None:
        self._child = LimitedChild("appliance.evaluation.confined")

    def __enter__(self) -> Confined:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._child.close()

    def search(self, pattern: str, text: str) -> bool:
        """Tell whether a pattern is found in a text. Raises BadInput `evaluation.pattern`."""
        reply = self._ask(_Search(pattern, text))
        if reply is None:
            raise BadInput(
                "evaluation.pattern",
                f"The regular expression {pattern[:60]!r} took more than {CPU_SECONDS:g} s on an answer.",
                hint="Write it without nested repetitions such as (a+)+.",
            )
        if reply.problem:
            raise BadInput("evaluation.pattern", f"The regular expression {pattern[:60]!r} fails: {reply.problem}.")
        return bool(reply.value)

    def render(self, source: str, values: dict[str, Any], *, native: bool = False) -> Any:
        """Render a Jinja template over one row. Raises BadInput `suite.template`."""
        reply = self._ask(_Render(source, values, native))
        if reply is None:
            raise BadInput(
                "suite.template",
                f"The template {source[:60]!r} was stopped: it took more than {CPU_SECONDS:g} s or "
                f"{MEMORY_BYTES >> 20} MiB.",
            )
        if reply.problem:
            raise BadInput("suite.template", f"The template {source[:60]!r} fails: {reply.problem}.")
        return reply.value

    def _ask(self, request: _Search | _Render) -> _Reply | None:
        body = self._child.ask(msgspec.msgpack.encode(request))
        return None if body is None else msgspec.msgpack.decode(body, type=_Reply)


def serve(requests: IO[bytes], replies: IO[bytes]) -> None:
    """The child's loop: one reply per frame until the owner closes its end."""
    decoder = msgspec.msgpack.Decoder(_Search | _Render)
    while (body := read_frame(requests)) is not None:
        with CpuLimit(CPU_SECONDS):
            data = msgspec.msgpack.encode(_answer(decoder.decode(body)))
        write_frame(replies, data)


def _answer(request: _Search | _Render) -> _Reply:
    try:
        if isinstance(request, _Search):
            return _Reply(value=re.search(request.pattern, request.text) is not None)
        return _Reply(value=_rendered(request))
    except Exception as error:  # noqa: BLE001 - border to foreign code: a template may raise anything
        return _Reply(problem=f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")


def _rendered(request: _Render) -> Any:
    environment = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    if request.native:
        # `{{choices}}` of a list must stay a list: an expression alone is evaluated, not printed.
        inner = request.source.strip()
        if inner.startswith("{{") and inner.endswith("}}") and inner.count("{{") == 1:
            value = environment.compile_expression(inner[2:-2].strip(), undefined_to_none=False)(**request.values)
            if isinstance(value, jinja2.Undefined):
                raise jinja2.UndefinedError("it uses a field that the row does not have")
            return value
    text = environment.from_string(request.source).render(**request.values)
    if len(text) > _LARGEST:
        raise ValueError(f"it wrote more than {_LARGEST} characters")
    return text


def main() -> None:
    """Limit this process, then serve on its standard streams."""
    limit_this_process(MEMORY_BYTES)
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    serve(sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    main()
