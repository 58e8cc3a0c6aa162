"""Chunks are computed once: what was sealed is reread to the bit, what was damaged is computed again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from appliance.training.loop import Supervision
from appliance.training.sealed_chunks import Chunk, Stopped, by_length, sealed_chunks


class Work:
    """Computes chunks and remembers which."""

    def __init__(self, *, after: int = 99) -> None:
        self.done: list[int] = []
        self._after = after

    def is_enough(self) -> bool:
        return len(self.done) >= self._after

    def __call__(self, number: int) -> Chunk:
        self.done.append(number)
        values = torch.arange(6).view(2, 3) * (number + 1) / 7
        return {"scores": values.half(), "numbers": values.int(), "vectors": values}


def chunks(folder: Path, work: Work, *, fingerprint: str = "run", count: int = 3) -> list[Chunk]:
    return sealed_chunks(
        folder,
        "answers",
        supervision=Supervision(emit=lambda _event: None, stop_requested=work.is_enough),
        fingerprint=fingerprint,
        count=count,
        compute=work,
        share=(0.0, 0.5),
    )


def test_an_interrupted_computation_goes_on_where_it_was(tmp_path: Path) -> None:
    first = Work(after=2)
    with pytest.raises(Stopped):
        chunks(tmp_path, first)
    second = Work()
    found = chunks(tmp_path, second)
    assert (first.done, second.done) == ([0, 1], [2])
    for number, chunk in enumerate(found):
        expected = Work()(number)
        assert {name: value.dtype for name, value in chunk.items()} == {
            name: value.dtype for name, value in expected.items()
        }
        assert all(torch.equal(chunk[name], expected[name]) for name in expected)


def test_a_damaged_chunk_is_computed_again(tmp_path: Path) -> None:
    chunks(tmp_path, Work())
    (file,) = (tmp_path / "answers/chunk-00001").rglob("*.safetensors")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    work = Work()
    chunks(tmp_path, work)
    assert work.done == [1]


def test_chunks_of_another_run_are_not_taken_up(tmp_path: Path) -> None:
    chunks(tmp_path, Work())
    work = Work()
    chunks(tmp_path, work, fingerprint="other")
    assert work.done == [0, 1, 2]


def test_rows_of_like_length_come_together() -> None:
    assert by_length([5, 1, 9, 1], size=2) == [[1, 3], [0, 2]]
