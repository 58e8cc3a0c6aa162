"""A request that was understood, whatever endpoint it came to: what goes to an engine, and how its answer is sent.

The request documents of the endpoints (`chat`, `completions`, `responses`) become a `Plan`; `generation` runs it.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from appliance.engine.frames import Asked, Message, Priority, Sampling, Submit

SEED_SPAN: Final = 1 << 63


class Asker(msgspec.Struct, frozen=True, kw_only=True):
    """Whose request it is, as an engine needs to know it: see `Submit`."""

    tenant: str
    share: str = ""
    priority: Priority = Priority.INTERACTIVE


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """One prompt for the engine: one of `messages`, `text` (with or without a `suffix`) and `tokens`."""

    messages: tuple[Message, ...] | None = None
    text: str | None = None
    suffix: str | None = None
    tokens: tuple[int, ...] | None = None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to do. Choice i answers `queries[i // choices]`."""

    model: str
    queries: tuple[Query, ...]
    choices: int = 1
    sampling: Sampling
    asked: Asked = Asked()
    stream: bool = False
    include_usage: bool = False
    repeated: dict[str, Any] = {}
    """fields of the request that the answer repeats"""
    paths: dict[str, str] = {}
    """field of a chat completion -> its path in this request, where that is another"""

    def submits(self, asker: Asker, *, adapter: str = "") -> list[Submit]:
        """Return what goes to the engine, one frame per choice; each choice of a seeded request has its own seed."""
        frames = []
        for query in self.queries:
            for number in range(self.choices):
                sampling = self.sampling
                if number and sampling.seed is not None:
                    seed = (sampling.seed + number) % SEED_SPAN
                    sampling = msgspec.structs.replace(sampling, seed=seed)
                frames.append(
                    Submit(
                        id=0,
                        tenant=asker.tenant,
                        messages=query.messages,
                        prompt=query.text,
                        tokens=query.tokens,
                        suffix=query.suffix,
                        params=sampling,
                        asked=self.asked,
                        priority=asker.priority,
                        share=asker.share,
                        adapter=adapter,
                    )
                )
        return frames
