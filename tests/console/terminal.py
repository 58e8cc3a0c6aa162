"""The real console process in a real pseudo-terminal, against the fake appliance on a real socket."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import pyte

from tests.console.fake_client import FakeAppliance
from tests.console.fake_server import serve

ROOT = Path(__file__).parents[2]
DEADLINE = 20.0
_COLOUR = re.compile(rb"\x1b\[([\d;]*)m")


@contextmanager
def served(socket: Path, appliance: FakeAppliance) -> Iterator[None]:
    """Serve the fake appliance from a thread of this process."""
    loop = asyncio.new_event_loop()
    ready = threading.Event()

    async def run() -> None:
        listening = asyncio.Event()
        task = asyncio.create_task(serve(socket, appliance, listening))
        await listening.wait()
        ready.set()
        await task

    task = loop.create_task(run())

    def turn() -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(task)
        except asyncio.CancelledError:
            rest = asyncio.all_tasks(loop)
            for one in rest:
                one.cancel()
            loop.run_until_complete(asyncio.gather(*rest, return_exceptions=True))

    thread = threading.Thread(target=turn)
    thread.start()
    assert ready.wait(DEADLINE)
    try:
        yield
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join(DEADLINE)
        loop.close()


class Terminal:
    """One console process, or another program of ours; `sent` is every byte that it sent."""

    def __init__(
        self,
        where: Path,
        *flags: str,
        term: str,
        size: tuple[int, int] = (80, 24),
        program: tuple[str, ...] = ("tui", "--socket"),
        **environ: str,
    ) -> None:
        self.sent = b""
        self._screen = pyte.Screen(*size)
        self._stream = pyte.ByteStream(self._screen)
        self._near, self._far = pty.openpty()
        self.set_size(*size)
        self.before = termios.tcgetattr(self._far)
        known = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        self.begun = time.monotonic()
        self.process = subprocess.Popen(
            # Whoever started the tests in the background made them ignore Ctrl-C; a login does not.
            ["env", "--default-signal=INT", sys.executable, "-m", *program, str(where), *flags],
            cwd=ROOT,
            env={**known, "TERM": term, "LANG": "C.UTF-8", **environ},
            stdin=self._far,
            stdout=self._far,
            stderr=self._far,
            start_new_session=True,
        )

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(DEADLINE)
        os.close(self._near)
        os.close(self._far)

    def set_size(self, columns: int, rows: int) -> None:
        """Change the terminal's size, as a window does."""
        fcntl.ioctl(self._far, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self._screen.resize(rows, columns)
        if hasattr(self, "process"):
            self.process.send_signal(signal.SIGWINCH)

    def type(self, keys: str) -> None:
        """Type keys."""
        os.write(self._near, keys.encode())

    @property
    def text(self) -> str:
        """What is on the screen."""
        return "\n".join(row.rstrip() for row in self._screen.display)

    def shows(self, *wanted: str) -> str:
        """Read until every text is on the screen."""
        end = time.monotonic() + DEADLINE
        while not all(text in self.text for text in wanted):
            assert time.monotonic() < end, f"never: {wanted}\n{self.text}\n{self.sent[-2000:]!r}"
            self._read(0.2)
        return self.text

    def until(self, condition: Callable[[], bool]) -> None:
        """Read until something is so."""
        end = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < end, f"never\n{self.text}"
            self._read(0.1)

    def settle(self, seconds: float) -> None:
        """Read for so long, whatever comes."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._read(left)

    def ends(self) -> int:
        """Read until the process has ended; return its exit code."""
        end = time.monotonic() + DEADLINE
        while self.process.poll() is None:
            assert time.monotonic() < end, f"did not end\n{self.text}"
            self._read(0.1)
        while self._read(0.0):
            continue
        return self.process.returncode

    def modes(self) -> list[object]:
        """The terminal's settings now."""
        return termios.tcgetattr(self._far)

    def colours(self) -> int:
        """How many colour codes were sent."""
        count = 0
        for found in _COLOUR.finditer(self.sent):
            numbers = [int(number or 0) for number in found.group(1).split(b";")]
            count += any(30 <= n <= 38 or 40 <= n <= 48 or 90 <= n <= 107 for n in numbers)
        return count

    def _read(self, wait: float) -> bool:
        if not select.select([self._near], [], [], wait)[0]:
            return False
        data = os.read(self._near, 65536)
        self.sent += data
        self._stream.feed(data)
        return True
