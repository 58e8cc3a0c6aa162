"""The error tree. Every failure a person can meet is one of these classes plus a stable dotted code.

    IntramurosError
    ├── BadInput          exit 2   what was given cannot be accepted
    ├── NotFound          exit 3   no such thing
    ├── Conflict          exit 4   the state does not allow it now
    ├── Forbidden         exit 5   this caller may not do it
    ├── Unavailable       exit 6   try again: something is starting, busy or down
    ├── IntegrityFailure  exit 7   bytes are not what their digest or signature says
    ├── StorageFailure    exit 8   disk full, read-only, or failing
    ├── GateRefused       exit 9   a quality gate or an approval is missing
    └── InternalError     exit 70  a defect of ours

The message names the thing, what was tried and what is wrong; `hint` says what to do next.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar


class IntramurosError(Exception):
    """Base of every expected failure: one line for a person, one code for a program."""

    exit_code: ClassVar[int] = 70
    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, code: str, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        tail = f" {self.hint}" if self.hint else ""
        return f"{self.code}: {self.message}{tail}"


class BadInput(IntramurosError):
    """What was given cannot be accepted as it is."""

    exit_code = 2
    http_status = 400


class NotFound(IntramurosError):
    """No such model, dataset, job, key or deployment."""

    exit_code = 3
    http_status = 404


class Conflict(IntramurosError):
    """The present state does not allow this action."""

    exit_code = 4
    http_status = 409


class Forbidden(IntramurosError):
    """The caller lacks the role, or separation of duties forbids it."""

    exit_code = 5
    http_status = 403


class Unavailable(IntramurosError):
    """Something needed is starting, busy or down; the same call may succeed later."""

    exit_code = 6
    http_status = 503
    retryable = True


class IntegrityFailure(IntramurosError):
    """Stored or given bytes do not match their digest, signature or declared layout."""

    exit_code = 7
    http_status = 422


class StorageFailure(IntramurosError):
    """The disk is full, read-only or failing."""

    exit_code = 8
    http_status = 507


class GateRefused(IntramurosError):
    """A quality gate failed or an approval is missing."""

    exit_code = 9
    http_status = 409


class InternalError(IntramurosError):
    """A defect of ours; the log has the details."""


_CLASSES: dict[int, type[IntramurosError]] = {
    cls.exit_code: cls
    for cls in (
        BadInput,
        NotFound,
        Conflict,
        Forbidden,
        Unavailable,
        IntegrityFailure,
        StorageFailure,
        GateRefused,
        InternalError,
    )
}


def from_exit_code(exit_code: int, code: str, message: str, hint: str = "") -> IntramurosError:
    """Rebuild the error that another process reported by its exit code, code and message."""
    return _CLASSES.get(exit_code, InternalError)(code, message, hint=hint)


def storage_failure(error: OSError, *, doing: str) -> StorageFailure:
    """Describe a disk error in one line with a stable code."""
    where = f" ({error.filename})" if error.filename else ""
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return StorageFailure(
                "storage.full",
                f"No space left on the disk while {doing}{where}.",
                hint="Free some space and run the same command again; nothing was half-done.",
            )
        case errno.EROFS | errno.EACCES | errno.EPERM:
            return StorageFailure(
                "storage.not_writable",
                f"The disk refused a write while {doing}{where}.",
                hint="Check that it is mounted read-write and that the directory belongs to this user.",
            )
        case _:
            return StorageFailure("storage.io", f"{error.strerror or error} while {doing}{where}.")


@contextmanager
def storage_errors(doing: str) -> Iterator[None]:
    """Turn `OSError` raised in the block into a `StorageFailure` that says what was being done."""
    try:
        yield
    except OSError as error:
        raise storage_failure(error, doing=doing) from error
