"""The attempts of a generator, one line each, so that a killed job goes on where it was and gives the same rows.

A line carries a digest of itself; reading ends at the first one that does not verify, and the file is cut there.
Each attempt is a pure function of its number, so nothing but the lines is needed to go on.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from appliance.kernel.canonical import digest_of


class AttemptLog:
    """An append-only log below a job's checkpoints."""

    def __init__(self, file: Path, *, run: str) -> None:
        self._file = file
        self._run = run
        self._count = 0
        self._stream: BinaryIO | None = None

    def read(self) -> Iterator[dict[str, Any]]:
        """Yield what was done before, then open the log for more. Call it once, to its end."""
        whole = 0
        if self._file.exists():
            with self._file.open("rb") as stream:
                for line in stream:
                    entry = self._verified(line)
                    if entry is None:
                        break
                    whole += len(line)
                    self._count += 1
                    yield entry
            os.truncate(self._file, whole)
        self._stream = self._file.open("ab")

    def append(self, entry: dict[str, Any]) -> None:
        """Add an attempt; it outlives this process at once, and a power cut after the next `seal`."""
        stream = self._stream_or_fail()
        stream.write(msgspec.json.encode({"entry": entry, "digest": self._digest(entry)}) + b"\n")
        stream.flush()
        self._count += 1

    def seal(self) -> tuple[int, str]:
        """Bring every attempt to the disk; return how many there are and a digest of that point."""
        stream = self._stream_or_fail()
        stream.flush()
        os.fsync(stream.fileno())
        return self._count, digest_of([self._run, self._count])

    def close(self) -> None:
        """Seal and close."""
        if self._stream is not None:
            self.seal()
            self._stream.close()
            self._stream = None

    def _verified(self, line: bytes) -> dict[str, Any] | None:
        try:
            document = msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.MsgspecError:
            return None
        entry = document.get("entry")
        if not line.endswith(b"\n") or not isinstance(entry, dict) or document.get("digest") != self._digest(entry):
            return None
        return entry if entry.get("attempt") == self._count else None

    def _digest(self, entry: dict[str, Any]) -> str:
        return digest_of([self._run, entry])[:32]

    def _stream_or_fail(self) -> BinaryIO:
        if self._stream is None:
            raise ValueError("read the log before writing to it")
        return self._stream
