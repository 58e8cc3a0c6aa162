"""Access: new key, revoke."""

from __future__ import annotations

from appliance.api import calls
from appliance.api import types as t
from appliance.api.calls import Call
from appliance.kernel.errors import BadInput
from tui.deed import Action, Answers, Deed, Field, Target
from tui.deeds.choices import fixed, served_names
from tui.deeds.roles import OPERATORS
from tui.views.records import new_key_lines

_PRIORITIES = fixed(*t.PRIORITIES)


def _can_revoke(target: Target) -> str:
    return "it is revoked already" if target.item.revoked_at else ""


def _new_key(_: Target, answers: Answers) -> Call[t.NewKey]:
    days, only = answers["days"], answers.get("only", "")
    if not days.isdigit():
        raise BadInput("console.days", f"{days!r} is not a number of days.", hint="0 means that it never expires.")
    return calls.create_key(
        t.CreateKey(
            name=answers["name"],
            days=int(days),
            models=(only,) if only else (),
            priority=answers["priority"],
            share_group=answers.get("group", ""),
        )
    )


DEEDS: tuple[Action, ...] = (
    Action(
        id="key.create",
        keys=("n",),
        label="new key",
        help="Create an API key; its secret is shown once.",
        places=("access", "key"),
        danger=1,
        roles=OPERATORS,
        bar=True,
        deed=Deed(
            call=_new_key,
            cli="intramuros key create {name} --days {days} --priority {priority}"
            "[ --share-group {group}][ --model {only}]",
            done="",
            consequences=("The secret is shown once, on the next screen. 0 days means that it never expires.",),
            fields=(
                Field(name="name", label="Name"),
                Field(name="days", label="Days", default=lambda _: "90"),
                Field(name="priority", label="Priority", default=lambda _: t.PRIORITIES[0], choices=_PRIORITIES),
                Field(name="group", label="Share group (empty: alone)", required=False),
                Field(name="only", label="Only for (empty: all)", choices=served_names, required=False),
            ),
            result=new_key_lines,
            needs_target=False,
        ),
    ),
    Action(
        id="key.revoke",
        keys=("X",),
        label="revoke",
        help="Revoke a key at once.",
        places=("access", "key"),
        danger=2,
        roles=OPERATORS,
        bar=True,
        deed=Deed(
            call=lambda target, _: calls.revoke_key(target.words["id"]),
            cli="intramuros key revoke {id}",
            done="The key {name} no longer works.",
            consequences=("Every application that uses {name} is refused from now on. This cannot be undone.",),
            ready=_can_revoke,
        ),
    ),
)
