"""`intramuros doctor`: checks this machine and this state directory, without needing a running appliance."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, packages_distributions, version

import click

from appliance.cli.session import Session, verb
from appliance.kernel.errors import Conflict, IntramurosError
from appliance.kernel.paths import StatePaths
from appliance.kernel.terminal import counted, size_text, table

_LITTLE_DISK = 5 << 30
_LITTLE_MEMORY = 2 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at: OK, WARN or FAIL, and what to do."""

    level: str
    what: str
    found: str
    hint: str = ""


@click.command()
@verb
def doctor(session: Session) -> None:
    """Check this machine and this state directory."""
    findings = [finding for check in _CHECKS for finding in check(session.paths)]
    session.show(
        [{"level": f.level, "what": f.what, "found": f.found, "hint": f.hint} for f in findings],
        lambda: table(
            ("", "WHAT", "FOUND", "WHAT TO DO"),
            [(f.level, f.what, f.found, f.hint) for f in findings],
            empty="nothing was checked",
        ),
    )
    if failed := [f.what for f in findings if f.level == "FAIL"]:
        count = f"{counted(len(failed), 'check')} failed"
        raise Conflict("doctor.failed", f"{count}: {', '.join(failed)}.", hint="See the table.")


def _programs(_paths: StatePaths) -> Iterator[Finding]:
    for name, package in (("restic", "restic"), ("unshare", "util-linux"), ("setpriv", "util-linux")):
        path = shutil.which(name)
        yield Finding(
            level="OK" if path else "FAIL",
            what=name,
            found=path or "not installed",
            hint="" if path else f"apt-get install {package}",
        )


def _packages(_paths: StatePaths) -> Iterator[Finding]:
    for name in ("torch", "llama-cpp-python"):
        try:
            yield Finding(level="OK", what=name, found=version(name))
        except PackageNotFoundError:
            yield Finding(level="FAIL", what=name, found="not installed", hint="Install the locked requirements.")


def _import_names(_paths: StatePaths) -> Iterator[Finding]:
    """Each of our import names must have exactly one owner: other projects use the same names."""
    owners = packages_distributions()
    for name in ("appliance", "tui"):
        found = sorted(set(owners.get(name, ())))
        level = "OK" if len(found) <= 1 else "FAIL"
        hint = "" if level == "OK" else "Give Intramuros an environment of its own."
        yield Finding(level=level, what=f"import name {name}", found=", ".join(found) or "source tree", hint=hint)


def _disk(paths: StatePaths) -> Iterator[Finding]:
    existing = next(folder for folder in (paths.root, *paths.root.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    yield Finding(
        level="OK" if free >= _LITTLE_DISK else "WARN",
        what="disk",
        found=f"{size_text(free)} free at {existing}",
        hint="" if free >= _LITTLE_DISK else "Models and backups need room.",
    )
    writable = os.access(existing, os.W_OK)
    yield Finding(
        level="OK" if writable else "FAIL",
        what="state directory",
        found=str(paths.root),
        hint="" if writable else "This user cannot write there.",
    )


def _memory(_paths: StatePaths) -> Iterator[Finding]:
    import psutil

    free = psutil.virtual_memory().available
    yield Finding(level="OK" if free >= _LITTLE_MEMORY else "WARN", what="memory", found=f"{size_text(free)} available")


def _gpus(_paths: StatePaths) -> Iterator[Finding]:
    from appliance.daemon.gpus import look
    from appliance.daemon.sandbox import network_prefix

    seen = look(network_prefix() or ())
    hint = "Models run on the processor. Look at the GPU's driver."
    if seen.plugged and not seen.devices:
        yield Finding(level="WARN", what="GPU", found=seen.problem or "the engine sees none", hint=hint)
    for device in seen.devices:
        found = f"{device.description}, {size_text(device.free)} of {size_text(device.total)} free"
        yield Finding(level="OK", what=f"GPU {device.name}", found=found)


def _network_namespaces(_paths: StatePaths) -> Iterator[Finding]:
    from appliance.daemon.sandbox import network_prefix

    prefix = network_prefix()
    yield Finding(
        level="WARN" if prefix is None else "OK",
        what="network isolation",
        found="not possible" if prefix is None else " ".join(prefix) or "no network at all",
        hint="" if prefix is not None else "Engines and jobs keep the network: run as root or allow user namespaces.",
    )


def _secrets(paths: StatePaths) -> Iterator[Finding]:
    if not paths.secrets.is_dir():
        return
    if not os.access(paths.secrets, os.R_OK):
        yield Finding(level="WARN", what="secrets", found="not readable by this user", hint="Look at them as root.")
        return
    for entry in (paths.secrets, *sorted(paths.secrets.iterdir())):
        mode = stat.S_IMODE(entry.stat().st_mode)
        if mode & 0o077:
            yield Finding(
                level="FAIL", what=f"secrets/{entry.name}", found=f"mode {mode:04o}", hint=f"chmod go= {entry}"
            )
    yield Finding(level="OK", what="secrets", found=str(paths.secrets))


def _certificate(paths: StatePaths) -> Iterator[Finding]:
    if paths.tls.is_dir() and not os.access(paths.tls, os.X_OK):
        yield Finding(level="WARN", what="certificate", found="not readable by this user", hint="Look at it as root.")
        return
    if not paths.leaf_certificate.exists():
        return
    from appliance.access.tls import authority_fingerprint, leaf_expiry

    try:
        yield Finding(level="OK", what="certificate", found=f"until {leaf_expiry(paths):%Y-%m-%d}")
        yield Finding(level="OK", what="authority", found=authority_fingerprint(paths))
    except IntramurosError as error:
        yield Finding(level="FAIL", what="certificate", found=error.message, hint=error.hint)


_CHECKS: tuple[Callable[[StatePaths], Iterator[Finding]], ...] = (
    _programs,
    _packages,
    _import_names,
    _disk,
    _memory,
    _gpus,
    _network_namespaces,
    _secrets,
    _certificate,
)
