"""How much of what this machine can do at best a run was: the roofline of Williams, Waterman and Patterson (CACM 2009).

A step that generates reads every weight once, however many streams share it, and multiplies each of their tokens with
every weight; a token of a prompt only has to be multiplied. Attention and everything but the model is left out, so the
time that comes out is one that nobody can reach.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from gguf import GGUFReader

from appliance.tuning.ladder import Roofline
from benchmarks.sse_load import Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Roof:
    """What bounds one model here: bytes of its file, its parameters, and the machine at its best."""

    size: int
    parameters: int
    machine: Roofline

    def decoding_rate(self, streams: int) -> float:
        """Tokens per second of so many streams together, at best."""
        return streams / max(self.size / self.machine.bandwidth, streams * self._token)

    def share(self, answers: Sequence[Answer], *, streams: int, seconds: float) -> float:
        """The least time for what was computed for these answers, at most `streams` at once, per time it took."""
        prompt = sum(answer.prompt_tokens - answer.cached_tokens for answer in answers)
        tokens = sum(answer.tokens for answer in answers)
        return (prompt * self._token + tokens / self.decoding_rate(streams)) / seconds

    @property
    def _token(self) -> float:
        """Seconds of arithmetic for one token."""
        return 2 * self.parameters / max(self.machine.peak_f32, self.machine.peak_bf16)


def measured_roof(model: Path, out: Path, *, threads: int) -> Roof:
    """Measure the machine now (five seconds); `out` is a file that may be written."""
    words = ["-m", "appliance.tuning.measure", "roofline", str(out), str(threads)]
    subprocess.run([sys.executable, *words], check=True)
    machine = msgspec.json.decode(out.read_bytes(), type=Roofline)
    parameters = sum(int(tensor.n_elements) for tensor in GGUFReader(model).tensors)
    return Roof(size=model.stat().st_size, parameters=parameters, machine=machine)
