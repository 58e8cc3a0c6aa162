"""What the next engine step computes: continuous batching over one unified KV cache.

Owns the waiting requests, the running ones and their cells; knows no model, no socket and no clock (the engine says
how long a step took). Every step: admit, one token for every decoding sequence, then prompts within the budget.
Invariants: a step never needs more cells than are free; the oldest running sequence is never preempted, so every
request ends; a tenant waits at most for one admission of each other tenant.

Terms as in Orca (OSDI 2022), vLLM and Sarathi-Serve (OSDI 2024): iteration-level scheduling, preemption by
recomputation, chunked prefill under a decode-latency target. A *follower* is a request whose prompt begins like one
that is being computed right now; it waits for that prefix instead of computing it twice.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from appliance.engine.prefix_cache import SHARE_FROM, Move, PrefixCache, common_prefix

_SMOOTHING: Final = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one context. Cells and batch are tokens; targets are seconds.

    `idle_cells` bounds what finished requests may leave for reuse. `reserve` cells are kept for the answer of an
    admitted request; a prompt advances by `least_chunk` whatever the targets say. `decode_target` is the longest
    step while anyone waits for a next token, `prompt_target` the longest one otherwise, so that cancelling stays
    quick.
    """

    slots: int
    cells: int
    batch: int
    sequences: int
    idle_cells: int | None = None
    reserve: int = 128
    least_chunk: int = 32
    decode_target: float = 0.2
    prompt_target: float = 1.0


@dataclass(slots=True, eq=False, kw_only=True)
class Sequence:
    """One request as the scheduler sees it.

    `tokens` is the prompt followed by what was generated, `limit` the length at which it ends, `slot` its sequence id
    while it runs, `claim` the length it was admitted for, `reused` the cells it found ready at its first admission.
    """

    tenant: str
    tokens: list[int]
    prompt: int
    limit: int
    slot: int = -1
    computed: int = 0
    claim: int = 0
    reused: int | None = None

    @property
    def remaining(self) -> int:
        """Tokens whose cells are not computed yet; exactly one while decoding."""
        return len(self.tokens) - self.computed


@dataclass(frozen=True, slots=True)
class Chunk:
    """Compute `count` tokens of a sequence from `start`; `last` asks for the next token's logits."""

    sequence: Sequence
    start: int
    count: int
    last: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """One step: first the moves in order, then one batch."""

    moves: list[Move]
    chunks: list[Chunk]


@dataclass(slots=True)
class StepCost:
    """Predicts a step: `decode` seconds for the decoding part and `token` seconds for each prompt token."""

    decode: float = 0.0
    token: float = 0.001

    def observe(self, *, decoding: int, prompt_tokens: int, seconds: float) -> None:
        """Learn from one finished step."""
        if not prompt_tokens:
            self.decode += _SMOOTHING * (seconds - self.decode)
        elif prompt_tokens >= SHARE_FROM:
            share = max(0.0, seconds - (self.decode if decoding else 0.0)) / prompt_tokens
            self.token += _SMOOTHING * (share - self.token)

    def chunk(self, target: float, *, decoding: int) -> int:
        """The most prompt tokens that keep the step under `target` seconds; may be negative."""
        return int((target - (self.decode if decoding else 0.0)) / max(self.token, 1e-9))


@dataclass(slots=True)
class Scheduler:
    """The queue and the running sequences of one context."""

    limits: Limits
    cache: PrefixCache
    cost: StepCost = field(default_factory=StepCost)
    running: list[Sequence] = field(default_factory=list)  # in order of admission
    preempted: int = 0
    _waiting: dict[str, deque[Sequence]] = field(default_factory=dict)  # tenants in order of their turn
    _moves: list[Move] = field(default_factory=list)

    @property
    def waiting(self) -> int:
        """Requests that are not running."""
        return sum(map(len, self._waiting.values()))

    @property
    def busy(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.running or self._waiting)

    def submit(self, sequence: Sequence) -> None:
        """Queue a request behind those of its tenant. Its `limit` must fit into the cells."""
        self._waiting.setdefault(sequence.tenant, deque()).append(sequence)

    def finish(self, sequence: Sequence) -> None:
        """Take a request out, running or waiting; its prefix stays cached for its tenant."""
        if sequence.slot >= 0:
            self.running.remove(sequence)
            self._leave(sequence)
        else:
            self._unqueue(sequence)

    def plan(self) -> Plan:
        """Choose the next step. An empty batch means that there is nothing to do."""
        self._admit()
        chunks = self._decode_chunks()
        budget = self._budget(decoding=len(chunks))
        for sequence in list(self.running):
            if sequence.slot >= 0 and sequence.remaining > 1 and budget > 0:
                planned = sum(chunk.count for chunk in chunks)
                wanted = min(sequence.remaining, budget)
                count = min(wanted, self._room(planned + wanted, sequence) - planned)
                chunks = [chunk for chunk in chunks if chunk.sequence.slot >= 0]
                if count > 0:
                    end = sequence.computed + count
                    chunks.append(Chunk(sequence, sequence.computed, count, end == len(sequence.tokens)))
                    budget -= count
        moves, self._moves = self._moves, []
        return Plan(moves, chunks)

    def complete(self, plan: Plan, seconds: float) -> None:
        """Record that the batch of `plan` was computed in `seconds`."""
        decoding = prompt_tokens = 0
        for chunk in plan.chunks:
            sequence, end = chunk.sequence, chunk.start + chunk.count
            self.cache.extend(sequence.slot, sequence.tokens[chunk.start : end])
            sequence.computed = end
            if chunk.count > 1:
                prompt_tokens += chunk.count
            else:
                decoding += 1
        self.cost.observe(decoding=decoding, prompt_tokens=prompt_tokens, seconds=seconds)

    def shed(self) -> bool:
        """The context found no room after all: give up the cache and the newest request; False if it is the last."""
        self.cache.evict(self.cache.cells, self._moves)
        if len(self.running) < 2:
            return False
        self._preempt(self.running[-1])
        return True

    def _admit(self) -> None:
        """Fill the slots, tenants in turn; a request that does not fit yet keeps its turn and holds up later ones."""
        turns = deque(self._waiting)
        while turns and len(self.running) < self.limits.slots:
            tenant = turns.popleft()
            sequence = self._waiting[tenant][0]
            reusable, idle = self.cache.match(tenant, sequence.tokens)
            if self._follows(sequence, reusable):
                continue
            claim = min(sequence.limit, len(sequence.tokens) + self.limits.reserve)
            claimed = sum(max(0, other.claim - other.computed) for other in self.running)
            if self.running and claim - reusable + idle + claimed > self.cache.free + self.cache.evictable:
                return
            opened = self.cache.open(tenant, sequence.tokens, self._moves)
            if opened is None:
                return
            self._unqueue(sequence)
            self.running.append(sequence)
            sequence.slot, sequence.computed = opened
            sequence.claim = claim
            if sequence.reused is None:
                sequence.reused = sequence.computed
            if tenant in self._waiting:
                self._waiting[tenant] = self._waiting.pop(tenant)
                turns.append(tenant)

    def _follows(self, sequence: Sequence, reusable: int) -> bool:
        """Whether a prompt in work will soon leave a clearly longer prefix for this one."""
        if not self.cache.sharing:
            return False
        end = len(sequence.tokens) - 1
        return any(
            common_prefix(leader.tokens, sequence.tokens, 0, end) > reusable + SHARE_FROM
            for leader in self.running
            if leader.remaining > 1 and leader.tenant == sequence.tenant
        )

    def _decode_chunks(self) -> list[Chunk]:
        chunks: list[Chunk] = []
        for sequence in list(self.running):
            if sequence.slot >= 0 and sequence.remaining == 1 and self._room(len(chunks) + 1, sequence) > len(chunks):
                chunks.append(Chunk(sequence, sequence.computed, 1, last=True))
        return chunks

    def _budget(self, *, decoding: int) -> int:
        """Prompt tokens this step may compute: the adaptive prefill budget."""
        target = self.limits.decode_target if decoding else self.limits.prompt_target
        chunk = max(self.cost.chunk(target, decoding=decoding), self.limits.least_chunk)
        return min(chunk, self.limits.batch - decoding)

    def _room(self, needed: int, sequence: Sequence) -> int:
        """Free up to `needed` cells for this step by evicting, then by preempting what is newer than `sequence`."""
        while not self.cache.evict(needed, self._moves) and self.running[-1] is not sequence:
            self._preempt(self.running[-1])
        return min(needed, self.cache.free)

    def _preempt(self, sequence: Sequence) -> None:
        """Return a running request to the head of the queue; it keeps its tokens and computes them again."""
        self.running.remove(sequence)
        self._leave(sequence)
        self.preempted += 1
        queue = self._waiting.pop(sequence.tenant, deque())
        queue.appendleft(sequence)
        self._waiting = {sequence.tenant: queue, **self._waiting}

    def _leave(self, sequence: Sequence) -> None:
        self.cache.close(sequence.slot, self._moves)
        sequence.slot, sequence.computed = -1, 0

    def _unqueue(self, sequence: Sequence) -> None:
        queue = self._waiting[sequence.tenant]
        queue.remove(sequence)
        if not queue:
            del self._waiting[sequence.tenant]
