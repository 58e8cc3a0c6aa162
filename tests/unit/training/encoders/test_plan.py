"""The memory plan of encoders, held against peaks that were measured."""

from __future__ import annotations

import pytest

from appliance.kernel.errors import BadInput
from appliance.training.encoders.plan import encoder_memory, shrinking_memory
from appliance.training.plan import ModelShape
from appliance.training.recipes.load import Load

MINILM = ModelShape(
    parameters=22_713_216,
    layers=6,
    hidden_size=384,
    intermediate_size=1536,
    heads=12,
    kv_heads=12,
    vocabulary=30522,
)
MIB = 1 << 20


def load(batch_size: int, length: int) -> Load:
    return Load(batch_size=batch_size, accumulation=1, sequence_length=length)


@pytest.mark.parametrize(("batch_size", "length", "measured"), [(8, 64, 921), (16, 128, 1463), (32, 128, 2229)])
def test_measured_peaks_lie_within_a_tenth(batch_size: int, length: int, measured: int) -> None:
    plan = encoder_memory(MINILM, load(batch_size, length), available=1 << 40)
    assert plan.total / MIB == pytest.approx(measured, rel=0.1)


def test_what_does_not_fit_is_told_with_what_would() -> None:
    plan = encoder_memory(MINILM, load(32, 256), available=2000 * MIB)
    with pytest.raises(BadInput, match="MiB are available") as refused:
        plan.require()
    assert "batch_size" in refused.value.hint
    proposed = int(refused.value.hint.split("batch_size ")[1].split()[0])
    assert encoder_memory(MINILM, load(proposed, 256), available=2000 * MIB).fits


def test_a_teacher_costs_its_weights_and_pruning_no_training() -> None:
    asked = load(16, 128)
    alone = encoder_memory(MINILM, asked, available=1 << 40)
    taught = shrinking_memory(MINILM, asked, trained=True, encodes=True, available=1 << 40)
    pruned = shrinking_memory(MINILM, asked, trained=False, encodes=True, available=1 << 40)
    assert taught.total - alone.total == alone.weights
    assert pruned.training_state == 0
    assert pruned.total < alone.total
