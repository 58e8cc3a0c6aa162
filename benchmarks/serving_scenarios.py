"""What is asked of a server in each serving scenario, and what is read off the answers.

Knows targets, not programs: the same code asks both sides. Prompts are made of random words, so that two runs share
nothing but what a scenario shares on purpose.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from benchmarks.sse_load import Answer, Load, Refused, Target, complete, run_load

_WORDS: Final = ("river", "stone", "cloud", "window", "paper", "garden", "light", "sound", "winter", "letter", "bridge")

USERS: Final = 16
STREAMS: Final = 6
FOLLOWERS: Final = 3
BEGINNINGS: Final = 4
SHARING: Final = 0.7
ARRIVALS: Final = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""requests a second"""
ARRIVAL_SECONDS: Final = 15
FIRST_WITHIN: Final = 2.0
TOKEN_WITHIN: Final = 0.2


@dataclass(frozen=True, slots=True)
class Text:
    """Random prompts of about so many tokens, once it is known how many a word has."""

    tokens_per_word: float

    def of(self, dice: random.Random, tokens: int) -> str:
        """Some words, none of which another call will repeat in this order."""
        words = max(1, round(tokens / self.tokens_per_word) - 4)
        return f"{dice.randrange(10**9)} " + " ".join(dice.choices(_WORDS, k=words))


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What one run of a scenario showed: its figures, every answer, how many came at once, and seconds of it all."""

    figures: dict[str, float]
    answers: Sequence[Answer]
    streams: int
    seconds: float

    @property
    def tokens(self) -> int:
        """Tokens of the answers."""
        return sum(answer.tokens for answer in self.answers)


async def measure_words(target: Target, seed: int) -> Text:
    """Ask once to learn how many tokens a word has."""
    answer = await complete(target, Text(1.0).of(random.Random(seed), 200), max_tokens=1)
    return Text(answer.prompt_tokens / 196)


async def independent(target: Target, text: Text, seed: int, *, streams: int) -> Seen:
    """S1: prompts that share nothing, in a closed loop."""
    dice = random.Random(seed)
    load = await run_load(target, [text.of(dice, 64) for _ in range(2 * streams)], streams=streams, max_tokens=64)
    return _of_load(load, streams=streams)


async def shared_prompt(target: Target, text: Text, seed: int) -> Seen:
    """S3: 16 users at once with 512 common tokens and some of their own: never seen before, and served once before."""
    dice = random.Random(seed)
    figures: dict[str, float] = {}
    answers: list[Answer] = []
    seconds = 0.0
    for name in ("cold", "warm"):
        common = text.of(dice, 512)
        if name == "warm":
            first = await complete(target, common, max_tokens=1)
            answers.append(first)
            seconds += first.whole
        prompts = [f"{common} {text.of(dice, 16)}" for _ in range(USERS)]
        load = await run_load(target, prompts, streams=USERS, max_tokens=32)
        figures[f"{name}_first"] = statistics.median(answer.first for answer in load.answers)
        figures[f"{name}_rate"] = load.tokens_per_second
        answers += load.answers
        seconds += load.seconds
    return Seen(figures=figures, answers=answers, streams=USERS, seconds=seconds)


async def busy_document(target: Target, text: Text, seed: int) -> Seen:
    """S4: while the first user of a document of 1024 tokens gets an answer, others ask about the same document."""
    dice = random.Random(seed)
    document, started = text.of(dice, 1024), asyncio.Event()
    begun = time.perf_counter()
    leader = asyncio.create_task(complete(target, document, max_tokens=200, started=started))
    await started.wait()
    asks = [complete(target, f"{document} {text.of(dice, 16)}", max_tokens=16) for _ in range(FOLLOWERS)]
    followers = await asyncio.gather(*asks)
    answers = [await leader, *followers]
    return Seen(
        figures={"first": statistics.median(answer.first for answer in followers)},
        answers=answers,
        streams=len(answers),
        seconds=time.perf_counter() - begun,
    )


async def goodput(target: Target, text: Text, seed: int) -> Seen:
    """S11: requests that come when they come (Poisson), seven of ten with one of a few long beginnings.

    A request is good when its first token comes within 2 s and the others every 200 ms on average. The figure is the
    most good requests a second over rising rates of arrival, as far as a higher rate brings more. One that is told to
    come back later was not good.
    """
    dice = random.Random(seed)
    beginnings = [text.of(dice, 512) for _ in range(BEGINNINGS)]
    best, everything, whole = 0.0, list[Answer](), 0.0
    for rate in ARRIVALS:
        prompts = []
        for _ in range(round(rate * ARRIVAL_SECONDS)):
            shared = dice.random() < SHARING
            prompts.append(f"{dice.choice(beginnings)} {text.of(dice, 32)}" if shared else text.of(dice, 256))
        begun = time.perf_counter()
        answers = await _arrivals(target, prompts, dice, rate)
        good = sum(answer.first <= FIRST_WITHIN and _per_token(answer) <= TOKEN_WITHIN for answer in answers)
        seconds = time.perf_counter() - begun
        everything += answers
        whole += seconds
        found = good / seconds
        if found < best:
            break
        best = found
    return Seen(figures={"goodput": best}, answers=everything, streams=USERS, seconds=whole)


async def _arrivals(target: Target, prompts: list[str], dice: random.Random, rate: float) -> list[Answer]:
    """The answers of those that were not told to come back later."""
    tasks = []
    for prompt in prompts:
        tasks.append(asyncio.create_task(_unless_refused(target, prompt)))
        await asyncio.sleep(dice.expovariate(rate))
    return [answer for answer in await asyncio.gather(*tasks) if answer is not None]


async def _unless_refused(target: Target, prompt: str) -> Answer | None:
    try:
        return await complete(target, prompt, max_tokens=48)
    except Refused as refusal:
        if refusal.retryable:
            return None
        raise


def _per_token(answer: Answer) -> float:
    """Seconds per token after the first (TPOT)."""
    return (answer.whole - answer.first) / max(answer.tokens - 1, 1)


async def chats(target: Target, text: Text, seed: int) -> Seen:
    """S7: 16 streams of chat."""
    dice = random.Random(seed)
    asked = replace(target, chat=True)
    load = await run_load(asked, [text.of(dice, 64) for _ in range(2 * USERS)], streams=USERS, max_tokens=64)
    return _of_load(load, streams=USERS)


async def long_prompt(target: Target, text: Text, seed: int) -> Seen:
    """S5: a prompt of 3000 tokens arrives among six streams: their longest wait for a token, and its own wait."""
    dice = random.Random(seed)
    events = [asyncio.Event() for _ in range(STREAMS)]
    begun = time.perf_counter()
    streams = [
        asyncio.create_task(complete(target, text.of(dice, 64), max_tokens=150, started=started)) for started in events
    ]
    for started in events:
        await started.wait()
    document = await complete(target, text.of(dice, 3000), max_tokens=8)
    answers = await asyncio.gather(*streams)
    begin, end = document.begun, document.events[0]
    return Seen(
        figures={"gap": max(answer.longest_gap(begin, end) for answer in answers), "first": document.first},
        answers=[*answers, document],
        streams=STREAMS,
        seconds=time.perf_counter() - begun,
    )


def _of_load(load: Load, *, streams: int) -> Seen:
    return Seen(figures={"rate": load.tokens_per_second}, answers=load.answers, streams=streams, seconds=load.seconds)
