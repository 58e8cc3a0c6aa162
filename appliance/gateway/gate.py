"""Who comes in: the key of a request against the table, and how many requests may be under way at once.

Pure but for its counters; the clock and the table are passed in. Invariant: whoever entered also leaves.
Who finds no place is told when one gets free: the mean time of the latest requests, over those that hold a place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from time import monotonic
from typing import Final

from appliance.access.keys import id_of, matches
from appliance.engine.frames import Priority
from appliance.gateway.plan import Asker
from appliance.gateway.refusals import model_forbidden, too_many, unauthenticated
from appliance.gateway.table import KeyEntry, Limits

Headers = list[tuple[bytes, bytes]]

_PLACES: Final = {Priority.INTERACTIVE: 1.0, Priority.NORMAL: 0.875, Priority.BATCH: 0.75}
"""Class -> the part of all places that may be taken when it comes: the rest is kept for the classes above it."""
_LATEST_REQUESTS: Final = 16
"""over how many the mean time goes, exponentially weighted"""


def authenticate(headers: Headers, keys: Mapping[str, KeyEntry], now: float) -> KeyEntry:
    """Return the key a request carries. Raises Refusal (401) without ever repeating what was sent."""
    secret = _bearer(headers)
    if secret is None:
        raise unauthenticated("missing_api_key", "No API key was given: send it as 'Authorization: Bearer <key>'.")
    identifier = id_of(secret)
    entry = keys.get(identifier) if identifier is not None else None
    if not matches(secret, entry.hash if entry is not None else None) or entry is None:
        raise unauthenticated("invalid_api_key", "This API key is not known here, or it was revoked.")
    if entry.expires_at is not None and now >= entry.expires_at:
        raise unauthenticated("expired_api_key", f"The API key {entry.id} has expired; ask an operator for a new one.")
    return entry


def require_model(key: KeyEntry, model: str) -> None:
    """Return only if the key may use this model. Raises Refusal (403)."""
    if not may_use(key, model):
        raise model_forbidden(model)


def may_use(key: KeyEntry, model: str) -> bool:
    """Tell whether a key may use a model; a key without a list may use all, one for a model also its adapters."""
    return not key.models or model in key.models or model.partition(":")[0] in key.models


def asker_of(key: KeyEntry) -> Asker:
    """Whom the requests of a key come from, as engines need to know it."""
    return Asker(tenant=key.id, share=key.share_group, priority=Priority[key.priority.upper()])


class Turnstile:
    """Counts the requests under way, together and per key."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self.inside = 0
        self._clock = clock
        self._mean = 0.0
        self._by_key: Counter[str] = Counter()

    @contextmanager
    def pass_through(self, asker: Asker, limits: Limits) -> Iterator[None]:
        """Hold a place for one request. Raises Refusal (429) when there is none for its class or its key."""
        key_id = asker.tenant
        if self.inside >= max(1, int(limits.concurrency * _PLACES[asker.priority])):
            raise too_many(
                "The appliance is answering as many requests as it may; try again in a moment.",
                retry_after=self._mean / self.inside,
            )
        if self._by_key[key_id] >= limits.key_concurrency:
            raise too_many(
                f"The API key {key_id} has {limits.key_concurrency} requests under way, its limit.",
                retry_after=self._mean / self._by_key[key_id],
            )
        began = self._clock()
        self.inside += 1
        self._by_key[key_id] += 1
        try:
            yield
        finally:
            took = self._clock() - began
            self._mean += (took - self._mean) / _LATEST_REQUESTS if self._mean else took
            self.inside -= 1
            self._by_key[key_id] -= 1
            if not self._by_key[key_id]:
                del self._by_key[key_id]


def _bearer(headers: Headers) -> str | None:
    for name, value in headers:
        if name == b"authorization":
            scheme, _, credential = value.decode("latin-1").partition(" ")
            return (credential.strip() or None) if scheme.lower() == "bearer" else None
    return None
