"""An error as a document: how one process tells another what went wrong, without losing code, hint or exit status."""

from __future__ import annotations

import msgspec

from appliance.kernel.errors import IntramurosError, from_exit_code


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """A stable code, one line, what to do next, and the exit status that the CLI ends with."""

    code: str
    message: str
    hint: str = ""
    exit_code: int = 70
    retryable: bool = False


def problem_of(error: IntramurosError) -> Problem:
    """Return the document of an error."""
    return Problem(
        code=error.code,
        message=error.message,
        hint=error.hint,
        exit_code=error.exit_code,
        retryable=error.retryable,
    )


def error_of(problem: Problem) -> IntramurosError:
    """Return the error that a document describes."""
    return from_exit_code(problem.exit_code, problem.code, problem.message, problem.hint)
