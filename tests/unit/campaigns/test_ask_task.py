from __future__ import annotations

from appliance.campaigns.ask_task import Question, Told, ask, importance
from appliance.campaigns.search_file import Dimension

SPACE = {
    "rate": Dimension(low=1e-4, high=1e-1, log=True),
    "rank": Dimension(choices=(4, 8, 16)),
    "epochs": Dimension(low=1, high=5),
}


def question(*history: Told, count: int = 2) -> Question:
    return Question(space=SPACE, direction="minimize", startup=2, count=count, history=history)


def told(rate: float, value: float | None, state: str = "complete") -> Told:
    return Told(parameters={"rate": rate, "rank": 8, "epochs": 2}, state=state, value=value, reports={"5": 1.0})


def test_the_same_question_has_the_same_answer_and_each_batch_another() -> None:
    first = ask(question(), seed=1)
    assert first == ask(question(), seed=1)
    assert first != ask(question(), seed=2)
    assert len({repr(values) for values in first}) == 2
    second = ask(question(*(told(0.01 * n, n) for n in (1.0, 2.0))), seed=1)
    assert not {repr(values) for values in second} & {repr(values) for values in first}
    for values in (*first, *second):
        assert 1e-4 <= float(values["rate"]) <= 1e-1
        assert values["rank"] in (4, 8, 16)
        assert values["epochs"] in range(1, 6)


def test_what_was_told_draws_the_answers_near_it() -> None:
    known = [told(rate, abs(rate - 0.05)) for rate in (0.0002, 0.001, 0.002, 0.01, 0.045, 0.05, 0.055, 0.06)]
    drawn = [float(values["rate"]) for values in ask(question(*(known * 3), count=8), seed=0)]
    assert sum(rate > 0.01 for rate in drawn) >= 5


def test_no_trial_is_drawn_twice_while_there_is_another() -> None:
    few = {"rank": Dimension(choices=(4, 8)), "epochs": Dimension(low=1, high=3)}
    history: list[Told] = []
    for _ in range(3):
        asked = Question(space=few, direction="minimize", startup=1, count=2, history=tuple(history))
        history += [Told(parameters=values, state="complete", value=1.0) for values in ask(asked, seed=3)]
    assert len({tuple(sorted(told.parameters.items())) for told in history}) == 6


def test_a_trial_is_repeated_rather_than_none_drawn() -> None:
    one = Question(space={"rank": Dimension(choices=(4,))}, direction="minimize", startup=1, count=2)
    assert ask(one, seed=0) == [{"rank": 4}, {"rank": 4}]


def test_pruned_and_failed_trials_are_told_too() -> None:
    history = (told(0.01, 0.5), told(0.02, None, "pruned"), told(0.03, None, "failed"))
    assert len(ask(question(*history), seed=0)) == 2


def test_importance_needs_a_few_trials_and_finds_the_field_that_decides() -> None:
    assert importance(question(told(0.01, 1.0))) == {}
    known = [
        Told(parameters={"rate": 0.001 * n, "rank": (4, 8, 16)[n % 3], "epochs": 1 + n % 5}, state="complete", value=n)
        for n in range(1, 16)
    ]
    shares = importance(question(*known))
    assert max(shares, key=lambda name: shares[name]) == "rate"
