"""Trains the tiny model in forked processes that kill themselves at the n-th file system call, then resumes.

Others die in the middle of writing a checkpoint's tensors: the kernel ends them at a byte of that file.
Prints one JSON object: the digest of an undisturbed run, how many calls it made, and for each kill the digest after
resumption. Forking once torch is loaded makes a crash cost milliseconds.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from appliance.kernel.canonical import sha256_file
from appliance.training.runtime import prepare
from tests.unit.training.tiny_model import Log, train_tiny

_WATCHED = {"open", "os.mkdir", "os.rename", "os.rmdir", "os.remove", "os.listdir", "os.scandir"}


def main(directory: Path) -> None:
    prepare(threads=1, device="cpu")
    calls = int(_forked(directory, kill_at=0))
    expected = sha256_file(directory / "model.safetensors")
    after: dict[int, str] = {}
    killed = 0
    for kill_at in range(1, calls + 1, 5):
        shutil.rmtree(directory)
        directory.mkdir()
        killed += _forked(directory, kill_at=kill_at) == "killed"
        # A second crash, soon after the first.
        _forked(directory, kill_at=1 + kill_at % 17)
        _forked(directory, kill_at=0)
        after[kill_at] = sha256_file(directory / "model.safetensors")
    torn: dict[str, str] = {}
    for checkpoint, byte in ((1, 0), (1, 700), (3, 5000), (6, 1)):
        shutil.rmtree(directory)
        directory.mkdir()
        ended = _forked(directory, kill_at=0, tear=(checkpoint, byte))
        left = [file.stat().st_size for file in directory.glob("checkpoints/*.tmp/tensors.safetensors")]
        if ended != "killed" or left != [byte]:
            raise SystemExit(f"checkpoint {checkpoint} was not torn at byte {byte}: {ended}, {left}")
        _forked(directory, kill_at=0)
        torn[f"{checkpoint}/{byte}"] = sha256_file(directory / "model.safetensors")
    print(json.dumps({"expected": expected, "calls": calls, "killed": killed, "after": after, "torn": torn}))


def _forked(directory: Path, *, kill_at: int, tear: tuple[int, int] | None = None) -> str:
    """Train in a child; return its number of calls, or "killed"."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        if tear is not None:
            _tear_a_write(*tear)
        os.write(writing, str(_run(directory, kill_at)).encode())
        os._exit(0)
    os.close(writing)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reading) as stream:
        answer = stream.read()
    if os.WIFSIGNALED(status):
        return "killed"
    if status:
        raise SystemExit(f"the training process failed with status {status}")
    return answer


def _tear_a_write(checkpoint: int, byte: int) -> None:
    """Let the kernel kill this process when it writes past that byte of the n-th checkpoint's tensors (SIGXFSZ)."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    opened = 0

    def limit(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal opened
        if event == "open" and str(arguments[0]).endswith(".tmp/tensors.safetensors") and "w" in str(arguments[1]):
            opened += 1
            if opened == checkpoint:
                resource.setrlimit(resource.RLIMIT_FSIZE, (byte, byte))

    sys.addaudithook(limit)


def _run(directory: Path, kill_at: int) -> int:
    calls = 0

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal calls
        if event in _WATCHED and str(arguments[0]).startswith(str(directory)):
            calls += 1
            if calls == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    model, _result = train_tiny(directory / "checkpoints", Log())
    weights = {name: weight.detach() for name, weight in model.named_parameters()}
    made = calls
    save_file(weights, directory / "model.safetensors")
    return made


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
