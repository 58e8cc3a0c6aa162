"""kill -9 at random moments of a training job, checkpoint writes included, and damaged checkpoints: the same bytes.

Jobs run in forked children of one process that has torch loaded already, so a kill costs seconds instead of a start.
Every other kill waits for a checkpoint to be in the middle of its writing. Every attempt starts from the files alone.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from appliance.jobs.spec import JobKind
from appliance.jobs.tasks import load_task
from appliance.jobs.workspace import Interrupted, Workspace
from appliance.kernel.canonical import digest_of, sha256_file
from appliance.kernel.events import Event, Progress
from benchmarks import job_runs
from benchmarks.comparison import Figure, at_least

_SEED: Final = {
    "vocabulary": 300,
    "hidden_size": 64,
    "intermediate_size": 128,
    "layers": 2,
    "heads": 2,
    "kv_heads": 1,
    "context_length": 128,
    "sequence_length": 32,
    "steps": 4,
}
_LORA: Final = {"rank": 8, "epochs": 6, "batch_size": 2, "max_length": 64, "checkpoint_seconds": 0.0}
_WRITE_SECONDS: Final = 0.0005
"""About what the write of this small checkpoint takes."""
_DAMAGES: Final = ("truncated", "flipped", "missing")
_FILES: Final = ("tensors.safetensors", "state.json", "MANIFEST.json")


class _Stopping(Workspace):
    """A workspace that asks to stop at a step."""

    stop_at = 1 << 30
    reached = 0

    def emit(self, event: Event) -> None:
        """Remember the step."""
        if isinstance(event, Progress):
            self.reached = max(self.reached, event.step)
        super().emit(event)

    def stop_requested(self) -> bool:
        """Whether the step is reached."""
        return self.reached >= self.stop_at


class Bench:
    """One small base model, one data set, and the digest of an undisturbed run on them."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._chats = _write_chats(scratch / "chats")
        self._base = scratch / "base" / "out"
        _write_texts(scratch / "texts")
        job_runs.lay_out(scratch / "base", JobKind.TRAIN_SEED, inputs={"corpus": scratch / "texts"}, parameters=_SEED)
        _ended(_forked(scratch / "base", JobKind.TRAIN_SEED))
        self.expected = self.finish("whole")
        self.seconds = self._seconds

    def finish(self, name: str, *, kill: Callable[[int, Path], None] | None = None, stop_at: int = 0) -> str:
        """Run a job's next attempt; return the digest of what it wrote, empty when it did not end."""
        directory = self._scratch / name
        job_runs.lay_out(
            directory,
            JobKind.TRAIN_LORA,
            inputs={"base": self._base, "dataset": self._chats},
            parameters=_LORA,
        )
        begun = time.monotonic()
        child = _forked(directory, JobKind.TRAIN_LORA, stop_at=stop_at)
        if kill is not None:
            kill(child, directory)
        if not _ended(child):
            return ""
        self._seconds = time.monotonic() - begun
        return digest_of({str(file.relative_to(directory)): sha256_file(file) for file in _outputs(directory)})

    def forget(self, name: str) -> None:
        """Remove a job's folder."""
        shutil.rmtree(self._scratch / name)

    def checkpoints(self, name: str) -> list[Path]:
        """Return the published checkpoints of a job, newest first."""
        return sorted((self._scratch / name / "checkpoints").glob("step-????????"), reverse=True)

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return what a job has told."""
        lines = (self._scratch / name / "events.jsonl").read_text().splitlines()
        return [json.loads(line)["event"] for line in lines]


def kills(scratch: Path, *, count: int, seed: int = 0) -> list[Figure]:
    """Kill `count` jobs once each at a random moment and let them go on; return how many end with the same bytes.

    A job that had ended before it was to be killed does not count. Raises RuntimeError when too many do.
    """
    bench = Bench(scratch)
    chance = random.Random(seed)
    equal, landed, torn, early = 0, 0, 0, 0
    while landed < count:
        aimed = landed % 2 == 0
        moment = chance.uniform(0.02, 0.95) * bench.seconds

        def kill(child: int, directory: Path, aimed: bool = aimed, moment: float = moment) -> None:
            _wait_and_kill(child, directory, moment=moment, in_write=aimed, extra=chance.uniform(0.0, _WRITE_SECONDS))

        if bench.finish("killed", kill=kill) == "":
            landed += 1
            torn += bool(list((scratch / "killed" / "checkpoints").glob("*.tmp")))
            equal += bench.finish("killed") == bench.expected
        else:
            early += 1
            if early > count:
                raise RuntimeError(f"{early} jobs had ended before they were to be killed")
        bench.forget("killed")
    print(f"{landed} kills, {torn} inside the write of a checkpoint; {early} jobs had ended before", file=sys.stderr)
    return [
        Figure("kill-resume-equal", "part of the runs", at_least(1.0), [equal / landed]),
        Figure("kill-resume-landed", "kills", at_least(float(count)), [float(landed)]),
        Figure("kill-resume-in-write", "kills inside a checkpoint's write", at_least(1.0), [float(torn)]),
    ]


def damages(scratch: Path, *, count: int, seed: int = 0) -> list[Figure]:
    """Damage the newest checkpoint of stopped jobs; return how many noticed it and ended with the same bytes."""
    bench = Bench(scratch)
    chance = random.Random(seed)
    noticed = 0
    for _ in range(count):
        bench.finish("damaged", stop_at=chance.randrange(3, 15))
        newest = bench.checkpoints("damaged")[0]
        _damage(newest / chance.choice(_FILES), chance)
        equal = bench.finish("damaged") == bench.expected
        told = [event for event in bench.events("damaged") if event["type"] == "checkpoint_skipped"]
        noticed += equal and [event["name"] for event in told] == [newest.name]
        bench.forget("damaged")
    return [Figure("damaged-checkpoint-noticed", "part of the damages", at_least(1.0), [noticed / count])]


def _forked(directory: Path, kind: JobKind, *, stop_at: int = 0) -> int:
    """Start a job's attempt in a child and return its process id."""
    child = os.fork()
    if child:
        return child
    status = 1
    with contextlib.suppress(Interrupted):
        for folder in ("out", "scratch"):
            shutil.rmtree(directory / folder, ignore_errors=True)
        for folder in ("out", "checkpoints", "scratch"):
            (directory / folder).mkdir(exist_ok=True)
        workspace = _Stopping(directory)
        workspace.stop_at = stop_at or workspace.stop_at
        load_task(kind)(workspace)
        status = 0
    os._exit(status)


def _ended(child: int) -> bool:
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == 0


def _wait_and_kill(child: int, directory: Path, *, moment: float, in_write: bool, extra: float) -> None:
    time.sleep(moment)
    checkpoints = directory / "checkpoints"
    deadline = time.monotonic() + 1.0
    while in_write and time.monotonic() < deadline and not list(checkpoints.glob("*.tmp")):
        pass
    # Spun, not slept: a sleep lasts longer than the write of so small a checkpoint.
    struck = time.monotonic() + extra
    while in_write and time.monotonic() < struck:
        pass
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)


def _damage(file: Path, chance: random.Random) -> None:
    data = bytearray(file.read_bytes())
    match chance.choice(_DAMAGES):
        case "truncated":
            file.write_bytes(data[: chance.randrange(len(data))])
        case "flipped":
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            file.write_bytes(data)
        case _:
            file.unlink()


def _outputs(directory: Path) -> list[Path]:
    return sorted(file for file in (directory / "out").rglob("*") if file.is_file())


def _write_chats(folder: Path) -> Path:
    folder.mkdir()
    for part, numbers in (("train", range(8)), ("heldout", range(8, 10))):
        rows = [
            {
                "messages": [
                    {"role": "user", "content": f"port {number}?"},
                    {"role": "assistant", "content": f"Port {8443 + number}."},
                ]
            }
            for number in numbers
        ]
        (folder / f"{part}.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return folder


def _write_texts(folder: Path) -> None:
    folder.mkdir()
    rows = [json.dumps({"text": f"The gateway number {number} listens on port 8443."}) for number in range(12)]
    (folder / "train.jsonl").write_text("\n".join(rows))


def main(arguments: list[str]) -> int:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks.kill_resume", description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--damages", type=int, default=30)
    options = parser.parse_args(arguments)
    found = []
    for measure, count in ((kills, options.kills), (damages, options.damages)):
        with tempfile.TemporaryDirectory(prefix="intramuros-kill-") as name:
            found += measure(Path(name), count=count)
    print(json.dumps([figure.document() for figure in found], indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
