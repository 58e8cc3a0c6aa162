"""The lock of the installed packages, kept with every run: names, versions, and a digest of what is installed of each.

A run's identity has the few libraries that decide its bytes; the lock has all of them, so that the environment can be
made again from the wheels of the bundle. Invariant: one row for each different environment, however many runs it made.
"""

from __future__ import annotations

import platform
from functools import lru_cache
from importlib.metadata import Distribution, distributions
from typing import Any

from sqlalchemy import Connection, insert, select

from appliance.kernel.canonical import digest_of, sha256_hex
from appliance.store.schema import locks


@lru_cache(maxsize=1)
def environment_lock() -> dict[str, Any]:
    """Return {"python", "packages": {name: {"version", "files"}}}; `files` is a digest over the hashes of its files."""
    packages = {}
    for found in distributions():
        name = found.metadata["Name"]
        if name:
            packages[name.lower().replace("_", "-")] = {"version": found.version, "files": _files_digest(found)}
    return {"python": platform.python_version(), "packages": dict(sorted(packages.items()))}


def keep_lock(connection: Connection, lock: dict[str, Any], *, at: str) -> str:
    """Store a lock unless it is there, and return its digest."""
    digest = digest_of(lock)
    if connection.execute(select(locks.c.digest).where(locks.c.digest == digest)).first() is None:
        connection.execute(insert(locks).values(digest=digest, document=lock, added_at=at))
    return digest


def find_lock(connection: Connection, digest: str) -> dict[str, Any] | None:
    """Return a kept lock; None for a run that is older than locks."""
    found: dict[str, Any] | None = connection.execute(select(locks.c.document).where(locks.c.digest == digest)).scalar()
    return found


def requirements_text(lock: dict[str, Any]) -> str:
    """Return the lock as a requirements file for pip, the Python version in its first line."""
    lines = [f"# Python {lock['python']}"]
    lines += [f"{name}=={entry['version']}" for name, entry in lock["packages"].items()]
    return "\n".join(lines)


def _files_digest(found: Distribution) -> str:
    """Hash the installed files' own hashes; scripts name this environment's path, and metadata who installed it."""
    record = found.read_text("RECORD") or ""
    lines = [
        line
        for line in record.splitlines()
        if ",sha256=" in line and not line.startswith(("../", "/")) and ".dist-info/" not in line
    ]
    return sha256_hex("\n".join(sorted(lines)).encode()) if lines else ""
