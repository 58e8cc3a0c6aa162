"""Moves every campaign on: searches, cross-validations, pipelines and repetitions, each in the name of who began it.

Keeps no state of its own. What there is to do follows from rows, so that a daemon killed anywhere goes on. The rights
of the person are looked up at every move: somebody who lost a role cannot have the appliance act for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Row

from appliance.access.roles import Role, roles_of
from appliance.api import types as t
from appliance.kernel.errors import InternalError, IntramurosError, StorageFailure, Unavailable
from appliance.kernel.events import Metric
from appliance.kernel.problem import problem_of
from appliance.services import campaigns, kfolds, pipelines, reruns, searches
from appliance.services.context import Caller, Context

_POLL = 0.5
_IDLE = 30.0

Log = Callable[[str], tuple[t.JobEvent, ...]]
"""Job -> its events so far."""


class Coordinator:
    """The only one who moves campaigns."""

    def __init__(self, ctx: Context, log: Log, *, owner_uid: int | None, on_box: bool) -> None:
        self._ctx = ctx
        self._log = log
        self._owner_uid = owner_uid
        self._on_box = on_box
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Look at the campaigns again."""
        self._wake.set()

    async def run(self) -> None:
        """Serve until cancelled. While a campaign is active it is looked at twice a second: jobs end by themselves."""
        while True:
            self._wake.clear()
            active = await asyncio.to_thread(campaigns.active_campaigns, self._ctx)
            for row in active:
                await asyncio.to_thread(self._move, row)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POLL if active else _IDLE):
                    await self._wake.wait()

    def _move(self, row: Row[Any]) -> None:
        """One move of one campaign; whatever goes wrong is that campaign's failure, a full disk apart."""
        ctx = Context(appliance=self._ctx.appliance, caller=self._author(row), campaign=row.id)
        try:
            match row.kind:
                case "search":
                    searches.advance(ctx, row, self._reports)
                case "kfold":
                    kfolds.advance(ctx, row)
                case "pipeline":
                    pipelines.advance(ctx, row)
                case _:
                    reruns.advance(ctx, row)
            return
        except (StorageFailure, Unavailable) as error:
            print(f"{row.kind} {row.id} goes on later: {error}", file=sys.stderr)
            return
        except IntramurosError as error:
            problem = problem_of(error)
        except Exception as error:  # noqa: BLE001 - the border of the loop that runs campaigns, as that of jobs
            traceback.print_exc()
            message = f"{row.kind} {row.id} stopped on an unexpected {type(error).__name__}."
            problem = problem_of(InternalError("campaign.defect", message, hint="logs/daemon.log has the details."))
        campaigns.finish(ctx, row.id, "failed", summary={}, problem=problem)

    def _author(self, row: Row[Any]) -> Caller:
        roles: frozenset[Role] = roles_of(row.created_uid, self._owner_uid, on_box=self._on_box)
        return Caller(user=row.created_by, uid=row.created_uid, roles=roles)

    def _reports(self, job: str, metric: str) -> Mapping[int, float]:
        """Return a job's figures on its way; one that was repeated after a crash counts once.

        The loss of rows set aside stands for its best and for that of the held-out rows, which nobody sees before the
        end.
        """
        name = "validation_loss" if metric in {"heldout_loss", "best_validation_loss"} else metric
        return {
            entry.event.step: entry.event.value
            for entry in self._log(job)
            if isinstance(entry.event, Metric) and entry.event.name == name and entry.event.step
        }
