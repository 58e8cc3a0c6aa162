"""The launcher's side of a run on several ranks: starts them by torch's elastic agent, in the job's own process.

A rank that dies takes its attempt with it: all start again and go on from the newest checkpoint that every one of them
has. The agent is the job, so whatever ends the job ends its ranks. On several hosts each has an agent; they meet at the
first one's.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from appliance.jobs.workspace import PLACEMENT, Interrupted, Workspace
from appliance.kernel.errors import IntegrityFailure, Unavailable
from appliance.kernel.problem import Problem, error_of
from appliance.training.ranks.placement import Placement, launch_arguments

SUMMARY = "ranks.json"
PROBLEM = "error.json"
"""the job's own: seen at once by whoever watches the run from another box, while other ranks still wait"""
APART = "training.ranks_apart"
"""code of a failure that another attempt of all hosts may mend"""
_AGENTS_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1


def run_on_ranks(workspace: Workspace, *, ranks: int) -> dict[str, Any]:
    """Train on this host's ranks and return the first one's summary: on other hosts than its own, nothing.

    Raises the ranks' error, Unavailable or Interrupted.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous.api import RendezvousError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    placed = placement_of(workspace)
    placement = placed or Placement(ranks=ranks)
    if placed is None:
        _raise_loopback()
    # A store of its own for each attempt, in the rank that torch calls 0: in one that outlives attempts, ranks would
    # find the addresses of peers that died, and agents on several hosts count their attempts apart.
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    config = LaunchConfig(**launch_arguments(placement, run_id=workspace.spec.run_id))
    argv = ["-I", "-m", "appliance.training.ranks.rank_task", str(workspace.directory)]
    try:
        with _own_handlers():
            elastic_launch(config, sys.executable)(*argv)
    except SignalException as asked:
        _raise_problem(workspace)
        raise Interrupted from asked
    except RendezvousError as apart:
        _raise_problem(workspace)
        raise Unavailable(
            APART,
            f"The ranks on {len(placement.hosts)} hosts lost each other: {(str(apart) or repr(apart))[:200]}.",
            hint="Another host is down, or the network between them; the run goes on from its newest checkpoint.",
        ) from apart
    except ChildFailedError as failed:
        _raise_problem(workspace)
        died = f"The ranks died {config.max_restarts + 1} times; first rank {failed.get_first_failure()[0]}."
        if placed:  # whoever placed it counts the attempts, and knows of progress between them
            raise Unavailable(APART, died) from failed
        raise IntegrityFailure(
            "training.ranks_failed",
            died,
            hint="The job's log has their last words; `intramuros job resume` goes on from the newest checkpoint.",
        ) from failed
    _raise_problem(workspace)
    if placement.node:
        return {}
    if not (summary := workspace.scratch / SUMMARY).exists():
        raise Interrupted
    found: dict[str, Any] = msgspec.json.decode(summary.read_bytes())
    return found


def placement_of(workspace: Workspace) -> Placement | None:
    """Return where a rank host has put this job's ranks; None where the job was not put anywhere, and has all here."""
    return workspace.document(PLACEMENT, Placement)


@contextmanager
def _own_handlers() -> Iterator[None]:
    """Give the job its signal handlers back: torch's agent puts its own in their place and leaves them there."""
    before = {number: signal.getsignal(number) for number in _AGENTS_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _raise_problem(workspace: Workspace) -> None:
    if (problem := workspace.directory / PROBLEM).exists():
        raise error_of(msgspec.json.decode(problem.read_bytes(), type=Problem))


def _raise_loopback() -> None:
    """Bring the loopback device up (netdevice(7)): a job without a network begins with it down, and ranks meet."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        asked = struct.pack("16sH14s", b"lo", 0, b"")
        flags = struct.unpack("16sH14s", fcntl.ioctl(control, _SIOCGIFFLAGS, asked))[1]
        if flags & _IFF_UP:
            return
        with contextlib.suppress(PermissionError):
            fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH14s", b"lo", flags | _IFF_UP, b""))
            return
    raise Unavailable(
        "training.no_loopback",
        "Ranks need the loopback device, and this job may not bring it up.",
        hint="Train with ranks = 1, or on a box, where the daemon's own unit has it up.",
    )
