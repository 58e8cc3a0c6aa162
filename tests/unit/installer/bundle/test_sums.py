"""The list for `install.sh`: its head, its order, and lines that are none of ours."""

from __future__ import annotations

from datetime import timedelta

import pytest

from appliance.kernel.errors import IntegrityFailure
from installer.bundle.sums import parse_sums, write_sums
from tests.factories.bundle import BUILT

DIGESTS = {"b/c": "1" * 64, "a": "0" * 64}
DATA = write_sums(DIGESTS, version="0.1.0", sequence=7, built=BUILT, expires=BUILT + timedelta(days=1))


def test_head_and_order() -> None:
    assert DATA.decode().splitlines() == [
        "# intramuros-bundle 1",
        "# version 0.1.0",
        "# sequence 7",
        "# built 2026-11-25T12:00:00Z",
        "# expires 2026-11-26T12:00:00Z",
        f"{'0' * 64}  a",
        f"{'1' * 64}  b/c",
    ]
    assert parse_sums(DATA) == DIGESTS


@pytest.mark.parametrize(
    "data",
    [
        DATA.replace(b"bundle 1", b"bundle 2"),
        DATA + b"short  x\n",
        DATA + f"{'0' * 64} *x\n".encode(),
        DATA + f"{'2' * 64}  a\n".encode(),
        b"\xff" + DATA,
        b"",
    ],
)
def test_refused(data: bytes) -> None:
    with pytest.raises(IntegrityFailure):
        parse_sums(data)
