from __future__ import annotations

import pytest

from appliance.api import types as t
from appliance.cli.train import parameters_of, plan_text, recipe_text, result_text, train
from appliance.kernel.errors import BadInput
from appliance.training.recipes.registry import RECIPES


def test_values_are_json_where_they_can_be_else_text() -> None:
    pairs = ("steps=10", "learning_rate=1e-3", "name=chat", "list=[1,2]", "flag=true", "empty=", "equation=a=b")
    assert parameters_of(pairs) == {
        "steps": 10,
        "learning_rate": 0.001,
        "name": "chat",
        "list": [1, 2],
        "flag": True,
        "empty": "",
        "equation": "a=b",
    }


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("alpha,beta", ["alpha", "beta"]),
        ("alpha", ["alpha"]),
        ("0, 3", [0, 3]),
        ('["alpha", "beta"]', ["alpha", "beta"]),
        ("[]", []),
        ("[alpha", "[alpha"),
    ],
)
def test_a_list_is_json_or_has_commas_alone(text: str, meant: object) -> None:
    assert parameters_of((f"boxes={text}", "name=a,b"), lists={"boxes"}) == {"boxes": meant, "name": "a,b"}


def test_fields_say_their_default_apart_from_what_they_take() -> None:
    fields = (
        t.RecipeField(name="learn_from", type="choice", default="answers", meaning="What.", choices=("all", "answers")),
        t.RecipeField(name="rank", type="int", default=16, meaning="Width.", minimum=1, maximum=256),
        t.RecipeField(name="packing", type="bool", default=False, meaning="Fill."),
    )
    recipe = t.RecipeView(name="lora", kind="train.lora", purpose="Adapters.", inputs=(), fields=fields)
    rows = recipe_text(recipe).splitlines()[3::2]
    assert [" ".join(row.split()) for row in rows] == [
        "learn_from choice default answers; one of all, answers",
        "rank int default 16; >= 1, <= 256",
        "packing bool default false",
    ]


def test_what_came_of_a_run_has_sizes_for_people() -> None:
    summary = {"heldout_loss": 1.5, "tokens": 2224896, "memory_measured": 412 << 20, "gguf_bytes": 5 << 20}
    job = t.JobView(
        id="01",
        kind="train.lora",
        title="faq",
        run_id="",
        state="succeeded",
        created_by="a",
        created_at="",
        summary=summary,
    )
    assert [row.split(maxsplit=1)[1] for row in result_text(job).splitlines()[1:]] == [
        "1.5",
        "2224896",
        "412.0 MiB",
        "5.0 MiB",
    ]


@pytest.mark.parametrize("pair", ["steps", "=1", ""])
def test_what_is_no_pair_is_refused(pair: str) -> None:
    with pytest.raises(BadInput):
        parameters_of((pair,))


def test_every_recipe_has_a_verb_with_its_inputs() -> None:
    for name, kind in RECIPES.items():
        options = {option for parameter in train.commands[name].params for option in parameter.opts}
        assert {*(f"--{word}" for word in kind.inputs), "--set", "--seed", "--plan", "--detach"} <= options


def test_a_plan_names_defaults_and_what_does_not_fit() -> None:
    plan = t.TrainingPlanView(
        kind="train.lora",
        run_id="ab" * 32,
        inputs=(t.TrainingInput(word="data", ref="faq@1", digest="cd" * 32, form="chat", train_rows=7),),
        recipe={"rank": 4, "schedule": "cosine"},
        given=("rank",),
        seed=0,
        threads=2,
        steps=None,
        tokens=None,
        memory=t.TrainingMemory(
            weights=1, training_state=1, activations=1, data=1, process=1, total=5, available=3, fits=False
        ),
        proposals=("Use batch_size 1.",),
    )
    text = plan_text(plan)
    assert "rank                          4\n" in text
    assert "cosine  (default)" in text
    assert "it does not fit" in text
    assert "Use batch_size 1." in text
    assert "faq@1 (cdcdcdcdcdcd)  chat, 7 rows" in text
