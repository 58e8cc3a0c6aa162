from __future__ import annotations

import string

from hypothesis import given
from hypothesis import strategies as st

from appliance.datasets.forms import Form
from appliance.datasets.prepare import HELDOUT, TRAIN, Fate, Sides, hashed_side, prompt_digest
from appliance.datasets.rows import Row


def chat(prompt: str, answer: str, split: str = "") -> Row:
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    return Row(line=1, form=Form.CHAT, content={"messages": messages}, split=split)


def place(rows: list[Row], *, seed: int = 0, percent: int = 30) -> tuple[Sides, list[tuple[Row, Fate]]]:
    sides = Sides(seed=seed, heldout_percent=percent)
    kept = [row for row in rows if sides.add(row) is not None]
    return sides, list(zip(kept, sides.fates(), strict=True))


def test_exact_duplicates_go_and_are_counted() -> None:
    sides, placed = place([chat("q", "a"), chat("q", "a"), chat("q", "b"), chat("q", "a")])
    assert sides.duplicates == 2
    assert len(placed) == 2


def test_the_held_out_part_stays_and_training_rows_that_ask_the_same_are_set_aside() -> None:
    rows = [chat("What  IS it?", "a", TRAIN), chat("other", "b", TRAIN), chat("what is it?", "c", HELDOUT)]
    _, placed = place(rows)
    assert [fate for _, fate in placed] == [Fate.LEAK, Fate.TRAIN, Fate.HELDOUT]


def test_rows_without_a_side_never_leak_into_an_assigned_held_out_part() -> None:
    _, placed = place([chat("q", "a"), chat("q", "b", HELDOUT), chat("z", "c", TRAIN)], percent=0)
    assert [fate for _, fate in placed] == [Fate.LEAK, Fate.HELDOUT, Fate.TRAIN]


_ROWS = st.lists(st.tuples(st.text(string.ascii_letters, max_size=3), st.text("ab", max_size=2)), max_size=60)


@given(_ROWS, st.integers(0, 5), st.integers(0, 90))
def test_no_question_is_on_both_sides(pairs: list[tuple[str, str]], seed: int, percent: int) -> None:
    sides, placed = place([chat(q, a) for q, a in pairs], seed=seed, percent=percent)
    asked: dict[Fate, set[bytes]] = {fate: set() for fate in Fate}
    for row, fate in placed:
        asked[fate].add(prompt_digest(row.content))
    assert not asked[Fate.TRAIN] & asked[Fate.HELDOUT]
    assert not asked[Fate.LEAK]
    assert bool(asked[Fate.TRAIN]) == bool(pairs)
    assert len(placed) + sides.duplicates == len(pairs)


def test_a_row_keeps_its_side_when_the_file_grows() -> None:
    few = [chat(f"q{i}", "a") for i in range(50)]
    many = few + [chat(f"r{i}", "a") for i in range(50)]
    assert place(many)[1][:50] == place(few)[1]


def test_the_share_is_near_what_was_asked_and_the_seed_decides() -> None:
    prompts = [str(i).encode() for i in range(5000)]
    sides = [[hashed_side(seed, p, heldout_percent=10) for p in prompts] for seed in (0, 1)]
    assert 400 < sides[0].count(HELDOUT) < 600
    assert sides[0] != sides[1]


def test_all_rows_train_when_chance_holds_out_every_one() -> None:
    prompt = next(
        p
        for p in map(str, range(100))
        if hashed_side(0, prompt_digest(chat(p, "a").content), heldout_percent=30) == HELDOUT
    )
    assert [fate for _, fate in place([chat(prompt, "a")])[1]] == [Fate.TRAIN]
    assert [fate for _, fate in place([chat(prompt, "a", HELDOUT)])[1]] == [Fate.HELDOUT]
