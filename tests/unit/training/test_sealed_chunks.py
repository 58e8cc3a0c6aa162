"""Chunks are computed once: what was sealed is reread to the bit, what was damaged is computed again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from appliance.jobs.spec import JobKind
from appliance.jobs.workspace import Interrupted, Workspace
from appliance.training.sealed_chunks import Chunk, by_length, sealed_chunks
from tests.factories.job_workspace import make_workspace


class Stoppable(Workspace):
    """A job's directory that can be asked to stop."""

    stop = False

    def stop_requested(self) -> bool:
        return self.stop


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Stoppable]:
    make_workspace(tmp_path / "job", JobKind.TRAIN_DISTIL, inputs={}).close()
    made = Stoppable(tmp_path / "job")
    yield made
    made.close()


class Work:
    """Computes chunks and remembers which."""

    def __init__(self, *, stop: Stoppable | None = None, after: int = 99) -> None:
        self.done: list[int] = []
        self._stop, self._after = stop, after

    def __call__(self, number: int) -> Chunk:
        self.done.append(number)
        if self._stop is not None and len(self.done) == self._after:
            self._stop.stop = True
        values = torch.arange(6).view(2, 3) * (number + 1) / 7
        return {"scores": values.half(), "numbers": values.int(), "vectors": values}


def chunks(workspace: Stoppable, work: Work, *, fingerprint: str = "run", count: int = 3) -> list[Chunk]:
    return sealed_chunks(workspace, "answers", fingerprint=fingerprint, count=count, compute=work, share=(0.0, 0.5))


def test_an_interrupted_computation_goes_on_where_it_was(workspace: Stoppable) -> None:
    first = Work(stop=workspace, after=2)
    with pytest.raises(Interrupted):
        chunks(workspace, first)
    workspace.stop = False
    second = Work()
    found = chunks(workspace, second)
    assert (first.done, second.done) == ([0, 1], [2])
    for number, chunk in enumerate(found):
        expected = Work()(number)
        assert {name: value.dtype for name, value in chunk.items()} == {
            name: value.dtype for name, value in expected.items()
        }
        assert all(torch.equal(chunk[name], expected[name]) for name in expected)


def test_a_damaged_chunk_is_computed_again(workspace: Stoppable) -> None:
    chunks(workspace, Work())
    (file,) = (workspace.checkpoints / "answers/chunk-00001").rglob("*.safetensors")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    work = Work()
    chunks(workspace, work)
    assert work.done == [1]


def test_chunks_of_another_run_are_not_taken_up(workspace: Stoppable) -> None:
    chunks(workspace, Work())
    work = Work()
    chunks(workspace, work, fingerprint="other")
    assert work.done == [0, 1, 2]


def test_rows_of_like_length_come_together() -> None:
    assert by_length([5, 1, 9, 1], size=2) == [[1, 3], [0, 2]]
