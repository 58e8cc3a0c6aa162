"""Counts packets on a bridge: those that leave it, or those that a test asks for.

The count is only worth something when the capture is seen to work: a test sends one packet out and finds it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.boxes.rig.commands import CommandFailed, Outcome, run

_PATIENCE = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """A running tcpdump."""

    process: subprocess.Popen[bytes]
    file: Path

    @classmethod
    def start(cls, tcpdump: Sequence[str], interface: str, wanted: str, file: Path) -> Capture:
        """Start it, and return when it listens."""
        notes = file.with_suffix(".log")
        # One packet, one write: a capture that is ended must not lose its last packets.
        words = [*tcpdump, "-n", "-U", "-i", interface, "-w", str(file), wanted]
        with notes.open("wb") as stream:
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream)
        deadline = time.monotonic() + _PATIENCE
        while b"listening on" not in notes.read_bytes():
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                raise CommandFailed(words, Outcome(status=process.wait(), out="", err=notes.read_text()))
            time.sleep(0.02)
        return cls(process=process, file=file)

    def packets(self) -> list[str]:
        """Return the packets seen so far, one line each."""
        return run(["tcpdump", "-n", "-tttt", "-r", self.file]).out.splitlines()

    def stop(self) -> list[str]:
        """End the capture and return its packets."""
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGINT)
            self.process.wait(timeout=_PATIENCE)
        return self.packets()
