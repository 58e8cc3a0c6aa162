"""The part of the action table that speaks to the appliance: call, consequences, and the CLI line that does the same.

No verb of the control API is known elsewhere in the console, and nothing here decides whether it is allowed.
"""

from __future__ import annotations

from appliance.api import calls
from appliance.api import types as t
from appliance.api.calls import Call
from appliance.kernel.clock import new_id
from appliance.kernel.errors import BadInput
from tui.deed import Action, Answers, Choices, Deed, Field, Question, Target, quoted
from tui.draft import Draft
from tui.session import Session
from tui.views.compare import comparison_lines
from tui.views.records import new_key_lines, verdict_lines
from tui.views.serve import answer_lines
from tui.views.tune import Planned, explained

AUDIT_READERS = frozenset({"admin", "auditor"})
_RUNS = frozenset({"admin", "operator"})
BUILDERS = _RUNS | {"data_scientist"}
_RUNS_PLACES = ("jobs", "job", "campaigns", "campaign")
_NOT_REPEATABLE = ("model.import", "dataset.import", "tune")
_NEXT_STAGE = {"none": "dev", "dev": "test", "test": "prod"}


async def _model_refs(session: Session) -> tuple[str, ...]:
    return tuple(model.ref for model in await session.send(calls.models()))


async def _dataset_refs(session: Session) -> tuple[str, ...]:
    return tuple(one.ref for one in await session.send(calls.datasets()))


def _dataset_refs_of(forms: tuple[str, ...]) -> Choices:
    async def choices(session: Session) -> tuple[str, ...]:
        return tuple(one.ref for one in await session.send(calls.datasets()) if one.form in forms)

    return choices


async def _priorities(_: Session) -> tuple[str, ...]:
    return t.PRIORITIES


async def _suite_refs(session: Session) -> tuple[str, ...]:
    return tuple(one.ref for one in await session.send(calls.suites()))


async def _divisions(_: Session) -> tuple[str, ...]:
    return ("hash", "stratified")


async def _served_names(session: Session) -> tuple[str, ...]:
    return tuple(one.name for one in await session.send(calls.deployments()))


async def _stages(_: Session) -> tuple[str, ...]:
    return ("dev", "test", "prod")


def _next_stage(target: Target) -> str:
    model = _model(target)
    return _NEXT_STAGE.get(model.stage, "prod") if model else ""


def _model(target: Target) -> t.ModelView | None:
    item = target.item
    return item.model if isinstance(item, t.ModelDetail) else item


def _job(target: Target) -> t.JobView:
    item = target.item
    return item.job if isinstance(item, t.JobDetail) else item


def _can_promote(target: Target) -> str:
    model = _model(target)
    return "it is in production already" if model and model.stage == "prod" else ""


def _can_remove(target: Target) -> str:
    used = target.item.used_by if isinstance(target.item, t.ModelDetail) else ()
    return f"it is used by {', '.join(used)}" if used else ""


def campaign_of(target: Target) -> t.CampaignView | None:
    """The search, k-fold, pipeline or repetition under the cursor; None for a job."""
    item = target.item.campaign if isinstance(target.item, t.CampaignDetail) else target.item
    return item if isinstance(item, t.CampaignView) else None


def _can_cancel(target: Target) -> str:
    campaign = campaign_of(target)
    if campaign is None:
        state = _job(target).state
        return "" if state in ("queued", "running") else f"the job is {state}"
    if campaign.kind == "rerun":
        return "cancel the job below it instead"
    return "" if campaign.state in ("running", "waiting") else f"the {campaign.kind} is {campaign.state}"


def _can_resume(target: Target) -> str:
    campaign = campaign_of(target)
    if campaign is None:
        state = _job(target).state
        return "" if state in ("cancelled", "failed", "interrupted") else f"the job is {state}"
    if campaign.kind == "rerun":
        return "verify the run once more instead"
    return "" if campaign.state in ("failed", "cancelled") else f"the {campaign.kind} is {campaign.state}"


def _cancel(target: Target, _: Answers) -> Call[t.JobView] | Call[t.CampaignView]:
    return calls.cancel_campaign(target.name) if campaign_of(target) else calls.cancel_job(target.name)


def _resume(target: Target, _: Answers) -> Call[t.JobView] | Call[t.CampaignView]:
    return calls.resume_campaign(target.name) if campaign_of(target) else calls.resume_job(target.name)


def _can_register(target: Target) -> str:
    campaign = campaign_of(target)
    if campaign is not None:
        return "" if target.words.get("run") else f"the {campaign.kind} has no best run"
    job = _job(target)
    if not job.kind.startswith(("train.", "convert.")):
        return "it made no model"
    return "" if job.state == "succeeded" else f"the job is {job.state}"


def _can_verify(target: Target) -> str:
    if campaign_of(target) is not None:
        return "only a run can be done again"
    job = _job(target)
    if job.kind in _NOT_REPEATABLE:
        return f"a {job.kind} run depends on more than its specification"
    return "" if job.state == "succeeded" else f"the job is {job.state}"


def _to_campaign(view: t.CampaignView) -> tuple[str, Target]:
    return "campaign", Target(name=view.id, words={"id": view.id, "name": view.id, "title": view.title})


def _to_model(detail: t.ModelDetail) -> tuple[str, Target]:
    ref = detail.model.ref
    return "model", Target(name=ref, words={"ref": ref, "model": ref})


def _can_roll_back(target: Target) -> str:
    return "" if target.item.previous else "there is no earlier revision"


def _can_ask(target: Target) -> str:
    return "" if target.item.state == "live" else f"it is {target.item.state}, not live"


def _can_pin(target: Target) -> str:
    return "it is pinned already" if target.item.policy.pinned else ""


def _can_unpin(target: Target) -> str:
    return "" if target.item.policy.pinned else "it is not pinned"


def _can_revoke(target: Target) -> str:
    return "it is revoked already" if target.item.revoked_at else ""


def _deploy(target: Target, answers: Answers) -> t.Deploy:
    return t.Deploy(
        model=answers.get("model") or target.words.get("ref", ""),
        override=answers.get("override", ""),
        request_id=new_id(),
    )


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


def _to_job(job: t.JobView) -> tuple[str, Target]:
    return "job", Target(name=job.id, words={"id": job.id, "name": job.id, "title": job.title})


def _dataset_in_use(target: Target) -> str:
    used = target.item.used_by if isinstance(target.item, t.DatasetDetail) else ()
    return f"it is used by {', '.join(used)}" if used else ""


def _check(target: Target, answers: Answers) -> Call[t.JobView]:
    near = _share("Likeness", answers["near"])
    return calls.check_dataset(target.name, t.CheckDataset(model=answers.get("model", ""), near=near))


def _split(target: Target, answers: Answers) -> Call[t.JobView]:
    train = _count("Per cent to train on", answers["train"])
    body = t.SplitDataset(
        by=answers["by"],
        train=train,
        heldout=100 - train,
        seed=_count("Seed", answers["seed"]),
        name=answers.get("as", ""),
        drop_near=_share("Likeness", answers["near"]),
    )
    return calls.split_dataset(target.name, body)


def _split_line(target: Target, answers: Answers) -> str:
    train, name, near = answers["train"], answers.get("as", ""), answers["near"]
    words = ["intramuros dataset split", quoted(target.name), "--train", quoted(train)]
    words += ["--heldout", str(100 - int(train))] if train.isdecimal() else []
    words += ["--by", quoted(answers["by"]), "--seed", quoted(answers["seed"])]
    words += ["--name", quoted(name)] if name else []
    words += ["--drop-near", quoted(near)] if near not in ("", "0") else []
    return " ".join(words)


def _count(name: str, text: str) -> int:
    if not text.isdecimal():
        raise BadInput("console.field", f"{name} cannot be {text!r}.", hint="It takes a whole number.")
    return int(text)


def _share(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise BadInput("console.field", f"{name} cannot be {text!r}.", hint="It takes a number from 0 to 1.") from None


def _compare(target: Target, answers: Answers) -> Call[t.ComparisonView]:
    suite, data = answers.get("suite", ""), answers.get("data", "")
    if bool(suite) == bool(data):
        raise BadInput("console.field", "Two models are compared on one thing.", hint="Give a suite or a data set.")
    return calls.compare(t.Compare(first=target.name, second=answers["other"], suite=suite, dataset=data))


def draft_target(draft: Draft) -> Target:
    """Name a run that is being filled in."""
    return Target(name=draft.recipe.name, item=draft, words={"name": draft.recipe.name})


def draft_question(draft: Draft, name: str) -> Question:
    """What a person is asked to change one row of the form."""

    def with_answers(answers: Answers) -> Draft:
        return draft.changed(name, answers.get("value", ""))

    def refused(answers: Answers) -> str:
        try:
            with_answers(answers)
        except BadInput as error:
            return f"{error.message} {error.hint}"
        return ""

    return Question(
        cli=lambda _, answers: (draft if refused(answers) else with_answers(answers)).command(),
        refused=refused,
        consequences=explained(draft, name),
        fields=(
            Field(
                name="value",
                label=name,
                default=lambda _: draft.value(name),
                choices=_choices_of(draft, name),
                required=draft.is_input(name) and any(one.required for one in draft.recipe.inputs if one.word == name),
            ),
        ),
    )


def _choices_of(draft: Draft, name: str) -> Choices | None:
    known = draft.field_of(name)
    if draft.is_input(name):
        forms = next(one.forms for one in draft.recipe.inputs if one.word == name)
        return _dataset_refs_of(forms) if forms else _model_refs
    if known is None or known.type not in ("choice", "bool"):
        return None
    fixed = known.choices or ("yes", "no")

    async def choices(_: Session) -> tuple[str, ...]:
        return fixed

    return choices


def _planned(target: Target) -> Planned:
    assert isinstance(target.item, Planned)
    return target.item


def _does_not_fit(target: Target) -> str:
    return "" if _planned(target).plan.memory.fits else "it does not fit in memory"


def _start_line(target: Target, _: Answers) -> str:
    return target.item.draft.command() if isinstance(target.item, Planned) else "intramuros train recipes"


_OVERRIDE = Field(name="override", label="Reason to pass the gate", required=False)
_SERVING = (
    "New requests go to {model} as soon as its engine is ready; until then the old one answers.",
    "Requests in flight finish on the old engine. V on Serve brings the old one back.",
)

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
            fields=(Field(name="stage", label="Stage", default=_next_stage, choices=_stages),),
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
            fields=(Field(name="stage", label="Stage", default=_next_stage, choices=_stages),),
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
        roles=_RUNS,
        danger=2,
        bar=True,
        deed=Deed(
            call=lambda target, answers: calls.deploy(answers["name"], _deploy(target, answers)),
            cli="intramuros deploy {ref} --as {name}[ --override {override}]",
            done="{name} is switching to {ref}; 4 shows it.",
            consequences=_SERVING,
            fields=(Field(name="name", label="Serve as", choices=_served_names), _OVERRIDE),
        ),
    ),
    Action(
        id="model.remove",
        keys=("X",),
        label="remove",
        help="Remove a version that nothing depends on.",
        places=("models", "model"),
        roles=_RUNS,
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
                Field(name="other", label="With", choices=_model_refs),
                Field(name="suite", label="On suite", choices=_suite_refs, required=False),
                Field(name="data", label="Or on data set", choices=_dataset_refs, required=False),
            ),
            result=comparison_lines,
        ),
    ),
    Action(
        id="dataset.check",
        keys=("c",),
        label="check",
        help="Look for duplicates, leakage, personal data.",
        places=("datasets", "dataset"),
        roles=BUILDERS,
        danger=1,
        bar=True,
        deed=Deed(
            call=_check,
            cli="intramuros dataset check {ref}[ --model {model}] --near {near}",
            done="{ref} is being checked.",
            consequences=("Reads every row and changes nothing; its report is shown with the data set.",),
            fields=(
                Field(name="model", label="Count tokens as", choices=_model_refs, required=False),
                Field(name="near", label="Nearly the same from", default=lambda _: "0.85"),
            ),
            then=_to_job,
        ),
    ),
    Action(
        id="dataset.split",
        keys=("d",),
        label="split",
        help="Divide it anew, into a new version.",
        places=("datasets", "dataset"),
        roles=BUILDERS,
        danger=1,
        bar=True,
        deed=Deed(
            call=_split,
            cli=_split_line,
            done="{ref} is being divided.",
            consequences=(
                "Makes a new version; {ref} stays as it is. What is not trained on is held out.",
                "By group:COLUMN or time:COLUMN too, for columns that the import kept.",
            ),
            fields=(
                Field(name="train", label="Per cent to train on", default=lambda _: "80"),
                Field(name="by", label="By", default=lambda _: "hash", choices=_divisions),
                Field(name="seed", label="Seed", default=lambda _: "0"),
                Field(name="as", label="New name (empty: same)", required=False),
                Field(name="near", label="Drop likeness (0: keep)", default=lambda _: "0"),
            ),
            then=_to_job,
        ),
    ),
    Action(
        id="dataset.remove",
        keys=("X",),
        label="remove",
        help="Remove a version that nothing depends on.",
        places=("datasets", "dataset"),
        roles=_RUNS,
        danger=3,
        bar=True,
        deed=Deed(
            call=lambda target, _: calls.remove_dataset(target.name),
            cli="intramuros dataset remove {ref}",
            done="{ref} is removed.",
            consequences=(
                "The version and the rows that only it has are deleted.",
                "Only a backup can bring them back. A version in use is refused.",
            ),
            ready=_dataset_in_use,
        ),
    ),
    Action(
        id="train.start",
        keys=("s",),
        label="start",
        help="Queue this run and follow it.",
        places=("plan",),
        roles=BUILDERS,
        danger=1,
        bar=True,
        deed=Deed(
            call=lambda target, _: calls.submit_job(_planned(target).draft.body()),
            cli=_start_line,
            done="The run is queued.",
            consequences=("It waits for its turn, seals checkpoints on the way, and can be stopped and resumed.",),
            ready=_does_not_fit,
            then=_to_job,
        ),
    ),
    Action(
        id="job.resume",
        keys=("u",),
        label="resume",
        help="Go on with what stopped; what was done stays.",
        places=_RUNS_PLACES,
        roles=BUILDERS,
        danger=1,
        bar=True,
        deed=Deed(
            call=_resume,
            cli="intramuros {verb} resume {id}",
            done="{title} goes on.",
            consequences=("A job continues from its newest valid checkpoint; parts that ended well are kept.",),
            ready=_can_resume,
        ),
    ),
    Action(
        id="job.cancel",
        keys=("C",),
        label="cancel run",
        help="Stop a job, or a search and its jobs.",
        places=_RUNS_PLACES,
        roles=BUILDERS,
        danger=2,
        bar=True,
        deed=Deed(
            call=_cancel,
            cli="intramuros {verb} cancel {id}",
            done="{title} is asked to stop.",
            consequences=(
                "{title}: what runs seals a checkpoint and stops.",
                "What was computed since the last one may be lost. u goes on with it later.",
            ),
            ready=_can_cancel,
        ),
    ),
    Action(
        id="job.register",
        keys=("m",),
        label="to models",
        help="Register what a run made as a model version.",
        places=_RUNS_PLACES,
        roles=BUILDERS,
        danger=1,
        bar=True,
        deed=Deed(
            call=lambda target, answers: calls.register_model(
                t.RegisterModel(name=answers["name"], run=target.words["run"], licence=answers.get("licence", ""))
            ),
            cli="intramuros model register {run} --name {name}[ --licence {licence}]",
            done="",
            consequences=("Its files become the next version of that name; gates decide where it may go from there.",),
            fields=(
                Field(name="name", label="Name"),
                Field(name="licence", label="Licence (empty: base's)", required=False),
            ),
            ready=_can_register,
            then=_to_model,
        ),
    ),
    Action(
        id="job.verify",
        keys=("v",),
        label="verify",
        help="Do a run again and compare every file.",
        places=_RUNS_PLACES,
        roles=BUILDERS,
        danger=1,
        deed=Deed(
            call=lambda target, _: calls.verify_run(target.name),
            cli="intramuros run rerun {id} --verify",
            done="The run is being repeated.",
            consequences=("It takes as long as the first time; the verdict is kept with the run and its models.",),
            ready=_can_verify,
            then=_to_campaign,
        ),
    ),
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
        roles=_RUNS,
        danger=2,
        bar=True,
        deed=Deed(
            call=lambda target, answers: calls.deploy(answers["name"], _deploy(target, answers)),
            cli="intramuros deploy {model} --as {name}[ --override {override}]",
            done="{name} is switching to {model}.",
            consequences=_SERVING,
            fields=(
                Field(name="name", label="Serve as", default=lambda target: target.name),
                Field(name="model", label="Model version", choices=_model_refs),
                _OVERRIDE,
            ),
            needs_target=False,
        ),
    ),
    Action(
        id="deployment.roll_back",
        keys=("V",),
        label="roll back",
        help="Bring the previous revision back.",
        places=("serve", "deployment"),
        roles=_RUNS,
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
        roles=_RUNS,
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
        roles=_RUNS,
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
        roles=_RUNS,
        danger=3,
        deed=Deed(
            call=lambda target, _: calls.remove_deployment(target.name),
            cli="intramuros undeploy {name}",
            done="{name} is no longer served.",
            consequences=("Applications that call {name} get an error from now on. The model itself stays.",),
        ),
    ),
    Action(
        id="backup.create",
        keys=("b",),
        label="back up",
        help="Take a consistent snapshot while serving.",
        places=("backups", "backup"),
        roles=_RUNS,
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
        roles=_RUNS | {"auditor"},
        bar=True,
        deed=Deed(
            call=lambda _, __: calls.verify_backup(),
            cli="intramuros backup verify",
            done="Every byte of the repository was read back and is right.",
            needs_target=False,
        ),
    ),
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
    Action(
        id="key.create",
        keys=("n",),
        label="new key",
        help="Create an API key; its secret is shown once.",
        places=("access", "key"),
        danger=1,
        roles=_RUNS,
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
                Field(name="priority", label="Priority", default=lambda _: t.PRIORITIES[0], choices=_priorities),
                Field(name="group", label="Share group (empty: alone)", required=False),
                Field(name="only", label="Only for (empty: all)", choices=_served_names, required=False),
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
        roles=_RUNS,
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
