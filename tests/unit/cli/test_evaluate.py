"""`eval REF` is `eval run REF`, and what evaluations and comparisons look like."""

from __future__ import annotations

from typing import Any

import click
import pytest

from appliance.api import types as t
from appliance.cli.evaluate import comparison_text, evaluate, evaluation_text
from appliance.cli.model import ladder_text


@pytest.mark.parametrize(
    ("given", "command"),
    [
        (["helpdesk@1", "--suite", "s"], "run"),
        (["--suite", "s", "helpdesk@1"], "run"),
        (["run", "helpdesk@1", "--data", "faq"], "run"),
        (["compare", "a", "b", "--suite", "s"], "compare"),
    ],
)
def test_a_reference_is_enough(given: list[str], command: str) -> None:
    context = evaluate.make_context("eval", list(given))
    assert isinstance(context, click.Context)
    assert context._protected_args == [command]


def job(**summary: Any) -> t.JobView:
    return t.JobView(
        id="01A",
        kind="evaluate",
        title="a",
        run_id="0",
        state="succeeded",
        created_by="alice",
        created_at="2026-11-29T00:00:00Z",
        summary=summary,
    )


def test_speeds_stand_apart_from_figures() -> None:
    text = evaluation_text(
        job(
            metrics={"answers.exact_match": 0.5},
            intervals={"answers.exact_match": [0.4, 0.6]},
            informative={"speed.tokens_per_second": 12.0},
            reports={"topic": {"most_confused": [{"rows": 3, "expected": "a", "got": "b"}]}},
        )
    )
    assert "  answers.exact_match      0.5000   0.4000 to 0.6000" in text
    assert "  speed.tokens_per_second  12   (this machine, now)" in text
    assert "topic: 3 x 'a' taken for 'b'" in text


def test_a_comparison_says_what_the_second_is() -> None:
    one = t.DifferenceView(
        metric="answers.exact_match",
        first=0.5,
        second=0.7,
        difference=0.2,
        low=0.1,
        high=0.3,
        p=0.001,
        rows=40,
        left_out=0,
        lower_is_better=False,
        verdict="better",
    )
    text = comparison_text(t.ComparisonView(first="a@1", second="a@2", on="helpdesk@1", differences=(one,)))
    assert "a@2 against a@1 on helpdesk@1" in text
    assert "+0.1000 to +0.3000" in text
    assert text.rstrip().endswith("better")


def test_a_ladder_tells_rungs_not_made() -> None:
    rungs = [{"name": "Q4_K_M", "made": False, "why_not": "rows of 192"}]
    text = ladder_text(job(rungs=rungs, perplexity=3.0, measured_tokens=9, data="faq@1"))
    assert "rows of 192" in text
