"""How the network is taken away from engines and jobs: they parse hostile files and need none.

On a box the daemon itself has none (PrivateNetwork= of its unit) and its children inherit that. Elsewhere each is
started in a namespace of its own; pathname Unix sockets still work across namespaces, so the gateway reaches an engine.
What this machine allows is probed once, by doing it; where nothing is allowed, `doctor` and `status` say so.
"""

from __future__ import annotations

from pathlib import Path

from appliance.kernel.errors import IntramurosError
from appliance.kernel.process import run

_CANDIDATES = (
    ("unshare", "--net", "--"),
    ("unshare", "--user", "--map-current-user", "--net", "--"),
)


def network_prefix() -> tuple[str, ...] | None:
    """Return the argv prefix that works here, empty where none is needed; None when the network cannot be taken."""
    if is_without_network(interfaces(Path("/proc/self/net/dev").read_text())):
        return ()
    for prefix in _CANDIDATES:
        try:
            if run([*prefix, "true"], timeout=10).status == 0:
                return prefix
        except IntramurosError:
            return None
    return None


def interfaces(table: str) -> tuple[str, ...]:
    """Return the names in /proc/net/dev (proc(5)): of this namespace, and without a netlink socket."""
    return tuple(line.partition(":")[0].strip() for line in table.splitlines()[2:])


def is_without_network(names: tuple[str, ...]) -> bool:
    """Tell whether a process that sees these interfaces can reach nobody: the loopback device is all there is."""
    return set(names) <= {"lo"}
