"""Lines of a text file that may not be text: bounded, numbered, decoded as UTF-8, each fault told by line and byte.

A damaged line still comes out (its bad bytes escaped), because a CSV record may span lines: whoever assembles the
record asks for the damage and sets the whole record aside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO, Final

from appliance.kernel.errors import BadInput

LINE_LIMIT: Final = 8 << 20
"""Longest line that is held, in bytes: a field of the greatest length, JSON-escaped."""
_GIVE_UP = 64 << 20
_PROBE = 1 << 16
_CONTROLS: Final = bytes(byte for byte in range(32) if chr(byte) not in "\t\n\v\f\r\x1b")
_ROWS: Final = "Give a CSV, JSON, JSONL or plain text file in UTF-8."
_BOM = b"\xef\xbb\xbf"
_WIDE_BOMS = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """Why a line is not usable: which, a stable code and the reason."""

    line: int
    code: str
    reason: str

    def reason_in(self, first: int) -> str:
        """Return the reason for a record that begins on line `first`; another line of it is named."""
        return self.reason if self.line == first else f"line {self.line}, {self.reason}"


class Lines:
    """An iterator of decoded lines with their ends. `number` is the line last read, from 1."""

    def __init__(self, stream: BinaryIO, *, name: str) -> None:
        self.number = 0
        self.name = name
        self._stream = stream
        self._damage: Damage | None = None
        _skip_mark(stream)

    def __iter__(self) -> Lines:
        return self

    def __next__(self) -> str:
        raw = self._stream.readline(LINE_LIMIT)
        if not raw:
            raise StopIteration
        self.number += 1
        if len(raw) == LINE_LIMIT and not raw.endswith(b"\n"):
            length = len(raw) + self._discard()
            self._damaged("row.too_long", f"{length} bytes; {LINE_LIMIT} are allowed")
            return "\n"
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            self._damaged(
                "row.encoding",
                f"byte {error.start + 1}: 0x{raw[error.start]:02x} is not UTF-8",
            )
            return raw.decode(errors="replace")

    def take_damage(self) -> Damage | None:
        """Return the first fault since the last call, and forget it."""
        damage, self._damage = self._damage, None
        return damage

    def _damaged(self, code: str, reason: str) -> None:
        self._damage = self._damage or Damage(line=self.number, code=code, reason=reason)

    def _discard(self) -> int:
        length = 0
        while piece := self._stream.readline(_PROBE):
            length += len(piece)
            if piece.endswith(b"\n"):
                break
            if length > _GIVE_UP:
                raise BadInput(
                    "dataset.not_text",
                    f"{self.name} has a line {self.number} of more than {_GIVE_UP >> 20} MiB and is no file of rows.",
                    hint=_ROWS,
                )
        return length


def require_text(stream: BinaryIO, *, name: str) -> None:
    """Raise BadInput `dataset.encoding` or `dataset.not_text` for a file that plainly is not UTF-8 text."""
    start = stream.read(_PROBE)
    stream.seek(0)
    if start.startswith(_WIDE_BOMS):
        raise BadInput(
            "dataset.encoding", f"{name} is UTF-16 or UTF-32 text.", hint="Save it as UTF-8 and import it again."
        )
    unprinted = len(start) - len(start.translate(None, _CONTROLS))
    if unprinted > max(16, len(start) // 100):
        raise BadInput(
            "dataset.not_text",
            f"{name} is not text: {unprinted} of its first {len(start)} bytes are control characters.",
            hint=_ROWS,
        )


def _skip_mark(stream: BinaryIO) -> None:
    if stream.read(len(_BOM)) != _BOM:
        stream.seek(0)
