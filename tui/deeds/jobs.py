"""Jobs and campaigns: resume, cancel, register, verify. One key does it to either, so both are told apart here."""

from __future__ import annotations

from appliance.api import calls
from appliance.api import types as t
from appliance.api.calls import Call
from tui.deed import Action, Answers, Deed, Field, Target
from tui.deeds.destinations import to_campaign, to_model
from tui.deeds.roles import BUILDERS

_PLACES = ("jobs", "job", "campaigns", "campaign")
_NOT_REPEATABLE = ("model.import", "dataset.import", "tune")


def _job(target: Target) -> t.JobView:
    item = target.item
    return item.job if isinstance(item, t.JobDetail) else item


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


DEEDS: tuple[Action, ...] = (
    Action(
        id="job.resume",
        keys=("u",),
        label="resume",
        help="Go on with what stopped; what was done stays.",
        places=_PLACES,
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
        places=_PLACES,
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
        places=_PLACES,
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
            then=to_model,
        ),
    ),
    Action(
        id="job.verify",
        keys=("v",),
        label="verify",
        help="Do a run again and compare every file.",
        places=_PLACES,
        roles=BUILDERS,
        danger=1,
        deed=Deed(
            call=lambda target, _: calls.verify_run(target.name),
            cli="intramuros run rerun {id} --verify",
            done="The run is being repeated.",
            consequences=("It takes as long as the first time; the verdict is kept with the run and its models.",),
            ready=_can_verify,
            then=to_campaign,
        ),
    ),
)
