from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from appliance.kernel.errors import IntegrityFailure
from appliance.kernel.events import CheckpointSaved, CheckpointSkipped, Progress
from appliance.training.checkpoint import Checkpoint, CheckpointStore
from appliance.training.loop import train
from appliance.training.objective import NextToken, mean_loss
from tests.unit.training.tiny_model import STEPS, Log, TinyModel, sampler, settings, train_tiny


def weights(model: TinyModel) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return all(torch.equal(left[name], right[name]) for name in left)


def test_two_runs_are_equal_and_learn(tmp_path: Path) -> None:
    first, result = train_tiny(tmp_path / "a", Log())
    second, _ = train_tiny(tmp_path / "b", Log())
    assert result.finished
    assert result.steps == STEPS
    assert result.tokens == STEPS * 4 * 12
    assert same(weights(first), weights(second))
    assert mean_loss(first, sampler().batches(0), NextToken()) < mean_loss(
        TinyModel(), sampler().batches(0), NextToken()
    )


@pytest.mark.parametrize("stop_after", [1, 3, 5])
def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path: Path, stop_after: int) -> None:
    whole, undisturbed = train_tiny(tmp_path / "whole", Log())
    _, stopped = train_tiny(tmp_path / "parts", Log(stop_after=stop_after))
    assert not stopped.finished
    assert stopped.steps == stop_after
    resumed, result = train_tiny(tmp_path / "parts", Log())
    assert result.finished
    assert (result.tokens, result.loss) == (undisturbed.tokens, undisturbed.loss)
    assert same(weights(whole), weights(resumed))


def test_a_damaged_checkpoint_is_reported_and_changes_nothing(tmp_path: Path) -> None:
    whole, _ = train_tiny(tmp_path / "whole", Log())
    train_tiny(tmp_path / "parts", Log(stop_after=4))
    newest = tmp_path / "parts" / "step-00000004" / "tensors.safetensors"
    newest.write_bytes(newest.read_bytes()[:-3])
    log = Log()
    resumed, _ = train_tiny(tmp_path / "parts", log)
    assert [event.name for event in log.of(CheckpointSkipped)] == ["step-00000004"]
    assert log.of(Progress)[0].step == 4
    assert same(weights(whole), weights(resumed))


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    first, _ = train_tiny(tmp_path / "a", Log())
    log = Log()
    again, result = train_tiny(tmp_path / "a", log)
    assert not log.of(Progress)
    assert result.finished
    assert same(weights(first), weights(again))


def test_accumulation_gives_the_loss_of_the_whole_batch(tmp_path: Path) -> None:
    losses: list[list[float | None]] = []
    for batch_size, accumulation in ((8, 1), (1, 8)):
        log = Log()
        store = CheckpointStore(tmp_path / str(batch_size), fingerprint="a run")
        text = sampler(batch_size=batch_size, accumulation=accumulation)
        train(TinyModel(dropout=0.0), text, settings(), store, log.supervision(), objective=NextToken())
        losses.append([event.loss for event in log.of(Progress)])
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert losses[0][0] != losses[0][-1]


def test_divergence_ends_the_run_and_seals_nothing_broken(tmp_path: Path) -> None:
    model = TinyModel()
    with torch.no_grad():
        model.output.weight[0, 0] = torch.nan
    store = CheckpointStore(tmp_path / "a", fingerprint="a run")
    with pytest.raises(IntegrityFailure, match="step 1") as failure:
        train(model, sampler(), settings(), store, Log().supervision(), objective=NextToken())
    assert failure.value.code == "training.diverged"
    assert store.newest()[0] is None


def test_checkpoints_come_by_time_and_at_the_end(tmp_path: Path) -> None:
    log = Log()
    store = CheckpointStore(tmp_path / "a", fingerprint="a run")
    train(
        TinyModel(),
        sampler(),
        replace(settings(), checkpoint_seconds=3600.0),
        store,
        log.supervision(),
        objective=NextToken(),
    )
    assert [event.step for event in log.of(CheckpointSaved)] == [STEPS]


def test_checkpoints_that_take_long_come_more_seldom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, saving, real = CheckpointStore(tmp_path / "a", fingerprint="a run"), [0.0], time.monotonic
    save = store.save

    def slow(checkpoint: Checkpoint) -> str:
        saving[0] += 100.0
        return save(checkpoint)

    monkeypatch.setattr(store, "save", slow)
    monkeypatch.setattr(time, "monotonic", lambda: real() + saving[0])
    log = Log()
    often = replace(settings(), checkpoint_seconds=1e-9)
    train(TinyModel(), sampler(), often, store, log.supervision(), objective=NextToken())
    assert [event.step for event in log.of(CheckpointSaved)] == [1, STEPS]


def test_progress_tells_step_loss_rate_and_pace(tmp_path: Path) -> None:
    log = Log()
    train_tiny(tmp_path / "a", log)
    events = log.of(Progress)
    assert [event.step for event in events] == list(range(1, STEPS + 1))
    last = events[-1]
    assert last.steps == STEPS
    assert last.loss is not None
    assert last.loss > 0
    assert last.learning_rate is not None
    assert 0 < last.learning_rate < 0.01
    assert last.tokens_per_second is not None
    assert last.tokens_per_second > 0
    assert last.eta_seconds == 0
    assert last.memory_bytes is not None
    assert last.memory_bytes > 1 << 20
