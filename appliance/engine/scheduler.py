"""What the next engine step computes: continuous batching over one unified KV cache.

Owns the waiting requests, the running ones and their cells; knows no model, no socket and no clock (the engine says
how long a step took). Every step: admit, one token for every decoding sequence, then prompts within the budget.
Invariants: a step never needs more cells than are free; of what runs, the oldest of the highest class is never
preempted, so every request ends once no higher class waits.

Terms as in Orca (OSDI 2022), vLLM and Sarathi-Serve (OSDI 2024): iteration-level scheduling, preemption by
recomputation, chunked prefill under a decode-latency target. A *follower* is a request whose prompt begins like one
that is being computed right now; it waits for that prefix instead of computing it twice.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field
from typing import Final

from appliance.engine.fair_queue import FairQueue
from appliance.engine.frames import Priority
from appliance.engine.lanes import BASE, Lanes
from appliance.engine.prefix_cache import SHARE_FROM, PrefixCache, common_prefix
from appliance.engine.prompt_lookup import Lookup
from appliance.engine.speculation import MOST_DRAFTED, Acceptance, Source, worthwhile
from appliance.engine.step_cost import StepCost

_AGREE: Final = 16
"""Steps for which it stays true how long a guess pays: asking takes as long as planning the rest of a step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one context. Cells, batch and micro-batch are tokens; targets are seconds.

    An admitted request reserves `reserve_ratio` of what it may still generate, at least `reserve`, at most its slot's
    share of the cells. A step asks for at most `outputs` rows of logits; those that no stream needs check guesses. A
    tenant may let `tenant_queue` requests wait. Prompts advance by `least_chunk` and get as much of a step's time as
    the streams, whatever the targets say. `decode_target` is the longest step while an interactive request waits for
    its next token, `prompt_target` the longest one otherwise: who arrives meanwhile waits for its end. `StepCost.chunk`
    goes a little beyond them to fill a tile.
    """

    slots: int
    cells: int
    batch: int
    micro: int = 512
    outputs: int = 0
    tenant_queue: int = 128
    reserve: int = 32
    reserve_ratio: float = 0.25
    least_chunk: int = 32
    decode_target: float = 0.2
    prompt_target: float = 1.0


@dataclass(slots=True, eq=False, kw_only=True)
class Sequence:
    """One request as the scheduler sees it.

    `tokens` is the prompt followed by what was generated, `limit` the length at which it ends, `space` who may share
    its cells, `slot` its sequence id while it runs, `claim` the length it was admitted for, `reused` the cells it found
    ready at its first admission, `leader` the prompt in work that it waits for, `lookup` what guesses its next tokens,
    `drafting` how well a draft model does, `adapter` the lane it is computed in; requests of two lanes never name the
    same `space`.
    """

    tenant: str
    tokens: list[int]
    prompt: int
    limit: int
    space: str = ""
    adapter: str = BASE
    priority: Priority = Priority.INTERACTIVE
    slot: int = -1
    computed: int = 0
    claim: int = 0
    reused: int | None = None
    leader: Sequence | None = None
    lookup: Lookup = field(default_factory=Lookup)
    drafting: Acceptance = field(default_factory=Acceptance)

    @property
    def remaining(self) -> int:
        """Tokens whose cells are not computed yet; exactly one while decoding."""
        return len(self.tokens) - self.computed

    @property
    def prefilling(self) -> bool:
        """Whether it runs and its prompt is in work."""
        return self.slot >= 0 and self.remaining > 1


@dataclass(frozen=True, slots=True)
class Chunk:
    """Compute `count` tokens of a sequence from `start`; `last` asks for the next token's logits.

    The last tokens may be guesses, a `draft` of this `source`: then logits are asked for before and after each of them.
    """

    sequence: Sequence
    start: int
    count: int
    last: bool
    draft: tuple[int, ...] = ()
    source: Source = Source.LOOKUP

    @property
    def outputs(self) -> int:
        """Rows of logits asked for."""
        return 1 + len(self.draft) if self.last else 0

    @property
    def piece(self) -> tuple[int, int]:
        """What attention costs depends on: the rows, and the cells before the middle one."""
        return self.count, self.start + self.count // 2

    def tokens(self) -> list[int]:
        """What is computed."""
        own = self.count - len(self.draft)
        return [*self.sequence.tokens[self.start : self.start + own], *self.draft]


@dataclass(slots=True)
class Scheduler:
    """The queue and the running sequences of one context."""

    limits: Limits
    cache: PrefixCache
    cost: StepCost = field(default_factory=StepCost)
    queue: FairQueue = field(default_factory=FairQueue)
    running: list[Sequence] = field(default_factory=list)  # by class, then in order of admission
    preempted: int = 0
    padding: int = 0
    """rows without meaning that the planned step is to be filled up with"""
    lanes: Lanes = field(init=False)
    _best_guess: dict[tuple[int, float], int] = field(default_factory=dict)
    """rows of a step and how likely a guess is right -> how long one that pays X"""
    _steps: int = 0

    def __post_init__(self) -> None:
        self.lanes = Lanes(self.limits.decode_target)

    @property
    def waiting(self) -> int:
        """Requests that are not running."""
        return len(self.queue)

    @property
    def busy(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.running or self.queue)

    def submit(self, sequence: Sequence) -> None:
        """Queue a request behind those of its tenant. Its `limit` must fit into the cells."""
        self.queue.push(sequence)

    def finish(self, sequence: Sequence) -> None:
        """Take a request out, running or waiting; its prefix stays cached for its space."""
        if sequence.slot >= 0:
            self.running.remove(sequence)
            self._leave(sequence)
        else:
            self.queue.remove(sequence)

    def plan(self) -> list[Chunk]:
        """Choose the next step's batch. Empty means that there is nothing to do."""
        self._admit()
        if not self.running:
            return []
        lane = self.lanes.turn({sequence.adapter for sequence in self.running})
        # A lane of newer requests may find no cell; the oldest request's lane always does.
        return self._batch(lane) or self._batch(self.running[0].adapter)

    def _batch(self, lane: str) -> list[Chunk]:
        """The next step of one lane."""
        chunks = self._with_lookups(self._decode_chunks(lane))
        for sequence, share in self._shares(chunks, lane):
            if sequence.slot < 0:
                continue  # preempted for one before it
            planned = sum(chunk.count for chunk in chunks)
            count = min(share, self._room(planned + share, sequence) - planned)
            chunks = [chunk for chunk in chunks if chunk.sequence.slot >= 0]
            if count > 0:
                end = sequence.computed + count
                chunks.append(Chunk(sequence, sequence.computed, count, end == len(sequence.tokens)))
        return self.filled(chunks)

    def filled(self, chunks: list[Chunk]) -> list[Chunk]:
        """Fill a step up to a tile where that is faster: with more of the prompts, then with rows without meaning.

        Or cut a prompt that goes on in the next step, where a few of its rows would begin a tile. A planned step is;
        to be called again when guesses were added to it.
        """
        self.padding = 0
        rows = sum(chunk.count for chunk in chunks)
        if rows == len(chunks):  # a tile for each stream would never be faster
            return chunks
        pieces = [chunk.piece for chunk in chunks]
        surplus = self.cost.surplus(pieces, micro=self.limits.micro)
        for at, chunk in enumerate(chunks):
            if 0 < surplus < chunk.count and not chunk.last:
                chunks[at] = Chunk(chunk.sequence, chunk.start, chunk.count - surplus, last=False)
                surplus = 0
        missing = min(self.cost.missing(pieces, micro=self.limits.micro), self.limits.batch - rows)
        if missing > self.cache.free - rows:
            missing = 0
        for at, chunk in enumerate(chunks):
            sequence, end = chunk.sequence, chunk.start + chunk.count
            more = min(missing, len(sequence.tokens) - end) if not chunk.draft else 0
            if more > 0:
                last = end + more == len(sequence.tokens)
                chunks[at] = Chunk(sequence, chunk.start, chunk.count + more, last)
                missing -= more
        self.padding = missing
        return chunks

    def complete(self, chunks: list[Chunk], seconds: float) -> None:
        """Record that a planned batch was computed in `seconds`. What is right of a draft is told to `accept`."""
        rows, prompts = 0, list[tuple[int, int]]()
        for chunk in chunks:
            sequence, end = chunk.sequence, chunk.start + chunk.count - len(chunk.draft)
            self.cache.extend(sequence.slot, sequence.tokens[chunk.start : end])
            sequence.computed = end
            if chunk.count > 1 and not chunk.draft:
                prompts.append(chunk.piece)
            else:
                rows += chunk.count
            if chunk.last:
                self.queue.charge(sequence.tenant, generated=1)
        prompt_tokens = sum(count for count, _ in prompts) + self.padding
        self.cost.observe(rows=rows, prompt_tokens=prompt_tokens, seconds=seconds, pieces=prompts)
        self.lanes.spend(seconds)

    def accept(self, chunk: Chunk, accepted: int) -> None:
        """Record that the first `accepted` tokens of a draft were right; the sequence holds them by now."""
        sequence = chunk.sequence
        if accepted:
            start = sequence.computed
            self.cache.extend(sequence.slot, sequence.tokens[start : start + accepted])
            sequence.computed += accepted
            self.queue.charge(sequence.tenant, generated=accepted)
        if accepted < len(chunk.draft):
            self.cache.retract(sequence.slot)
        learner = sequence.lookup.acceptance if chunk.source is Source.LOOKUP else sequence.drafting
        learner.learn(drafted=len(chunk.draft), accepted=accepted)

    def room_for_guesses(self, chunks: list[Chunk]) -> int:
        """How many rows more this step may have; none beside a prompt in work, which would have to wait for them."""
        if not chunks or any(sequence.prefilling for sequence in self._of(chunks[0].sequence.adapter)):
            return 0
        rows = sum(chunk.count for chunk in chunks)
        return max(0, min(self.limits.outputs, self.limits.batch, self.cache.free) - rows)

    def spare_seconds(self, chunks: list[Chunk]) -> float:
        """How much longer a step of streams may take for the good of those who wait for it; may be negative."""
        return self._target(chunks) - self.cost.rows(sum(chunk.count for chunk in chunks))

    def shed(self) -> bool:
        """The context found no room after all: give up the cache and the newest request; False if it is the last."""
        self.cache.evict(self.cache.cells)
        if len(self.running) < 2:
            return False
        self._preempt(self.running[-1])
        return True

    def _admit(self) -> None:
        """Fill the slots, requests in turn; one that does not fit yet keeps its turn and holds up later ones."""
        if not self.queue:
            return
        admitted = False
        while (sequence := self._next()) is not None and self._make_place(sequence):
            opened = self.cache.open(sequence.space, sequence.tokens, again=sequence.reused is not None)
            if opened is None:
                break
            self.queue.remove(sequence)
            sequence.slot, sequence.computed = opened
            sequence.claim = self._claim(sequence)
            if sequence.reused is None:
                sequence.reused = sequence.computed
                self.queue.charge(sequence.tenant, prompt=sequence.remaining)
            insort(self.running, sequence, key=_rank)
            admitted = True
        if admitted:
            self.cache.keep_bounds()

    def _next(self) -> Sequence | None:
        """The first waiting request that follows nobody."""
        return next((sequence for sequence in self.queue.in_turn() if not self._follows(sequence)), None)

    def _follows(self, sequence: Sequence) -> bool:
        """Whether a prompt in work will soon leave a clearly longer prefix for this one."""
        if sequence.leader is not None and sequence.leader.prefilling:
            return True
        sequence.leader = None
        if not self.cache.sharing:
            return False
        end = len(sequence.tokens) - 1
        leaders = [other for other in self.running if other.prefilling and other.space == sequence.space]
        if leaders:
            reusable, _ = self.cache.match(sequence.space, sequence.tokens)
            wanted = reusable + SHARE_FROM
            longer = (other for other in leaders if common_prefix(other.tokens, sequence.tokens, 0, end) > wanted)
            sequence.leader = next(longer, None)
        return sequence.leader is not None

    def _make_place(self, sequence: Sequence) -> bool:
        """Whether there is a slot and room for a request, if need be in place of one of a lower class."""
        while not self._fits(sequence):
            if not self.running or self.running[-1].priority <= sequence.priority:
                return False
            self._preempt(self.running[-1])
        return True

    def _fits(self, sequence: Sequence) -> bool:
        if not self.running:
            return True
        reusable, idle = self.cache.match(sequence.space, sequence.tokens)
        claimed = sum(max(0, other.claim - other.computed) for other in self.running)
        needed = self._claim(sequence) - reusable + idle + claimed
        return len(self.running) < self.limits.slots and needed <= self.cache.free + self.cache.evictable

    def _claim(self, sequence: Sequence) -> int:
        """The length a request is admitted for: what is there, and a part of what may come."""
        limits, coming = self.limits, sequence.limit - len(sequence.tokens)
        share = min(int(coming * limits.reserve_ratio), limits.cells // limits.slots)
        return len(sequence.tokens) + min(coming, max(limits.reserve, share))

    def _decode_chunks(self, lane: str) -> list[Chunk]:
        decoding = [sequence for sequence in self._of(lane) if sequence.remaining == 1]
        if self.cache.evict(len(decoding)):
            return [Chunk(sequence, sequence.computed, 1, last=True) for sequence in decoding]
        chunks: list[Chunk] = []
        for sequence in decoding:
            if sequence.slot >= 0 and self._room(len(chunks) + 1, sequence) > len(chunks):
                chunks.append(Chunk(sequence, sequence.computed, 1, last=True))
        return chunks

    def _of(self, lane: str) -> list[Sequence]:
        return [sequence for sequence in self.running if sequence.adapter == lane]

    def _with_lookups(self, chunks: list[Chunk]) -> list[Chunk]:
        """Add guesses where checking them is worth the time; nobody gives up a cell or a prompt token for them."""
        rows, room, best = len(chunks), self.room_for_guesses(chunks), self._best_guess
        self._steps += 1
        if self._steps % _AGREE == 0:
            best.clear()  # what a step costs has changed meanwhile
        for at, chunk in enumerate(chunks):
            if room <= 0:
                break
            sequence = chunk.sequence
            most = min(MOST_DRAFTED, room, sequence.limit - len(sequence.tokens) - 1)
            acceptance = sequence.lookup.acceptance.rate
            if (rows, acceptance) not in best:
                best[rows, acceptance] = worthwhile(self.cost, rows=rows, acceptance=acceptance, most=MOST_DRAFTED)
            most = min(most, best[rows, acceptance])
            draft = sequence.lookup.draft(sequence.tokens, most) if most > 0 else []
            if draft:
                chunks[at] = Chunk(sequence, chunk.start, 1 + len(draft), last=True, draft=tuple(draft))
                rows += len(draft)
                room -= len(draft)
        return chunks

    def _budget(self, decoding: list[Chunk], *, depth: int) -> int:
        """Prompt tokens this step may compute, the oldest prompt behind `depth` cells: the adaptive prefill budget."""
        rows = sum(chunk.count for chunk in decoding)
        # Where the streams alone take the target, small chunks would make all of it slower: each reads every weight.
        longest = max(self._target(decoding), 2 * self.cost.rows(rows))
        chunk = max(self.cost.chunk(longest, rows=rows, depth=depth), self.limits.least_chunk)
        return min(chunk, self.limits.batch - rows)

    def _target(self, decoding: list[Chunk]) -> float:
        """How long a step may take with these streams in it."""
        waited_for = any(chunk.sequence.priority is Priority.INTERACTIVE for chunk in decoding)
        return self.limits.decode_target if waited_for else self.limits.prompt_target

    def _shares(self, decoding: list[Chunk], lane: str) -> list[tuple[Sequence, int]]:
        """Who gets how much of the budget: half for the oldest prompt, the rest to the shortest first.

        So a short question does not wait for a long document before it, and the document always advances. The rest is
        divided as time, in which fewer tokens can be computed of a prompt that has come far.
        """
        prompts = [sequence for sequence in self._of(lane) if sequence.prefilling]
        if not prompts:
            return []
        oldest = prompts[0]
        budget = self._budget(decoding, depth=oldest.computed)
        if budget <= 0:
            return []
        shares = {id(oldest): min(oldest.remaining, (budget + 1) // 2)}
        room = self.limits.batch - sum(chunk.count for chunk in decoding) - shares[id(oldest)]
        seconds = (budget - shares[id(oldest)]) * self.cost.price(oldest.computed)
        for sequence in sorted(prompts, key=lambda sequence: (sequence.priority, sequence.remaining)):
            has = shares.get(id(sequence), 0)
            share = min(self.cost.piece(seconds, depth=sequence.computed, has=has), room, sequence.remaining - has)
            shares[id(sequence)] = has + share
            room -= share
            seconds -= share * self.cost.price(sequence.computed)
        return [(sequence, shares[id(sequence)]) for sequence in prompts if shares[id(sequence)]]

    def _room(self, needed: int, sequence: Sequence) -> int:
        """Free up to `needed` cells for this step by evicting, then by preempting what is newer than `sequence`."""
        while not self.cache.evict(needed) and self.running[-1] is not sequence:
            self._preempt(self.running[-1])
        return min(needed, self.cache.free)

    def _preempt(self, sequence: Sequence) -> None:
        """Return a running request to the head of its queue; it keeps its tokens, and its cells while there is room."""
        self.running.remove(sequence)
        self._leave(sequence)
        self.preempted += 1
        self.queue.push(sequence, first=True)

    def _leave(self, sequence: Sequence) -> None:
        self.cache.close(sequence.slot)
        sequence.slot, sequence.computed = -1, 0


def _rank(sequence: Sequence) -> Priority:
    return sequence.priority
