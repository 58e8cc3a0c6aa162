"""The error codes that the generated page lists are those that the sources raise."""

from __future__ import annotations

from tools.source_facts import error_classes, error_kinds, error_uses


def test_kinds_have_the_exit_codes_of_the_kernel() -> None:
    kinds = error_kinds()
    assert kinds["BadInput"] == 2
    assert kinds["InternalError"] == 70


def test_derived_classes_count_as_their_kind() -> None:
    assert error_classes()["FrameError"] == "BadInput"
    # Its first argument is a status, not a code.
    assert "Refusal" not in error_classes()


def test_values_in_messages_are_left_open() -> None:
    use = next(use for use in error_uses() if use.code == "process.not_installed")
    assert use.error == "NotFound"
    assert use.message == "The program … is not installed."
