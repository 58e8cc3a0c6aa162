from __future__ import annotations

import pytest

from appliance.cli.quantities import parse_duration, parse_layers, parse_size
from appliance.kernel.errors import BadInput


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("512", 512), ("4G", 4 << 30), ("1.5g", 3 << 29), ("64 MiB", 64 << 20), ("2kb", 2048)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(("text", "seconds"), [("0", 0), ("90", 90), ("90s", 90), ("30m", 1800), ("1.5h", 5400)])
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(("text", "layers"), [("auto", -1), (" AUTO ", -1), ("0", 0), ("33", 33)])
def test_layers(text: str, layers: int) -> None:
    assert parse_layers(text) == layers


@pytest.mark.parametrize("text", ["", "-1", "4X", "1e9", "G", "٣G", "9" * 40])
def test_other_texts_are_refused(text: str) -> None:
    for parse in (parse_size, parse_duration, parse_layers):
        with pytest.raises(BadInput):
            parse(text)
