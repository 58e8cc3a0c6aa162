from __future__ import annotations

import pytest

from appliance.kernel.errors import BadInput
from appliance.training.recipe_file import canonical_text, parse_recipe_file
from appliance.training.recipes.lora import LoraRecipe
from appliance.training.recipes.registry import RECIPES

WHOLE = b"""# the clinic's assistant
recipe: lora
base: assistant@1
data: faq@2
seed: 3
with:
  rank: 8
  learning_rate: 1e-3
"""


def test_a_file_is_the_whole_run() -> None:
    run = parse_recipe_file(WHOLE)
    assert (run.kind, run.seed) == ("train.lora", 3)
    assert run.inputs == {"base": "assistant@1", "dataset": "faq@2"}
    assert run.recipe == LoraRecipe(rank=8, learning_rate=1e-3)
    assert run.given == {"rank": 8, "learning_rate": 0.001}
    assert run.parameters["clip_norm"] == 1.0


def test_seed_and_fields_may_be_left_out() -> None:
    run = parse_recipe_file(b"recipe: seed\ncorpus: notes@1\n")
    assert (run.seed, run.given) == (0, {})


@pytest.mark.parametrize("name", RECIPES)
def test_the_canonical_text_reads_back_as_the_same_run(name: str) -> None:
    words = "".join(f"{word}: some@1\n" for word in RECIPES[name].inputs)
    run = parse_recipe_file(f"recipe: {name}\nseed: 5\n{words}".encode())
    again = parse_recipe_file(canonical_text(run).encode())
    assert (again.kind, again.inputs, again.recipe, again.seed) == (run.kind, run.inputs, run.recipe, run.seed)
    assert canonical_text(again) == canonical_text(run)
    assert set(again.given) == set(run.parameters)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (b"", "line 1: it must be a mapping"),
        (b"base: x@1\n", "line 1: recipe must be one of seed, lora"),
        (b"recipe: magic\n", "line 1: recipe must be one of"),
        (b"recipe: [lora]\n", "line 1: recipe must be one of"),
        (WHOLE + b"extra: 1\n", "line 9: extra is not known here"),
        (b"recipe: lora\nbase: a@1\n", "needs data"),
        (b"recipe: lora\nbase: a@1\ndata: 7\n", "line 3: data must be a reference"),
        (b"recipe: seed\ncorpus: a@1\nseed: soon\n", "line 3: seed must be a whole number"),
        (b"recipe: seed\ncorpus: a@1\nwith: 3\n", "line 3: with must be a mapping"),
        (WHOLE + b"  rnk: 4\n", "line 9: lora has no field rnk; the nearest is rank\\."),
        (WHOLE.replace(b"rank: 8", b"rank: 0"), "line 7: rank cannot be 0; it takes a whole number from 1 to 256\\."),
        (WHOLE.replace(b"1e-3", b"0,001"), "line 8: learning_rate cannot be '0,001'; it takes a number above 0 to 100"),
        (WHOLE + b"  patience: 4\n", "line 9: patience needs evaluate_every"),
        (b"recipe: seed\ncorpus: a@1\nwith:\n  steps: 4\n  kv_heads: 3\n", "line 5: "),
    ],
)
def test_a_bad_file_is_refused_by_its_line(text: bytes, named: str) -> None:
    with pytest.raises(BadInput, match=named) as refused:
        parse_recipe_file(text)
    assert refused.value.code == "recipe.file"
