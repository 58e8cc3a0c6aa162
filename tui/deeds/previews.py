"""What one run of a campaign would need, told below the answers of its dialog."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import msgspec

from appliance.api import calls
from appliance.api import types as t
from appliance.kernel.errors import BadInput
from tui import format as fmt
from tui.session import Session
from tui.text import Line, Span, Tone, fact

_ROOM = 56
_LINES = 2
"""Lines of a preview that one thing may take: the dialog has to fit 24 rows."""


async def each_run(session: Session, body: t.SubmitJob, highest: Mapping[str, Any]) -> tuple[Line, ...]:
    """What one of the runs needs, and one with the `highest` values. Raises what the appliance refuses in it."""
    plan = await session.send(calls.plan_training(body))
    at = " available"
    if highest:
        most = msgspec.structs.replace(body, parameters={**body.parameters, **highest})
        # Highest values that do not go together are refused here, and no trial will have them all.
        with suppress(BadInput):
            plan, at = await session.send(calls.plan_training(most)), " at the highest values"
    memory, steps = plan.memory, "" if plan.steps is None else f", {fmt.count(plan.steps)} steps"
    told = f"{fmt.size(memory.total)} of {fmt.size(memory.available)}{at}"
    inputs = ", ".join(one.ref for one in plan.inputs)
    return (
        *said("each run", (f"{body.kind.removeprefix('train.')} on {inputs}{steps}",)),
        fact("memory", Span("" if memory.fits else "does not fit: ", Tone.BAD), told),
        *said("instead", plan.proposals[:1]),
    )


def said(name: str, told: tuple[str, ...]) -> tuple[Line, ...]:
    """Tell sentences under one name, cut where the dialog has no room for more."""
    lines: list[str] = []
    for text in told:
        parts = fmt.wrap(text, _ROOM)
        rest = " ".join(parts[_LINES - 1 :])
        lines += parts if len(parts) <= _LINES else [*parts[: _LINES - 1], fmt.fit(rest, _ROOM)]
    return tuple(fact("" if i else name, part) for i, part in enumerate(lines))
