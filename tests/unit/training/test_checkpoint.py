from __future__ import annotations

import resource
from pathlib import Path

import pytest
import torch

from appliance.kernel.errors import StorageFailure
from appliance.training.checkpoint import Checkpoint, CheckpointStore


def checkpoint(step: int) -> Checkpoint:
    return Checkpoint(step=step, tensors={"weight/a": torch.full((64,), float(step))}, state={"tokens": step})


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    store = CheckpointStore(tmp_path / "checkpoints", fingerprint="a run")
    for step in (10, 20, 30):
        store.save(checkpoint(step))
    return store


def folder(tmp_path: Path, step: int) -> Path:
    return tmp_path / "checkpoints" / f"step-{step:08d}"


def test_an_empty_store_has_none(tmp_path: Path) -> None:
    assert CheckpointStore(tmp_path / "nowhere", fingerprint="a run").newest() == (None, [])


def test_the_newest_comes_back_whole_and_two_are_kept(store: CheckpointStore, tmp_path: Path) -> None:
    found, skipped = store.newest()
    assert found is not None
    assert not skipped
    assert found.step == 30
    assert torch.equal(found.tensors["weight/a"], torch.full((64,), 30.0))
    assert found.state == {"tokens": 30}
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-00000020", "step-00000030"]


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json", "MANIFEST.json"])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing", "empty"])
def test_damage_is_found_and_the_older_one_is_used(
    store: CheckpointStore, tmp_path: Path, name: str, damage: str
) -> None:
    file = folder(tmp_path, 30) / name
    data = bytearray(file.read_bytes())
    match damage:
        case "truncated":
            file.write_bytes(data[: len(data) // 2])
        case "flipped":
            data[len(data) - 5] ^= 0x10
            file.write_bytes(data)
        case "empty":
            file.write_bytes(b"")
        case _:
            file.unlink()
    found, skipped = store.newest()
    assert found is not None
    assert found.step == 20
    assert [event.name for event in skipped] == ["step-00000030"]
    assert skipped[0].reason


def test_a_damaged_one_does_not_count_as_kept(store: CheckpointStore, tmp_path: Path) -> None:
    (folder(tmp_path, 30) / "state.json").write_bytes(b"{}")
    store.newest()
    store.save(checkpoint(25))
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-00000020", "step-00000025"]


def test_another_runs_checkpoint_is_not_valid(store: CheckpointStore, tmp_path: Path) -> None:
    found, skipped = CheckpointStore(tmp_path / "checkpoints", fingerprint="another run").newest()
    assert found is None
    assert {event.reason for event in skipped} == {"it belongs to another run"}


def test_a_checkpoint_under_another_name_is_not_valid(store: CheckpointStore, tmp_path: Path) -> None:
    folder(tmp_path, 30).rename(folder(tmp_path, 99))
    found, skipped = store.newest()
    assert found is not None
    assert found.step == 20
    assert skipped[0].name == "step-00000099"


def test_a_leftover_of_a_crash_is_cleared(store: CheckpointStore, tmp_path: Path) -> None:
    leftover = tmp_path / "checkpoints" / "step-00000040.tmp"
    leftover.mkdir()
    (leftover / "tensors.safetensors").write_bytes(b"half")
    found, skipped = store.newest()
    assert found is not None
    assert (found.step, skipped) == (30, [])
    store.save(checkpoint(40))
    assert not leftover.exists()
    again, _ = store.newest()
    assert again is not None
    assert again.step == 40


def test_equal_checkpoints_have_equal_digests(tmp_path: Path) -> None:
    first = CheckpointStore(tmp_path / "a", fingerprint="a run").save(checkpoint(1))
    second = CheckpointStore(tmp_path / "b", fingerprint="a run").save(checkpoint(1))
    other = CheckpointStore(tmp_path / "c", fingerprint="a run").save(checkpoint(2))
    assert first == second != other


def test_checkpoints_of_later_steps_are_forgotten(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, fingerprint="run")
    for step in (9, 12):
        store.save(Checkpoint(step=step, tensors={"weight/a": torch.zeros(1)}, state={}))
    store.forget_after(9)
    newest, skipped = store.newest()
    assert newest is not None
    assert (newest.step, skipped) == (9, [])


def test_a_checkpoint_that_cannot_be_written_leaves_the_others_and_no_rest(
    store: CheckpointStore, tmp_path: Path
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    large = Checkpoint(step=40, tensors={"weight/a": torch.zeros(1 << 16)}, state={})
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
    try:
        with pytest.raises(StorageFailure, match="checkpoint of step 40"):
            store.save(large)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-00000020", "step-00000030"]
    store.save(large)
    found, _ = store.newest()
    assert found is not None
    assert found.step == 40
