from __future__ import annotations

import errno

import pytest

from appliance.kernel import errors
from appliance.kernel.errors import InternalError, IntramurosError, from_exit_code, storage_errors, storage_failure
from appliance.kernel.problem import error_of, problem_of

CODES = {
    "BadInput": (2, 400),
    "NotFound": (3, 404),
    "Conflict": (4, 409),
    "Forbidden": (5, 403),
    "Unavailable": (6, 503),
    "IntegrityFailure": (7, 422),
    "StorageFailure": (8, 507),
    "GateRefused": (9, 409),
    "InternalError": (70, 500),
}
"""Scripts depend on these; they never change."""


def classes() -> dict[str, type[IntramurosError]]:
    return {cls.__name__: cls for cls in IntramurosError.__subclasses__() if cls.__module__ == errors.__name__}


def test_every_class_has_its_stable_exit_code_and_http_status() -> None:
    assert {name: (cls.exit_code, cls.http_status) for name, cls in classes().items()} == CODES
    assert len({cls.exit_code for cls in classes().values()}) == len(CODES)


@pytest.mark.parametrize("name", CODES)
def test_an_error_survives_the_way_between_processes(name: str) -> None:
    error = classes()[name]("area.what", "This is wrong.", hint="Do that.")
    again = error_of(problem_of(error))
    assert type(again) is type(error)
    assert (again.code, again.message, again.hint, again.retryable) == (
        error.code,
        error.message,
        error.hint,
        error.retryable,
    )


def test_an_unknown_exit_code_is_a_defect() -> None:
    assert isinstance(from_exit_code(42, "x.y", "What?"), InternalError)


def test_the_text_is_one_line_with_code_and_hint() -> None:
    assert str(errors.NotFound("model.unknown", "There is no model x.", hint="List them.")) == (
        "model.unknown: There is no model x. List them."
    )


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, "storage.full"),
        (errno.EDQUOT, "storage.full"),
        (errno.EROFS, "storage.not_writable"),
        (errno.EACCES, "storage.not_writable"),
        (errno.EIO, "storage.io"),
    ],
)
def test_a_disk_error_is_described_with_what_was_being_done(number: int, code: str) -> None:
    error = storage_failure(OSError(number, "as the kernel says it", "/a/file"), doing="writing the report")
    assert error.code == code
    assert "writing the report (/a/file)" in error.message


def test_a_block_turns_disk_errors_into_storage_failures_and_lets_others_pass() -> None:
    with pytest.raises(errors.StorageFailure), storage_errors("testing"):
        raise OSError(errno.ENOSPC, "full")
    with pytest.raises(KeyError), storage_errors("testing"):
        raise KeyError
