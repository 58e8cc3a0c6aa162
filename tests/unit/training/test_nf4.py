from __future__ import annotations

import pytest
import torch
from torch import nn

from appliance.training.nf4 import BLOCK, LEVELS, Nf4Linear, hold_in_nf4, quantise, restore
from appliance.training.objective import NextToken, mean_loss
from appliance.training.sampler import Batch
from appliance.weights.products import with_fast_products
from tests.unit.training.random_llama import random_llama


@pytest.mark.parametrize("shape", [(3, 64), (5, 7), (64, 48)])
def test_every_weight_becomes_the_nearest_level_of_its_block(shape: tuple[int, int]) -> None:
    torch.manual_seed(1)
    weight = torch.randn(shape)
    packed, scales = quantise(weight)
    restored = restore(packed, scales, shape)
    flat, levels = weight.flatten(), torch.tensor(LEVELS)
    for index, value in enumerate(restored.flatten()):
        scale = flat[index // BLOCK * BLOCK : (index // BLOCK + 1) * BLOCK].abs().max()
        nearest = levels[(levels - flat[index] / scale).abs().argmin()] * scale
        assert value == pytest.approx(float(nearest), abs=1e-6)
    assert packed.numel() == scales.numel() * BLOCK // 2


def test_levels_are_restored_exactly_and_zeros_stay_zero() -> None:
    exact = torch.tensor([LEVELS * 4, [0.0] * 64])
    packed, scales = quantise(exact)
    assert torch.equal(restore(packed, scales, (2, 64)), exact)


def test_the_gradient_is_that_of_the_restored_weight() -> None:
    torch.manual_seed(2)
    layer = nn.Linear(16, 8)
    held = Nf4Linear(layer)
    same = with_fast_products(nn.Linear(16, 8))
    same.weight.data = restore(held.weight, held.scales, (8, 16))  # type: ignore[arg-type]
    same.bias.data = layer.bias.detach()
    given = torch.randn(2, 3, 16, requires_grad=True)
    again = given.detach().clone().requires_grad_()
    for one, module in ((given, held), (again, same)):
        module(one).square().sum().backward()
    assert torch.equal(held(given), same(again))
    assert torch.allclose(given.grad, again.grad, atol=1e-6)  # type: ignore[arg-type]
    assert not any(weight.requires_grad for weight in held.parameters())


def test_a_model_is_held_but_its_output_layer_and_stays_close() -> None:
    model = with_fast_products(random_llama())  # as the loader hands it on
    tokens = torch.arange(1, 25).view(1, -1)
    batch = Batch(tokens=tokens, labels=tokens)
    before = mean_loss(model, [batch], NextToken())
    hold_in_nf4(model)
    assert not isinstance(model.get_output_embeddings(), Nf4Linear)
    held = [layer for layer in model.modules() if isinstance(layer, Nf4Linear)]
    assert len(held) == 2 * 7
    after = mean_loss(model, [batch], NextToken())
    assert after != before
    assert after == pytest.approx(before, rel=0.15)
