"""Names of a bundle: nothing that leaves it, hides, starts an option, or is another name on another file system."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.kernel.errors import IntegrityFailure
from installer.bundle.layout import LONGEST_PATH, check_path, check_twins


@pytest.mark.parametrize(
    "path",
    [
        "apt/libc6_2.36-9+deb12u13_amd64.deb",
        "wheels/torch-2.13.0+cpu-cp311.whl",
        "playbooks/roles/a_b/tasks/main.yml",
        "a~b",
    ],
)
def test_allowed(path: str) -> None:
    assert check_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "../up",
        "a/../b",
        "a/./b",
        "a//b",
        "a/",
        ".hidden",
        "a/.hidden",
        "-rf",
        "a/-rf",
        "a b",
        "a\nb",
        "a\x00b",
        "a\\b",
        "C:x",
        "con.",
        "é",
        "a" * (LONGEST_PATH + 1),
        "\N{FULLWIDTH FULL STOP}\N{FULLWIDTH FULL STOP}/x",
    ],
)
def test_refused(path: str) -> None:
    with pytest.raises(IntegrityFailure) as refused:
        check_path(path)
    assert refused.value.code == "bundle.path"


@given(st.text(max_size=60))
def test_what_is_accepted_stays_below_the_root(path: str) -> None:
    try:
        check_path(path)
    except IntegrityFailure:
        return
    parts = path.split("/")
    assert path.isascii()
    assert all(part and part not in (".", "..") and part[0] not in ".-" for part in parts)


@given(st.lists(st.sampled_from(["a", "A", "b", "a/x", "A/x", "a/X", "b/y", "b/y/z"]), max_size=6))
def test_twins_are_what_a_medium_without_case_would_merge(paths: list[str]) -> None:
    """The reference: a set of names of a file system without case, built one by one."""
    if _fits_a_file_system_without_case(paths):
        check_twins(paths)
    else:
        with pytest.raises(IntegrityFailure, match="one name on a medium"):
            check_twins(paths)


def _fits_a_file_system_without_case(paths: list[str]) -> bool:
    spelling: dict[str, tuple[str, str]] = {}
    for path in paths:
        parts = path.split("/")
        for length in range(1, len(parts) + 1):
            name = "/".join(parts[:length])
            kind = "file" if length == len(parts) else "folder"
            known = spelling.get(name.lower())
            if known is not None and (kind == "file" or known != (name, kind)):
                return False
            spelling[name.lower()] = (name, kind)
    return True
