"""What the engine counts: totals since the start and histograms of its times, as `State` carries them.

Owns numbers and nothing else; the engine thread alone writes, others read single numbers. Names follow OpenTelemetry's
GenAI conventions where they have one: time to first token, time per output token.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Final

from appliance.engine.frames import Distribution, Times
from appliance.engine.speculation import Source

_STEP: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_TOKEN: Final = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
"""OpenTelemetry's boundaries of gen_ai.server.time_per_output_token."""
_FIRST: Final = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0)
"""OpenTelemetry's boundaries of gen_ai.server.time_to_first_token, and two more for slow machines."""

_REQUEST: Final = tuple(0.01 * 2**power for power in range(14))
"""OpenTelemetry's boundaries of gen_ai.server.request.duration."""

_SMOOTHING: Final = 0.1


class Histogram:
    """Counts values by upper bounds."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def snapshot(self) -> Distribution:
        """The frame."""
        return Distribution(bounds=self._bounds, counts=tuple(self._counts), sum=self._sum)


@dataclass(slots=True)
class Meters:
    """Totals of one engine. Tokens of a prompt that were found ready count as prompt and as cached tokens."""

    stall_after: float
    steps: int = 0
    step_seconds: float = 0.0
    step_streams: int = 0
    batch_tokens: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    prompt_seconds: float = 0.0
    generation_seconds: float = 0.0
    longest: int = 0
    finished: int = 0
    failed: int = 0
    refused: int = 0
    cancelled: int = 0
    aborted_steps: int = 0
    stalls: int = 0
    drafted: dict[Source, int] = field(default_factory=lambda: dict.fromkeys(Source, 0))
    accepted: dict[Source, int] = field(default_factory=lambda: dict.fromkeys(Source, 0))
    service: float = 0.0
    """smoothed seconds from a request's start to its end"""
    _step: Histogram = field(default_factory=lambda: Histogram(_STEP))
    _queue: Histogram = field(default_factory=lambda: Histogram(_FIRST))
    _first: Histogram = field(default_factory=lambda: Histogram(_FIRST))
    _gap: Histogram = field(default_factory=lambda: Histogram(_TOKEN))
    _per_token: Histogram = field(default_factory=lambda: Histogram(_TOKEN))
    _request: Histogram = field(default_factory=lambda: Histogram(_REQUEST))

    def step(self, *, streams: int, tokens: int, seconds: float) -> None:
        """One step was computed for so many requests."""
        self.steps += 1
        self.step_streams += streams
        self.step_seconds += seconds
        self.batch_tokens += tokens
        self._step.observe(seconds)

    def start(self, *, prompt: int, cached: int, waited: float) -> None:
        """A request left the queue for the first time."""
        self.prompt_tokens += prompt
        self.cached_tokens += cached
        self._queue.observe(waited)

    def first_token(self, seconds: float) -> None:
        """A request got its first token, so long after it was submitted."""
        self.completion_tokens += 1
        self._first.observe(seconds)

    def next_token(self, gap: float) -> None:
        """A request got another token."""
        self.completion_tokens += 1
        self._gap.observe(gap)
        self.stalls += gap > self.stall_after

    def guess(self, source: Source, *, drafted: int, accepted: int) -> None:
        """A guess was checked."""
        self.drafted[source] += drafted
        self.accepted[source] += accepted

    def finish(self, *, tokens: int, length: int, queue: float, prompt: float, generation: float) -> None:
        """A request of `length` tokens ended well: seconds before its start, to its first token, and since that one."""
        self.finished += 1
        self.longest = max(self.longest, length)
        self.prompt_seconds += prompt
        self.generation_seconds += generation
        self._request.observe(queue + prompt + generation)
        service = prompt + generation
        self.service += (service - self.service) * (_SMOOTHING if self.service else 1.0)
        if tokens > 1:
            self._per_token.observe(generation / (tokens - 1))

    def times(self) -> Times:
        """The histograms; those of tokens once there was one."""
        tokens = self.completion_tokens > 0
        return Times(
            step=self._step.snapshot(),
            queue=self._queue.snapshot(),
            first_token=self._first.snapshot() if tokens else None,
            inter_token=self._gap.snapshot() if tokens else None,
            per_output_token=self._per_token.snapshot() if tokens else None,
            request=self._request.snapshot(),
        )
