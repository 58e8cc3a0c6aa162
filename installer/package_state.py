"""Packages that an interruption left half set up, or without others that they need: apt refuses any work until then.

Looks at dpkg's own record (dpkg(1), `--audit` and `/var/lib/dpkg/updates`), asks `apt-get check`, and does nothing on a
machine in order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from appliance.kernel import process
from appliance.kernel.errors import Conflict

_HALF = ("half-installed", "half-configured", "unpacked", "triggers-awaited", "triggers-pending")
_PATIENCE = 1800.0

Run = Callable[[Sequence[str]], process.Outcome]


def run_dpkg(argv: Sequence[str]) -> process.Outcome:
    """Run dpkg without questions; setting a large package up takes its time."""
    return process.run(argv, timeout=_PATIENCE, extra_environment={"DEBIAN_FRONTEND": "noninteractive"})


def is_interrupted(root: Path) -> bool:
    """Tell whether dpkg was stopped in its middle."""
    folder = _record(root)
    if (folder / "updates").is_dir() and any(path.name.isdigit() for path in (folder / "updates").iterdir()):
        return True
    try:
        with (folder / "status").open(encoding="utf-8", errors="replace") as stream:
            return any(line.startswith("Status: ") and line.split()[-1] in _HALF for line in stream)
    except FileNotFoundError:
        return False


def mend(root: Path, *, run: Run = run_dpkg) -> bool:
    """Let dpkg end what it had begun, else apt; False when there was nothing. Raises Conflict when neither can."""
    status = _record(root) / "status"
    if not status.exists():
        return False
    apt = ("apt-get", "-qq", "-o", f"Dir::State::status={status}")
    interrupted = is_interrupted(root)
    if interrupted:
        run(("dpkg", f"--root={root}", "--force-confdef", "--force-confold", "--configure", "--pending"))
    if not is_interrupted(root) and run((*apt, "-o", "Debug::NoLocking=1", "check")).status == 0:
        return interrupted
    # They lack a package that a full disk kept out.
    outcome = run((*apt, "-y", "--no-install-recommends", "--fix-broken", "install"))
    if outcome.status != 0:
        last = (outcome.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise Conflict(
            "install.packages_broken",
            f"Packages are half set up, and neither dpkg nor apt can end it: {last}",
            hint="See which with: dpkg --audit; apt-get check",
        )
    return True


def _record(root: Path) -> Path:
    return root / "var" / "lib" / "dpkg"
