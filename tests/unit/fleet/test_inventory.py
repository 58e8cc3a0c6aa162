from __future__ import annotations

from pathlib import Path

import pytest

from appliance.fleet.inventory import read_inventory
from appliance.kernel.errors import BadInput, StorageFailure

GOOD = """\
own = "alpha"
interface = "wg-fleet"
[[boxes]]
name = "alpha"
address = "10.77.0.1"
[[boxes]]
name = "beta"
address = "fd77::2"
"""


def inventory(folder: Path, text: str) -> Path:
    (folder / "fleet.toml").write_text(text)
    return folder / "fleet.toml"


def test_the_boxes_are_read_in_their_order(tmp_path: Path) -> None:
    found = read_inventory(inventory(tmp_path, GOOD))
    assert [(box.name, box.address) for box in found.boxes] == [("alpha", "10.77.0.1"), ("beta", "fd77::2")]
    assert (found.own, found.interface, found.port) == ("alpha", "wg-fleet", 7600)


def test_a_box_that_there_is_not_is_named_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no box gamma") as refused:
        read_inventory(inventory(tmp_path, GOOD)).box("gamma")
    assert "alpha, beta" in refused.value.hint


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (("alpha", "Alpha!"), "own"),
        (('own = "alpha"', 'own = "gamma"'), "own names gamma, which is none of the boxes"),
        (("fd77::2", "10.77.0.1"), "the same name or the same address"),
        (("fd77::2", "beta.example"), "the address of beta is none"),
        (('own = "alpha"', 'own = "alpha"\nports = 1'), "unknown field `ports`"),
        (('own = "alpha"', "own = alpha"), "Invalid value"),
    ],
)
def test_a_fault_is_one_line_with_the_file(tmp_path: Path, change: tuple[str, str], what: str) -> None:
    file = inventory(tmp_path, GOOD.replace(*change))
    with pytest.raises(BadInput) as refused:
        read_inventory(file)
    assert str(file) in refused.value.message
    assert what in refused.value.message
    assert "\n" not in refused.value.message


def test_no_file_is_a_failure_of_the_disk(tmp_path: Path) -> None:
    with pytest.raises(StorageFailure):
        read_inventory(tmp_path / "fleet.toml")
