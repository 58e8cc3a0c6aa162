"""A child process that computes what a stranger wrote, and the limits it puts on itself.

The kernel's limits end it wherever it stands, inside C code too: CPU time for each request, address space in all. Its
owner then gets no reply and starts a new one with the next request. Invariant: the owner waits no longer than it takes
the child to use its CPU time up.

Wire: u32 big-endian length and a body, one each way in turns.
"""

from __future__ import annotations

import contextlib
import resource
import signal
import struct
import subprocess
import sys
from typing import IO, Final

from appliance.kernel.process import child_environment

_LENGTH: Final = struct.Struct(">I")


class LimitedChild:
    """The owner's end of `python -m MODULE ARGUMENTS`. Not for use by two threads at once."""

    def __init__(self, module: str, *arguments: str) -> None:
        self._argv = ["-m", module, *arguments]
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def started(self) -> bool:
        """Whether there is a child; a new one must be told again what the last one knew."""
        return self._child is not None

    def ask(self, body: bytes) -> bytes | None:
        """The child's reply, or None when it died of the request. Starts a child if there is none."""
        child = self._child or self._start()
        assert child.stdin is not None
        assert child.stdout is not None
        reply = None
        with contextlib.suppress(BrokenPipeError):
            write_frame(child.stdin, body)
            reply = read_frame(child.stdout)
        if reply is None:
            self.close()
        return reply

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
        self._child = subprocess.Popen(
            [sys.executable, *flags, *self._argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=child_environment(),
            start_new_session=True,
        )
        return self._child


class CpuLimit:
    """In the child: ends it by SIGPROF when the block uses more than its CPU time, inside C code too."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        signal.setitimer(signal.ITIMER_PROF, self._seconds)

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)


def limit_this_process(memory: int) -> None:
    """In the child, first of all: bound its address space (bytes), let it write no file and leave no core."""
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)


def read_frame(stream: IO[bytes]) -> bytes | None:
    """The next frame's body, or None at the end of the stream."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    body = stream.read(length)
    return body if len(body) == length else None


def write_frame(stream: IO[bytes], body: bytes) -> None:
    """Send one frame."""
    stream.write(_LENGTH.pack(len(body)) + body)
    stream.flush()
