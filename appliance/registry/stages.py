"""The environments a version passes through, in order: none -> dev -> test -> prod. No step is skipped."""

from __future__ import annotations

from enum import StrEnum

from appliance.kernel.errors import BadInput, Conflict


class Stage(StrEnum):
    """Where a model version stands."""

    NONE = "none"
    DEV = "dev"
    TEST = "test"
    PROD = "prod"


_ORDER = tuple(Stage)


def parse_stage(text: str) -> Stage:
    """Return the stage a person typed. Raises BadInput."""
    if text not in (Stage.DEV, Stage.TEST, Stage.PROD):
        raise BadInput("stage.unknown", f"{text!r} is not a stage.", hint="Stages are dev, test and prod.")
    return Stage(text)


def highest(stages: set[str]) -> Stage:
    """Return the furthest stage that was reached."""
    return max((Stage(stage) for stage in stages), key=_ORDER.index, default=Stage.NONE)


def check_step(ref: str, present: Stage, wanted: Stage) -> None:
    """Raise Conflict unless `wanted` is the very next stage after `present`."""
    following = _ORDER[_ORDER.index(present) + 1] if present is not Stage.PROD else None
    if wanted is not following:
        hint = f"Promote it to {following} next." if following else "It is at the last stage."
        raise Conflict("stage.order", f"{ref} is at {present}; it cannot go to {wanted} from there.", hint=hint)
