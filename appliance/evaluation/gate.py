"""Quality gates: what a model version must show before it may enter a stage. Pure; knows no model and no database.

A gate fails closed: a figure that was not measured, or is not a number, does not pass.

    [test]
    parity = true                     the GGUF file gave the same tokens as the model
    approvals = 0                     persons other than the author who approved
    [[test.conditions]]
    metric = "exact_match"
    min = 0.5                         and max, and min_gain_over_base: at least one of the three
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

import msgspec

from appliance.kernel.errors import BadInput

STAGES = ("dev", "test", "prod")

DEFAULT_GATES = """\
# What a model version must show before it enters a stage. See docs/operators/gates-and-promotion.md.

[dev]
parity = true

[test]
parity = true

[[test.conditions]]
metric = "exact_match"
min = 0.5
min_gain_over_base = 0.30

[prod]
parity = true
approvals = 1

[[prod.conditions]]
metric = "exact_match"
min = 0.5
min_gain_over_base = 0.30
"""

_DECIMALS = 9
"""Figures are compared after rounding, so that 0.7 - 0.4 is a gain of 0.3."""


class Condition(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds on one metric. A gain is the version's figure minus its base's."""

    metric: Annotated[str, msgspec.Meta(min_length=1)]
    min: float | None = None
    max: float | None = None
    min_gain_over_base: float | None = None

    def __post_init__(self) -> None:
        bounds = [bound for bound in (self.min, self.max, self.min_gain_over_base) if bound is not None]
        if not bounds:
            raise ValueError(f"the condition on {self.metric} has neither min, max nor min_gain_over_base")
        if not all(math.isfinite(bound) for bound in bounds):
            raise ValueError(f"a bound of the condition on {self.metric} is not a finite number")


class StagePolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that one stage asks for."""

    parity: bool = False
    approvals: Annotated[int, msgspec.Meta(ge=0)] = 0
    conditions: tuple[Condition, ...] = ()


class GatePolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The gates of all stages. Every stage is named, so that none is open by omission."""

    dev: StagePolicy
    test: StagePolicy
    prod: StagePolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a version. None means: not measured."""

    metrics: Mapping[str, float] | None
    has_base: bool
    """False for a seed or imported model: its gain is measured against 0."""
    base_metrics: Mapping[str, float] | None
    parity: bool | None
    approvals: tuple[str, ...]
    author: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was asked for, in words for a person."""

    name: str
    passed: bool
    measured: str
    wanted: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Passed only if every check passed."""

    passed: bool
    checks: tuple[Check, ...]

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that did not pass."""
        return tuple(check for check in self.checks if not check.passed)


def parse_gates(text: str, *, source: str = "gates.toml") -> GatePolicy:
    """Read the gates. Raises BadInput naming the file and what is wrong in it."""
    try:
        return msgspec.convert(tomllib.loads(text), GatePolicy)
    except tomllib.TOMLDecodeError as error:
        raise BadInput("gates.syntax", f"{source} is not valid TOML: {error}.") from error
    except msgspec.ValidationError as error:
        raise BadInput(
            "gates.invalid",
            f"{source}: {error}.",
            hint="Each of dev, test and prod must be there; see docs/operators.",
        ) from error


def judge(stage: str, policy: GatePolicy, facts: Facts) -> Verdict:
    """Apply one stage's gate. Raises BadInput for an unknown stage."""
    if stage not in STAGES:
        raise BadInput("gates.stage", f"There is no stage {stage!r}.", hint=f"The stages are {', '.join(STAGES)}.")
    asked: StagePolicy = getattr(policy, stage)
    checks: list[Check] = []
    if asked.parity:
        measured = {True: "equal", False: "different", None: "not measured"}[facts.parity]
        checks.append(Check(name="parity", passed=facts.parity is True, measured=measured, wanted="equal"))
    for condition in asked.conditions:
        checks += _check_condition(condition, facts)
    if asked.approvals:
        checks.append(_check_approvals(asked.approvals, facts))
    return Verdict(passed=all(check.passed for check in checks), checks=tuple(checks))


def _check_condition(condition: Condition, facts: Facts) -> list[Check]:
    figure = _figure(facts.metrics, condition.metric)
    checks = []
    if condition.min is not None:
        checks.append(_check_bound(condition.metric, figure, "at least", condition.min))
    if condition.max is not None:
        checks.append(_check_bound(condition.metric, figure, "at most", condition.max))
    if condition.min_gain_over_base is not None:
        base = _figure(facts.base_metrics, condition.metric) if facts.has_base else 0.0
        gain = None if figure is None or base is None else round(figure - base, _DECIMALS)
        name = f"gain of {condition.metric} over base"
        checks.append(_check_bound(name, gain, "at least", condition.min_gain_over_base))
    return checks


def _check_bound(name: str, figure: float | None, relation: str, bound: float) -> Check:
    holds: Callable[[float], bool] = (lambda x: x >= bound) if relation == "at least" else (lambda x: x <= bound)
    return Check(
        name=name,
        passed=figure is not None and holds(figure),
        measured="not measured" if figure is None else f"{figure:.4g}",
        wanted=f"{relation} {bound:.4g}",
    )


def _check_approvals(wanted: int, facts: Facts) -> Check:
    others = sorted(set(facts.approvals) - {facts.author})
    return Check(
        name="approvals",
        passed=len(others) >= wanted,
        measured=", ".join(others) or ("only by the author" if facts.approvals else "none"),
        wanted=f"{wanted} by somebody other than {facts.author}",
    )


def _figure(metrics: Mapping[str, float] | None, name: str) -> float | None:
    figure = None if metrics is None else metrics.get(name)
    return None if figure is None or not math.isfinite(figure) else round(figure, _DECIMALS)
