"""Where one can be at the console: the lists and the records, as data that both front ends walk.

A place says how to fetch, how to say it in lines, and what is under the cursor. It never paints.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from appliance.api import calls
from appliance.api import types as t
from appliance.kernel.errors import NotFound
from tui.deed import Target
from tui.deeds.roles import AUDIT_READERS
from tui.draft import Draft
from tui.session import Session
from tui.text import Line, Look, Table
from tui.views import campaigns, compare, datasets, fleet, home, jobs, models, records, serve, tune

D = TypeVar("D")
LIVE = 2.0
"""Seconds between two looks at something that moves; nothing else is asked again without a key."""
_HOLD = 10.0
_AUDIT_PAGE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What of a long list is wanted."""

    action: str = ""
    pages: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ListPlace(Generic[D]):
    """A list. `items` are in the order of the table's rows."""

    id: str
    title: str
    fetch: Callable[[Session, Query], Coroutine[Any, Any, D]]
    table: Callable[[D, Look], Table]
    items: Callable[[D], tuple[Any, ...]]
    target: Callable[[Any], Target]
    opens: str
    empty: tuple[str, ...]
    interval: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadPlace(Generic[D]):
    """A record, read as lines. `fetch` gets what it returned last, so that it can wait for what is new."""

    id: str
    title: str
    fetch: Callable[[Session, Target, D | None], Coroutine[Any, Any, D]]
    lines: Callable[[D, Look], list[Line]]
    target: Callable[[D], Target | None]
    more: Callable[[D, Look], list[Line]] | None = None
    """a second view of the same data, such as the whole log"""
    parts: Callable[[D, Look], dict[int, Target]] = lambda _, __: {}
    """which of the lines are about something that can be opened from here; its word `number` opens it in line mode"""
    interval: Callable[[D], float] = lambda _: 0.0


def job_target(job: t.JobView | t.JobDetail) -> Target:
    """Name a job."""
    view = job.job if isinstance(job, t.JobDetail) else job
    words = {"id": view.id, "name": view.id, "title": view.what, "verb": "job", "run": f"run:{view.id}"}
    return Target(name=view.id, item=job, words=words, opens="job")


def campaign_target(campaign: t.CampaignView | t.CampaignDetail) -> Target:
    """Name a campaign; its `run` is the best one that it found."""
    view = campaign.campaign if isinstance(campaign, t.CampaignDetail) else campaign
    best = view.summary.get("job", "") if view.kind == "search" else ""
    words = {"id": view.id, "name": view.id, "title": view.title, "verb": view.kind}
    words |= {"run": f"run:{best}"} if best else {}
    return Target(name=view.id, item=campaign, words=words, opens="campaign")


def _parts_of(campaign: t.CampaignDetail, look: Look) -> dict[int, Target]:
    title = campaign.campaign.title
    return {
        at: Target(
            name=step.job,
            words={"id": step.job, "number": str(step.number), "title": f"{step.name}: {title}"},
            opens="job",
        )
        for at, step in campaigns.part_lines(campaign, look).items()
    }


def _run_target(one: t.JobView | t.CampaignView) -> Target:
    return campaign_target(one) if isinstance(one, t.CampaignView) else job_target(one)


def model_target(model: t.ModelView | t.ModelDetail) -> Target:
    """Name a model version."""
    view = model.model if isinstance(model, t.ModelDetail) else model
    return Target(name=view.ref, item=model, words={"ref": view.ref, "model": view.ref})


def deployment_target(one: t.DeploymentView) -> Target:
    """Name a served name."""
    return Target(name=one.name, item=one, words={"name": one.name, "model": one.model, "previous": one.previous})


def _named(name: str, item: Any, **words: str) -> Target:
    return Target(name=name, item=item, words={"name": name, **words})


async def _home(session: Session, _: Target, __: home.HomeData | None) -> home.HomeData:
    async def newest() -> tuple[t.AuditEntry, ...] | None:
        if not session.roles & AUDIT_READERS:
            return None  # asking would leave a refusal in the trail at each refresh
        return (await session.send(calls.audit(limit=5))).entries

    status, running, audit = await asyncio.gather(session.send(calls.status()), session.send(calls.jobs()), newest())
    session.version = status.version
    return home.HomeData(status=status, jobs=running, audit=audit)


async def _job(session: Session, target: Target, watch: jobs.JobWatch | None) -> jobs.JobWatch:
    if watch is None:
        watch = jobs.JobWatch(detail=await session.send(calls.job(target.name)))
        hold = 0.0
    else:
        hold = 0.0 if watch.detail.job.state in jobs.ENDED else _HOLD
    page = await session.send(calls.job_events(target.name, after=watch.next, wait=hold))
    while page.events:
        watch.take(page)
        page = await session.send(calls.job_events(target.name, after=watch.next))
    watch.detail = await session.send(calls.job(target.name))
    return watch


async def _jobs(session: Session, _: Query) -> jobs.JobsData:
    found, above = await asyncio.gather(session.send(calls.jobs()), session.send(calls.campaigns()))
    return jobs.JobsData(jobs=found, campaigns=above)


async def _campaigns(session: Session, _: Query) -> tuple[campaigns.CampaignRow, ...]:
    async def row(view: t.CampaignView) -> campaigns.CampaignRow:
        under_way = view.state in campaigns.ACTIVE
        return campaigns.CampaignRow(
            view=view, detail=await session.send(calls.campaign(view.id)) if under_way else None
        )

    return tuple(await asyncio.gather(*map(row, await session.send(calls.campaigns()))))


def _job_interval(watch: jobs.JobWatch) -> float:
    """What has stopped may go on from anywhere; only what has succeeded stands still."""
    state = watch.detail.job.state
    return 0.0 if state == "succeeded" else LIVE if state in jobs.ENDED else 0.5


async def _audit(session: Session, query: Query) -> t.Page:
    entries: tuple[t.AuditEntry, ...] = ()
    before = 0
    for _ in range(query.pages):
        page = await session.send(calls.audit(before=before, limit=_AUDIT_PAGE, action=query.action))
        entries += page.entries
        before = page.next
        if not before:
            break
    return t.Page(entries=entries, next=before)


async def _event(session: Session, target: Target, _: t.AuditEntry | None) -> t.AuditEntry:
    if isinstance(target.item, t.AuditEntry):
        return target.item
    page = await session.send(calls.audit(before=int(target.name) + 1, limit=1))
    return _first(page.entries, target)


async def _backup(session: Session, target: Target, _: t.BackupView | None) -> t.BackupView:
    return _first(tuple(one for one in await session.send(calls.backups()) if one.id == target.name), target)


async def _box(session: Session, target: Target, _: t.FleetBox | None) -> t.FleetBox:
    return _first(tuple(one for one in await session.send(calls.fleet()) if one.name == target.name), target)


async def _key(session: Session, target: Target, _: t.KeyView | None) -> t.KeyView:
    wanted = target.words.get("id", target.name)
    return _first(tuple(one for one in await session.send(calls.keys()) if one.id == wanted), target)


async def _recipe(session: Session, target: Target, _: t.RecipeView | None) -> t.RecipeView:
    return _first(tuple(one for one in await session.send(calls.recipes()) if one.name == target.name), target)


async def _plan(session: Session, target: Target, _: tune.Planned | None) -> tune.Planned:
    assert isinstance(target.item, Draft)
    return tune.Planned(draft=target.item, plan=await session.send(calls.plan_training(target.item.body())))


async def _compared(session: Session, target: Target, _: tuple[t.JobDetail, ...] | None) -> tuple[t.JobDetail, ...]:
    return tuple(await asyncio.gather(*(session.send(calls.job(one)) for one in target.words["ids"].split())))


def compared_target(ids: tuple[str, ...]) -> Target:
    """Name several runs."""
    return Target(words={"ids": " ".join(ids)})


def _first(found: tuple[D, ...], target: Target) -> D:
    if not found:
        raise NotFound("console.gone", f"{target.name} is no longer there.", hint="Go back and refresh.")
    return found[0]


def _moving(one: t.DeploymentView) -> float:
    return LIVE if one.state == "starting" or (one.worker and one.worker.state != "ready") else LIVE * 5


HOME: ReadPlace[home.HomeData] = ReadPlace(
    id="home",
    title="Home",
    fetch=_home,
    lines=home.home_lines,
    target=lambda _: None,
    interval=lambda _: LIVE,
)

LISTS: tuple[ListPlace[Any], ...] = (
    ListPlace(
        id="models",
        title="Models",
        fetch=lambda session, _: session.send(calls.models()),
        table=models.models_table,
        items=lambda data: data,
        target=model_target,
        opens="model",
        empty=("No model is registered yet.", "n brings one in, or:   intramuros model import FILE --name NAME"),
    ),
    ListPlace(
        id="jobs",
        title="Jobs",
        fetch=_jobs,
        table=jobs.jobs_table,
        items=jobs.jobs_in_order,
        target=_run_target,
        opens="job",
        empty=("No job has run yet.", "Start one:      intramuros train lora --base MODEL --data DATASET"),
        interval=LIVE,
    ),
    ListPlace(
        id="campaigns",
        title="Campaigns",
        fetch=_campaigns,
        table=campaigns.campaigns_table,
        items=lambda data: tuple(row.view for row in data),
        target=campaign_target,
        opens="campaign",
        empty=(
            "No search, k-fold or pipeline was started yet.",
            "n, f or p starts one, or:   intramuros search run FILE",
        ),
        interval=LIVE,
    ),
    ListPlace(
        id="datasets",
        title="Data sets",
        fetch=lambda session, _: session.send(calls.datasets()),
        table=datasets.datasets_table,
        items=lambda data: data,
        target=lambda one: _named(one.ref, one, ref=one.ref),
        opens="dataset",
        empty=("No data set is here yet.", "n brings one in, or:   intramuros dataset import FILE --name NAME"),
    ),
    ListPlace(
        id="tune",
        title="Tune: what can be trained",
        fetch=lambda session, _: session.send(calls.recipes()),
        table=tune.recipes_table,
        items=lambda data: data,
        target=lambda one: _named(one.name, one),
        opens="recipe",
        empty=("This appliance knows no recipe.", "Look with:      intramuros train recipes"),
    ),
    ListPlace(
        id="serve",
        title="Serve",
        fetch=lambda session, _: session.send(calls.deployments()),
        table=serve.deployments_table,
        items=lambda data: data,
        target=deployment_target,
        opens="deployment",
        empty=("Nothing is served yet.", "D serves a model version, or:   intramuros deploy MODEL --as NAME"),
        interval=LIVE,
    ),
    ListPlace(
        id="backups",
        title="Backups",
        fetch=lambda session, _: session.send(calls.backups()),
        table=records.backups_table,
        items=lambda data: data,
        target=lambda one: _named(one.id, one, id=one.id),
        opens="backup",
        empty=("There is no backup yet.", "b takes the first one, or:      intramuros backup create"),
    ),
    ListPlace(
        id="audit",
        title="Audit",
        fetch=_audit,
        table=records.audit_table,
        items=lambda data: data.entries,
        target=lambda one: Target(name=str(one.seq), item=one, words={"action": one.action}),
        opens="event",
        empty=("No event to show.", "The whole trail for an auditor:  intramuros audit export FILE"),
    ),
    ListPlace(
        id="access",
        title="Access: API keys",
        fetch=lambda session, _: session.send(calls.keys()),
        table=records.keys_table,
        items=lambda data: data,
        target=lambda one: _named(one.name, one, id=one.id),
        opens="key",
        empty=(
            "There is no API key yet, so no application can ask anything.",
            "n creates one, or:  intramuros key create NAME",
        ),
    ),
    ListPlace(
        id="fleet",
        title="Fleet: boxes that train together",
        fetch=lambda session, _: session.send(calls.fleet()),
        table=fleet.fleet_table,
        items=lambda data: data,
        target=lambda one: _named(one.name, one),
        opens="box",
        empty=("This box is in no fleet; IT staff join boxes with the installer.", "Look again:      intramuros fleet"),
        interval=LIVE * 5,
    ),
)

READS: tuple[ReadPlace[Any], ...] = (
    HOME,
    ReadPlace(
        id="model",
        title="Model",
        fetch=lambda session, target, _: session.send(calls.model(target.name)),
        lines=models.model_lines,
        target=model_target,
    ),
    ReadPlace(
        id="job",
        title="Job",
        fetch=_job,
        lines=jobs.job_lines,
        more=jobs.job_log_lines,
        target=lambda watch: job_target(watch.detail),
        interval=_job_interval,
    ),
    ReadPlace(
        id="campaign",
        title="Campaign",
        fetch=lambda session, target, _: session.send(calls.campaign(target.name)),
        lines=campaigns.campaign_lines,
        target=campaign_target,
        parts=_parts_of,
        interval=lambda detail: 0.0 if detail.campaign.state == "succeeded" else LIVE,
    ),
    ReadPlace(
        id="dataset",
        title="Data set",
        fetch=lambda session, target, _: session.send(calls.dataset(target.name)),
        lines=datasets.dataset_lines,
        target=lambda detail: _named(detail.dataset.ref, detail, ref=detail.dataset.ref),
    ),
    ReadPlace(
        id="recipe",
        title="Recipe",
        fetch=_recipe,
        lines=tune.recipe_lines,
        target=lambda one: _named(one.name, one),
    ),
    ReadPlace(
        id="plan",
        title="Plan of",
        fetch=_plan,
        lines=tune.plan_lines,
        target=lambda planned: _named(planned.draft.recipe.name, planned),
    ),
    ReadPlace(
        id="compare",
        title="Runs side by side",
        fetch=_compared,
        lines=compare.comparison_of_runs,
        target=lambda _: None,
    ),
    ReadPlace(
        id="deployment",
        title="Served name",
        fetch=lambda session, target, _: session.send(calls.deployment(target.name)),
        lines=serve.deployment_lines,
        target=deployment_target,
        interval=_moving,
    ),
    ReadPlace(
        id="event",
        title="Audit event",
        fetch=_event,
        lines=records.audit_lines,
        target=lambda one: _named(str(one.seq), one),
    ),
    ReadPlace(
        id="backup",
        title="Backup",
        fetch=_backup,
        lines=records.backup_lines,
        target=lambda one: _named(one.id, one, id=one.id),
    ),
    ReadPlace(
        id="key",
        title="API key",
        fetch=_key,
        lines=records.key_lines,
        target=lambda one: _named(one.name, one, id=one.id),
    ),
    ReadPlace(
        id="box",
        title="Box",
        fetch=_box,
        lines=fleet.box_lines,
        target=lambda one: _named(one.name, one),
        interval=lambda _: LIVE * 5,
    ),
)

LIST_OF = {place.id: place for place in LISTS}
READ_OF = {place.id: place for place in READS}


def record_of(item: Any, look: Look) -> list[Line]:
    """The full record of a thing, as it came from the appliance."""
    return records.record_lines(msgspec.to_builtins(item), look)
