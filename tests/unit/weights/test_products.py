from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from appliance.weights import products
from appliance.weights.products import Linear, linear, with_fast_products


@pytest.fixture(autouse=True)
def _on_a_foreign_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_is_useful", lambda: True)


@pytest.fixture
def no_product(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_given: object) -> Tensor:
        raise AssertionError("this product is torch's own")

    monkeypatch.setattr(products._Product, "apply", refused)


@pytest.fixture
def forget_the_processor() -> Iterator[None]:
    yield
    products._is_useful.cache_clear()


def _random(*shape: int) -> Tensor:
    return torch.randn(*shape, requires_grad=True)


def _assert_same_gradients(mine: Tensor, other: Tensor, operands: Sequence[Tensor], outward: Tensor) -> None:
    gradients = [torch.autograd.grad(result, operands, outward) for result in (mine, other)]
    for my_gradient, their_gradient in zip(*gradients, strict=True):
        assert my_gradient.shape == their_gradient.shape
        assert torch.allclose(my_gradient, their_gradient, atol=1e-5)


@pytest.mark.parametrize("shape", [(5, 24), (2, 3, 24), (1, 24), (2, 1, 4, 24)])
@pytest.mark.parametrize("biased", [True, False])
def test_a_product_and_its_gradients_are_those_of_torch(shape: tuple[int, ...], biased: bool) -> None:
    torch.manual_seed(1)
    given, weight, bias = _random(*shape), _random(7, 24), _random(7) if biased else None
    operands = [operand for operand in (given, weight, bias) if operand is not None]
    outward = torch.randn(*shape[:-1], 7)
    mine, other = linear(given, weight, bias), nn.functional.linear(given, weight, bias)
    assert torch.allclose(mine, other, atol=1e-5)
    _assert_same_gradients(mine, other, operands, outward)


def test_operands_may_lie_in_memory_in_any_order() -> None:
    torch.manual_seed(2)
    given, weight = torch.randn(24, 6).t(), torch.randn(24, 14)[:, ::2].t()
    given.requires_grad_()
    weight.requires_grad_()
    mine, other = linear(given, weight), nn.functional.linear(given, weight)
    assert torch.allclose(mine, other, atol=1e-5)
    one_number_seen_as_a_matrix = torch.ones(()).expand_as(mine)
    _assert_same_gradients(mine, other, [given, weight], one_number_seen_as_a_matrix)


def test_the_bits_do_not_depend_on_where_operands_lie() -> None:
    torch.manual_seed(3)
    given, weight = torch.randn(33, 48), torch.randn(80, 48)
    first = linear(given, weight)
    for offset in range(1, 17):
        elsewhere = torch.empty(given.numel() + offset)[offset:].view_as(given).copy_(given)
        learns = torch.empty(weight.numel() + offset)[offset:].view_as(weight).copy_(weight)
        assert torch.equal(linear(elsewhere, learns), first)


def test_the_input_of_a_frozen_weight_is_not_kept() -> None:
    given, frozen = _random(3, 24), torch.randn(7, 24)
    kept: list[tuple[int, ...]] = []

    def note(tensor: Tensor) -> Tensor:
        kept.append(tuple(tensor.shape))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        linear(given, frozen)
        linear(given.detach(), _random(5, 24))
    assert kept == [(7, 24), (3, 24)]


@pytest.mark.usefixtures("no_product")
def test_other_formats_and_empty_batches_go_torchs_way() -> None:
    weight = torch.randn(7, 24)
    assert linear(torch.randn(0, 24), weight).shape == (0, 7)
    assert linear(torch.randn(24), weight).shape == (7,)
    assert linear(torch.randn(2, 24, dtype=torch.bfloat16), weight.bfloat16()).dtype == torch.bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert linear(torch.randn(2, 24), weight).dtype == torch.bfloat16
    with pytest.raises(AssertionError, match="torch's own"):
        linear(torch.randn(2, 24), weight)


def test_only_plain_linear_layers_change_and_weights_keep_their_names() -> None:
    class Own(nn.Linear):
        """Multiplies in its own way."""

    torch.manual_seed(4)
    model = nn.Sequential(nn.Linear(24, 24), nn.ReLU(), Own(24, 24), nn.Sequential(nn.Linear(24, 3)))
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    given = torch.randn(4, 24)
    said = model(given)
    assert with_fast_products(model) is model
    assert [type(layer) for layer in (model[0], model[2], model[3][0])] == [Linear, Own, Linear]  # type: ignore[index]
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    assert torch.allclose(model(given), said, atol=1e-5)


@pytest.mark.usefixtures("forget_the_processor")
@pytest.mark.parametrize(("vendor", "useful"), [("GenuineIntel", False), ("AuthenticAMD", True)])
def test_only_a_processor_that_mkl_does_not_know_is_helped(
    vendor: str, useful: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    products._is_useful.cache_clear()
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(Path, "read_text", lambda _path: f"vendor_id\t: {vendor}\n")
    assert products._is_useful() is useful


def test_where_code_may_not_be_written_torch_multiplies(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_given: Tensor) -> Tensor:  # as under MemoryDenyWriteExecute
        raise RuntimeError("could not create a primitive")

    assert products._may_write_code()
    monkeypatch.setattr(products, "_multiply", refused)
    assert not products._may_write_code()


def test_many_shapes_take_little_memory(tmp_path: Path) -> None:
    program = (
        "import psutil, torch\n"
        "from appliance.weights import products\n"
        "products._INTEL = 'no vendor'\n"
        "weight = torch.ones(768, 256)\n"
        "products.linear(torch.ones(50, 256), weight)\n"
        "before = psutil.Process().memory_info().rss\n"
        "for rows in range(100, 500):\n"
        "    products.linear(torch.ones(rows, 256), weight)\n"
        "print((psutil.Process().memory_info().rss - before) >> 20)\n"
    )
    (tmp_path / "program.py").write_text(program)
    environment = {**os.environ, "PYTHONPATH": str(Path(products.__file__).parents[2])}
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        environment.pop(name, None)
    said = subprocess.run(
        [sys.executable, str(tmp_path / "program.py")],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert int(said.stdout) < 150
