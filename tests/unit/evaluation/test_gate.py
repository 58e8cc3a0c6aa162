"""Gates: what is asked, what passes, and that they fail closed."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import pytest

from appliance.evaluation.difference import Difference, Outcome
from appliance.evaluation.gate import DEFAULT_GATES, Facts, GatePolicy, Measured, judge, parse_gates
from appliance.kernel.errors import BadInput

DEFAULTS = parse_gates(DEFAULT_GATES)
OTHERS = "[dev]\n[prod]\n"


def facts(**changes: Any) -> Facts:
    """A version that passes every default gate, changed as told."""
    passing: dict[str, Any] = {
        "metrics": {"exact_match": 0.9},
        "has_base": True,
        "base_metrics": {"exact_match": 0.1},
        "parity": True,
        "approvals": ("bob",),
        "author": "alice",
    }
    return Facts(**(passing | changes))


def on_test(condition: str) -> GatePolicy:
    return parse_gates(f"{OTHERS}[test]\n[[test.conditions]]\n{condition}\n")


@pytest.mark.parametrize("stage", ["dev", "test", "prod"])
def test_a_good_version_passes_every_default_gate(stage: str) -> None:
    verdict = judge(stage, DEFAULTS, facts())
    assert verdict.passed
    assert verdict.checks
    assert verdict.failures == ()


@pytest.mark.parametrize(
    ("stage", "changes", "failed"),
    [
        ("dev", {"parity": None}, ["parity"]),
        ("dev", {"parity": False}, ["parity"]),
        ("test", {"metrics": {"exact_match": 0.49}}, ["exact_match"]),
        ("test", {"base_metrics": {"exact_match": 0.61}}, ["gain of exact_match over base"]),
        ("test", {"metrics": None}, ["exact_match", "gain of exact_match over base"]),
        ("test", {"metrics": {"f1": 1.0}}, ["exact_match", "gain of exact_match over base"]),
        ("test", {"metrics": {"exact_match": math.nan}}, ["exact_match", "gain of exact_match over base"]),
        ("test", {"base_metrics": None}, ["gain of exact_match over base"]),
        ("test", {"base_metrics": {"exact_match": math.nan}}, ["gain of exact_match over base"]),
        ("prod", {"approvals": ()}, ["approvals"]),
        ("prod", {"approvals": ("alice",)}, ["approvals"]),
        ("prod", {"parity": None, "approvals": ("alice", "alice")}, ["parity", "approvals"]),
    ],
)
def test_what_is_missing_is_named(stage: str, changes: dict[str, Any], failed: list[str]) -> None:
    verdict = judge(stage, DEFAULTS, facts(**changes))
    assert not verdict.passed
    assert [check.name for check in verdict.failures] == failed


def test_the_author_does_not_count_but_others_do() -> None:
    verdict = judge("prod", DEFAULTS, facts(approvals=("alice", "bob")))
    assert verdict.passed


def test_two_approvals_are_two_persons() -> None:
    policy = parse_gates("[dev]\n[test]\n[prod]\napprovals = 2\n")
    assert not judge("prod", policy, facts(approvals=("bob", "bob"))).passed
    assert judge("prod", policy, facts(approvals=("bob", "carol"))).passed


def test_a_version_without_base_gains_on_zero() -> None:
    seed = facts(has_base=False, base_metrics=None, metrics={"exact_match": 0.5})
    assert judge("test", DEFAULTS, seed).passed
    assert not judge("test", DEFAULTS, facts(has_base=False, base_metrics=None, metrics={"exact_match": 0.2})).passed


@pytest.mark.parametrize(("version", "base"), [(0.7, 0.4), (0.8, 0.5), (0.9, 0.6), (0.5, 0.2)])
def test_a_gain_of_exactly_the_bound_passes_in_spite_of_binary_fractions(version: float, base: float) -> None:
    scored = facts(metrics={"exact_match": version}, base_metrics={"exact_match": base})
    assert judge("test", DEFAULTS, scored).passed


@pytest.mark.parametrize(("figure", "passed"), [(4.0, True), (4.1, False), (math.inf, False)])
def test_an_upper_bound(figure: float, passed: bool) -> None:
    policy = on_test('metric = "perplexity"\nmax = 4.0')
    assert judge("test", policy, facts(metrics={"perplexity": figure})).passed is passed


def test_a_check_says_what_was_measured_and_what_was_wanted() -> None:
    check = judge("test", on_test('metric = "f1"\nmin = 0.25'), facts(metrics={"f1": 0.125})).checks[0]
    assert (check.name, check.measured, check.wanted) == ("f1", "0.125", "at least 0.25")


def test_a_stage_that_asks_nothing_passes() -> None:
    empty = Facts(metrics=None, has_base=False, base_metrics=None, parity=None, approvals=(), author="alice")
    assert judge("dev", parse_gates("[dev]\n[test]\n[prod]\n"), empty).passed


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[dev", "not valid TOML"),
        ("[dev]\n[test]\n", "prod"),
        (f"{OTHERS}[test]\n[staging]\n", "staging"),
        (f"{OTHERS}[test]\nparty = true\n", "party"),
        (f"{OTHERS}[test]\napprovals = -1\n", "approvals"),
        (f"{OTHERS}[test]\nparity = 'yes'\n", "parity"),
        (f"{OTHERS}[test]\n[[test.conditions]]\nmetric = 'f1'\n", "neither min, max nor min_gain_over_base"),
        (f"{OTHERS}[test]\n[[test.conditions]]\nmetric = 'f1'\nminimum = 1\n", "minimum"),
        (f"{OTHERS}[test]\nmax_perplexity_ratio = 0.5\n", "max_perplexity_ratio"),
        (f"{OTHERS}[test]\n[[test.conditions]]\nmetric = 'f1'\nmin = 1\nmargin = 0.1\n", "margin"),
        (
            f"{OTHERS}[test]\n[[test.conditions]]\nmetric = 'f1'\nnot_worse_than_production = true\nmargin = -1\n",
            "margin",
        ),
        (f"{OTHERS}[test]\n[[test.conditions]]\nmin = 1\n", "metric"),
        (f"{OTHERS}[test]\n[[test.conditions]]\nmetric = 'f1'\nmin = nan\n", "not a finite number"),
        (f"{OTHERS}[test]\n[[test.conditions]]\nmetric = 'f1'\nmin_gain_over_base = -inf\n", "not a finite number"),
    ],
)
def test_a_wrong_gate_file_is_refused_by_name(text: str, named: str) -> None:
    with pytest.raises(BadInput, match=r"gates\.(syntax|invalid): state/gates\.toml") as refusal:
        parse_gates(text, source="state/gates.toml")
    assert named in refusal.value.message


def difference(low: float, high: float, *, lower: bool = False, rows: int = 40) -> dict[str, Difference]:
    middle = (low + high) / 2
    return {
        "f1": Difference(
            metric="f1",
            first=0.5,
            second=0.5 + middle,
            difference=middle,
            low=low,
            high=high,
            p=None,
            rows=rows,
            left_out=0,
            lower_is_better=lower,
            outcome=Outcome.SAME,
        )
    }


@pytest.mark.parametrize(
    ("against", "passed"),
    [
        (difference(-0.01, 0.05), True),
        (difference(-0.03, 0.05), False),
        (difference(-0.05, 0.01, lower=True), True),
        (difference(-0.05, 0.03, lower=True), False),
        (None, False),
        (difference(math.nan, math.nan), False),
        (difference(0.0, 0.0, rows=3), False),
    ],
)
def test_not_worse_than_production_needs_the_whole_interval(
    against: dict[str, Difference] | None, passed: bool
) -> None:
    policy = on_test('metric = "f1"\nnot_worse_than_production = true\nmargin = 0.02')
    judged = judge("test", policy, facts(production="helpdesk@1", against_production=against))
    assert judged.passed is passed
    first = judge("test", policy, facts(production=""))
    assert first.passed
    assert first.checks[0].measured == "nothing is in production yet"


def test_a_condition_on_a_suite_counts_only_that_suite() -> None:
    policy = on_test('suite = "helpdesk"\nmetric = "answers.f1"\nmin = 0.8')
    assert not judge("test", policy, facts(metrics={"answers.f1": 0.9})).passed
    assert not judge("test", policy, facts(suites={"helpdesk": Measured()})).passed
    good = facts(suites={"helpdesk": Measured(metrics={"answers.f1": 0.9})})
    assert judge("test", policy, good).checks[0].name == "answers.f1 of helpdesk"
    assert judge("test", policy, good).passed


def test_a_speed_decides_only_where_the_gate_says_so() -> None:
    measured = {"helpdesk": Measured(metrics={}, informative={"speed.tokens_per_second": 50.0})}
    plain = 'suite = "helpdesk"\nmetric = "speed.tokens_per_second"\nmin = 10'
    assert not judge("test", on_test(plain), facts(suites=measured)).passed
    assert judge("test", on_test(f"{plain}\ninformative = true"), facts(suites=measured)).passed


def test_a_classifier_is_judged_by_its_gain_over_the_baseline() -> None:
    classifier = {"kind": "classify", "parity": None, "parity_applies": False, "base_metrics": None}
    good = {"metrics": {"accuracy": 0.93, "macro_f1": 0.92}, "baseline": {"accuracy": 0.91, "macro_f1": 0.91}}
    verdict = judge("prod", DEFAULTS, facts(**classifier, **good))
    assert verdict.passed
    assert verdict.checks[0].measured == "not applicable: served without GGUF"
    worse = good | {"baseline": {"accuracy": 0.94, "macro_f1": 0.91}}
    assert not judge("prod", DEFAULTS, facts(**classifier, **worse)).passed
    assert not judge("prod", DEFAULTS, facts(**classifier, **(good | {"baseline": None}))).passed


def test_a_kind_that_no_condition_is_for_does_not_slip_through() -> None:
    verdict = judge("test", DEFAULTS, facts(kind="embed", parity_applies=False))
    assert [check.name for check in verdict.failures] == ["conditions"]


def test_a_quantised_version_may_be_given_a_bound_of_its_own() -> None:
    policy = parse_gates("[dev]\nparity = true\nmax_perplexity_ratio = 1.05\n[test]\nparity = true\n[prod]\n")
    assert judge("dev", policy, facts(parity=False, perplexity_ratio=1.04)).passed
    assert not judge("dev", policy, facts(parity=True, perplexity_ratio=1.06)).passed
    assert not judge("dev", policy, facts(parity=True, perplexity_ratio=math.nan)).passed
    assert not judge("test", policy, facts(parity=False, perplexity_ratio=1.04)).passed
    assert judge("dev", policy, facts(parity=True, perplexity_ratio=None)).passed


def test_an_unknown_stage_is_refused() -> None:
    with pytest.raises(BadInput, match=r"gates\.stage"):
        judge("production", DEFAULTS, facts())


def test_the_daemon_may_import_the_gate() -> None:
    heavy = "('torch', 'transformers', 'numpy', 'llama_cpp')"
    program = f"import appliance.evaluation.gate, sys; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
