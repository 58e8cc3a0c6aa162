"""The trials of a search: the bars over their numbers, the best of them, and the table."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from appliance.api.types import CampaignDetail, CampaignStepView, CampaignView
from appliance.kernel.events import Progress
from appliance.kernel.problem import Problem
from tests.console.fake_campaigns import FOUND, SEARCH, STEPS, campaign_detail
from tui import format as fmt
from tui.plot import bars
from tui.text import Look, Tone, plain
from tui.views.campaigns import campaign_lines, part_lines
from tui.views.trials import best_of, trial_lines

NOW = datetime(2026, 7, 14, 9, 30, tzinfo=UTC)
LOOK = Look(width=80, height=21, now=NOW)


def search(*values: float | None, direction: str = "minimize", **spec: Any) -> CampaignDetail:
    """A search with one trial for each value; one without a value was stopped."""
    view = CampaignView(
        id="S", kind="search", title="a + b", state="running", created_by="anna", created_at="", steps=len(values)
    )
    trials = tuple(
        CampaignStepView(
            number=number,
            name=f"trial {number}",
            state="pruned" if value is None else "succeeded",
            spec=spec or {"rank": number},
            outcome={"value": value, "pruned_at": 20},
        )
        for number, value in enumerate(values, 1)
    )
    return CampaignDetail(campaign=view, spec={"metric": "loss", "direction": direction}, steps=trials, mark="m")


def said(detail: CampaignDetail, look: Look = LOOK) -> list[str]:
    return [plain(spans) for spans in trial_lines(detail, look)]


def test_bars_stand_over_their_trials_and_the_best_is_marked() -> None:
    drawn = bars([1.0, None, 0.5, 0.75], best=2, width=76, height=3, ascii=True)
    assert drawn == ["      1 |###", "        |...         ###", "    0.5 |...     ### ...", "         1       ^3  4"]


@pytest.mark.parametrize("best", [0, 1, 57, 98, 99])
@pytest.mark.parametrize("width", [20, 76])
def test_more_trials_than_columns_show_those_around_the_best(best: int, width: int) -> None:
    values = [2.0] * 100
    values[best] = 1.0
    *rows, numbers = bars(values, best=best, width=width, height=2, ascii=False)
    assert all(len(row) <= width for row in rows)
    assert numbers.index("^") == rows[-1].index("▁")
    assert numbers[numbers.index("^") + 1 :].split()[0] == str(best + 1)


@pytest.mark.parametrize("best", range(20))
def test_numbers_below_the_bars_are_never_cut(best: int) -> None:
    numbers = bars([1.0] * 20, best=best, width=30, height=1, ascii=True)[-1].split()
    assert f"^{best + 1}" in numbers
    assert set(numbers) <= {"1", "20", f"^{best + 1}"}


def test_nothing_is_drawn_without_values_to_compare() -> None:
    assert bars([None], best=0, width=76, height=5, ascii=True) == []
    assert "by trial" not in "".join(said(search(1.0, None)))
    assert "by trial" not in "".join(said(search()))


@pytest.mark.parametrize(("direction", "best"), [("minimize", 2), ("maximize", 3)])
def test_best_is_by_direction_and_the_first_of_equals(direction: str, best: int) -> None:
    detail = search(1.5, 1.0, 2.0, 1.0, 2.0, None, direction=direction)
    found = best_of(detail)
    assert found is not None
    assert found.number == best
    rows = said(detail)
    assert [row[0] for row in rows[-6:]] == ["*" if number == best else " " for number in range(1, 7)]
    assert f"^{best}" in rows[-9]


def test_table_has_a_column_for_each_field_and_says_what_became_of_the_rest() -> None:
    rows = said(search(1.2874, None, learning_rate=0.00205, rank=16, targets=["q"]))
    assert rows[-3].split() == ["State", "Trial", "loss", "learning_rate", "rank", "targets"]
    assert rows[-2].split() == ["*✓", "OK", "1", "1.287", "0.00205", "16", "q"]
    assert "stopped at step 20" in rows[-1]


def test_fields_without_room_stand_in_the_last_column() -> None:
    spec: dict[str, Any] = {f"a_long_field_{number}": number for number in range(6)}
    rows = said(search(1.0, 2.0, **spec))
    assert "More" in rows[-3]
    assert "a_long_field_2 2" in rows[-1]
    assert all(fmt.cells(row) <= 80 for row in rows)
    wide = said(search(1.0, 2.0, **spec), Look(width=160, height=40, now=NOW))
    assert "More" not in "".join(wide)


def test_failed_trial_says_why() -> None:
    failed = CampaignStepView(
        number=2, name="trial 2", state="failed", spec={"rank": 2}, problem=Problem(code="x", message="No memory.")
    )
    detail = search(1.0)
    detail = CampaignDetail(campaign=detail.campaign, spec=detail.spec, steps=(*detail.steps, failed), mark=detail.mark)
    last = trial_lines(detail, LOOK)[-1]
    assert any(span.text.strip() == "No memory." and span.tone is Tone.BAD for span in last)


@pytest.mark.parametrize(
    ("name", "sign", "told"),
    [("queued", "WAIT", "queued"), ("stopping", "RUN", "stopping"), ("running", "RUN", "40 %")],
)
def test_part_says_how_its_job_stands(name: str, sign: str, told: str) -> None:
    progress = Progress(phase="train", fraction=0.4) if name == "running" else None
    for kind, spec in (("search", {"rank": 2}), ("kfold", {"index": 0})):
        part = CampaignStepView(number=1, name="part", state=name, spec=spec, progress=progress)
        view = msgspec.structs.replace(search(1.0).campaign, kind=kind)
        detail = CampaignDetail(campaign=view, spec={}, steps=(part,), mark="m")
        (row,) = [text for text in map(plain, campaign_lines(detail, LOOK)) if sign in text and "state" not in text]
        assert told in row


@pytest.mark.parametrize("spoken", [False, True])
@pytest.mark.parametrize("id", STEPS)
def test_every_part_with_a_job_has_a_line_of_its_own(id: str, spoken: bool) -> None:
    look = Look(width=80, height=40, now=NOW, ascii=True, spoken=spoken)
    detail = campaign_detail(id)
    rows = [plain(spans) for spans in campaign_lines(detail, look)]
    found = part_lines(detail, look)
    assert list(found.values()) == [part for part in detail.steps if part.job]
    for at, part in found.items():
        assert (str(part.number) if id in (SEARCH, FOUND) else part.name) in rows[at].replace(":", " ").split()


def test_spoken_trials_are_sentences_without_bars() -> None:
    look = Look(width=78, height=40, now=NOW, ascii=True, spoken=True)
    rows = [plain(spans) for spans in campaign_lines(campaign_detail(FOUND), look)]
    assert "   OK trial 2: heldout_loss 1.287, rank 16, learning_rate 0.0021" in rows
    assert "   OFF trial 3: stopped at step 20, rank 64, learning_rate 0.08" in rows
    assert not [row for row in rows if "by trial" in row or "|" in row]
