"""Campaigns of the believable appliance: a search and a pipeline under way, and one of each kind that has ended."""

from __future__ import annotations

from collections.abc import Mapping

from appliance.api import types as t
from appliance.kernel.events import Progress
from tests.console.fake_data import FINISHED, at, digest, job

SEARCH = "01K03YQ5XE0000000000000005"
PIPELINE = "01K00YQ5XF0000000000000006"
KFOLD = "01K00XQ5XG0000000000000007"
FOUND = "01K00WQ5XH0000000000000008"
RERUN = "01K00VQ5XJ0000000000000009"
_RECIPE = "recipe: lora\nbase: seed@1\ndata: faq@2\nseed: 0\nwith:\n  rank: 16\n"
_APPROVAL = t.Problem(
    code="pipeline.approval",
    message="faq@3 waits for somebody other than its author to approve it for prod.",
    hint="An approver: `intramuros model approve faq@3 --to prod`. The pipeline then goes on by itself.",
)
_UNDER_WAY = Progress(phase="train", fraction=0.4, step=40, steps=100, loss=1.5, eta_seconds=95.0)
_FIRST = {"rank": 8, "learning_rate": 0.0009}
_SECOND = {"rank": 16, "learning_rate": 0.0021}
_THIRD = {"rank": 64, "learning_rate": 0.08}

TRIALS = (
    job(
        "01K03YQ5XM0000000000000011",
        "train.lora",
        "seed@1 on faq@2",
        "running",
        created_at=at(minutes=48),
        started_at=at(minutes=40),
        parent=SEARCH,
        part=t.JobPart(kind="search", name="trial 3", values=_SECOND),
        progress=_UNDER_WAY,
    ),
    job(
        "01K03YQ5XK0000000000000010",
        "train.lora",
        "seed@1 on faq@2",
        "succeeded",
        created_at=at(minutes=49),
        started_at=at(minutes=49),
        finished_at=at(minutes=43),
        parent=SEARCH,
        part=t.JobPart(kind="search", name="trial 1", values=_FIRST),
        summary={"metrics": {"heldout_loss": 1.31}},
    ),
)


def _campaign(id: str, kind: str, title: str, state: str, **more: object) -> t.CampaignView:
    values: dict[str, object] = {"created_by": "anna", "created_at": at(days=4)} | more
    return t.CampaignView(id=id, kind=kind, title=title, state=state, **values)  # type: ignore[arg-type]


CAMPAIGNS = (
    _campaign(SEARCH, "search", "seed@1 + faq@2", "running", created_at=at(minutes=51), done=2, steps=8),
    _campaign(PIPELINE, "pipeline", "faq-weekly", "waiting", created_by="bruno", done=3, steps=5, problem=_APPROVAL),
    _campaign(
        KFOLD,
        "kfold",
        "banking@1",
        "succeeded",
        done=3,
        steps=3,
        summary={
            "metrics": {
                "accuracy": {"mean": 0.931, "deviation": 0.004, "low": 0.9205, "high": 0.9419, "values": []},
                "macro_f1": {"mean": 0.9204, "deviation": 0.0051, "low": 0.9071, "high": 0.9337, "values": []},
            }
        },
    ),
    _campaign(
        FOUND,
        "search",
        "seed@1 + faq@1",
        "succeeded",
        done=3,
        steps=3,
        summary={
            "best": 2,
            "value": 1.2874,
            "values": {"rank": 16, "learning_rate": 0.0021},
            "job": FINISHED,
            "recipe": _RECIPE,
            "importance": {"learning_rate": 0.71, "rank": 0.29},
            "trials": {"succeeded": 2, "pruned": 1, "failed": 0},
        },
    ),
    _campaign(
        RERUN,
        "rerun",
        f"run:{FINISHED}",
        "succeeded",
        done=1,
        steps=1,
        summary={"identical": True, "files": 7, "differing": [], "run": FINISHED, "job": FINISHED},
    ),
)


def _steps(*steps: Mapping[str, object]) -> tuple[t.CampaignStepView, ...]:
    return tuple(t.CampaignStepView(number=i, **step) for i, step in enumerate(steps, 1))  # type: ignore[arg-type]


STEPS = {
    SEARCH: _steps(
        {"name": "trial 1", "state": "succeeded", "spec": _FIRST, "outcome": {"value": 1.31}, "job": TRIALS[1].id},
        {"name": "trial 2", "state": "pruned", "spec": _THIRD, "outcome": {"value": None, "pruned_at": 20}},
        {"name": "trial 3", "state": "running", "spec": _SECOND, "job": TRIALS[0].id, "progress": _UNDER_WAY},
    ),
    PIPELINE: _steps(
        {
            "name": "train",
            "state": "succeeded",
            "spec": {"verb": "train"},
            "outcome": {"run": f"run:{FINISHED}", "metrics": {"loss": 0.934}},
            "job": FINISHED,
        },
        {"name": "convert", "state": "succeeded", "spec": {"verb": "convert"}, "outcome": {"run": f"run:{FINISHED}"}},
        {"name": "register", "state": "succeeded", "spec": {"verb": "register"}, "outcome": {"ref": "faq@3"}},
        {"name": "promote", "state": "waiting", "spec": {"verb": "promote"}, "problem": _APPROVAL},
        {"name": "deploy", "state": "pending", "spec": {"verb": "deploy"}},
    ),
    KFOLD: _steps(
        *(
            {"name": f"fold {i}", "state": "succeeded", "outcome": {"metrics": {"accuracy": value}}}
            for i, value in enumerate((0.935, 0.931, 0.927), 1)
        )
    ),
    FOUND: _steps(
        {"name": "trial 1", "state": "succeeded", "spec": _FIRST, "outcome": {"value": 1.31}},
        {"name": "trial 2", "state": "succeeded", "spec": _SECOND, "outcome": {"value": 1.2874}, "job": FINISHED},
        {"name": "trial 3", "state": "pruned", "spec": _THIRD, "outcome": {"value": None, "pruned_at": 20}},
    ),
    RERUN: _steps({"name": "rerun", "state": "succeeded", "outcome": {"identical": True, "files": 7}, "job": FINISHED}),
}


def campaign_detail(id: str) -> t.CampaignDetail:
    """One campaign with its parts."""
    view = next(one for one in CAMPAIGNS if one.id == id)
    spec = {"metric": "heldout_loss", "direction": "minimize"} if view.kind == "search" else {}
    return t.CampaignDetail(campaign=view, spec=spec, steps=STEPS[id], mark=digest("6"))
