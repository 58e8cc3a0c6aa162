"""Serve: try, deploy, roll back, pin, unpin, stop serving."""

from __future__ import annotations

from appliance.api import calls
from appliance.api import types as t
from appliance.kernel.clock import new_id
from tui import format as fmt
from tui.deed import Action, Answers, Deed, Field, Target
from tui.deeds.choices import model_refs
from tui.deeds.previews import said
from tui.deeds.roles import OPERATORS
from tui.session import Session
from tui.text import Line, fact
from tui.views.serve import answer_lines

MORE = (
    Field(name="draft", label="Draft model, if any", choices=model_refs, required=False, faults=("deploy.draft",)),
    Field(name="override", label="Reason to pass the gate", required=False),
)
"""What may be said about serving besides the version and its name."""
CLI_MORE = "[ --draft {draft}][ --override {override}]"
SERVING = (
    "New requests go to {model} as soon as its engine is ready; until then the old one answers.",
    "Requests in flight finish on the old engine. V on Serve brings the old one back.",
)


def wished(target: Target, answers: Answers) -> t.Deploy:
    """Return the wish to serve a version: the one that was chosen, or the one under the cursor."""
    return t.Deploy(
        model=answers.get("model") or target.words.get("ref", ""),
        override=answers.get("override", ""),
        request_id=new_id(),
        options=t.OptionsChange(draft=answers.get("draft") or None),
    )


async def preview_of_serving(session: Session, target: Target, answers: Answers) -> tuple[Line, ...]:
    """What serving the version as this name would need, and what would leave for it."""
    wish = wished(target, answers)
    if not (answers.get("name") and wish.model):
        return ()
    asked = t.PlanDeploy(model=wish.model, options=wish.options)
    plan = await session.send(calls.plan_deploy(answers["name"], asked))
    need, free = plan.predicted, fmt.size(max(0, plan.budget - plan.used))
    draft = f", {fmt.size(need.draft)} of it for the draft" if need.draft else ""
    saved = f", and up to {fmt.size(need.saved)} for saved prefixes" if need.saved else ""
    then = tuple(f"{one.action} {one.deployment}: {one.why}" for one in plan.decisions[:2])
    layers = (fact("layers", fmt.clean(plan.placement)),) if plan.placement else ()
    memory = said("memory", (f"needs {fmt.size(need.total)}{draft}{saved}; serving has {free} free",))
    return (*memory, *layers, *said("then", then))


def _can_roll_back(target: Target) -> str:
    return "" if target.item.previous else "there is no earlier revision"


def _can_ask(target: Target) -> str:
    """A name that changes its version is answered by the old one until the new one is ready."""
    return "" if target.item.live else f"it is {target.item.state}, not live"


def _can_pin(target: Target) -> str:
    return "it is pinned already" if target.item.policy.pinned else ""


def _can_unpin(target: Target) -> str:
    return "" if target.item.policy.pinned else "it is not pinned"


DEEDS: tuple[Action, ...] = (
    Action(
        id="deployment.try",
        keys=("t",),
        label="try",
        help="Ask one question and see the answer with its timings.",
        places=("serve", "deployment"),
        bar=True,
        deed=Deed(
            call=lambda target, answers: calls.try_prompt(target.name, t.TryPrompt(prompt=answers["prompt"])),
            cli="intramuros ask {name} {prompt}",
            done="",
            fields=(Field(name="prompt", label="Prompt"),),
            ready=_can_ask,
            result=answer_lines,
        ),
    ),
    Action(
        id="deployment.deploy",
        keys=("D",),
        label="deploy",
        help="Serve a model version under this or a new name.",
        places=("serve", "deployment"),
        roles=OPERATORS,
        danger=2,
        bar=True,
        deed=Deed(
            call=lambda target, answers: calls.deploy(answers["name"], wished(target, answers)),
            cli="intramuros deploy {model} --as {name}" + CLI_MORE,
            done="{name} is switching to {model}.",
            consequences=SERVING,
            fields=(
                Field(name="name", label="Serve as", default=lambda target: target.name),
                Field(name="model", label="Model version", choices=model_refs),
                *MORE,
            ),
            preview=preview_of_serving,
            needs_target=False,
        ),
    ),
    Action(
        id="deployment.roll_back",
        keys=("V",),
        label="roll back",
        help="Bring the previous revision back.",
        places=("serve", "deployment"),
        roles=OPERATORS,
        danger=2,
        bar=True,
        deed=Deed(
            call=lambda target, _: calls.roll_back(target.name, t.RollBack(request_id=new_id())),
            cli="intramuros rollback {name}",
            done="{name} is going back to {previous}.",
            consequences=(
                "{name} goes back from {model} to {previous}.",
                "Requests in flight finish on the engine that has them.",
            ),
            ready=_can_roll_back,
        ),
    ),
    Action(
        id="deployment.pin",
        keys=("p",),
        label="pin",
        help="Keep it in memory, whatever else is asked for.",
        places=("serve", "deployment"),
        roles=OPERATORS,
        danger=1,
        deed=Deed(
            call=lambda target, _: calls.set_policy(target.name, t.PolicyChange(pinned=True)),
            cli="intramuros serving pin {name}",
            done="{name} stays in memory.",
            consequences=("Others have to leave memory when there is no room for all.",),
            ready=_can_pin,
        ),
    ),
    Action(
        id="deployment.unpin",
        keys=("u",),
        label="unpin",
        help="Let it leave memory when others need the room.",
        places=("serve", "deployment"),
        roles=OPERATORS,
        danger=1,
        deed=Deed(
            call=lambda target, _: calls.set_policy(target.name, t.PolicyChange(pinned=False)),
            cli="intramuros serving unpin {name}",
            done="{name} may leave memory.",
            consequences=("When it left, its next request waits until it is in memory again.",),
            ready=_can_unpin,
        ),
    ),
    Action(
        id="deployment.remove",
        keys=("X",),
        label="stop serving",
        help="Stop serving a name; its engine drains.",
        places=("serve", "deployment"),
        roles=OPERATORS,
        danger=3,
        deed=Deed(
            call=lambda target, _: calls.remove_deployment(target.name),
            cli="intramuros undeploy {name}",
            done="{name} is no longer served.",
            consequences=("Applications that call {name} get an error from now on. The model itself stays.",),
        ),
    ),
)
