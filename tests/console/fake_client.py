"""An appliance in memory that answers the console's calls, records them, and can fail, vanish or be empty."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from appliance.api import types as t
from appliance.api.calls import Call
from appliance.kernel.errors import BadInput, IntramurosError, NotFound, Unavailable
from tests.console import fake_data as data
from tests.console.fake_campaigns import CAMPAIGNS, TRIALS, campaign_detail

T = TypeVar("T")
Query = dict[str, str]


class FakeAppliance:
    """Implements the console's `Sender`. `sent` lists method and path of every call."""

    def __init__(self, *, roles: tuple[str, ...] = data.ALL_ROLES, empty: bool = False) -> None:
        self.roles = roles
        self.empty = empty
        self.sent: list[tuple[str, str]] = []
        self.bodies: list[Any] = []
        self.failures: dict[str, IntramurosError] = {}
        self.away = False
        self.jobs: tuple[t.JobView, ...] = () if empty else data.JOBS
        self.campaigns: tuple[t.CampaignView, ...] = ()
        self.events = data.loss_events()
        self.long_polls = 0
        self._routes: list[tuple[re.Pattern[str], Callable[..., Any]]] = [
            (re.compile(pattern), answer) for pattern, answer in self._table()
        ]

    def with_campaigns(self) -> FakeAppliance:
        """Let it have searches, k-folds and pipelines too."""
        self.jobs, self.campaigns = (*self.jobs, *TRIALS), CAMPAIGNS
        return self

    async def send(self, call: Call[T]) -> T:
        """Answer one call as the server would."""
        await asyncio.sleep(0)
        path = urlsplit(call.path)
        self.sent.append((call.method, path.path))
        self.bodies.append(call.body)
        query = {name: values[0] for name, values in parse_qs(path.query).items()}
        if float(query.get("hold", 0)) > 0:
            self.long_polls += 1
            await asyncio.Event().wait()
        answer = self.answer(call.method, path.path, query)
        return msgspec.convert(msgspec.to_builtins(answer), call.answer)

    async def aclose(self) -> None:
        """Nothing is open."""

    def answer(self, method: str, path: str, query: Query) -> Any:
        """What the appliance tells; raises its errors."""
        if self.away:
            raise Unavailable("api.not_running", "No appliance answers.", hint="Start it with `intramuros up`.")
        asked = f"{method} {path}"
        for beginning, error in self.failures.items():
            if asked.startswith(beginning):
                raise error
        for pattern, answer in self._routes:
            if found := pattern.fullmatch(asked):
                return answer(query, *(unquote(part) for part in found.groups()))
        raise NotFound("fake.route", f"No route for {asked}.")

    def _table(self) -> list[tuple[str, Callable[..., Any]]]:
        def some(things: tuple[Any, ...]) -> Callable[[Query], Any]:
            return lambda _: () if self.empty else things

        return [
            (r"GET /v1/whoami", lambda _: t.WhoAmI(user="anna", uid=1000, roles=self.roles)),
            (r"GET /v1/status", lambda _: self._status()),
            (r"GET /v1/models", some(data.MODELS)),
            (r"POST /v1/models/register", lambda _: self._model("faq@3")),
            (r"POST /v1/(?:models|datasets)/(?:import|generate)", lambda _: data.JOBS[1]),
            (r"(?:GET|POST) /v1/models/([^/]+)(?:/(?:verify|promote|approve))?", lambda _, ref: self._model(ref)),
            (r"DELETE /v1/models/([^/]+)", lambda _, ref: _find(data.MODELS, "ref", ref)),
            (r"GET /v1/datasets", some(data.DATASETS)),
            (r"GET /v1/datasets/([^/]+)", lambda _, ref: self._dataset(ref)),
            (r"DELETE /v1/datasets/([^/]+)", lambda _, ref: _find(data.DATASETS, "ref", ref)),
            (r"POST /v1/datasets/([^/]+)/(?:check|split)", lambda _, ref: data.JOBS[1]),
            (r"GET /v1/suites", lambda _: ()),
            (r"POST /v1/evaluations/compare", lambda _: data.COMPARISON),
            (r"GET /v1/recipes", some(data.RECIPES)),
            (r"POST /v1/jobs/plan", lambda _: data.PLAN),
            (r"POST /v1/jobs", lambda _: data.JOBS[1]),
            (r"GET /v1/jobs", lambda _: self.jobs),
            (r"GET /v1/jobs/([^/]+)", lambda _, id: self._job(id)),
            (r"GET /v1/jobs/([^/]+)/events", self._events),
            (r"POST /v1/jobs/([^/]+)/(?:cancel|resume)", lambda _, id: self._job(id).job),
            (r"GET /v1/campaigns", lambda _: self.campaigns),
            (r"GET /v1/campaigns/([^/]+)", lambda _, id: campaign_detail(id)),
            (r"POST /v1/campaigns/([^/]+)/(?:cancel|resume)", lambda _, id: campaign_detail(id).campaign),
            (r"POST /v1/campaigns/(search|kfold|pipeline)", lambda _, kind: _find(CAMPAIGNS, "kind", kind)),
            (r"POST /v1/runs/([^/]+)/verify", lambda _, id: CAMPAIGNS[-1]),
            (r"GET /v1/deployments", some(data.DEPLOYMENTS)),
            (r"(?:GET|DELETE) /v1/deployments/([^/]+)", lambda _, name: _find(data.DEPLOYMENTS, "name", name)),
            (r"POST /v1/deployments/([^/]+)/(?:deploy|rollback|policy)", lambda _, name: data.DEPLOYMENTS[0]),
            (r"POST /v1/deployments/([^/]+)/plan", self._plan_of_serving),
            (
                r"POST /v1/deployments/([^/]+)/try",
                lambda _, name: t.TryAnswer(
                    text="Building B.", prompt_tokens=21, completion_tokens=4, ttft=0.08, total=0.21
                ),
            ),
            (r"GET /v1/fleet", some(data.FLEET)),
            (r"GET /v1/keys", some(data.KEYS)),
            (r"POST /v1/keys", lambda _: t.NewKey(key=data.KEYS[0], secret="im-secret-shown-once")),
            (r"DELETE /v1/keys/([^/]+)", lambda _, id: _find(data.KEYS, "id", id)),
            (r"GET /v1/audit", self._audit),
            (
                r"GET /v1/audit/verify",
                lambda _: t.AuditVerdict(ok=True, events=1204, checkpoints=19, head=data.digest("4")),
            ),
            (r"GET /v1/backups", some(data.BACKUPS)),
            (r"POST /v1/backups(?:/verify)?", lambda _: data.BACKUPS[0]),
        ]

    def _plan_of_serving(self, _: Query, name: str) -> t.PlanView:
        wished = self.bodies[-1]
        model, draft = self._model(wished.model).model.ref, wished.options.draft
        if draft == model:
            raise BadInput("deploy.draft", "A model cannot guess for itself.", hint="Take a smaller one.")
        return data.plan_of_serving(name, model, draft=bool(draft))

    def _status(self) -> t.StatusView:
        if not self.empty:
            return data.STATUS
        none = {"jobs_running": 0, "jobs_queued": 0, "models": 0, "datasets": 0, "deployments": 0, "attention": ()}
        return msgspec.structs.replace(
            data.STATUS, **none, units=data.UNITS[:1], last_backup="", audit_checkpoint="", audit_events=1
        )

    def _model(self, ref: str) -> t.ModelDetail:
        first = _find(data.MODELS, "ref", ref)
        return t.ModelDetail(
            model=first,
            description={},
            files=data.FILES,
            lineage=data.LINEAGE if first.kind == "tuned" else {},
            evaluations=data.EVALUATIONS if ref == "faq@3" else (),
            approvals=data.APPROVALS if ref == "faq@3" else (),
            stages=data.STAGES if ref == "faq@3" else (),
            used_by=("assistant",) if ref == "faq@3" else (),
        )

    def _dataset(self, ref: str) -> t.DatasetDetail:
        found = t.DatasetDetail(
            dataset=_find(data.DATASETS, "ref", ref),
            statistics=data.STATISTICS,
            samples=data.SAMPLES,
            rejected=({"line": 17, "reason": "empty answer"},),
            files=data.FILES,
            used_by=("faq@2",),
        )
        if found.dataset.form != "classification":
            return found
        return msgspec.structs.replace(
            found,
            labels=data.LABELS,
            personal={"email": 3, "phone": 1},
            check=data.CHECK,
            check_job=data.FINISHED,
            samples=({"text": "My card was declined", "label": "declined_payment"},),
            used_by=(),
        )

    def _job(self, id: str) -> t.JobDetail:
        found = _find(self.jobs, "id", id)
        spec = data.SPEC | {"parameters": {"rank": 16 if found.state == "running" else 8}}
        return t.JobDetail(job=found, spec=spec, files=data.FILES if found.state == "succeeded" else ())

    def _events(self, query: Query, id: str) -> t.JobEvents:
        after = int(query.get("after", 0))
        page = tuple(event for event in self.events if event.seq > after)[:50]
        return t.JobEvents(events=page, next=page[-1].seq if page else after, state=_find(self.jobs, "id", id).state)

    def _audit(self, query: Query) -> t.Page:
        before, limit = int(query.get("before", 0)), int(query.get("limit", 100))
        action = query.get("action", "")
        known = () if self.empty else data.AUDIT
        found = [one for one in known if (not before or one.seq < before) and one.action.startswith(action)]
        return t.Page(entries=tuple(found[:limit]), next=found[limit - 1].seq if len(found) > limit else 0)


def _find(things: tuple[Any, ...], field: str, wanted: str) -> Any:
    for thing in things:
        if getattr(thing, field) == wanted:
            return thing
    raise NotFound(f"fake.{field}", f"There is no {wanted}.", hint="Look at the list again.")
