"""What the appliance costs when nobody uses it: start of the command line, first paint, memory of its processes.

Times are wall seconds, the best of several starts: the question is what the program needs, not what the neighbours do.
Memory is the proportional set size, so pages that processes share are counted once.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.comparison import write_result
from benchmarks.processes import free_port, resident_bytes

_INTRAMUROS = str(Path(sys.executable).parent / "intramuros")
_SETTLE = 3.0
_QUIET = 0.25
_PATIENCE = 20.0
_SIZE = (24, 80)


def main(arguments: list[str]) -> int:
    """Measure and write benchmarks/results/footprint.json."""
    parser = argparse.ArgumentParser(prog="benchmarks.footprint", description=__doc__)
    parser.add_argument("--starts", type=int, default=5)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="intramuros-") as name:
        state = ["--state", name]
        subprocess.run([_INTRAMUROS, "up", "--port", str(free_port()), *state], check=True, stdout=subprocess.DEVNULL)
        try:
            figures: dict[str, Any] = {
                "interpreter_seconds": _best([sys.executable, "-I", "-c", "pass"], options.starts),
                "help_seconds": _best([_INTRAMUROS, "--help"], options.starts),
                "status_seconds": _best([_INTRAMUROS, "status", *state], options.starts),
                "console_first_paint_seconds": min(
                    _first_paint([_INTRAMUROS, "console", *state]) for _ in range(options.starts)
                ),
            }
            time.sleep(_SETTLE)
            figures["idle_bytes"] = _memory(Path(name))
        finally:
            subprocess.run([_INTRAMUROS, "down", *state], check=True, stdout=subprocess.DEVNULL)
    print(write_result("footprint", figures).read_text(), end="")
    return 0


def _best(argv: list[str], starts: int) -> float:
    times = []
    for _ in range(starts):
        begun = time.perf_counter()
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        times.append(time.perf_counter() - begun)
    return round(min(times), 4)


def _first_paint(argv: list[str]) -> float:
    """Return the seconds from exec until the last byte of the first burst of output on an 80x24 terminal."""
    begun = time.perf_counter()
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm-256color"
        os.execv(argv[0], argv)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", *_SIZE, 0, 0))
    painted, volume = 0.0, 0
    try:
        while time.perf_counter() - begun < _PATIENCE:
            readable, _, _ = select.select([terminal], [], [], _QUIET)
            if readable:
                volume += len(os.read(terminal, 65536))
                painted = time.perf_counter() - begun
            elif volume > 2000:
                return round(painted, 4)
    finally:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
        os.close(terminal)
    raise RuntimeError(f"The console painted {volume} bytes in {_PATIENCE:.0f} s; that is no screen.")


def _memory(state: Path) -> dict[str, int]:
    """Return what each of this appliance's own processes holds, by the module it runs."""
    found: dict[str, int] = {}
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if str(state) in words and "-m" in words:
            found[words[words.index("-m") + 1]] = resident_bytes(process.pid)
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
