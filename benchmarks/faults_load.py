"""Streams that never give up: each request is sent, its end is written down, and the next one follows.

A request ends in one of three ways: with its answer, with an error that says it may be sent again, or lost: cut off,
refused for good, or silent for longer than anybody waits.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Final, Literal

from benchmarks.serving_scenarios import Text
from benchmarks.sse_load import Answer, Refused, Target, complete

PATIENCE: Final = 30.0
"""Seconds after which a request counts as hanging."""
_AGAIN: Final = (0.05, 0.3)
End = Literal["answered", "retryable", "lost"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One request. Times are on `time.perf_counter`."""

    end: End
    begun: float
    ended: float
    answer: Answer | None = None
    why: str = ""


@dataclass(slots=True)
class Streams:
    """A number of clients of one target, each with one request under way until it is told to stop."""

    target: Target
    text: Text
    count: int
    seed: int
    prompt_tokens: int = 64
    max_tokens: int = 64
    attempts: list[Attempt] = field(default_factory=list)
    under_way: int = 0
    _stopping: bool = False
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self) -> None:
        """Begin to send."""
        for number in range(self.count):
            self._tasks.append(asyncio.create_task(self._client(random.Random(self.seed + number))))

    async def stop(self) -> None:
        """Send nothing more and wait for what is under way."""
        self._stopping = True
        await asyncio.gather(*self._tasks)

    def ends(self) -> Counter[End]:
        """How many requests ended in which way."""
        return Counter(attempt.end for attempt in self.attempts)

    async def _client(self, dice: random.Random) -> None:
        while not self._stopping:
            self.under_way += 1
            try:
                attempt = await self._attempt(self.text.of(dice, self.prompt_tokens))
            finally:
                self.under_way -= 1
            self.attempts.append(attempt)
            if attempt.end != "answered":
                await asyncio.sleep(dice.uniform(*_AGAIN))

    async def _attempt(self, prompt: str) -> Attempt:
        begun = time.perf_counter()
        end: End = "lost"
        answer, why = None, ""
        try:
            async with asyncio.timeout(PATIENCE):
                answer = await complete(self.target, prompt, max_tokens=self.max_tokens)
            end = "answered"
        except Refused as refusal:
            end, why = "retryable" if refusal.retryable else "lost", str(refusal)
        except TimeoutError:
            why = f"no end within {PATIENCE:.0f} s"
        except (OSError, ssl.SSLError, asyncio.IncompleteReadError) as error:
            why = f"{type(error).__name__}: {error}"
        return Attempt(end=end, begun=begun, ended=time.perf_counter(), answer=answer, why=why)


def slowest_end(attempts: list[Attempt], faults: list[float]) -> float:
    """The longest that a client waited for bad news: from the fault, or from its own beginning if that was later."""
    waits = [0.0]
    for attempt in attempts:
        if attempt.end != "answered":
            before = [fault for fault in faults if fault <= attempt.ended]
            waits.append(attempt.ended - max([attempt.begun, *before[-1:]]))
    return max(waits)
