"""What a job costs those who are served: requests to gateway and engine with a training job beside them, and without.

The job is one of the appliance's own, with the niceness and threads that jobs have by default. It is stopped and goes
on again in turns, so that both halves of a pair meet the same machine. A figure is the ratio beside / alone.
"""

from __future__ import annotations

import json
import os
import random
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import llama_cpp
import psutil
import uvloop

from appliance.jobs.spec import JobKind
from appliance.kernel.settings import Settings
from benchmarks import job_runs
from benchmarks.comparison import Figure, at_most, turns
from benchmarks.processes import cpu_seconds, wait_until
from benchmarks.random_model import real_texts, write_gguf
from benchmarks.serving_scenarios import Text, measure_words
from benchmarks.serving_sides import ours
from benchmarks.sse_load import Answer, Load, Target, run_load

_STREAMS: Final = 2
_REQUESTS: Final = 24
_TOKENS: Final = 32
_WARM_UP: Final = 10**6
_TEXTS: Final = 100
_PATIENCE: Final = 300.0
_STANDS_STILL: Final = 0.05
"""seconds of processor time: what its threads still had to do when the signal came"""
_RECIPE: Final = {
    "hidden_size": 256,
    "intermediate_size": 768,
    "layers": 6,
    "heads": 4,
    "kv_heads": 4,
    "steps": 100_000,
}
_LIBRARIES: Final = Path(llama_cpp.__file__).parent / "lib"


def figures(scratch: Path, *, pairs: int = 7) -> list[Figure]:
    """Return the ratios of the 95th percentile of whole requests and of their first tokens."""
    cores = len(os.sched_getaffinity(0))
    model = write_gguf(scratch / "model")
    runs: dict[str, list[float]] = {"whole": [], "first": []}
    with (
        ours(scratch / "state", model, _LIBRARIES, threads=cores) as side,
        _training(scratch / "job", threads=cores) as job,
    ):
        text = uvloop.run(measure_words(side.target, _WARM_UP))
        for number, order in enumerate(turns("alone", "beside", pairs)):
            found = {}
            for turn in order:
                _let(job, run=turn == "beside")
                before = cpu_seconds(job)
                answers = _asked(side.target, text, seed=2 * number + (turn == "beside"))
                spent = cpu_seconds(job) - before
                if (spent < _STANDS_STILL) != (turn == "alone") or job.poll() is not None:
                    raise RuntimeError(f"the job took {spent:.1f} s of processor time while it was {turn}")
                found[turn] = {
                    "whole": _p95([answer.whole for answer in answers]),
                    "first": _p95([answer.first for answer in answers]),
                }
                print(f"{turn}: {found[turn]}, job {spent:.1f} CPU s", file=sys.stderr)
            for name, ratios in runs.items():
                ratios.append(found["beside"][name] / found["alone"][name])
    return [
        Figure("serving-p95-beside-a-job", "ratio to serving alone", at_most(1.25), runs["whole"]),
        Figure("serving-ttft-p95-beside-a-job", "ratio to serving alone", None, runs["first"]),
    ]


def _let(job: subprocess.Popen[bytes], *, run: bool) -> None:
    """Let the job go on, or stop it and wait until it stands still."""
    job.send_signal(signal.SIGCONT if run else signal.SIGSTOP)
    stopped = psutil.STATUS_STOPPED
    wait_until(
        lambda: (psutil.Process(job.pid).status() == stopped) != run, job, what="the job's signal", patience=_PATIENCE
    )


def _asked(target: Target, text: Text, *, seed: int) -> tuple[Answer, ...]:
    dice = random.Random(seed)
    prompts = [text.of(dice, 64) for _ in range(_REQUESTS)]
    load: Load = uvloop.run(run_load(target, prompts, streams=_STREAMS, max_tokens=_TOKENS))
    return load.answers


def _p95(seconds: list[float]) -> float:
    return statistics.quantiles(seconds, n=20, method="inclusive")[-1]


@contextmanager
def _training(folder: Path, *, threads: int) -> Iterator[subprocess.Popen[bytes]]:
    """Train from scratch beside the block, without an end; the first steps are done when the block begins."""
    corpus, run = folder / "corpus", folder / "run"
    corpus.mkdir(parents=True)
    rows = [json.dumps({"text": text}) for text in real_texts(_TEXTS)]
    (corpus / "train.jsonl").write_text("\n".join(rows))
    job_runs.lay_out(run, JobKind.TRAIN_SEED, inputs={"corpus": corpus}, parameters=_RECIPE, threads=threads)
    job = job_runs.start(run, threads=threads, niceness=Settings().job_niceness)
    try:
        wait_until(lambda: _has_trained(run / "events.jsonl"), job, what="the job", patience=_PATIENCE)
        yield job
    finally:
        job.kill()
        job.wait()


def _has_trained(events: Path) -> bool:
    return events.exists() and '"loss"' in events.read_text()
