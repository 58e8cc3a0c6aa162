"""The lists of the source tree: each package with its reason, none twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.kernel.errors import BadInput
from installer.bundle.package_list import read_referees, read_wanted


def test_lists_of_the_product() -> None:
    wanted = read_wanted()
    assert {"python3-venv", "nftables", "cryptsetup", "auditd", "aide", "chrony", "restic", "prometheus"} <= set(wanted)
    assert {referee.name for referee in read_referees()} == {"ssg-base", "ssg-debian", "lynis"}


@pytest.mark.parametrize("text", ["nftables\n", "nftables #\n", "two names # why\n", "a # why\na # again\n"])
def test_a_package_without_a_reason_or_twice(text: str, tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    file.write_text(text)
    with pytest.raises(BadInput):
        read_wanted(file)
