"""S12: what one tenant can learn of another's prompts, by `cached_tokens` and by the time to the first token.

A victim sends secret documents, with and without an adapter. Attackers, each with a key of their own, send what they
guess: the whole document, its beginnings with a right or a wrong continuation, the document under another adapter, and
the document at the very moment at which the victim sends it; first while it lies in the context, then when it has gone
to memory and to disk. One attacker's share group is named like the victim's key, one has another group. A mate in the
victim's group sends the same: what the mate finds proves that there was something to find.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from appliance.access.keys import FreshKey, new_key
from appliance.engine.frames import State
from appliance.gateway.engine_metrics import states
from appliance.gateway.table import KeyEntry
from appliance.kernel.canonical import sha256_file
from appliance.kernel.paths import StatePaths
from benchmarks.comparison import Figure, at_least, at_most
from benchmarks.random_model import write_adapter
from benchmarks.serving_scenarios import Text, measure_words
from benchmarks.serving_sides import SPIN, Side, engine, gateway_before
from benchmarks.sse_load import Answer, Target, complete

SECRETS: Final = 8
TOKENS: Final = 320
CELLS: Final = 4096
SHARES: Final = (0.25, 0.5, 0.75, 1.0)
ADAPTER: Final = "law"
TIMED: Final = 30
_FILLERS: Final = 12
_GROUP: Final = "desk"


@dataclass(slots=True)
class Found:
    """What the probes said."""

    leaked: int = 0
    """cached tokens that an attacker was told of"""
    probes: int = 0
    shared: int = 0
    """probes of the mate that found something"""
    tried: int = 0
    told_apart: float = 0.0
    """0 where times say nothing of what the victim has sent, 1 where they say all"""
    told_apart_in_group: float = 0.0
    restored: list[int] = field(default_factory=list)
    on_disk: int = 0

    def attack(self, answer: Answer) -> None:
        """Count a probe of somebody who must find nothing."""
        self.probes += 1
        self.leaked += answer.cached_tokens

    def share(self, answer: Answer) -> None:
        """Count a probe of the mate."""
        self.tried += 1
        self.shared += answer.cached_tokens > 0

    def figures(self) -> list[Figure]:
        """What is reported."""
        return [
            Figure("S12.leaked", "tokens", at_most(0), [self.leaked]),
            Figure("S12.probes", "probes", at_least(100), [self.probes]),
            Figure("S12.shared", "share", at_least(0.95), [self.shared / self.tried]),
            Figure("S12.time", "told apart", at_most(0.45), [self.told_apart]),
            Figure("S12.time.group", "told apart", at_least(0.9), [self.told_apart_in_group]),
            Figure("S12.restored", "cells", at_least(1), self.restored),
            Figure("S12.disk", "bytes", at_least(1), [self.on_disk]),
        ]


def tenant_figures(work: Path, model: Path, *, threads: int, seed: int = 12) -> list[Figure]:
    """Start a gateway and an engine with one adapter and both lower tiers of the cache, and attack."""
    state, digest = work / "tenants", sha256_file(model)
    adapter = write_adapter(model, work / "adapter.gguf")
    people = _People()

    def worker(socket: Path) -> list[str | Path]:
        argv = engine(model, digest, socket, threads=threads, slots=8, context=CELLS)
        argv += ["--idle-cells", str(CELLS), "--adapter", f"{ADAPTER}={sha256_file(adapter)}={adapter}"]
        return [*argv, "--cache-ram", "1", "--cache-folder", work / "tier", "--cache-disk", "256"]

    with gateway_before(
        state, worker, digest=digest, environment=SPIN, keys=people.entries, adapters=[ADAPTER]
    ) as side:
        return asyncio.run(_Attack(side, people, StatePaths(state), random.Random(seed)).run()).figures()


class _People:
    """The victim, the mate, those who want to know, and those who only take room."""

    def __init__(self) -> None:
        self.entries: list[KeyEntry] = []
        self.victim = self._key(share_group=_GROUP)
        self.mate = self._key(share_group=_GROUP)
        self.attackers = [
            *(self._key() for _ in range(10)),
            self._key(share_group=self.victim.id),
            self._key(share_group="another"),
        ]
        self.filler = self._key()

    def fresh(self) -> FreshKey:
        """An attacker who has sent nothing yet."""
        return self.attackers.pop()

    def _key(self, **more: Any) -> FreshKey:
        key = new_key()
        self.entries.append(KeyEntry(id=key.id, hash=key.hash, name="bench", **more))
        return key


class _Attack:
    """One run against one engine."""

    def __init__(self, side: Side, people: _People, paths: StatePaths, dice: random.Random) -> None:
        self._side = side
        self._people = people
        self._paths = paths
        self._dice = dice
        self._found = Found()
        self._text = Text(1.0)

    async def run(self) -> Found:
        """Attack what lies in the context, then what does not; then try to tell by time."""
        self._text = await measure_words(self._side.target, 0)
        for adapter in ("", ADAPTER):
            secrets = [self._text.of(self._dice, TOKENS) for _ in range(SECRETS)]
            await self._while_in_work(secrets, adapter)
            await self._guess(secrets, adapter)
            await self._fill()
            before = await self._state()
            await self._guess(secrets, adapter)
            after = await self._state()
            self._found.restored.append(after.restored_cells - before.restored_cells)
            self._found.on_disk = max(self._found.on_disk, after.stored_on_disk)
        self._found.told_apart = await self._by_time(self._people.fresh())
        self._found.told_apart_in_group = await self._by_time(self._people.mate)
        return self._found

    async def _while_in_work(self, secrets: list[str], adapter: str) -> None:
        """The same document from both sides at once: it is computed for both, or for the group once."""
        key = self._people.fresh()
        for secret in secrets:
            answers = await asyncio.gather(
                self._ask(self._people.victim, secret, adapter), self._ask(key, secret, adapter)
            )
            self._found.attack(answers[1])

    async def _guess(self, secrets: list[str], adapter: str) -> None:
        """Send beginnings, right and wrong ones, under the same adapter and under the other."""
        keys = [self._people.fresh() for _ in range(2)]
        other = "" if adapter else ADAPTER
        for secret in secrets:
            words = secret.split(" ")
            # No key sends the same beginning twice under one adapter: its own cells would count as a leak.
            share = self._dice.choice(SHARES)
            beginning = " ".join(words[: max(1, round(len(words) * share))])
            self._found.attack(await self._ask(keys[0], f"{beginning} {self._text.of(self._dice, 8)}", adapter))
            self._found.attack(await self._ask(keys[1], secret, adapter))
            self._found.attack(await self._ask(keys[1], secret, other))
            self._found.share(await self._ask(self._people.mate, f"{beginning} and more", adapter))

    async def _fill(self) -> None:
        """Push everything out of the context, and more than memory may keep."""
        for _ in range(_FILLERS):
            prompts = [self._text.of(self._dice, TOKENS) for _ in range(8)]
            await asyncio.gather(*(self._ask(self._people.filler, prompt, "") for prompt in prompts))

    async def _by_time(self, key: FreshKey) -> float:
        """How well times to the first token tell what the victim has sent from what nobody has, from 0 to 1."""
        sent, unsent = [], []
        for _ in range(TIMED):
            secret = self._text.of(self._dice, TOKENS)
            await self._ask(self._people.victim, secret, "")
            sent.append((await self._ask(key, secret, "")).first)
            unsent.append((await self._ask(key, self._text.of(self._dice, TOKENS), "")).first)
        smaller = sum(one < other for one in sent for other in unsent)
        return abs(2 * smaller / (len(sent) * len(unsent)) - 1)

    async def _ask(self, key: FreshKey, prompt: str, adapter: str) -> Answer:
        target: Target = self._side.target
        model = f"{target.model}:{adapter}" if adapter else target.model
        asker = replace(target, model=model, headers={"Authorization": f"Bearer {key.secret}"})
        return await complete(asker, prompt, max_tokens=1)

    async def _state(self) -> State:
        found = (await states({"bench": self._paths.worker_socket(1)}))["bench"]
        if found is None:
            raise RuntimeError("The engine does not answer.")
        return found
