"""Models: bring in, promote, approve, verify, deploy, remove, measure, compare, convert."""

from __future__ import annotations

from appliance.api import calls
from appliance.api import types as t
from appliance.api.calls import Call
from tui.deed import Action, Answers, Deed, Field, Target, quoted
from tui.deeds.choices import dataset_refs, fixed, model_refs, served_names, suite_refs
from tui.deeds.destinations import to_job
from tui.deeds.files import model_files, whole_path
from tui.deeds.roles import BUILDERS, OPERATORS
from tui.deeds.serve import CLI_MORE, MORE, SERVING, preview_of_serving, wished
from tui.views.compare import comparison_lines

_STAGES = fixed("dev", "test", "prod")
_DTYPES = fixed("f32", "f16", "bf16", "q8_0")
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


def _not_one(answers: Answers) -> str:
    """Why models cannot be measured on this, or empty."""
    one = bool(answers.get("suite")) != bool(answers.get("data"))
    return "" if one else "Models are measured on one thing: give a suite or a data set."


def _compare(target: Target, answers: Answers) -> Call[t.ComparisonView]:
    suite, data = answers.get("suite", ""), answers.get("data", "")
    return calls.compare(t.Compare(first=target.name, second=answers["other"], suite=suite, dataset=data))


def _inputs(target: Target, answers: Answers) -> dict[str, str]:
    """The model, and the suite or data set that was named."""
    named = {"suite": answers.get("suite", ""), "dataset": answers.get("data", "")}
    return {"model": target.name} | {name: ref for name, ref in named.items() if ref}


def _evaluate(target: Target, answers: Answers) -> Call[t.JobView]:
    return calls.submit_job(t.SubmitJob(kind="evaluate", inputs=_inputs(target, answers)))


def _import(_: Target, answers: Answers) -> Call[t.JobView]:
    body = t.ImportModel(source=whole_path(answers["file"]), name=answers["as"], licence=answers.get("licence", ""))
    return calls.import_model(body)


def _convert(target: Target, answers: Answers) -> Call[t.JobView]:
    parameters = {"dtype": answers["dtype"]}
    return calls.submit_job(t.SubmitJob(kind="convert.gguf", inputs=_inputs(target, answers), parameters=parameters))


def _rungs(answers: Answers) -> list[str]:
    return answers.get("to", "").upper().replace(",", " ").split()


def _quantise(target: Target, answers: Answers) -> Call[t.JobView]:
    parameters: dict[str, object] = {"imatrix": answers["imatrix"] == "yes"}
    if rungs := _rungs(answers):
        parameters["to"] = rungs
    return calls.submit_job(t.SubmitJob(kind="convert.ladder", inputs=_inputs(target, answers), parameters=parameters))


def _quantise_line(target: Target, answers: Answers) -> str:
    words = ["intramuros model quantise", quoted(target.name)]
    rungs, data = _rungs(answers), answers.get("data", "")
    words += ["--to", quoted(",".join(rungs))] if rungs else []
    words += ["--data", quoted(data)] if data else []
    words += ["--imatrix"] if answers["imatrix"] == "yes" else []
    return " ".join(words)


_SUITE = Field(name="suite", label="On suite", choices=suite_refs, required=False)
_DATA = Field(name="data", label="Or on data set", choices=dataset_refs, required=False)


DEEDS: tuple[Action, ...] = (
    Action(
        id="model.import",
        keys=("n",),
        label="bring in",
        help="Import a GGUF file or a Hugging Face folder.",
        places=("models",),
        roles=BUILDERS,
        danger=1,
        bar=True,
        deed=Deed(
            call=_import,
            cli="intramuros model import {file} --name {as}[ --licence {licence}]",
            done="It is being read.",
            consequences=("Every file is checked before it is kept; weights that can run code are refused.",),
            fields=(
                Field(name="file", label="File or folder", choices=model_files, faults=("model.", "source.")),
                Field(name="as", label="Name", faults=("name.",)),
                Field(name="licence", label="Licence (empty: files')", required=False),
            ),
            needs_target=False,
            then=to_job,
        ),
    ),
    Action(
        id="model.evaluate",
        keys=("e",),
        label="measure",
        help="Measure it on a suite or a data set.",
        places=("models", "model"),
        roles=BUILDERS,
        danger=1,
        bar=True,
        deed=Deed(
            call=_evaluate,
            cli="intramuros eval run {ref}[ --suite {suite}][ --data {data}]",
            done="{ref} is being measured.",
            consequences=("Of a data set the held-out part is asked. Gates and comparisons read the result.",),
            fields=(_SUITE, _DATA),
            refused=_not_one,
            then=to_job,
        ),
    ),
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
                _SUITE,
                _DATA,
            ),
            refused=_not_one,
            result=comparison_lines,
        ),
    ),
    Action(
        id="model.convert",
        keys=("c",),
        label="convert",
        help="Write it as GGUF, proven equal by both engines.",
        places=("models", "model"),
        roles=BUILDERS,
        danger=1,
        deed=Deed(
            call=_convert,
            cli="intramuros model convert {ref} --dtype {dtype}[ --prompts {data}]",
            done="{ref} is being converted.",
            consequences=("The converted model must answer as this one does. m registers what the job made.",),
            fields=(
                Field(name="dtype", label="Numbers as", default=lambda _: "f32", choices=_DTYPES),
                Field(name="data", label="Questions of", choices=dataset_refs, required=False),
            ),
            then=to_job,
        ),
    ),
    Action(
        id="model.quantise",
        keys=("t",),
        label="quantise",
        help="Write it smaller, and measure what that costs.",
        places=("models", "model"),
        roles=BUILDERS,
        danger=1,
        deed=Deed(
            call=_quantise,
            cli=_quantise_line,
            done="{ref} is being quantised.",
            consequences=("Each format's perplexity and speed are measured. `model register --rung` keeps one.",),
            fields=(
                Field(name="to", label="Formats (empty: all)", required=False),
                Field(name="data", label="Measured on", choices=dataset_refs, required=False),
                Field(name="imatrix", label="Importance matrix", default=lambda _: "no", choices=fixed("no", "yes")),
            ),
            then=to_job,
        ),
    ),
)
