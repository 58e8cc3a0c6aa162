"""The job that tunes: a ladder of number formats x threads x physical batch, each measured in a process of its own.

Input: "model", one GGUF file. Parameters: see `ladder.Parameters`. It leaves no files; the summary is the result:
`profile` is what deployments of that very file then use, `best_format` is advice (the quality of a coarser format is
for an evaluation to judge). Quantised copies lie in `scratch` and go as soon as they are measured.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from appliance.jobs.workspace import Interrupted, Workspace
from appliance.kernel import process
from appliance.kernel.errors import IntegrityFailure, StorageFailure, Unavailable
from appliance.kernel.events import Note, Progress
from appliance.tuning.ladder import (
    FORMATS,
    Measurement,
    Parameters,
    Roofline,
    Run,
    best,
    parse,
    score,
    share,
    steps_down,
)

_PATIENCE: Final = 1800.0
_MARGIN: Final = 512 << 20
_LOOK: Final = 0.05
T = TypeVar("T")


def run(workspace: Workspace) -> dict[str, Any]:
    """Measure. Raises BadInput, StorageFailure `storage.full`, IntegrityFailure, Unavailable, Interrupted."""
    given = dict(workspace.spec.parameters)
    facts = given.pop("model", {})
    parameters = parse(given)
    source = next(workspace.input("model").glob("*.gguf"), None)
    if source is None:
        raise IntegrityFailure("tune.no_file", "The model's GGUF file is not there.")
    return _Ladder(workspace, parameters, source.resolve(), facts).climb()


class _Ladder:
    """One run: what is still to do, and what was measured."""

    def __init__(self, workspace: Workspace, parameters: Parameters, source: Path, facts: dict[str, Any]) -> None:
        self._workspace = workspace
        self._parameters = parameters
        self._source = source
        self._format = str(facts.get("quantisation", "")) or "as it is"
        self._weights = int(facts.get("parameters") or 0)
        cores = workspace.spec.environment.threads
        self._threads = parameters.threads or tuple(sorted({max(1, cores // 2), max(1, cores - 1), cores}))
        self._formats = steps_down(self._format, parameters.formats)
        self._settings = len(self._threads) * len(parameters.ubatches)
        self._steps = len(self._threads) + (1 + len(self._formats)) * self._settings + len(self._formats)
        self._done = 0

    def climb(self) -> dict[str, Any]:
        """Measure everything and return the summary."""
        load, cores = os.getloadavg()[0], os.cpu_count() or 1
        if load > cores / 2:
            text = f"{load:.1f} other threads compute on these {cores} cores: figures are lower than on a quiet box."
            self._workspace.emit(Note(text=text))
        rooflines = {threads: self._measure(Roofline, "roofline", str(threads)) for threads in self._threads}
        own = self._rung(self._format, self._source, rooflines)
        others: list[Measurement] = []
        for name in self._formats:
            path = self._quantise(name)
            try:
                others += self._rung(name.upper(), path, rooflines)
            finally:
                path.unlink(missing_ok=True)
        mine, winner = best(own), best([*own, *others])
        self._tell(mine, winner, rooflines)
        return {
            "profile": {"threads": mine.threads, "ubatch": mine.ubatch, "format": mine.format},
            "best_format": winner.format,
            "best_format_gain": round(score(winner.speed) / score(mine.speed), 4),
            "rooflines": msgspec.to_builtins(list(rooflines.values())),
            "measurements": msgspec.to_builtins([*own, *others]),
        }

    def _rung(self, name: str, path: Path, rooflines: dict[int, Roofline]) -> list[Measurement]:
        size = path.stat().st_size
        found = []
        for threads in self._threads:
            for ubatch in self._parameters.ubatches:
                asked = (self._parameters.prompt, self._parameters.answer, self._parameters.streams)
                run = self._measure(
                    Run,
                    "speed",
                    str(path),
                    *map(str, (threads, ubatch, *asked, self._parameters.repeats)),
                    told=f"{name}, {threads} threads, batch {ubatch}",
                )
                bandwidth, peak = share(run.speed, size=size, parameters=self._weights, roofline=rooflines[threads])
                found.append(
                    Measurement(
                        format=name,
                        size=size,
                        threads=threads,
                        ubatch=ubatch,
                        speed=run.speed,
                        build=run.build,
                        bandwidth_share=round(bandwidth, 4),
                        peak_share=round(peak, 4),
                    )
                )
        return found

    def _quantise(self, name: str) -> Path:
        target = self._workspace.scratch / f"{name}.gguf"
        free, needed = shutil.disk_usage(self._workspace.scratch).free, self._source.stat().st_size + _MARGIN
        if free < needed:
            raise StorageFailure(
                "storage.full",
                f"Writing the model as {name} may need {needed} bytes and the disk has {free} free.",
                hint="Free some space, or measure fewer formats with --formats.",
            )
        threads = str(max(self._threads))
        self._measure(
            dict[str, int], "quantise", str(self._source), str(target), str(FORMATS[name]), threads, told=name
        )
        return target

    def _measure(self, form: type[T], what: str, *arguments: str, told: str = "") -> T:
        """Run one measurement to its end, or until the job is asked to stop: nothing that computes may be left."""
        with self._workspace.saving():
            return self._measured(form, what, *arguments, told=told)

    def _measured(self, form: type[T], what: str, *arguments: str, told: str) -> T:
        self._workspace.emit(
            Progress(
                phase=f"{what} {told}".strip(), fraction=self._done / self._steps, step=self._done, steps=self._steps
            )
        )
        out, log = self._workspace.scratch / "figures.json", self._workspace.scratch / "measure.log"
        out.unlink(missing_ok=True)
        log.unlink(missing_ok=True)
        child = process.start(
            [sys.executable, "-I", "-m", "appliance.tuning.measure", what, str(out), *arguments],
            log=log,
            extra_environment={"GOMP_SPINCOUNT": "1000", "OMP_WAIT_POLICY": "active"},
        )
        until = time.monotonic() + _PATIENCE
        try:
            while child.poll() is None:
                if self._workspace.stop_requested():
                    raise Interrupted
                if time.monotonic() > until:
                    raise Unavailable("tune.timeout", f"The measurement {what} {told} did not end in time.")
                time.sleep(_LOOK)
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
        if child.returncode != 0:
            said = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
            reason = said[-1][:200] if said else "no reason given"
            raise IntegrityFailure(
                "tune.measurement", f"The measurement {what} {told} ended with status {child.returncode}: {reason}"
            )
        self._done += 1
        return msgspec.json.decode(out.read_bytes(), type=form)

    def _tell(self, mine: Measurement, winner: Measurement, rooflines: dict[int, Roofline]) -> None:
        roof, speed = rooflines[mine.threads], mine.speed
        lines = (
            f"Best for this file: {mine.threads} threads, batch {mine.ubatch}: prompt {speed.prompt:.0f}, one stream "
            f"{speed.answer:.1f}, {self._parameters.streams} streams {speed.answers:.1f} tokens/s.",
            f"Roofline at {mine.threads} threads: {roof.bandwidth / 1e9:.1f} GB/s, "
            f"{max(roof.peak_f32, roof.peak_bf16) / 1e9:.0f} GFLOP/s; reached {mine.bandwidth_share:.0%} and "
            f"{mine.peak_share:.0%}; {mine.build}.",
        )
        for text in lines:
            self._workspace.emit(Note(text=text))
        if winner.format != mine.format:
            gain = score(winner.speed) / score(mine.speed)
            self._workspace.emit(Note(text=f"As {winner.format} this model would be {gain:.2f} times as fast."))
