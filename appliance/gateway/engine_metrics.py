"""What the engines count, as Prometheus text: asked for when somebody scrapes, never on a request's path.

Knows frames and sockets, nothing of requests. Names are those of llama-server (`llamacpp:*`) where it has one and those
of OpenTelemetry GenAI (`gen_ai.server.*`, in the spelling of Prometheus) for times, so that existing dashboards work;
the rest is `intramuros_engine_*`. An engine that does not answer is left out, and `intramuros_engine_up` says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from appliance.engine.frames import Ask, Distribution, FrameError, Hello, State, encode, worker_stream
from appliance.engine.speculation import Source

_ANSWER_SECONDS: Final = 2.0

_COUNTERS: Final = (
    ("llamacpp:prompt_tokens", "Prompt tokens computed, without those found in the cache.", "computed_prompt_tokens"),
    ("llamacpp:prompt_tokens_cached", "Prompt tokens found in the prefix cache.", "cached_tokens"),
    ("llamacpp:prompt_seconds", "Time from a request's start to its first token.", "prompt_seconds"),
    ("llamacpp:tokens_predicted", "Tokens generated.", "completion_tokens"),
    ("llamacpp:tokens_predicted_seconds", "Time from a request's first token to its last.", "generation_seconds"),
    ("llamacpp:n_decode", "Engine steps.", "steps"),
    ("llamacpp:spec_decode_num_draft_tokens", "Tokens guessed, by whichever source.", "drafted_tokens"),
    ("llamacpp:spec_decode_num_accepted_tokens", "Guessed tokens that were right.", "accepted_tokens"),
    (
        "intramuros_engine_batch_tokens",
        "Tokens computed; over steps and batch size: how full batches were.",
        "batch_tokens",
    ),
    ("intramuros_engine_evicted_cells", "Cells of ended requests given up for others.", "evicted_cells"),
    ("intramuros_engine_restored_cells", "Cells that came back from the second tier.", "restored_cells"),
    ("intramuros_engine_lost_blocks", "Blocks that the disk did not take, or gave back changed.", "lost_blocks"),
    ("intramuros_engine_preemptions", "Running requests sent back to the queue.", "preempted"),
    ("intramuros_engine_stalls", "Waits for a next token of more than twice the target.", "stalls"),
    ("intramuros_engine_aborted_steps", "Steps given up because their request was cancelled.", "aborted_steps"),
    ("intramuros_engine_draft_seconds", "Time that the draft model computed.", "draft_model_seconds"),
    ("intramuros_engine_requests_finished", "Requests that ended well.", "finished"),
    ("intramuros_engine_requests_failed", "Requests that failed.", "failed"),
    ("intramuros_engine_requests_cancelled", "Requests whose client left.", "cancelled"),
    ("intramuros_engine_requests_refused", "Requests refused because too many of their client waited.", "refused"),
)
_GUESSES: Final = (
    ("intramuros_engine_drafted_tokens", "Tokens guessed.", "drafted_tokens", "draft_model_drafted"),
    ("intramuros_engine_accepted_tokens", "Guessed tokens that were right.", "accepted_tokens", "draft_model_accepted"),
)
"""name, text, all of them, those of the draft model; the others are prompt lookup's"""
_GAUGES: Final = (
    ("llamacpp:requests_processing", "Requests running.", "active"),
    ("llamacpp:requests_deferred", "Requests waiting.", "waiting"),
    ("llamacpp:n_busy_slots_per_decode", "Requests that a step computes, on average.", "streams_per_step"),
    ("llamacpp:n_tokens_max", "Tokens of the longest request, prompt and answer.", "longest"),
    ("intramuros_engine_requests_waiting_batch", "Requests of the batch class waiting.", "waiting_batch"),
    ("intramuros_engine_cells", "KV cells.", "cells"),
    ("intramuros_engine_cells_free", "KV cells that are free or can be freed.", "free_cells"),
    ("intramuros_engine_cells_cached", "KV cells kept for reuse.", "cached_cells"),
    ("intramuros_engine_batch_size", "Most tokens of one step.", "batch"),
    ("intramuros_engine_cache_memory_bytes", "Second tier of the prefix cache, in memory.", "stored_bytes"),
    ("intramuros_engine_cache_disk_bytes", "Second tier of the prefix cache, on disk.", "stored_on_disk"),
)
_TIMES: Final = (
    ("intramuros_engine_step_seconds", "Time of one step.", "step"),
    ("intramuros_engine_queue_seconds", "From a submit to the request's first step.", "queue"),
    ("gen_ai_server_time_to_first_token_seconds", "From a submit to the first token.", "first_token"),
    ("gen_ai_server_time_per_output_token_seconds", "Mean time between a request's tokens.", "per_output_token"),
    ("gen_ai_server_request_duration_seconds", "From a submit to the end of the answer.", "request"),
    ("intramuros_engine_inter_token_seconds", "Time between two tokens of a request.", "inter_token"),
)


async def states(sockets: Mapping[str, Path]) -> dict[str, State | None]:
    """Ask every engine at once, by the model it serves; None for one that does not answer."""
    answers = await asyncio.gather(*(_state(path) for path in sockets.values()))
    return dict(zip(sockets, answers, strict=True))


def exposition(states: Mapping[str, State | None]) -> bytes:
    """Return the metrics of all engines as Prometheus text, labelled by the model."""
    registry = CollectorRegistry()
    registry.register(_States(states))
    return generate_latest(registry)


class _States(Collector):
    def __init__(self, states: Mapping[str, State | None]) -> None:
        self._states = states

    def collect(self) -> Iterator[Metric]:
        """The families, in a fixed order."""
        up = GaugeMetricFamily("intramuros_engine_up", "Whether the engine answers.", labels=["model"])
        for model, state in self._states.items():
            up.add_metric([model], float(state is not None))
        yield up
        known = {model: state for model, state in self._states.items() if state is not None}
        for name, text, field in _COUNTERS:
            counter = CounterMetricFamily(name, text, labels=["model"])
            for model, state in known.items():
                counter.add_metric([model], getattr(state, field))
            yield counter
        for name, text, field, of_draft_model in _GUESSES:
            counter = CounterMetricFamily(name, text, labels=["model", "source"])
            for model, state in known.items():
                guessed = getattr(state, of_draft_model)
                counter.add_metric([model, Source.DRAFT], guessed)
                counter.add_metric([model, Source.LOOKUP], getattr(state, field) - guessed)
            yield counter
        for name, text, field in _GAUGES:
            gauge = GaugeMetricFamily(name, text, labels=["model"])
            for model, state in known.items():
                gauge.add_metric([model], getattr(state, field))
            yield gauge
        for name, text, field in _TIMES:
            histogram = HistogramMetricFamily(name, text, labels=["model"])
            for model, state in known.items():
                times: Distribution | None = getattr(state.times, field, None)
                if times is not None:
                    histogram.add_metric([model], _buckets(times), times.sum)
            yield histogram


def _buckets(times: Distribution) -> Sequence[tuple[str, float]]:
    bounds = [*(repr(bound) for bound in times.bounds), "+Inf"]
    return list(zip(bounds, accumulate(times.counts), strict=True))


async def _state(path: Path) -> State | None:
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            reader, writer = await asyncio.open_unix_connection(str(path))
            try:
                writer.write(encode(Hello()) + encode(Ask()))
                stream = worker_stream()
                while data := await reader.read(1 << 16):
                    for frame in stream.feed(data):
                        if isinstance(frame, State):
                            return frame
            finally:
                writer.close()
    except (OSError, TimeoutError, FrameError):
        return None
    return None
