"""Audit: verify the chain."""

from __future__ import annotations

from appliance.api import calls
from tui.deed import Action, Deed
from tui.deeds.roles import AUDIT_READERS
from tui.views.records import verdict_lines

DEEDS: tuple[Action, ...] = (
    Action(
        id="audit.verify",
        keys=("v",),
        label="verify",
        help="Re-compute the whole chain and check every signature.",
        places=("audit", "event"),
        roles=AUDIT_READERS,
        bar=True,
        deed=Deed(
            call=lambda _, __: calls.verify_audit(),
            cli="intramuros audit verify",
            done="",
            result=verdict_lines,
            needs_target=False,
        ),
    ),
)
