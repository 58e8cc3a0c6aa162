"""The job `search.ask`: which values the next trials of a search take. The one module that knows Optuna.

It keeps no study of its own: everything told so far stands in the specification, in the order of the trials, and the
answer is a pure function of it. So a search is repeated, and survives any interruption, like every other run.
"""

from __future__ import annotations

import hashlib
import itertools
from typing import Any, Final, Literal

import msgspec

from appliance.campaigns.search_file import Dimension, Scalar, whole_values
from appliance.jobs.workspace import Workspace
from appliance.kernel.events import Progress

_DRAWS: Final = 16
"""Draws in which a new trial is looked for."""
_ENOUGH: Final = 8
"""Trials from which shares of importance say something."""


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one trial: complete | pruned | failed. `reports` are figures on the way, by step."""

    parameters: dict[str, Scalar]
    state: str
    value: float | None = None
    reports: dict[str, float] = {}


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """The job's parameters."""

    space: dict[str, Dimension]
    direction: Literal["minimize", "maximize"]
    startup: int
    count: int
    history: tuple[Told, ...] = ()


def run(workspace: Workspace) -> dict[str, Any]:
    """Return {"asked": [parameters, …], "importance": {field: share}}; without `count`, only the latter."""
    question = msgspec.convert(workspace.spec.parameters, Question)
    workspace.emit(Progress(phase="ask"))
    return {
        "asked": ask(question, seed=workspace.spec.seed),
        "importance": {} if question.count else importance(question),
    }


def ask(question: Question, *, seed: int) -> list[dict[str, Scalar]]:
    """Return the next trials' values, drawn by TPE (Bergstra et al. 2011) from what has been told.

    No trial is drawn twice while there is another one.
    """
    study = _study(question, seed=seed)
    distributions = _distributions(question.space)
    known = [told.parameters for told in question.history]
    for _ in range(question.count):
        draws = (dict(study.ask(distributions).params) for _ in range(_DRAWS))
        drawn = next((one for one in draws if one not in known), None)
        known.append(drawn or _another(question.space, known) or dict(study.ask(distributions).params))
    return known[len(question.history) :]


def _another(space: dict[str, Dimension], known: list[dict[str, Scalar]]) -> dict[str, Scalar] | None:
    """Return the first trial that is not known, where there are so few that draws do not find it."""
    fields = {name: whole_values(dimension) for name, dimension in sorted(space.items())}
    values = [found for found in fields.values() if found is not None]
    if len(values) < len(fields):
        return None
    trials = (dict(zip(fields, trial, strict=True)) for trial in itertools.product(*values))
    return next((trial for trial in trials if trial not in known), None)


def importance(question: Question) -> dict[str, float]:
    """Return each field's share of what decided the figure (PED-ANOVA), greatest first; empty with too few trials."""
    import optuna

    complete = [told for told in question.history if told.state == "complete"]
    if len(complete) < _ENOUGH or len({told.value for told in complete}) < 2:
        return {}
    study = _study(question, seed=0)
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    found = optuna.importance.get_param_importances(study, evaluator=evaluator, params=sorted(question.space))
    return {name: round(share, 4) for name, share in found.items()}


def _study(question: Question, *, seed: int) -> Any:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # A sampler begins anew for each batch: with the seed of the search alone every batch would draw the same numbers.
    drawn = hashlib.sha256(f"{seed}\0{len(question.history)}".encode()).digest()
    sampler = optuna.samplers.TPESampler(
        seed=int.from_bytes(drawn[:4], "big"), n_startup_trials=question.startup, constant_liar=True
    )
    study = optuna.create_study(direction=question.direction, sampler=sampler, pruner=optuna.pruners.NopPruner())
    states = {
        "complete": optuna.trial.TrialState.COMPLETE,
        "pruned": optuna.trial.TrialState.PRUNED,
        "failed": optuna.trial.TrialState.FAIL,
    }
    distributions = _distributions(question.space)
    for told in question.history:
        study.add_trial(
            optuna.trial.create_trial(
                state=states[told.state],
                params=told.parameters,
                distributions=distributions,
                value=told.value if told.state == "complete" else None,
                intermediate_values={int(step): value for step, value in told.reports.items()},
            )
        )
    return study


def _distributions(space: dict[str, Dimension]) -> dict[str, Any]:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    found: dict[str, Any] = {}
    for name, dimension in sorted(space.items()):
        if dimension.choices:
            found[name] = CategoricalDistribution(dimension.choices)
        elif isinstance(dimension.low, int) and isinstance(dimension.high, int):
            found[name] = IntDistribution(dimension.low, dimension.high, log=dimension.log)
        else:
            found[name] = FloatDistribution(float(dimension.low or 0), float(dimension.high or 0), log=dimension.log)
    return found
