"""The draft model's cells against a real model: what it guesses is what the model itself would say."""

from __future__ import annotations

import numpy as np
import pytest

from appliance.engine.draft_model import DraftModel
from appliance.engine.drafting import Work
from appliance.engine.llama_context import LlamaContext, LlamaModel
from appliance.engine.scheduler import Chunk, Sequence
from appliance.engine.speculation import MOST_DRAFTED

TOKENS = [int(token) for token in np.random.default_rng(3).integers(0, 380, 90)]


def _draft(model: LlamaModel, *, cells: int = 512, slots: int = 3) -> DraftModel:
    context = LlamaContext(model, cells=cells, batch=cells, ubatch=64, sequences=slots, threads=1)
    return DraftModel(model, context, slots=slots, vocabulary=model.vocabulary)


def _request(tokens: list[int]) -> Sequence:
    return Sequence(tenant="t", tokens=list(tokens), prompt=len(tokens), limit=200)


def _greedy(model: LlamaModel, tokens: list[int], count: int) -> list[int]:
    """What the model says, computed in one go in cells of its own."""
    context = LlamaContext(model, cells=512, batch=512, ubatch=64, sequences=1, threads=1)
    own = Sequence(tenant="", tokens=list(tokens), prompt=0, limit=0, slot=0)
    for _ in range(count):
        context.decode([Chunk(own, own.computed, own.remaining, last=True)])
        own.computed = len(own.tokens)
        own.tokens.append(int(context.logits(1)[0].argmax()))
    return own.tokens[len(tokens) :]


def _guess(draft: DraftModel, *wanted: tuple[Sequence, int]) -> list[list[int]]:
    work = []
    for sequence, guesses in wanted:
        lacking = draft.lacking(sequence)
        assert lacking is not None
        work.append(Work(sequence=sequence, count=lacking, guesses=guesses))
    return draft.advance(work)


def test_several_requests_get_what_the_model_would_say(model: LlamaModel) -> None:
    draft = _draft(model)
    one, other = _request(TOKENS[:40]), _request(TOKENS[40:90])
    first, second = _guess(draft, (one, 5), (other, 3))
    assert first == _greedy(model, one.tokens, 5)
    assert second == _greedy(model, other.tokens, 3)
    assert draft.seconds > 0


@pytest.mark.parametrize("right", [0, 2, 4])
def test_after_a_check_it_follows_what_was_said(model: LlamaModel, right: int) -> None:
    draft = _draft(model)
    request = _request(TOKENS[:40])
    (guesses,) = _guess(draft, (request, 4))
    said = [*guesses[:right], (guesses[right] + 1) % 380 if right < 4 else 17]
    request.tokens += said
    lacking = draft.lacking(request)
    assert lacking == (2 if right == 4 else 1)
    assert _guess(draft, (request, 4)) == [_greedy(model, request.tokens, 4)]
    assert draft.used == len(request.tokens) + 3


def test_a_long_text_is_taken_in_by_parts(model: LlamaModel) -> None:
    draft = _draft(model)
    request = _request(TOKENS)
    assert draft.advance([Work(sequence=request, count=60, guesses=0)]) == [[]]
    assert draft.lacking(request) == 30
    assert _guess(draft, (request, 2)) == [_greedy(model, TOKENS, 2)]


def test_what_ended_leaves_its_cells_to_others(model: LlamaModel) -> None:
    draft = _draft(model, cells=256, slots=2)
    requests = [_request(TOKENS[start : start + 60]) for start in range(3)]
    _guess(draft, (requests[0], 1), (requests[1], 1))
    assert draft.lacking(requests[2]) is None
    draft.retain([requests[1]])
    draft.forget(requests[0])
    assert draft.used == 60
    assert _guess(draft, (requests[2], 3)) == [_greedy(model, requests[2].tokens, 3)]


def test_what_does_not_fit_is_not_guessed_for(model: LlamaModel) -> None:
    draft = _draft(model, cells=256)
    assert draft.lacking(_request([1] * (256 - MOST_DRAFTED + 1))) is None
    one, other = _request(TOKENS), _request(TOKENS)
    _guess(draft, (one, 1))
    assert draft.lacking(other) == 90
    large = _request([5] * 160)
    assert draft.lacking(large) is None
    assert draft.advance([Work(sequence=large, count=200, guesses=1)]) == [[]]


def test_no_room_after_all_means_no_guess_and_nothing_held(model: LlamaModel) -> None:
    draft = _draft(model, cells=256)
    other = Sequence(tenant="", tokens=[3] * 250, prompt=250, limit=250, slot=0)
    draft._context.decode([Chunk(other, 0, 250, last=False)])  # cells of which its books know nothing
    request = _request(TOKENS)
    assert _guess(draft, (request, 3)) == [[]]
    assert draft.used == 0
    draft._context.clear()
    assert _guess(draft, (request, 3)) == [_greedy(model, TOKENS, 3)]


def test_it_measures_itself(model: LlamaModel) -> None:
    draft = _draft(model)
    draft.warm_up()
    assert 0 < draft.cost.rows(1) < 1
    assert 0 < draft.cost.token < 1
    assert _guess(draft, (_request(TOKENS), 2)) == [_greedy(model, TOKENS, 2)]
