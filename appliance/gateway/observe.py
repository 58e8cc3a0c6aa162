"""What the gateway leaves behind of each request: one access line and a few metrics. Metadata only.

No prompt, no generated text, no key, no header ever comes here. Label values are bounded: a route is one of ours, a
model is one that is deployed, everything else counts as "other" or "".
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

ACCESS_FILE: Final = "access.jsonl"
_ACCESS_BYTES: Final = 16 << 20
_ACCESS_FILES: Final = 4
_SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


@dataclass(slots=True, kw_only=True)
class Visit:
    """What is known of one request while it runs. Times are seconds of `time.monotonic`; uvloop's clock is coarse."""

    id: str
    at: str
    started: float
    route: str = "other"
    key: str = ""
    model: str = ""
    revision: int = 0
    status: int = 0
    code: str = ""
    """error code, also of an error that came mid-stream"""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    first_token: float | None = None


class AccessLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the access log. Durations are seconds."""

    at: str
    id: str
    route: str
    key: str
    model: str
    revision: int
    status: int
    code: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    ttft: float | None
    duration: float


class Observer:
    """Access log and metrics of one gateway process."""

    def __init__(self, logs: Path) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "intramuros_gateway_requests",
            "Requests answered.",
            ["route", "status", "model"],
            registry=self.registry,
        )
        self._tokens = Counter("intramuros_gateway_tokens", "Tokens.", ["direction", "model"], registry=self.registry)
        self._first = Histogram(
            "intramuros_gateway_time_to_first_token_seconds",
            "From the request's headers to its first text.",
            ["model"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._duration = Histogram(
            "intramuros_gateway_request_duration_seconds",
            "From the request's headers to the end of the answer.",
            ["route", "model"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.in_flight = Gauge("intramuros_gateway_in_flight", "Requests under way.", registry=self.registry)
        self.handshakes = Counter("intramuros_gateway_tls_handshakes", "TLS handshakes done.", registry=self.registry)
        self.slow_clients = Counter(
            "intramuros_gateway_slow_clients", "Clients cut off because they did not read.", registry=self.registry
        )
        self.lost_lines = Counter(
            "intramuros_gateway_access_lines_lost", "Access lines that could not be written.", registry=self.registry
        )
        self._log = _AccessFile(logs / ACCESS_FILE, self.lost_lines)

    def close_visit(self, visit: Visit, now: float) -> None:
        """Record a request that has ended, however it ended."""
        duration = now - visit.started
        ttft = None if visit.first_token is None else visit.first_token - visit.started
        self._requests.labels(visit.route, str(visit.status), visit.model).inc()
        self._duration.labels(visit.route, visit.model).observe(duration)
        if ttft is not None:
            self._first.labels(visit.model).observe(ttft)
        if visit.prompt_tokens or visit.completion_tokens:
            self._tokens.labels("prompt", visit.model).inc(visit.prompt_tokens)
            self._tokens.labels("completion", visit.model).inc(visit.completion_tokens)
        line = AccessLine(
            at=visit.at,
            id=visit.id,
            route=visit.route,
            key=visit.key,
            model=visit.model,
            revision=visit.revision,
            status=visit.status,
            code=visit.code,
            prompt_tokens=visit.prompt_tokens,
            cached_tokens=visit.cached_tokens,
            completion_tokens=visit.completion_tokens,
            ttft=None if ttft is None else round(ttft, 6),
            duration=round(duration, 6),
        )
        self._log.write(msgspec.json.encode(line).decode())

    def exposition(self) -> bytes:
        """Return all metrics as Prometheus text."""
        return generate_latest(self.registry)

    def close(self) -> None:
        """Close the access log."""
        self._log.close()


class _AccessFile(RotatingFileHandler):
    """A bounded file of lines. A full disk costs lines, which are counted, never an answer."""

    def __init__(self, path: Path, lost: Counter) -> None:
        super().__init__(path, maxBytes=_ACCESS_BYTES, backupCount=_ACCESS_FILES, encoding="utf-8", delay=True)
        self._lost = lost

    def write(self, line: str) -> None:
        self.emit(logging.LogRecord("access", logging.INFO, "", 0, line, None, None))

    def handleError(self, record: logging.LogRecord) -> None:
        self._lost.inc()
