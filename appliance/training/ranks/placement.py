"""Where the ranks of a run are: hosts as data, in the order of their nodes. Pure; starts nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """`ranks` processes on each host. The first host is where they meet; `port` 0 lets it choose, on one host alone.

    The number of hosts is fixed: a run goes on with as many ranks as it began with, because its bytes depend on them.
    """

    hosts: tuple[str, ...] = ("127.0.0.1",)
    ranks: int
    port: int = 0

    @property
    def world(self) -> int:
        """How many ranks there are in all."""
        return len(self.hosts) * self.ranks


def launch_arguments(placement: Placement, *, run_id: str, restarts: int = 3) -> dict[str, Any]:
    """Return the arguments of torch's LaunchConfig; the same for every host."""
    nodes = len(placement.hosts)
    return {
        "min_nodes": nodes,
        "max_nodes": nodes,
        "nproc_per_node": placement.ranks,
        "run_id": run_id,
        "rdzv_backend": "c10d",
        "rdzv_endpoint": f"{placement.hosts[0]}:{placement.port}",
        "local_addr": placement.hosts[0] if nodes == 1 else None,
        "max_restarts": restarts,
        "monitor_interval": 0.2,
    }
