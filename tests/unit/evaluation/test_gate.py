"""Gates: what is asked, what passes, and that they fail closed."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import pytest

from appliance.evaluation.gate import DEFAULT_GATES, Facts, GatePolicy, judge, parse_gates
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
        (f"{OTHERS}[test]\n[[test.conditions]]\nmin = 1\n", "metric"),
        (f"{OTHERS}[test]\n[[test.conditions]]\nmetric = 'f1'\nmin = nan\n", "not a finite number"),
        (f"{OTHERS}[test]\n[[test.conditions]]\nmetric = 'f1'\nmin_gain_over_base = -inf\n", "not a finite number"),
    ],
)
def test_a_wrong_gate_file_is_refused_by_name(text: str, named: str) -> None:
    with pytest.raises(BadInput, match=r"gates\.(syntax|invalid): state/gates\.toml") as refusal:
        parse_gates(text, source="state/gates.toml")
    assert named in refusal.value.message


def test_an_unknown_stage_is_refused() -> None:
    with pytest.raises(BadInput, match=r"gates\.stage"):
        judge("production", DEFAULTS, facts())


def test_the_daemon_may_import_the_gate() -> None:
    heavy = "('torch', 'transformers', 'numpy', 'llama_cpp')"
    program = f"import appliance.evaluation.gate, sys; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
