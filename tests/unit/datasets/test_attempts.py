from __future__ import annotations

from pathlib import Path

import pytest

from appliance.datasets.attempts import AttemptLog


def write(file: Path, count: int, *, run: str = "r") -> None:
    log = AttemptLog(file, run=run)
    start = len(list(log.read()))
    for number in range(start, start + count):
        log.append({"attempt": number, "answer": f"é {number}"})
    log.close()


def read(file: Path, *, run: str = "r") -> list[int]:
    log = AttemptLog(file, run=run)
    found = [entry["attempt"] for entry in log.read()]
    log.close()
    return found


def test_a_log_goes_on_where_it_ended(tmp_path: Path) -> None:
    write(tmp_path / "log", 3)
    write(tmp_path / "log", 2)
    assert read(tmp_path / "log") == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("cut", [1, 5, 30])
def test_a_torn_line_is_cut_off_and_written_again(tmp_path: Path, cut: int) -> None:
    file = tmp_path / "log"
    write(file, 3)
    whole = file.read_bytes()
    file.write_bytes(whole[:-cut])
    assert read(file) == [0, 1]
    write(file, 1)
    assert file.read_bytes() == whole


def test_a_flipped_bit_costs_what_follows_it(tmp_path: Path) -> None:
    file = tmp_path / "log"
    write(file, 4)
    data = bytearray(file.read_bytes())
    second = data.index(b"\n") + 1
    data[data.index("é".encode(), second)] ^= 1
    file.write_bytes(bytes(data))
    assert read(file) == [0]


def test_the_log_of_another_run_counts_for_nothing(tmp_path: Path) -> None:
    write(tmp_path / "log", 3)
    assert read(tmp_path / "log", run="other") == []


def test_it_is_read_before_it_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="read the log"):
        AttemptLog(tmp_path / "log", run="r").append({"attempt": 0})
