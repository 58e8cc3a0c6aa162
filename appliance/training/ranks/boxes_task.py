"""The job's side of a run that rank hosts train: hands out inputs, starts every box, watches, brings the model home.

The job itself has no network; it reaches each box through a Unix socket. It holds nothing that a second attempt would
miss: the boxes keep their checkpoints, and a run that goes on without its job is found again.
"""

from __future__ import annotations

import contextlib
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

import msgspec

from appliance.fleet.client import RankHostClient
from appliance.fleet.inventory import Box, Inventory, read_inventory, socket_of
from appliance.fleet.wire import Order, RunView
from appliance.jobs.spec import JobSpec, TaskResult, file_entry, manifest_digest
from appliance.jobs.workspace import Interrupted, RankHosts, Workspace
from appliance.kernel.durable import write_file
from appliance.kernel.errors import IntegrityFailure, IntramurosError, Unavailable
from appliance.kernel.events import CheckpointSaved, Event, Note, Progress
from appliance.kernel.problem import error_of
from appliance.training.ranks.launch_task import APART
from appliance.training.ranks.placement import Placement
from appliance.training.recipes.full import FullRecipe

_RESTARTS: Final = 3
"""attempts of all boxes without a new checkpoint"""
_PATIENCE: Final = 300.0
"""seconds that a box may be away before the job fails; it can be resumed"""
_HOLD: Final = 1.0
_STOP_SECONDS: Final = 25.0
_SEEN: Final = "boxes.json"
"""file beside the checkpoints: how many of the first box's events are in the job's own log"""


def run_on_boxes(workspace: Workspace, recipe: FullRecipe, hosts: RankHosts) -> dict[str, Any]:
    """Train on the recipe's boxes, or on this one's rank host, and return the summary.

    Raises a box's own error with its name, Unavailable or Interrupted.
    """
    inventory = read_inventory(Path(hosts.inventory))
    names = recipe.boxes or (inventory.own,)
    boxes = [inventory.box(name) for name in names]
    with ExitStack() as stack, workspace.saving():
        asked = [
            _Asked(box, stack.enter_context(RankHostClient(box.name, socket_of(Path(hosts.sockets), box.name))))
            for box in boxes
        ]
        return _Run(workspace, inventory, asked, ranks=recipe.ranks // len(boxes)).train()


@dataclass(frozen=True, slots=True)
class _Asked:
    box: Box
    client: RankHostClient


class _Run:
    def __init__(self, workspace: Workspace, inventory: Inventory, boxes: list[_Asked], *, ranks: int) -> None:
        self._workspace = workspace
        self._inventory = inventory
        self._boxes = boxes
        self._ranks = ranks
        self._spec = _handed_out(workspace)
        self._key = workspace.directory.name
        self._seen_file = workspace.checkpoints / _SEEN
        self._seen: int = msgspec.json.decode(self._seen_file.read_bytes()) if self._seen_file.exists() else 0
        self._step = 0

    def train(self) -> dict[str, Any]:
        """Try until it is done, or three attempts in a row have brought no new checkpoint."""
        try:
            result = self._until_done()
        except BaseException:
            self._stop_all()
            raise
        self._bring_home(result)
        for asked in self._boxes:
            with contextlib.suppress(IntramurosError):  # a box that is away now forgets it by itself, after a month
                self._stop(asked)
                asked.client.forget(self._key)
        return result.summary | {"boxes": len(self._boxes)}

    def _until_done(self) -> TaskResult:
        stalled, step = 0, 0
        while True:
            self._wait_for_boxes()
            lost = self._attempt()
            if isinstance(lost, TaskResult):
                return lost
            stalled, step = (0, self._step) if self._step > step else (stalled + 1, step)
            if stalled > _RESTARTS:
                raise Unavailable(
                    "training.boxes_failed",
                    f"The boxes lost each other {stalled} times without a new checkpoint; the last time, {lost}.",
                    hint="The journal of intramuros-ranks on the boxes says more; `intramuros job resume` goes on.",
                )
            self._workspace.emit(Note(text=f"All boxes start again from the newest checkpoint: {lost}."))
            self._stop_all()

    def _attempt(self) -> TaskResult | str:
        """Return what the first box sealed, or how a box was lost. Raises a box's own error, and Interrupted."""
        try:
            self._begin()
            while True:
                for number, asked in enumerate(self._boxes):
                    self._give_way()
                    first = number == 0
                    view = asked.client.view(self._key, after=self._seen if first else 0, hold=_HOLD if first else 0.0)
                    if first:
                        self._pass_on(view)
                    if view.problem is not None and view.problem.code != APART:
                        raise error_of(asked.client.located(view.problem))
                    if first and view.result is not None:
                        return view.result
                    if view.state in ("stopped", "failed", "laid_out"):
                        return f"the ranks on {asked.box.name} have stopped"
        except Unavailable as error:
            return error.message.rstrip(".")

    def _begin(self) -> None:
        """Lay the run out on every box, hand over what is missing, and start it where it does not run yet."""
        order, files = Order(spec=self._spec), self._files()
        port = 0
        for asked in self._boxes:
            view = asked.client.lay_out(self._key, order)
            port = port or view.free_port
            if view.state == "laid_out" and asked is self._boxes[0]:
                self._seen = 0
            for number, digest in enumerate(view.missing):
                self._give_way()
                self._emit(Progress(phase=f"hand over to {asked.box.name}", fraction=number / len(view.missing)))
                asked.client.give(self._key, digest, files[digest])
        addresses = tuple(asked.box.address for asked in self._boxes)
        for node, asked in enumerate(self._boxes):
            placement = Placement(
                ranks=self._ranks, hosts=addresses, node=node, port=port, interface=self._inventory.interface
            )
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

    def _wait_for_boxes(self) -> None:
        """Wait until every rank host answers. Raises Unavailable after five minutes, and Interrupted."""
        deadline = time.monotonic() + _PATIENCE
        for asked in self._boxes:
            while True:
                self._give_way()
                try:
                    asked.client.facts()
                    break
                except Unavailable:
                    if time.monotonic() > deadline:
                        raise
                    self._emit(Progress(phase=f"waits for box {asked.box.name}"))

    def _give_way(self) -> None:
        if self._workspace.stop_requested():
            raise Interrupted

    def _stop_all(self) -> None:
        """Have every box save and stop, and wait for it; one that is away stops by itself when nobody asks for it."""
        for asked in self._boxes:
            with contextlib.suppress(IntramurosError):
                asked.client.stop(self._key)
        for asked in self._boxes:
            with contextlib.suppress(IntramurosError):
                self._stop(asked)

    def _stop(self, asked: _Asked) -> None:
        deadline = time.monotonic() + _STOP_SECONDS
        asked.client.stop(self._key)
        while asked.client.view(self._key, hold=0.2).state == "running" and time.monotonic() < deadline:
            time.sleep(0.1)

    def _bring_home(self, result: TaskResult) -> None:
        first = self._boxes[0]
        for number, entry in enumerate(result.files):
            parts = PurePosixPath(entry.path).parts
            if not parts or ".." in parts or entry.path.startswith("/"):
                raise IntegrityFailure("fleet.path", f"Box {first.box.name} made a file {entry.path[:200]!r}.")
            self._emit(Progress(phase=f"bring from {first.box.name}", fraction=0.99 * number / len(result.files)))
            first.client.fetch(self._key, entry, self._workspace.output / entry.path)


def _handed_out(workspace: Workspace) -> JobSpec:
    """Return what the boxes are asked to do: with the rows as this job sees them, where a fold holds some out."""
    spec = workspace.spec
    if spec.fold is None:
        return spec
    folder = workspace.input(spec.fold.input)
    files = tuple(file_entry(folder, path.name) for path in sorted(folder.iterdir()))
    seen = msgspec.structs.replace(spec.inputs[spec.fold.input], files=files, digest=manifest_digest(files))
    return msgspec.structs.replace(spec, inputs=spec.inputs | {spec.fold.input: seen}, fold=None)
