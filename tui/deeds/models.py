"""Models: promote, approve, verify, deploy, remove, compare."""

from __future__ import annotations

from appliance.api import calls
from appliance.api import types as t
from appliance.api.calls import Call
from appliance.kernel.errors import BadInput
from tui.deed import Action, Answers, Deed, Field, Target
from tui.deeds.choices import dataset_refs, fixed, model_refs, served_names, suite_refs
from tui.deeds.roles import BUILDERS, OPERATORS
from tui.deeds.serve import CLI_MORE, MORE, SERVING, preview_of_serving, wished
from tui.views.compare import comparison_lines

_STAGES = fixed("dev", "test", "prod")
_NEXT_STAGE = {"none": "dev", "dev": "test", "test": "prod"}


def _model(target: Target) -> t.ModelView | None:
    item = target.item
    return item.model if isinstance(item, t.ModelDetail) else item


def _next_stage(target: Target) -> str:
    model = _model(target)
    return _NEXT_STAGE.get(model.stage, "prod") if model else ""


def _can_promote(target: Target) -> str:
    model = _model(target)
    return "it is in production already" if model and model.stage == "prod" else ""


def _can_remove(target: Target) -> str:
    used = target.item.used_by if isinstance(target.item, t.ModelDetail) else ()
    return f"it is used by {', '.join(used)}" if used else ""


def _compare(target: Target, answers: Answers) -> Call[t.ComparisonView]:
    suite, data = answers.get("suite", ""), answers.get("data", "")
    if bool(suite) == bool(data):
        raise BadInput("console.field", "Two models are compared on one thing.", hint="Give a suite or a data set.")
    return calls.compare(t.Compare(first=target.name, second=answers["other"], suite=suite, dataset=data))


DEEDS: tuple[Action, ...] = (
    Action(
        id="model.promote",
        keys=("p",),
        label="promote",
        help="Move a version one stage on, if its gate agrees.",
        places=("models", "model"),
        roles=BUILDERS,
        danger=1,
        bar=True,
        deed=Deed(
            call=lambda target, answers: calls.promote(target.name, t.Promote(stage=answers["stage"])),
            cli="intramuros model promote {ref} --to {stage}",
            done="{ref} is now in stage {stage}.",
            consequences=("The gate of the stage is evaluated now, and the verdict is recorded in the audit trail.",),
            fields=(Field(name="stage", label="Stage", default=_next_stage, choices=_STAGES),),
            ready=_can_promote,
        ),
    ),
    Action(
        id="model.approve",
        keys=("a",),
        label="approve",
        help="Consent to a promotion, in your own name.",
        places=("models", "model"),
        roles=frozenset({"approver"}),
        danger=1,
        bar=True,
        deed=Deed(
            call=lambda target, answers: calls.approve(target.name, t.Approve(stage=answers["stage"])),
            cli="intramuros model approve {ref} --to {stage}",
            done="You approved {ref} for {stage}.",
            consequences=("Your name is recorded with the approval.",),
            fields=(Field(name="stage", label="Stage", default=_next_stage, choices=_STAGES),),
        ),
    ),
    Action(
        id="model.verify",
        keys=("v",),
        label="verify",
        help="Re-hash every file of a version.",
        places=("models", "model"),
        bar=True,
        deed=Deed(
            call=lambda target, _: calls.verify_model(target.name),
            cli="intramuros model verify {ref}",
            done="Every file of {ref} is what its digest says.",
        ),
    ),
    Action(
        id="model.deploy",
        keys=("D",),
        label="deploy",
        help="Serve this version under a name.",
        places=("models", "model"),
        roles=OPERATORS,
        danger=2,
        bar=True,
        deed=Deed(
            call=lambda target, answers: calls.deploy(answers["name"], wished(target, answers)),
            cli="intramuros deploy {ref} --as {name}" + CLI_MORE,
            done="{name} is switching to {ref}; 4 shows it.",
            consequences=SERVING,
            fields=(Field(name="name", label="Serve as", choices=served_names), *MORE),
            preview=preview_of_serving,
        ),
    ),
    Action(
        id="model.remove",
        keys=("X",),
        label="remove",
        help="Remove a version that nothing depends on.",
        places=("models", "model"),
        roles=OPERATORS,
        danger=3,
        bar=True,
        deed=Deed(
            call=lambda target, _: calls.remove_model(target.name),
            cli="intramuros model remove {ref}",
            done="{ref} is removed.",
            consequences=(
                "The version and the files that only it uses are deleted.",
                "Only a backup can bring them back. A version in use is refused.",
            ),
            ready=_can_remove,
        ),
    ),
    Action(
        id="model.compare",
        keys=("=",),
        label="compare",
        help="Compare with another model on the same rows.",
        places=("models", "model"),
        bar=True,
        deed=Deed(
            call=_compare,
            cli="intramuros eval compare {ref} {other}[ --suite {suite}][ --data {data}]",
            done="",
            consequences=("Both have to be measured on it already; the line below measures what is missing.",),
            fields=(
                Field(name="other", label="With", choices=model_refs),
                Field(name="suite", label="On suite", choices=suite_refs, required=False),
                Field(name="data", label="Or on data set", choices=dataset_refs, required=False),
            ),
            result=comparison_lines,
        ),
    ),
)
