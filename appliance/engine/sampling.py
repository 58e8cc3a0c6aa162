"""How one request chooses its next token from a row of logits, by the cheapest means that is exact.

Owns the check of sampling parameters and three tiers: greedy is an argmax over the view; everything else is a chain
of llama.cpp's C samplers (penalties, top-k, top-p, min-p, temperature, seeded draw); log-probabilities are computed
before anything changes the row. Bias and suppressed end tokens are written into it, for nobody reads it again.
A chain belongs to one request, so a seed gives the same draws whoever shares the batch. Under a grammar a token is
drawn first and then tested, which costs a microsecond; only a refused one costs a mask and a second draw. Without a
filter (top-k and its like) both together draw from the same distribution as a mask before every draw would.
"""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass
from typing import Any, Final

import llama_cpp
import numpy as np
import numpy.typing as npt

from appliance.engine.frames import Candidate, Sampling, TokenLogprob
from appliance.engine.grammar import Constraint
from appliance.kernel.errors import BadInput

Row = npt.NDArray[np.float32]

PENALTY_WINDOW: Final = 64
"""Penalties see this many of the latest tokens, prompt included, as in llama.cpp."""

BOUNDED_TOP_K: Final = 1024
"""Put in front of top-p when the request sets no top-k: sorting the whole vocabulary costs milliseconds a token."""

_LEAST_TEMPERATURE: Final = 1e-10
"""Below it a draw could only be the argmax, and llama.cpp, which divides by it, would get infinities."""
_MOST_STOPS: Final = 16
_LONGEST_STOP: Final = 256
_MOST_LOGPROBS: Final = 20
_MOST_BIASES: Final = 1024
_FEW: Final = 4


def check_sampling(params: Sampling, *, vocabulary: int) -> None:
    """Refuse parameters that no tier can honour: BadInput `engine.sampling` or `engine.bias`, naming the field."""
    ranges: dict[str, tuple[float, float]] = {
        "temperature": (0, 100),
        "top_p": (0, 1),
        "min_p": (0, 1),
        "presence_penalty": (-10, 10),
        "frequency_penalty": (-10, 10),
        "repeat_penalty": (0.01, 10),
        "top_k": (0, 2**31 - 1),
    }
    for name, (low, high) in ranges.items():
        value = getattr(params, name)
        if not low <= value <= high:  # also refuses NaN
            raise _refused(name, f"{value} is not between {low:g} and {high:g}")
    if params.max_tokens is not None and params.max_tokens < 1:
        raise _refused("max_tokens", f"{params.max_tokens} is less than 1")
    if params.logprobs is not None and not 0 <= params.logprobs <= _MOST_LOGPROBS:
        raise _refused("logprobs", f"{params.logprobs} is not between 0 and {_MOST_LOGPROBS}")
    if len(params.stop) > _MOST_STOPS or any(not 1 <= len(stop) <= _LONGEST_STOP for stop in params.stop):
        raise _refused("stop", f"at most {_MOST_STOPS} strings of 1 to {_LONGEST_STOP} characters are taken")
    if len(params.logit_bias) > _MOST_BIASES:
        raise _refused("logit_bias", f"more than {_MOST_BIASES} tokens")
    for token, bias in params.logit_bias.items():
        if not 0 <= token < vocabulary or math.isnan(bias):
            raise BadInput(
                "engine.bias", f"logit_bias: token {token} with {bias} cannot be used: ids are 0 to {vocabulary - 1}."
            )


class Sampler:
    """Chooses the tokens of one request. Close it when the request ends: the chain is C memory."""

    def __init__(
        self,
        params: Sampling,
        *,
        vocabulary: int,
        ends: frozenset[int],
        prompt: list[int],
        constraint: Constraint | None = None,
    ) -> None:
        self._chain: Any = _chain(params, vocabulary, prompt)
        self._outside: Any = None
        self._counts_draws = _penalised(params)
        """whether the chain remembers what it drew, so that it may draw once a token only"""
        self.constraint = constraint
        self.logprobs = params.logprobs
        bias = {token: value for token, value in params.logit_bias.items() if value}
        if params.ignore_eos:
            bias |= dict.fromkeys(ends, -math.inf)
        self.recipe = _recipe(params, vocabulary, bias) if constraint is None else None
        """what a chain that other requests may draw from too would have to be; None: it must be this one's own"""
        self.reads_rows = self._chain is None or bool(bias) or constraint is not None or params.logprobs is not None
        """whether it looks at rows of logits itself, beside what llama.cpp's samplers read"""
        self._few = tuple(bias.items()) if len(bias) <= _FEW else ()
        """set one by one, which is cheaper than by an index of a few"""
        self._biased = np.fromiter(bias, np.intp, len(bias))
        self._bias = np.fromiter(bias.values(), np.float32, len(bias))

    def draw_from(self, chain: Any) -> None:
        """From now on take what `chain`, made by this one's `recipe`, drew where the model was computed."""
        self._outside = chain

    def choose(self, row: Row | None, context: Any, index: int) -> int:
        """The next token. `row`, where it `reads_rows`, is the view of `index` in `context`; it may be changed."""
        if self._outside is not None or row is None:
            return int(llama_cpp.llama_sampler_sample(self._outside or self._chain, context, index))
        if self._few:
            for biased, value in self._few:
                row[biased] += value
        elif self._biased.size:
            row[self._biased] += self._bias
        constraint = self.constraint
        if constraint is None:
            return self._draw(row, context, index)
        token = -1 if self._counts_draws else self._draw(row, context, index)
        if token < 0 or not constraint.allows(token):
            constraint.forbid(row)
            token = self._draw(row, context, index)
        constraint.take(token)
        return token

    def _draw(self, row: Row, context: Any, index: int) -> int:
        if self._chain is None:
            return int(row.argmax())
        return int(llama_cpp.llama_sampler_sample(self._chain, context, index))

    def close(self) -> None:
        """Free the chain; safe to repeat."""
        if self._chain is not None:
            llama_cpp.llama_sampler_free(self._chain)
            self._chain = None


class Likelihood:
    """Log-probabilities of one row, taken before the sampler changes it."""

    def __init__(self, row: Row, *, top: int) -> None:
        peak = float(row.max())
        self._normaliser = peak + math.log(float(np.exp(row - peak).sum()))
        self._row = row.copy()
        candidates = np.argpartition(row, -top)[-top:] if top else np.empty(0, np.intp)
        self._top = candidates[np.argsort(-row[candidates], kind="stable")]

    def describe(self, token: int, pieces: list[bytes]) -> TokenLogprob:
        """The chosen token and the most likely ones, most likely first."""
        top = tuple(self._candidate(int(other), pieces) for other in self._top)
        return TokenLogprob(chosen=self._candidate(token, pieces), top=top)

    def _candidate(self, token: int, pieces: list[bytes]) -> Candidate:
        logprob = max(float(self._row[token]) - self._normaliser, -9999.0)  # JSON has no infinity
        data = pieces[token]
        return Candidate(token=token, text=data.decode(errors="replace"), data=data, logprob=logprob)


def _greedy(params: Sampling) -> bool:
    """Whether nothing but the most likely token can be drawn. llama.cpp's min-p of 1 in the graph would leave none."""
    return params.temperature < _LEAST_TEMPERATURE or params.min_p == 1


def _penalised(params: Sampling) -> bool:
    return bool(params.presence_penalty or params.frequency_penalty) or params.repeat_penalty != 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How tokens are drawn by whoever draws so: without a memory of what was drawn, without a seed."""

    vocabulary: int
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    bias: tuple[tuple[int, float], ...]

    def chain(self) -> Any:
        """Make a chain of C samplers; to be freed by whoever asks."""
        stages = [llama_cpp.llama_sampler_init_greedy()]
        if self.temperature > 0:
            draw = llama_cpp.llama_sampler_init_dist(llama_cpp.LLAMA_DEFAULT_SEED)  # a random seed
            stages = [*_filters(self, self.vocabulary), draw]
        if self.bias:
            entries = (llama_cpp.llama_logit_bias * len(self.bias))(*self.bias)
            stages.insert(0, llama_cpp.llama_sampler_init_logit_bias(self.vocabulary, len(self.bias), entries))
        return _chained(stages)


def _recipe(params: Sampling, vocabulary: int, bias: dict[int, float]) -> Recipe | None:
    greedy = _greedy(params)
    if _penalised(params) or params.logprobs is not None or (params.seed is not None and not greedy):
        return None
    return Recipe(
        vocabulary=vocabulary,
        temperature=0.0 if greedy else params.temperature,
        top_k=0 if greedy else params.top_k,
        top_p=1.0 if greedy else params.top_p,
        min_p=0.0 if greedy else params.min_p,
        bias=tuple(sorted(bias.items())),
    )


def _chain(params: Sampling, vocabulary: int, prompt: list[int]) -> Any:
    """A C chain, or None where an argmax does the same."""
    penalised, greedy = _penalised(params), _greedy(params)
    if greedy and not penalised:
        return None
    stages = []
    if penalised:
        stages.append(
            llama_cpp.llama_sampler_init_penalties(
                vocabulary,
                PENALTY_WINDOW,
                params.repeat_penalty,
                params.frequency_penalty,
                params.presence_penalty,
            )
        )
    if greedy:
        stages.append(llama_cpp.llama_sampler_init_greedy())
    else:
        # llama.cpp takes the highest number, LLAMA_DEFAULT_SEED, as a wish for a random seed.
        highest = int(llama_cpp.LLAMA_DEFAULT_SEED)
        seed = secrets.randbelow(highest) if params.seed is None else params.seed % highest
        stages += [*_filters(params, vocabulary), llama_cpp.llama_sampler_init_dist(seed)]
    chain = _chained(stages)
    if penalised:
        for token in prompt[-PENALTY_WINDOW:]:
            llama_cpp.llama_sampler_accept(chain, token)
    return chain


def _filters(params: Sampling | Recipe, vocabulary: int) -> list[Any]:
    """What stands before the draw, for a temperature above 0."""
    stages = []
    top_k = params.top_k or (BOUNDED_TOP_K if params.top_p < 1 else 0)
    if 0 < top_k < vocabulary:
        stages.append(llama_cpp.llama_sampler_init_top_k(top_k))
    if params.top_p < 1:
        stages.append(llama_cpp.llama_sampler_init_top_p(params.top_p, 1))
    if params.min_p > 0:
        stages.append(llama_cpp.llama_sampler_init_min_p(params.min_p, 1))
    if params.temperature != 1:
        stages.append(llama_cpp.llama_sampler_init_temp(params.temperature))
    return stages


def _chained(stages: list[Any]) -> Any:
    options = llama_cpp.llama_sampler_chain_default_params()
    options.no_perf = True
    chain = llama_cpp.llama_sampler_chain_init(options)
    for stage in stages:
        llama_cpp.llama_sampler_chain_add(chain, stage)
    return chain


def _refused(field: str, why: str) -> BadInput:
    return BadInput("engine.sampling", f"The sampling parameter {field} cannot be used: {why}.")
