"""The prefix that takes the network away from engines and jobs: they parse hostile files and need none.

Pathname Unix sockets still work across network namespaces, so the gateway reaches an engine. What this machine
allows is probed once, by doing it; where nothing is allowed, `doctor` and `status` say so.
"""

from __future__ import annotations

from appliance.kernel.errors import IntramurosError
from appliance.kernel.process import run

_CANDIDATES = (
    ("unshare", "--net", "--"),
    ("unshare", "--user", "--map-current-user", "--net", "--"),
)


def network_prefix() -> tuple[str, ...] | None:
    """Return the argv prefix that works here, or None when no network namespace can be made."""
    for prefix in _CANDIDATES:
        try:
            if run([*prefix, "true"], timeout=10).status == 0:
                return prefix
        except IntramurosError:
            return None
    return None
