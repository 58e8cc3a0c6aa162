"""How the engine of a revision is run: its unit, its command line, its socket, the files it reads.

Knows nothing of when; the deployer decides that.
"""

from __future__ import annotations

import sys
from pathlib import Path

from appliance.daemon.engine_command import engine_arguments, engine_module
from appliance.daemon.engine_probe import greet
from appliance.daemon.gpus import gpu_environment
from appliance.daemon.residency import Wanted
from appliance.daemon.supervisor import UnitSpec
from appliance.residency.offload import Placement
from appliance.services.context import Appliance


def engine_name(number: int) -> str:
    """Return the name of a revision's unit."""
    return f"engine-{number}"


class EngineUnits:
    """The units of engines. `prefix` is the command that takes a process's network away."""

    def __init__(self, appliance: Appliance, *, prefix: tuple[str, ...]) -> None:
        self.prefix = prefix
        self._appliance = appliance

    def spec(self, wanted: Wanted, placement: Placement) -> UnitSpec:
        """Return how a revision's engine is started, with its layers where they are placed."""
        settings = self._appliance.settings
        argv = (
            *self.prefix,
            *(sys.executable, "-I", "-m", engine_module(wanted.options.kind)),
            *("--model", str(self._model_path(wanted))),
            *("--digest", wanted.artifact.digest),
            *("--socket", str(self.socket(wanted.number))),
            *("--name", wanted.ref),
            *engine_arguments(
                settings,
                wanted.options,
                wanted.profile,
                cache=self._appliance.paths.worker_cache(wanted.number),
                placement=placement,
            ),
            *self._adapter_arguments(wanted),
            *self._draft_arguments(wanted),
        )
        return UnitSpec(
            name=engine_name(wanted.number),
            argv=argv,
            environment={"GOMP_SPINCOUNT": str(settings.engine_spin_count), **gpu_environment()},
            is_ready=lambda: _answers(self.socket(wanted.number)),
        )

    def stray(self, number: int) -> UnitSpec:
        """An engine left by a former daemon that no revision wants any more: adopted only to be drained."""
        return UnitSpec(
            name=engine_name(number), argv=("false",), is_ready=lambda: _answers(self.socket(number)), restart=False
        )

    def socket(self, number: int) -> Path:
        """Where a revision's engine listens."""
        return self._appliance.paths.worker_socket(number)

    def _adapter_arguments(self, wanted: Wanted) -> list[str]:
        blob = self._appliance.paths.blob
        named = sorted(wanted.options.adapters.items())
        return [f"--adapter={label}={entry.digest}={blob(entry.digest)}" for label, entry in named]

    def _draft_arguments(self, wanted: Wanted) -> list[str]:
        draft = wanted.options.draft
        if draft is None:
            return []
        return [f"--draft={self._appliance.paths.blob(draft.digest)}", f"--draft-digest={draft.digest}"]

    def _model_path(self, wanted: Wanted) -> Path:
        """Where the engine finds its model: a blob, or a folder of links to blobs."""
        if not wanted.artifact.files:
            return self._appliance.paths.blob(wanted.artifact.digest)
        folder = self._appliance.paths.worker_model(wanted.number)
        self._appliance.blobs.link_folder(wanted.artifact.files, folder)
        return folder


async def _answers(socket: Path) -> bool:
    return await greet(socket) is not None
