"""Quality gates: what a model version must show before it may enter a stage. Pure; knows no model and no database.

A gate fails closed: a figure that was not measured, or is not a number, does not pass, and a stage that asks for
figures but for none of this kind of model does not pass either.

    [test]
    parity = true                     the GGUF file gave the same tokens as the model
    max_perplexity_ratio = 1.05       for a quantised version, instead of the conversion's own bound of 1.02
    approvals = 0                     persons other than the author who approved
    [[test.conditions]]
    metric = "exact_match"            or "task.metric" with suite = "name" or "name@version"
    kind = "generate"                 only versions that were made for this; without it every version
    min = 0.5                         and max, min_gain_over_base, min_gain_over_baseline,
                                      not_worse_than_production (with margin): at least one of them
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated

import msgspec

from appliance.evaluation.difference import Difference
from appliance.kernel.errors import BadInput

STAGES = ("dev", "test", "prod")

DEFAULT_GATES = """\
# What a model version must show before it enters a stage. See docs/operators/gates-and-promotion.md.

[dev]
parity = true

[test]
parity = true

[[test.conditions]]
kind = "generate"
metric = "exact_match"
min = 0.5
min_gain_over_base = 0.30

[[test.conditions]]
kind = "classify"
metric = "accuracy"
min_gain_over_baseline = 0.0

[[test.conditions]]
kind = "classify"
metric = "macro_f1"
min_gain_over_baseline = 0.0

[prod]
parity = true
approvals = 1

[[prod.conditions]]
kind = "generate"
metric = "exact_match"
min = 0.5
min_gain_over_base = 0.30

[[prod.conditions]]
kind = "classify"
metric = "accuracy"
min_gain_over_baseline = 0.0

[[prod.conditions]]
kind = "classify"
metric = "macro_f1"
min_gain_over_baseline = 0.0
"""

_DECIMALS = 9
"""Figures are compared after rounding, so that 0.7 - 0.4 is a gain of 0.3."""
_BOUNDS = ("min", "max", "min_gain_over_base", "min_gain_over_baseline", "margin")


class Condition(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds on one metric. A gain is the version's figure minus its base's, or minus its untuned baseline's."""

    metric: Annotated[str, msgspec.Meta(min_length=1)]
    suite: str = ""
    kind: str = ""
    min: float | None = None
    max: float | None = None
    min_gain_over_base: float | None = None
    min_gain_over_baseline: float | None = None
    not_worse_than_production: bool = False
    margin: float = 0.0
    informative: bool = False
    """whether a figure of the machine (latency) may decide"""

    def __post_init__(self) -> None:
        bounds = [bound for name in _BOUNDS[:-1] if (bound := getattr(self, name)) is not None]
        if not bounds and not self.not_worse_than_production:
            raise ValueError(
                f"the condition on {self.metric} has neither min, max nor min_gain_over_base, nor "
                "min_gain_over_baseline, nor not_worse_than_production"
            )
        if not all(math.isfinite(bound) for bound in [*bounds, self.margin]):
            raise ValueError(f"a bound of the condition on {self.metric} is not a finite number")
        if self.margin < 0 or (self.margin and not self.not_worse_than_production):
            raise ValueError(f"the margin of the condition on {self.metric} belongs to not_worse_than_production")

    @property
    def label(self) -> str:
        """What the figure is called in a verdict."""
        return f"{self.metric} of {self.suite}" if self.suite else self.metric


class StagePolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that one stage asks for."""

    parity: bool = False
    max_perplexity_ratio: Annotated[float, msgspec.Meta(ge=1)] | None = None
    approvals: Annotated[int, msgspec.Meta(ge=0)] = 0
    conditions: tuple[Condition, ...] = ()


class GatePolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The gates of all stages. Every stage is named, so that none is open by omission."""

    dev: StagePolicy
    test: StagePolicy
    prod: StagePolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was measured on one suite or data set. None means: not measured."""

    metrics: Mapping[str, float] | None = None
    base_metrics: Mapping[str, float] | None = None
    informative: Mapping[str, float] = field(default_factory=dict)
    against_production: Mapping[str, Difference] | None = None
    """the version in production first; None where one of the two was not measured there"""


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
    kind: str = "generate"
    parity_applies: bool = True
    """False for what is served from its Hugging Face folder: there is no second engine to agree with"""
    perplexity_ratio: float | None = None
    """of a quantised version against its own unquantised file"""
    baseline: Mapping[str, float] | None = None
    suites: Mapping[str, Measured] = field(default_factory=dict)
    production: str = ""
    """the version in production that this one would follow, or empty"""
    against_production: Mapping[str, Difference] | None = None


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


def policy_of(stage: str, policy: GatePolicy) -> StagePolicy:
    """Return what one stage asks for. Raises BadInput for an unknown stage."""
    if stage not in STAGES:
        raise BadInput("gates.stage", f"There is no stage {stage!r}.", hint=f"The stages are {', '.join(STAGES)}.")
    asked: StagePolicy = getattr(policy, stage)
    return asked


def judge(stage: str, policy: GatePolicy, facts: Facts) -> Verdict:
    """Apply one stage's gate. Raises BadInput for an unknown stage."""
    asked = policy_of(stage, policy)
    checks: list[Check] = []
    if asked.parity:
        checks.append(_check_parity(asked, facts))
    applying = [condition for condition in asked.conditions if condition.kind in ("", facts.kind)]
    for condition in applying:
        checks += _check_condition(condition, facts)
    if asked.conditions and not applying:
        named = f"a condition for the kind {facts.kind}"
        checks.append(Check(name="conditions", passed=False, measured="none in the gate file", wanted=named))
    if asked.approvals:
        checks.append(_check_approvals(asked.approvals, facts))
    return Verdict(passed=all(check.passed for check in checks), checks=tuple(checks))


def _check_parity(asked: StagePolicy, facts: Facts) -> Check:
    if not facts.parity_applies:
        return Check(name="parity", passed=True, measured="not applicable: served without GGUF", wanted="equal")
    if asked.max_perplexity_ratio is not None and facts.perplexity_ratio is not None:
        ratio = facts.perplexity_ratio if math.isfinite(facts.perplexity_ratio) else None
        return _check_bound("perplexity ratio after quantising", ratio, "at most", asked.max_perplexity_ratio)
    measured = {True: "equal", False: "different", None: "not measured"}[facts.parity]
    return Check(name="parity", passed=facts.parity is True, measured=measured, wanted="equal")


def _check_condition(condition: Condition, facts: Facts) -> list[Check]:
    measured = facts.suites.get(condition.suite, Measured()) if condition.suite else _own(facts)
    figures = {**(measured.metrics or {}), **(measured.informative if condition.informative else {})}
    figure = _figure(figures, condition.metric)
    checks = []
    if condition.min is not None:
        checks.append(_check_bound(condition.label, figure, "at least", condition.min))
    if condition.max is not None:
        checks.append(_check_bound(condition.label, figure, "at most", condition.max))
    for bound, name, other in (
        (condition.min_gain_over_base, "base", measured.base_metrics if facts.has_base else {condition.metric: 0.0}),
        (condition.min_gain_over_baseline, "baseline", facts.baseline),
    ):
        if bound is not None:
            before = _figure(other, condition.metric)
            gain = None if figure is None or before is None else round(figure - before, _DECIMALS)
            checks.append(_check_bound(f"gain of {condition.label} over {name}", gain, "at least", bound))
    if condition.not_worse_than_production:
        checks.append(_check_production(condition, facts, measured))
    return checks


def _own(facts: Facts) -> Measured:
    return Measured(metrics=facts.metrics, base_metrics=facts.base_metrics, against_production=facts.against_production)


def _check_production(condition: Condition, facts: Facts, measured: Measured) -> Check:
    """The whole interval of the difference must lie above -margin: not seeing a loss is not the same as having none."""
    name = f"{condition.label} against production"
    if not facts.production:
        return Check(name=name, passed=True, measured="nothing is in production yet", wanted="not worse")
    wanted = f"at most {condition.margin:.4g} worse than {facts.production}, 95 % sure"
    found = (measured.against_production or {}).get(condition.metric)
    if found is None:
        return Check(name=name, passed=False, measured="not measured on both", wanted=wanted)
    loss = found.high if found.lower_is_better else -found.low
    passed = math.isfinite(loss) and round(loss, _DECIMALS) <= condition.margin
    told = f"{found.difference:+.4g} (95 % interval {found.low:+.4g} to {found.high:+.4g})"
    return Check(name=name, passed=passed, measured=told, wanted=wanted)


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
