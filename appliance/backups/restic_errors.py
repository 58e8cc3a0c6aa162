"""What restic's messages mean: its exit status is 1 for nearly everything, so the text decides.

Texts are those of restic 0.14 to 0.18 and of the operating system; restic does not translate its messages.
"""

from __future__ import annotations

from pathlib import Path

from appliance.kernel.errors import BadInput, IntegrityFailure, IntramurosError, NotFound, StorageFailure, Unavailable
from appliance.kernel.process import Outcome

_LOCKED = ("repository is already locked", "unable to create lock")
_FULL = ("no space left on device", "disk quota exceeded")
_NO_REPOSITORY = ("is there a repository at the following location", "repository does not exist")
_NO_ACCESS = ("permission denied", "operation not permitted", "read-only file system")
_DAMAGED = (
    "ciphertext verification failed",
    "repository contains errors",
    "pack id does not match",
    "invalid data returned",
    "hash does not match",
    "does not match id",
    "unexpected eof",
    "not found in index",
    "invalid character",
    "there were",
)


def is_locked(outcome: Outcome) -> bool:
    """Tell whether another process's lock, dead or alive, was in the way."""
    return _says(outcome, _LOCKED) and not _says(outcome, _FULL + _NO_ACCESS)


def failure(outcome: Outcome, *, repo: Path, verb: str) -> IntramurosError:
    """Return the error that a failed restic run stands for."""
    if _says(outcome, ("wrong password",)):
        return BadInput(
            "backup.wrong_password",
            f"The password does not open the repository {repo}.",
            hint="Use the password file that was kept when the repository was created.",
        )
    if _says(outcome, _FULL):
        return StorageFailure(
            "backup.disk_full",
            f"The disk was full during restic {verb} of {repo}; earlier snapshots are untouched.",
            hint="Free some space and run the same command again.",
        )
    if _says(outcome, _NO_ACCESS):
        return StorageFailure(
            "backup.no_access",
            f"restic {verb} of {repo} was denied access: {_last_line(outcome)}",
            hint="Check the owner of the repository and that its disk is mounted read-write.",
        )
    if _says(outcome, _LOCKED):
        return Unavailable(
            "backup.locked",
            f"The repository {repo} is in use by a running backup, restore or check.",
            hint="Wait until it has finished; locks of dead processes are removed automatically.",
        )
    if _says(outcome, _NO_REPOSITORY):
        return NotFound(
            "backup.no_repository",
            f"There is no backup repository in {repo}.",
            hint="Check that its disk is mounted.",
        )
    if _says(outcome, _DAMAGED) or verb == "check":
        return IntegrityFailure(
            "backup.damaged",
            f"The repository {repo} is damaged: {_last_line(outcome)}",
            hint="Copy it aside before anything else, restore what still verifies, and start a new repository.",
        )
    return StorageFailure("backup.failed", f"restic {verb} of {repo} failed: {_last_line(outcome)}")


def _says(outcome: Outcome, texts: tuple[str, ...]) -> bool:
    said = outcome.stderr.lower()
    return any(text in said for text in texts)


def _last_line(outcome: Outcome) -> str:
    lines = [line.strip() for line in outcome.stderr.splitlines() if line.strip()]
    return lines[-1] if lines else f"exit status {outcome.status}"
