"""The programs that do one measurement each, apart from the job: a refused file or a crash costs one figure.

    python -I -m appliance.tuning.measure roofline OUT THREADS
    python -I -m appliance.tuning.measure quantise OUT SOURCE TARGET FTYPE THREADS
    python -I -m appliance.tuning.measure speed    OUT MODEL THREADS UBATCH PROMPT ANSWER STREAMS REPEATS

OUT gets one JSON document, whole or not at all. Exit status 0, or 7 when llama.cpp refuses the file.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from appliance.kernel.durable import write_file
from appliance.kernel.errors import IntegrityFailure, IntramurosError
from appliance.kernel.process import die_with_parent
from appliance.tuning.ladder import Roofline, Run, Speed

_READ: Final = 256 << 20
_SIDE: Final = 1536
_SECONDS: Final = 1.0


def main(argv: list[str]) -> int:
    """Run one measurement; its exit status."""
    what, out, *rest = argv
    die_with_parent()  # a killed job leaves nothing that computes
    work: dict[str, Callable[..., Any]] = {"roofline": roofline, "quantise": quantise, "speed": speed}
    try:
        figures = work[what](*rest)
    except IntramurosError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    write_file(Path(out), msgspec.json.encode(figures))
    return 0


def roofline(threads: str) -> Roofline:
    """Read memory and multiply matrices as fast as torch can with so many threads."""
    import torch

    torch.set_num_threads(int(threads))
    memory = torch.ones(_READ // 4)
    bandwidth = _READ / _best(lambda: memory.sum())
    operations = 2.0 * _SIDE**3

    def product(dtype: torch.dtype) -> float:
        one = torch.ones(_SIDE, _SIDE, dtype=dtype)
        return operations / _best(lambda: one @ one)

    return Roofline(
        threads=int(threads),
        bandwidth=bandwidth,
        peak_f32=product(torch.float32),
        peak_bf16=product(torch.bfloat16),
    )


def quantise(source: str, target: str, ftype: str, threads: str) -> dict[str, int]:
    """Write the model in another number format."""
    import llama_cpp

    _start(llama_cpp)
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype, parameters.nthread, parameters.allow_requantize = int(ftype), int(threads), True
    if llama_cpp.llama_model_quantize(os.fsencode(source), os.fsencode(target), ctypes.byref(parameters)):
        raise IntegrityFailure("tune.quantise", "llama.cpp cannot write this model in that number format.")
    return {"size": Path(target).stat().st_size}


def speed(model: str, threads: str, ubatch: str, prompt: str, answer: str, streams: str, repeats: str) -> Run:
    """Read prompts and generate with one setting; nothing is sampled, so that only the model is measured."""
    import llama_cpp

    from appliance.weights.llama_loading import build, loading_parameters

    _start(llama_cpp)
    handle = llama_cpp.llama_model_load_from_file(os.fsencode(model), loading_parameters())
    if not handle:
        raise IntegrityFailure("tune.model_refused", "llama.cpp refuses this model.")
    lines, length, more = int(streams), int(prompt), int(answer)
    running = llama_cpp.llama_context_default_params()
    running.n_ctx = length + more + lines * (more + 1) + 256
    running.n_batch = max(length, lines)
    running.n_ubatch = min(int(ubatch), running.n_batch)
    running.n_seq_max = lines
    running.n_threads = running.n_threads_batch = int(threads)
    running.kv_unified = True
    context = llama_cpp.llama_init_from_model(handle, running)
    if not context:
        raise IntegrityFailure("tune.model_refused", "llama.cpp cannot make a context for this model.")
    memory = llama_cpp.llama_get_memory(context)
    vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(handle))
    batch = llama_cpp.llama_batch_init(running.n_batch, 0, 1)

    def compute(entries: list[tuple[int, int, int]]) -> None:
        """Decode (token, position, sequence); logits for the last of each call's entries."""
        for at, (token, position, sequence) in enumerate(entries):
            batch.token[at], batch.pos[at], batch.n_seq_id[at] = token % vocabulary, position, 1
            batch.seq_id[at][0] = sequence
            batch.logits[at] = at == len(entries) - 1
        batch.n_tokens = len(entries)
        if llama_cpp.llama_decode(context, batch):
            raise IntegrityFailure("tune.model_refused", "llama.cpp cannot compute with this model.")
        llama_cpp.llama_synchronize(context)

    def generate(lines: int, start: int) -> float:
        began = time.perf_counter()
        for step in range(more):
            compute([(7 * step + line, start + step, line) for line in range(lines)])
        return lines * more / (time.perf_counter() - began)

    best = [0.0, 0.0, 0.0]
    for _ in range(int(repeats)):
        llama_cpp.llama_memory_clear(memory, True)
        began = time.perf_counter()
        compute([(3 * at, at, 0) for at in range(length)])
        found = [length / (time.perf_counter() - began), generate(1, length)]
        llama_cpp.llama_memory_clear(memory, True)
        found.append(generate(lines, 0))
        best = [max(old, new) for old, new in zip(best, found, strict=True)]
    return Run(speed=Speed(prompt=best[0], answer=best[1], answers=best[2]), build=build())


def _best(act: Callable[[], Any]) -> float:
    """Seconds of the fastest call within about a second."""
    act()
    fastest, until = float("inf"), time.perf_counter() + _SECONDS
    while time.perf_counter() < until:
        began = time.perf_counter()
        act()
        fastest = min(fastest, time.perf_counter() - began)
    return fastest


def _start(llama_cpp: Any) -> None:
    """Silence llama.cpp; the callback must outlive every call, so it is kept on the module."""
    from appliance.weights.llama_loading import start_llama

    os.environ["GGML_NO_BACKTRACE"] = "1"
    llama_cpp.intramuros_silence = llama_cpp.llama_log_callback(lambda _level, _text, _data: None)
    llama_cpp.llama_log_set(llama_cpp.intramuros_silence, ctypes.c_void_p(0))
    start_llama()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
