"""How long a step will take: what the prefill budget and speculation decide by.

Pure arithmetic on measured steps. A step has `rows` single tokens and some prompt tokens. Its time is a curve over the
rows, measured when the model is loaded and corrected by every step, plus a price for each prompt token, plus what
attention takes for the cells before it: 120 tokens behind 3000 others take twice as long as the first 120.

On a processor llama.cpp computes the attention of `TILE` rows or more as matrix products, that of fewer cell by cell:
60 prompt tokens behind 1000 others took four times as long as 64. So a step may be worth filling up.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import Final

TILE: Final = 64
"""Rows from which a micro-batch is computed in tiles (GGML_FA_TILE_Q)."""
_SMOOTHING: Final = 0.2
_LEAST_PROMPT: Final = 16
"""Fewer prompt tokens say too little about the price of one."""
_STRETCH: Final = 1.25
"""A prompt's part of a step may be longer than it should by this, where that fills a tile up."""
_MOST_ERROR: Final = 4.0
"""What one step can say at most, in predicted times: a machine that was suspended says nothing about the price."""
_LEAST_PRICE: Final = 1e-9
_ROUNDING: Final = 1e-6
"""Tokens: a time that was computed from so many of them is that of so many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """Seconds that attention takes for each cell before a row: of one row alone, and of a tile as a whole."""

    row: float = 0.0
    tile: float = 0.0


class StepCost:
    """Seconds of a step. `curve` gives some numbers of rows and the seconds of a step with that many."""

    def __init__(
        self, *, token: float = 0.001, curve: dict[int, float] | None = None, attention: Attention | None = None
    ) -> None:
        self.token = max(token, _LEAST_PRICE)
        self._attention = attention or Attention()
        self._rows = sorted(curve or {1: 0.0})
        self._seconds = [(curve or {1: 0.0})[rows] for rows in self._rows]

    def rows(self, rows: int) -> float:
        """Seconds of a step of `rows` tokens, one for each stream; beyond the curve's end in proportion."""
        if rows <= 0:
            return 0.0
        at = bisect_left(self._rows, rows)
        if at == len(self._rows):
            return self._seconds[-1] * rows / self._rows[-1]
        if at == 0 or self._rows[at] == rows:
            return self._seconds[at]
        left, right = self._rows[at - 1], self._rows[at]
        share = (rows - left) / (right - left)
        return self._seconds[at - 1] * (1 - share) + self._seconds[at] * share

    def observe(self, *, rows: int, prompt_tokens: int, seconds: float, pieces: Sequence[tuple[int, int]] = ()) -> None:
        """Learn from one finished step; `pieces` are the tokens of each prompt and the cells before the middle one.

        The error is shared out by normalised least mean squares (Widrow, Hoff 1960), each price in its own scale.
        """
        if not prompt_tokens:
            self._correct(rows, seconds)
        elif prompt_tokens >= _LEAST_PROMPT:
            tokens = self.token * prompt_tokens
            tiles = alone = 0.0
            if rows + prompt_tokens >= TILE:
                tiles = self._attention.tile * sum(max(1.0, count / TILE) * depth for count, depth in pieces)
            else:
                alone = self._attention.row * sum(count * depth for count, depth in pieces)
            error = min(seconds - self.rows(rows) - alone - tokens - tiles, _MOST_ERROR * (tokens + tiles))
            error = max(error, -tokens - tiles)
            step = _SMOOTHING * error / (tokens**2 + tiles**2)
            self.token = max(self.token * (1 + step * tokens), _LEAST_PRICE)
            self._attention = replace(self._attention, tile=self._attention.tile * (1 + step * tiles))

    def chunk(self, target: float, *, rows: int, depth: int = 0) -> int:
        """The most tokens of a prompt behind `depth` others that keep a step with `rows` others under `target` seconds.

        A few more where that fills a tile; may be negative.
        """
        left = target - self.rows(rows)
        growth, price = self._attention.tile / (2 * TILE), self.price(depth)
        if left <= 0 or not growth:
            return int(left / price)
        count = int((sqrt(price**2 + 4 * growth * left) - price) / (2 * growth))
        over = (count + rows) % TILE
        full = count + TILE - over
        return full if over and full * (price + growth * full) <= _STRETCH * left else count

    def piece(self, seconds: float, *, depth: int, has: int = 0) -> int:
        """How many tokens of another prompt behind `depth` cells take that long, beside `has` that are in the step.

        Of less than a tile each row costs its token and all together the whole tile: of a deep prompt that may be none.
        """
        count = seconds / self.price(depth)
        if has + count < TILE and not has:
            count = (seconds - depth * self._attention.tile) / self.token
        return max(0, int(count + _ROUNDING))

    def price(self, depth: int) -> float:
        """Seconds of one more prompt token behind `depth` others."""
        return self.token + depth * self._attention.tile / TILE

    def missing(self, pieces: Sequence[tuple[int, int]], *, micro: int) -> int:
        """How many rows to add to a step so that its last micro-batch (of `micro` rows) is a tile; 0 if that is slower.

        `pieces` are the rows of each sequence and the cells before the middle one, in the order of the batch.
        """
        last = sum(rows for rows, _ in pieces) % micro
        if micro < TILE or not 0 < last < TILE:
            return 0
        alone, tiled, left = 0.0, 0.0, last
        for rows, depth in reversed(pieces):
            taken = min(rows, left)
            alone += taken * depth * self._attention.row
            tiled += depth * self._attention.tile
            left -= taken
            if not left:
                break
        return TILE - last if alone > tiled + (TILE - last) * self.token else 0

    def surplus(self, pieces: Sequence[tuple[int, int]], *, micro: int) -> int:
        """How many prompt rows to leave to the next step because they would begin a tile; 0 where that is slower.

        A smaller step is one of more, and each computes the streams' own rows. See `missing` for `pieces`.
        """
        total = sum(rows for rows, _ in pieces)
        last = total % micro or micro
        over = last % TILE
        if total < TILE or last < TILE or not over:
            return 0
        saved = pieces[-1][1] * self._attention.tile * (1 - over / TILE)
        return over if saved > over / total * self.rows(sum(rows == 1 for rows, _ in pieces)) else 0

    def _correct(self, rows: int, seconds: float) -> None:
        """Move the nearest known point of the curve by a part of the error."""
        if rows <= 0:
            return
        nearest = bisect_left(self._rows, rows, hi=len(self._rows) - 1)
        if nearest and rows - self._rows[nearest - 1] <= self._rows[nearest] - rows:
            nearest -= 1
        predicted = self.rows(rows)
        error = seconds - predicted
        if predicted:
            error = min(error, _MOST_ERROR * predicted)
        share = min(1.0, self._rows[nearest] / rows)  # beyond the curve's end an error is that of so many points
        self._seconds[nearest] = max(0.0, self._seconds[nearest] + _SMOOTHING * error * share)
