from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pytest

from appliance.engine.grammar import Grammars
from appliance.engine.llama_context import LlamaModel
from appliance.kernel.errors import BadInput


@pytest.fixture(scope="module")
def grammars(model: LlamaModel) -> Grammars:
    return Grammars(model)


def _json(schema: Any) -> str:
    return "start: %json " + json.dumps(schema)


def _row(model: LlamaModel) -> Any:
    return np.zeros(model.vocabulary, np.float32)


def test_tokens_are_tested_masked_and_taken(model: LlamaModel, grammars: Grammars) -> None:
    constraint = grammars.constraint(_json({"type": "boolean"}))
    (end,) = model.ends
    written = b""
    while not constraint.complete:
        row = _row(model)
        constraint.forbid(row)
        allowed = np.flatnonzero(np.isfinite(row)).tolist()
        assert all(constraint.allows(token) for token in allowed)
        assert not constraint.allows(end)
        written += model.pieces[allowed[-1]]
        constraint.take(allowed[-1])
    assert written in (b"true", b"false")


def test_the_end_is_allowed_where_the_answer_may_end(model: LlamaModel, grammars: Grammars) -> None:
    constraint = grammars.constraint(_json({"type": "integer"}))
    (end,) = model.ends
    for token in model.tokenise("12", special=False, begin=False):
        constraint.take(token)
    assert (constraint.allows(end), constraint.complete) == (True, False)


def test_a_kept_grammar_starts_anew(model: LlamaModel, grammars: Grammars) -> None:
    first = grammars.constraint(_json({"const": 1}))
    for token in model.tokenise("1", special=False, begin=False):
        first.take(token)
    assert first.complete
    assert not grammars.constraint(_json({"const": 1})).complete


def test_a_token_that_does_not_fit_breaks_it(model: LlamaModel, grammars: Grammars) -> None:
    constraint = grammars.constraint(_json({"const": 1}))
    constraint.take(model.tokenise("x", special=False, begin=False)[0])
    assert constraint.broken
    constraint.forbid(_row(model))
    assert not constraint.complete


def test_a_dead_end_is_noticed(model: LlamaModel, grammars: Grammars) -> None:
    constraint = grammars.constraint("start: TEXT /b/\nTEXT: /a/ & /c/")
    constraint.forbid(_row(model))
    assert constraint.broken


BOMBS = {
    "alternatives": {
        "anyOf": [{"type": "object", "properties": {f"k{i}": {}}, "required": [f"k{i}"]} for i in range(4000)]
    },
    "properties": {"type": "object", "properties": {f"p{i}": {"type": "string", "format": "uri"} for i in range(3000)}},
    "nesting": json.loads('{"items":' * 200 + "{}" + "}" * 200),
    "choices": {"enum": [f"value number {i}" for i in range(30_000)]},
    "merging": {"allOf": [{"anyOf": [{"minLength": i}, {"maxLength": i + j}]} for i in range(1, 15) for j in range(2)]},
    "repetition": {"pattern": "^((a{1,1000}){1,1000}){1,1000}$"},
    "automaton": {"pattern": "^(.*[ab].{60}|.*[bc].{61}|.*[cd].{62})$"},
    "itself": {"$ref": "#"},
}


@pytest.mark.parametrize("schema", BOMBS.values(), ids=BOMBS.keys())
def test_bombs_cost_little_time(model: LlamaModel, grammars: Grammars, schema: Any) -> None:
    """Refused, or broken on the way, or harmless: never more than a moment."""
    started = time.process_time()
    refusal = _walk(model, grammars, _json(schema))
    assert time.process_time() - started < 5
    assert refusal in ("", "engine.grammar", "engine.grammar_size")


def _walk(model: LlamaModel, grammars: Grammars, grammar: str) -> str:
    """Go along a grammar as far as it lets us; returns the code of its refusal."""
    try:
        constraint = grammars.constraint(grammar)
    except BadInput as error:
        return error.code
    for token in model.tokenise('"' + "abcd" * 10, special=False, begin=False):
        constraint.forbid(_row(model))
        if constraint.broken or not constraint.allows(token):
            break
        constraint.take(token)
    return ""


def test_what_is_not_understood_is_said_in_one_line(grammars: Grammars) -> None:
    with pytest.raises(BadInput, match='Unimplemented keys: \\["not"\\]') as caught:
        grammars.constraint(_json({"not": {}}))
    assert caught.value.code == "engine.grammar"
