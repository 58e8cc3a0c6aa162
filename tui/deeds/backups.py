"""Backups: take one, verify the repository."""

from __future__ import annotations

from appliance.api import calls
from tui.deed import Action, Deed
from tui.deeds.roles import OPERATORS

DEEDS: tuple[Action, ...] = (
    Action(
        id="backup.create",
        keys=("b",),
        label="back up",
        help="Take a consistent snapshot while serving.",
        places=("backups", "backup"),
        roles=OPERATORS,
        danger=1,
        bar=True,
        deed=Deed(
            call=lambda _, __: calls.create_backup(),
            cli="intramuros backup create",
            done="The backup is complete.",
            consequences=("Serving goes on. It may take some minutes the first time.",),
            needs_target=False,
        ),
    ),
    Action(
        id="backup.verify",
        keys=("v",),
        label="verify",
        help="Read back and check every byte of the repository.",
        places=("backups", "backup"),
        roles=OPERATORS | {"auditor"},
        bar=True,
        deed=Deed(
            call=lambda _, __: calls.verify_backup(),
            cli="intramuros backup verify",
            done="Every byte of the repository was read back and is right.",
            needs_target=False,
        ),
    ),
)
