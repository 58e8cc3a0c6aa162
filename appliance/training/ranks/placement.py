"""Where the ranks of a run are: hosts as data, in the order of their nodes. Pure; starts nothing."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

_MEET_SECONDS: Final = 1800


class Placement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`ranks` processes on each host. The first host is where they meet; `port` 0 lets it choose, on one host alone.

    The number of hosts is fixed: a run goes on with as many ranks as it began with, because its bytes depend on them.
    """

    ranks: Annotated[int, msgspec.Meta(ge=1)]
    hosts: tuple[str, ...] = ("127.0.0.1",)
    node: Annotated[int, msgspec.Meta(ge=0)] = 0
    """which of the hosts this one is"""
    port: int = 0
    interface: str = "lo"
    """the network device through which this host's ranks exchange gradients"""

    @property
    def world(self) -> int:
        """How many ranks there are in all."""
        return len(self.hosts) * self.ranks

    def rank(self, local: int) -> int:
        """Return the rank of this host's process number `local`: the same in every attempt."""
        return self.node * self.ranks + local


def launch_arguments(placement: Placement, *, run_id: str, restarts: int = 3) -> dict[str, Any]:
    """Return the arguments of torch's LaunchConfig on this host."""
    nodes = len(placement.hosts)
    return {
        "min_nodes": nodes,
        "max_nodes": nodes,
        "nproc_per_node": placement.ranks,
        "run_id": run_id,
        "rdzv_backend": "c10d",
        "rdzv_endpoint": f"{placement.hosts[0]}:{placement.port}",
        "rdzv_configs": {} if nodes == 1 else _meeting(is_host=placement.node == 0),
        "local_addr": placement.hosts[placement.node],
        "max_restarts": restarts,
        "monitor_interval": 0.2,
    }


def _meeting(*, is_host: bool) -> dict[str, Any]:
    """Hosts verify their inputs before they meet, which may take one much longer than another.

    A host that is lost is seen by whoever placed the run, not by these limits.
    """
    return {"is_host": is_host, "join_timeout": _MEET_SECONDS, "read_timeout": _MEET_SECONDS}
