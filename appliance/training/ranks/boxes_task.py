"""The job's side of a run that rank hosts train: hands out inputs, starts every box, watches, brings the model home.

The job itself has no network; it reaches each box through a Unix socket. It holds nothing that a second attempt would
miss: the boxes keep their checkpoints, and a run that goes on without its job is found again.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Final, TypeVar

import msgspec

from appliance.fleet.client import RankHostClient
from appliance.fleet.inventory import Box, read_inventory, socket_of
from appliance.fleet.wire import Order, RunView
from appliance.jobs.spec import JobSpec, TaskResult, file_entry, manifest_digest
from appliance.jobs.workspace import Interrupted, RankHosts, Workspace
from appliance.kernel.durable import write_file
from appliance.kernel.errors import IntegrityFailure, IntramurosError, NotFound, Unavailable
from appliance.kernel.events import CheckpointSaved, Event, Note, Progress
from appliance.kernel.problem import Problem, error_of
from appliance.training.ranks.launch_task import APART
from appliance.training.ranks.placement import Placement
from appliance.training.recipes.full import FullRecipe

T = TypeVar("T")

_RESTARTS: Final = 3
"""attempts of all boxes in a row without a new checkpoint"""
_PATIENCE: Final = 300.0
"""seconds that a box may be away before the job fails; it can be resumed"""
_HOLD: Final = 1.0
_PAUSE: Final = 0.5
_STOP_SECONDS: Final = 40.0
"""longer than a rank host gives a run to stop before it kills it"""
_BUSY_PAUSE: Final = 10.0
_SEEN: Final = "boxes.json"
"""file beside the checkpoints: how many of the first box's events are in the job's own log"""


def run_on_boxes(workspace: Workspace, recipe: FullRecipe, hosts: RankHosts) -> dict[str, Any]:
    """Train on the recipe's boxes, or on this one's rank host, and return the summary.

    Raises a box's own error with its name, Unavailable or Interrupted.
    """
    inventory = read_inventory(Path(hosts.inventory))
    boxes = [inventory.box(name) for name in recipe.boxes or (inventory.own,)]
    asked = [_Asked(box, RankHostClient(box.name, socket_of(Path(hosts.sockets), box.name))) for box in boxes]
    run = _Run(workspace, hosts, asked, ranks=recipe.ranks // len(boxes))
    with workspace.saving():
        summary = run.train()
    workspace.when_sealed.append(run.forget)
    return summary


@dataclass(frozen=True, slots=True)
class _Asked:
    box: Box
    client: RankHostClient


class _Run:
    def __init__(self, workspace: Workspace, hosts: RankHosts, boxes: list[_Asked], *, ranks: int) -> None:
        self._workspace = workspace
        self._hosts = hosts
        self._boxes = boxes
        self._first = boxes[0]
        self._ranks = ranks
        self._spec = _handed_out(workspace)
        self._key = workspace.directory.name
        self._seen_file = workspace.checkpoints / _SEEN
        self._seen: int = msgspec.json.decode(self._seen_file.read_bytes()) if self._seen_file.exists() else 0
        self._step = 0

    def train(self) -> dict[str, Any]:
        """Try until it is done, or three attempts in a row have brought no new checkpoint, and bring it home."""
        try:
            result = self._until_done()
            self._bring_home(result)
        except BaseException:
            self._stop_all()
            raise
        return result.summary | {"boxes": len(self._boxes)}

    def forget(self) -> None:
        """Have every box forget the run; one that is away now does so by itself, after a month."""
        self._stop_all()
        for asked in self._boxes:
            with contextlib.suppress(IntramurosError):
                asked.client.forget(self._key)

    def _until_done(self) -> TaskResult:
        stalled, step = 0, 0
        while (result := self._sealed()) is None:
            for asked in self._boxes:
                self._patiently(asked, asked.client.facts)
            lost = self._attempt()
            if lost is None:
                continue
            stalled, step = (0, self._step) if self._step > step else (stalled + 1, step)
            if stalled > _RESTARTS:
                raise Unavailable(
                    "training.boxes_failed",
                    f"The boxes lost each other {stalled} times without a new checkpoint; the last time, {lost}.",
                    hint="The journal of intramuros-ranks on the boxes says more; `intramuros job resume` goes on.",
                )
            self._workspace.emit(Note(text=f"All boxes start again from the newest checkpoint: {lost}."))
            self._stop_all()
        return result

    def _sealed(self) -> TaskResult | None:
        """Return the result that the first box has sealed, if it has: the others are not needed for it."""
        with contextlib.suppress(NotFound):
            return self._patiently(self._first, partial(self._first.client.view, self._key)).result
        return None

    def _attempt(self) -> str | None:
        """Train until the first box has a result, or a box has no room now (None), or return how a box was lost.

        Raises a box's own error, and Interrupted.
        """
        try:
            self._begin()
            while True:
                for asked in self._boxes:
                    self._give_way()
                    first = asked is self._first
                    view = asked.client.view(self._key, after=self._seen if first else 0, hold=_HOLD if first else 0.0)
                    if first:
                        self._pass_on(view)
                        if view.result is not None:
                            return None
                    if view.problem is not None and view.problem.code != APART:
                        self._wait_for_room(asked, view.problem)
                        return None
                    if view.state in ("stopped", "failed", "laid_out"):
                        return f"the ranks on {asked.box.name} have stopped"
        except Unavailable as error:
            return error.message.rstrip(".")
        except NotFound as error:
            if error.code != "rankhost.no_run":
                raise
            return error.message.rstrip(".")

    def _wait_for_room(self, asked: _Asked, problem: Problem) -> None:
        """Wait a little where another run has the memory; raise the problem where it is another one."""
        if problem.code != "training.memory" or not asked.client.facts().running:
            raise error_of(asked.client.located(problem))
        self._stop_all()
        until = time.monotonic() + _BUSY_PAUSE
        while time.monotonic() < until:
            self._give_way()
            self._emit(Progress(phase=f"waits for memory on box {asked.box.name}"))
            time.sleep(_PAUSE)

    def _begin(self) -> None:
        """Lay the run out on every box, hand over what is missing, and start it, unless it goes on everywhere."""
        order = Order(spec=self._spec, version=self._hosts.version, environment=self._hosts.environment)
        files, views = self._files(), [asked.client.lay_out(self._key, order) for asked in self._boxes]
        if views[0].state == "laid_out":
            self._seen = 0
        for asked, view in zip(self._boxes, views, strict=True):
            for number, digest in enumerate(view.missing):
                self._give_way()
                self._emit(Progress(phase=f"hand over to {asked.box.name}", fraction=number / len(view.missing)))
                asked.client.give(self._key, digest, files[digest])
        if all(view.state == "running" for view in views):
            return
        self._stop_all()  # what goes on from an attempt before would not meet the others
        addresses = tuple(asked.box.address for asked in self._boxes)
        for node, asked in enumerate(self._boxes):
            placement = Placement(ranks=self._ranks, hosts=addresses, node=node, port=views[0].free_port)
            asked.client.start(self._key, msgspec.to_builtins(placement))

    def _files(self) -> dict[str, Path]:
        """Return the inputs' files by their digests."""
        return {
            entry.digest: self._workspace.input(name) / entry.path
            for name, given in self._spec.inputs.items()
            for entry in given.files
        }

    def _pass_on(self, view: RunView) -> None:
        """Repeat the first box's events in the job's own log, each once."""
        for event in view.events:
            self._emit(event)
            if isinstance(event, CheckpointSaved):
                self._step = event.step
        if view.events:
            self._seen = view.next
            write_file(self._seen_file, msgspec.json.encode(self._seen))

    def _emit(self, event: Event) -> None:
        if not (isinstance(event, Progress) and event.fraction >= 1):  # the job's own end comes later
            self._workspace.emit(event)

    def _patiently(self, asked: _Asked, call: Callable[[], T]) -> T:
        """Return what a box answers, waiting for one that is away. Raises Unavailable in the end, and Interrupted."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            self._give_way()
            try:
                return call()
            except Unavailable:
                if time.monotonic() > deadline:
                    raise
                self._emit(Progress(phase=f"waits for box {asked.box.name}"))
                time.sleep(_PAUSE)

    def _give_way(self) -> None:
        if self._workspace.stop_requested():
            raise Interrupted

    def _stop_all(self) -> None:
        """Have every box save and stop, and wait for it; one that is away stops when nobody asks about the run."""
        for asked in self._boxes:
            with contextlib.suppress(IntramurosError), asked.client.at_once():
                asked.client.stop(self._key)
        deadline = time.monotonic() + _STOP_SECONDS
        while any(self._runs_on(asked) for asked in self._boxes) and time.monotonic() < deadline:
            time.sleep(_PAUSE)

    def _runs_on(self, asked: _Asked) -> bool:
        try:
            with asked.client.at_once():
                return asked.client.view(self._key).state == "running"
        except IntramurosError:
            return False

    def _bring_home(self, result: TaskResult) -> None:
        for number, entry in enumerate(result.files):
            parts = PurePosixPath(entry.path).parts
            if not parts or ".." in parts or entry.path.startswith("/"):
                raise IntegrityFailure("fleet.path", f"Box {self._first.box.name} made a file {entry.path[:200]!r}.")
            self._emit(Progress(phase=f"bring from {self._first.box.name}", fraction=0.99 * number / len(result.files)))
            target = self._workspace.output / entry.path
            self._patiently(self._first, partial(self._first.client.fetch, self._key, entry, target))


def _handed_out(workspace: Workspace) -> JobSpec:
    """Return what the boxes are asked to do: with the rows as this job sees them, where a fold holds some out."""
    spec = workspace.spec
    if spec.fold is None:
        return spec
    folder = workspace.input(spec.fold.input)
    files = tuple(file_entry(folder, path.name) for path in sorted(folder.iterdir()))
    seen = msgspec.structs.replace(spec.inputs[spec.fold.input], files=files, digest=manifest_digest(files))
    return msgspec.structs.replace(spec, inputs=spec.inputs | {spec.fold.input: seen}, fold=None)
