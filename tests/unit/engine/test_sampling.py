from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest

from appliance.engine.frames import Sampling
from appliance.engine.llama_context import LlamaContext, LlamaModel
from appliance.engine.sampling import Likelihood, Row, Sampler, check_sampling
from appliance.engine.scheduler import Chunk, Sequence
from appliance.kernel.errors import BadInput


@pytest.fixture(scope="module")
def context(model: LlamaModel) -> LlamaContext:
    return LlamaContext(model, cells=512, batch=512, ubatch=512, sequences=4, threads=1)


@pytest.fixture
def row(context: LlamaContext) -> Iterator[tuple[Row, int]]:
    """Logits after a short prompt, and their batch index."""
    context.clear()
    tokens = [40, 41, 42, 43]
    sequence = Sequence(tenant="t", tokens=tokens, prompt=4, limit=100, slot=0)
    outputs = context.decode([Chunk(sequence, 0, 4, last=True)])
    assert outputs == [3]
    yield context.logits(1)[0], 3
    context.clear()


def _choose(
    model: LlamaModel, context: LlamaContext, row: tuple[Row, int], params: Sampling, *, times: int = 1
) -> list[int]:
    sampler = Sampler(params, vocabulary=model.vocabulary, ends=model.ends, prompt=[40, 41, 42, 43])
    try:
        return [sampler.choose(row[0], context.handle, row[1]) for _ in range(times)]
    finally:
        sampler.close()


def test_greedy_is_the_argmax_in_every_tier(model: LlamaModel, context: LlamaContext, row: tuple[Row, int]) -> None:
    best = int(row[0].argmax())
    for params in (
        Sampling(temperature=0.0),
        Sampling(temperature=0.0, frequency_penalty=1e-6),
        Sampling(temperature=1.0, top_k=1),
        Sampling(temperature=0.01, top_p=0.01),
        Sampling(temperature=1e-40, seed=1),
        Sampling(temperature=1e-40, frequency_penalty=1e-6),
        Sampling(temperature=3.0, min_p=1.0),
    ):
        assert _choose(model, context, row, params) == [best]


def test_seed_repeats_the_draws(model: LlamaModel, context: LlamaContext, row: tuple[Row, int]) -> None:
    hot = Sampling(temperature=3.0, seed=5)
    first = _choose(model, context, row, hot, times=20)
    assert _choose(model, context, row, hot, times=20) == first
    assert _choose(model, context, row, Sampling(temperature=3.0, seed=6), times=20) != first
    last = Sampling(temperature=3.0, seed=-1)
    assert _choose(model, context, row, last, times=20) == _choose(model, context, row, last, times=20)
    assert len(set(first)) > 1


def test_top_k_bounds_the_choice(model: LlamaModel, context: LlamaContext, row: tuple[Row, int]) -> None:
    likely = set(np.argsort(-row[0])[:3].tolist())
    drawn = _choose(model, context, row, Sampling(temperature=50.0, top_k=3, seed=1), times=60)
    assert set(drawn) == likely


def test_bias_forces_and_forbids(model: LlamaModel, context: LlamaContext, row: tuple[Row, int]) -> None:
    assert _choose(model, context, row, Sampling(temperature=0.0, logit_bias={7: 1000.0})) == [7]


def test_end_tokens_can_be_suppressed(model: LlamaModel, context: LlamaContext, row: tuple[Row, int]) -> None:
    (end,) = model.ends
    params = Sampling(temperature=0.0, logit_bias={end: 1000.0})
    assert _choose(model, context, row, params) == [end]
    ignoring = Sampling(temperature=0.0, ignore_eos=True)
    assert _choose(model, context, row, ignoring) != [end]


def test_penalties_move_on_from_a_repeated_token(
    model: LlamaModel, context: LlamaContext, row: tuple[Row, int]
) -> None:
    best = int(row[0].argmax())
    chosen = _choose(model, context, row, Sampling(temperature=0.0, presence_penalty=10.0), times=2)
    assert chosen[0] == best
    assert chosen[1] != best


def test_likelihood_is_a_log_softmax() -> None:
    logits = np.array([0.0, 2.0, -math.inf, 1.0], np.float32)
    described = Likelihood(logits, top=3).describe(0, [b"a", b"b", b"c", b"\xff"])
    total = math.log(sum(math.exp(value) for value in (0.0, 2.0, 1.0)))
    assert described.chosen.logprob == pytest.approx(-total, abs=1e-5)
    assert [candidate.token for candidate in described.top] == [1, 3, 0]
    assert described.top[1].data == b"\xff"
    assert Likelihood(logits, top=0).describe(2, [b""] * 4).chosen.logprob == -9999.0


@pytest.mark.parametrize(
    "params",
    [
        Sampling(temperature=math.nan),
        Sampling(temperature=-0.1),
        Sampling(top_p=1.5),
        Sampling(min_p=-1.0),
        Sampling(top_k=-1),
        Sampling(repeat_penalty=0.0),
        Sampling(max_tokens=0),
        Sampling(logprobs=21),
        Sampling(stop=("",)),
        Sampling(stop=("x",) * 17),
        Sampling(presence_penalty=math.inf),
    ],
)
def test_impossible_parameters_are_refused(params: Sampling) -> None:
    with pytest.raises(BadInput) as caught:
        check_sampling(params, vocabulary=384)
    assert caught.value.code == "engine.sampling"


@pytest.mark.parametrize("bias", [{384: 1.0}, {-1: 1.0}, {1: math.nan}])
def test_a_bias_of_no_token_is_refused(bias: dict[int, float]) -> None:
    with pytest.raises(BadInput) as caught:
        check_sampling(Sampling(logit_bias=bias), vocabulary=384)
    assert caught.value.code == "engine.bias"
