"""What is asked of a server in each serving scenario, and what is read off the answers.

Knows targets, not programs: the same code asks both sides. Prompts are made of random words, so that two runs share
nothing but what a scenario shares on purpose.
"""

from __future__ import annotations

import asyncio
import random
import statistics
from dataclasses import dataclass
from typing import Final

from benchmarks.sse_load import Target, complete, run_load

_WORDS: Final = ("river", "stone", "cloud", "window", "paper", "garden", "light", "sound", "winter", "letter", "bridge")

USERS: Final = 16
STREAMS: Final = 6
FOLLOWERS: Final = 3


@dataclass(frozen=True, slots=True)
class Text:
    """Random prompts of about so many tokens, once it is known how many a word has."""

    tokens_per_word: float

    def of(self, dice: random.Random, tokens: int) -> str:
        """Some words, none of which another call will repeat in this order."""
        words = max(1, round(tokens / self.tokens_per_word) - 4)
        return f"{dice.randrange(10**9)} " + " ".join(dice.choices(_WORDS, k=words))


async def measure_words(target: Target, seed: int) -> Text:
    """Ask once to learn how many tokens a word has."""
    answer = await complete(target, Text(1.0).of(random.Random(seed), 200), max_tokens=1)
    return Text(answer.prompt_tokens / 196)


async def independent(target: Target, text: Text, seed: int, *, streams: int) -> dict[str, float]:
    """S1: prompts that share nothing, in a closed loop."""
    dice = random.Random(seed)
    load = await run_load(target, [text.of(dice, 64) for _ in range(2 * streams)], streams=streams, max_tokens=64)
    return {"rate": load.tokens_per_second}


async def shared_prompt(target: Target, text: Text, seed: int) -> dict[str, float]:
    """S3: 16 users at once with 512 common tokens and some of their own; then 16 others with the same ones."""
    dice = random.Random(seed)
    common = text.of(dice, 512)
    found = {}
    for name in ("cold", "warm"):
        prompts = [f"{common} {text.of(dice, 16)}" for _ in range(USERS)]
        load = await run_load(target, prompts, streams=USERS, max_tokens=32)
        found[f"{name}_first"] = statistics.median(answer.first for answer in load.answers)
        found[f"{name}_rate"] = load.tokens_per_second
    return found


async def busy_document(target: Target, text: Text, seed: int) -> dict[str, float]:
    """S4: while the first user of a document of 1024 tokens gets an answer, others ask about the same document."""
    dice = random.Random(seed)
    document, started = text.of(dice, 1024), asyncio.Event()
    leader = asyncio.create_task(complete(target, document, max_tokens=200, started=started))
    await started.wait()
    asks = [complete(target, f"{document} {text.of(dice, 16)}", max_tokens=16) for _ in range(FOLLOWERS)]
    followers = await asyncio.gather(*asks)
    await leader
    return {"first": statistics.median(answer.first for answer in followers)}


async def long_prompt(target: Target, text: Text, seed: int) -> dict[str, float]:
    """S5: a prompt of 3000 tokens arrives among six streams: their longest wait for a token, and its own wait."""
    dice = random.Random(seed)
    events = [asyncio.Event() for _ in range(STREAMS)]
    streams = [
        asyncio.create_task(complete(target, text.of(dice, 64), max_tokens=150, started=started)) for started in events
    ]
    for started in events:
        await started.wait()
    document = await complete(target, text.of(dice, 3000), max_tokens=8)
    answers = await asyncio.gather(*streams)
    begin, end = document.begun, document.events[0]
    return {"gap": max(answer.longest_gap(begin, end) for answer in answers), "first": document.first}
