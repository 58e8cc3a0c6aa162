"""Which state directory is meant when nobody names one."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.kernel.paths import box_state, default_state


def test_the_environment_wins_over_the_box(tmp_path: Path) -> None:
    box_file = tmp_path / "state"
    box_file.write_text("/srv/intramuros\n")
    assert default_state({"INTRAMUROS_STATE": "/elsewhere"}, box_file=box_file) == Path("/elsewhere")
    assert default_state({}, box_file=box_file) == Path("/srv/intramuros")


def test_without_a_box_it_is_the_folder_here(tmp_path: Path) -> None:
    assert default_state({}, box_file=tmp_path / "absent") == Path("var")


@pytest.mark.parametrize("text", ["", "relative/path\n"])
def test_a_file_that_names_no_absolute_path_names_no_box(tmp_path: Path, text: str) -> None:
    box_file = tmp_path / "state"
    box_file.write_text(text)
    assert box_state(box_file) is None
