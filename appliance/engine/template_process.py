"""The process in which a chat template runs, and the handle its owner holds.

Owns what a template may cost: CPU time and memory. A sandbox cannot stop `"a" * 10**10` or three nested loops, the
kernel can: the child's timer and address-space limit end it wherever it stands; the next request starts a new one.
Invariant: the owner never waits longer than the limits allow.

Wire: u32 big-endian length and msgpack, first `_Setup`, then `_Request` and `_Reply` in turns.
"""

from __future__ import annotations

import contextlib
import resource
import signal
import struct
import subprocess
import sys
from collections.abc import Sequence
from typing import IO, Any, Final

import msgspec

from appliance.engine.template import ChatTemplate
from appliance.kernel.errors import BadInput, IntegrityFailure, IntramurosError, from_exit_code
from appliance.kernel.process import child_environment

CPU_SECONDS: Final = 1.0
MEMORY_BYTES: Final = 512 * 1024 * 1024

_LENGTH: Final = struct.Struct(">I")


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
        self._child: subprocess.Popen[bytes] | None = None
        self.names: frozenset[str] = frozenset()
        """the variables that the template takes"""
        self._start()

    def render(self, messages: Sequence[dict[str, Any]], **more: Any) -> str:
        """The prompt text. BadInput `engine.template` if the template fails or exceeds its limits."""
        child = self._child or self._start()
        reply = _exchange(child, _Request(list(messages), more))
        if reply is None:
            self.close()
            raise BadInput(
                "engine.template",
                f"The chat template was stopped: it took more than {CPU_SECONDS:g} s or {MEMORY_BYTES >> 20} MiB.",
            )
        return _text(reply)

    def close(self) -> None:
        """End the child; safe to repeat."""
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        child.wait()
        for stream in (child.stdin, child.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def _start(self) -> subprocess.Popen[bytes]:
        flags = ["-I"] if sys.flags.isolated else []
        child = subprocess.Popen(
            [sys.executable, *flags, "-m", "appliance.engine.template_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=child_environment(),
            start_new_session=True,
        )
        self._child = child
        reply = _exchange(child, self._setup)
        if reply is None:
            self.close()
            raise IntegrityFailure("engine.template", "Compiling the chat template took too long or too much memory.")
        try:
            _text(reply)
        except IntramurosError:
            self.close()
            raise
        self.names = frozenset(reply.names)
        return child


def serve(requests: IO[bytes], replies: IO[bytes]) -> None:
    """The child's loop: one reply per frame until the owner closes its end."""
    template: ChatTemplate | None = None
    while (body := _read(requests)) is not None:
        with _CpuLimit():
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
        _write(replies, data)


def main() -> None:
    """Limit this process, then serve on its standard streams."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    serve(sys.stdin.buffer, sys.stdout.buffer)


class _CpuLimit:
    """Ends this process by SIGPROF when the block uses more than its CPU time, inside C code too."""

    def __enter__(self) -> None:
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _exchange(child: subprocess.Popen[bytes], frame: Any) -> _Reply | None:
    """The child's reply, or None when it died."""
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        _write(child.stdin, msgspec.msgpack.encode(frame))
    except BrokenPipeError:
        return None
    body = _read(child.stdout)
    return None if body is None else msgspec.msgpack.decode(body, type=_Reply)


def _text(reply: _Reply) -> str:
    if reply.text is None:
        raise from_exit_code(reply.exit_code, reply.code, reply.message)
    return reply.text


def _read(stream: IO[bytes]) -> bytes | None:
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    body = stream.read(length)
    return body if len(body) == length else None


def _write(stream: IO[bytes], body: bytes) -> None:
    stream.write(_LENGTH.pack(len(body)) + body)
    stream.flush()


if __name__ == "__main__":
    main()
