"""The embedded appliance's init: starts intramurosd and starts it again when it dies. On the box, systemd does this.

Standard library and one leaf of ours only, so that it stays small. It ends when the daemon stops in order (status 0)
or refuses to start (status 2 to 9), and once it was itself asked to stop; anything else is a crash, answered with a
restart after a growing pause. A daemon that comes back to a full disk (status 8) is started again too, until there is
room.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from types import FrameType

from appliance.kernel.standard_error import report_without_failing

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 10.0
_HEALTHY_AFTER = 10.0
_STORAGE = 8


def main(argv: list[str]) -> int:
    """Keep `intramurosd` with these arguments running."""
    pause = _FIRST_PAUSE
    stopping = threading.Event()
    restarted = False
    while True:
        began = time.monotonic()
        daemon = subprocess.Popen([sys.executable, "-I", "-m", "appliance.daemon.main", *argv], start_new_session=True)
        _pass_on(daemon, stopping)
        status = daemon.wait()
        if is_final(status, restarted=restarted) or stopping.is_set():
            return status
        restarted = True
        pause = _FIRST_PAUSE if time.monotonic() - began > _HEALTHY_AFTER else min(pause * 2, _LONGEST_PAUSE)
        print(f"intramurosd ended with status {status}; it is started again in {pause:.1f} s", file=sys.stderr)
        if stopping.wait(pause):
            return 0


def is_final(status: int, *, restarted: bool) -> bool:
    """Tell whether a daemon's exit status means that no other one should follow it."""
    return status == 0 or (2 <= status < 10 and not (restarted and status == _STORAGE))


def _pass_on(daemon: subprocess.Popen[bytes], stopping: threading.Event) -> None:
    def forward(number: int, _frame: FrameType | None) -> None:
        stopping.set()
        daemon.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, forward)


if __name__ == "__main__":
    report_without_failing()
    sys.exit(main(sys.argv[1:]))
