"""The process in which a chat template runs, and the handle its owner holds.

Owns what a template may cost: CPU time and memory. A sandbox cannot stop `"a" * 10**10` or three nested loops, the
kernel can (`limited_child`). The frames are msgpack: first `_Setup`, then `_Request`, and a `_Reply` to each.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Sequence
from typing import IO, Any, Final

import msgspec

from appliance.engine.template import ChatTemplate
from appliance.kernel.errors import BadInput, IntegrityFailure, IntramurosError, from_exit_code
from appliance.kernel.limited_child import CpuLimit, LimitedChild, limit_this_process, read_frame, write_frame

CPU_SECONDS: Final = 1.0
MEMORY_BYTES: Final = 512 * 1024 * 1024


class _Setup(msgspec.Struct, frozen=True, array_like=True):
    source: str
    bos: str
    eos: str


class _Request(msgspec.Struct, frozen=True, array_like=True):
    messages: list[dict[str, Any]]
    more: dict[str, Any]


class _Reply(msgspec.Struct, frozen=True, array_like=True):
    text: str | None = None
    exit_code: int = 0
    code: str = ""
    message: str = ""
    names: tuple[str, ...] = ()


class TemplateProcess:
    """Renders with one template. Not for use by two threads at once."""

    def __init__(self, source: str, *, bos: str, eos: str) -> None:
        """Start the child and compile. IntegrityFailure `engine.template` if the template is refused."""
        self._setup = _Setup(source, bos, eos)
        self._child = LimitedChild("appliance.engine.template_process")
        self.names: frozenset[str] = frozenset()
        """the variables that the template takes"""
        self._start()

    def render(self, messages: Sequence[dict[str, Any]], **more: Any) -> str:
        """The prompt text. BadInput `engine.template` if the template fails or exceeds its limits."""
        if not self._child.started:
            self._start()
        reply = self._exchange(_Request(list(messages), more))
        if reply is None:
            raise BadInput(
                "engine.template",
                f"The chat template was stopped: it took more than {CPU_SECONDS:g} s or {MEMORY_BYTES >> 20} MiB.",
            )
        return _text(reply)

    def close(self) -> None:
        """End the child; safe to repeat."""
        self._child.close()

    def _start(self) -> None:
        reply = self._exchange(self._setup)
        if reply is None:
            raise IntegrityFailure("engine.template", "Compiling the chat template took too long or too much memory.")
        try:
            _text(reply)
        except IntramurosError:
            self.close()
            raise
        self.names = frozenset(reply.names)

    def _exchange(self, frame: _Setup | _Request) -> _Reply | None:
        """The child's reply, or None when it died."""
        body = self._child.ask(msgspec.msgpack.encode(frame))
        return None if body is None else msgspec.msgpack.decode(body, type=_Reply)


def serve(requests: IO[bytes], replies: IO[bytes]) -> None:
    """The child's loop: one reply per frame until the owner closes its end."""
    template: ChatTemplate | None = None
    while (body := read_frame(requests)) is not None:
        with CpuLimit(CPU_SECONDS):
            try:
                if template is None:
                    setup = msgspec.msgpack.decode(body, type=_Setup)
                    template = ChatTemplate(setup.source, bos=setup.bos, eos=setup.eos)
                    reply = _Reply(text="", names=tuple(template.names))
                else:
                    request = msgspec.msgpack.decode(body, type=_Request)
                    reply = _Reply(text=template.render(request.messages, **request.more))
            except IntramurosError as error:
                reply = _Reply(None, error.exit_code, error.code, error.message)
            data = msgspec.msgpack.encode(reply)
        write_frame(replies, data)


def main() -> None:
    """Limit this process, then serve on its standard streams."""
    limit_this_process(MEMORY_BYTES)
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    serve(sys.stdin.buffer, sys.stdout.buffer)


def _text(reply: _Reply) -> str:
    if reply.text is None:
        raise from_exit_code(reply.exit_code, reply.code, reply.message)
    return reply.text


if __name__ == "__main__":
    main()
