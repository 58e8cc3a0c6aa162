"""The head's two files: they come back as they were written, and nothing that does not fit is taken up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from appliance.kernel.errors import IntegrityFailure
from appliance.weights.head import CONFIG, TENSORS, Head, HeadConfig, has_head, read_head, write_head

RANDOM = np.random.Generator(np.random.PCG64(0))
HEAD = Head(
    config=HeadConfig(labels=("no", "yes"), max_length=64),
    weight=RANDOM.standard_normal((2, 8)).astype(np.float32),
    bias=np.array([0.5, -0.5], np.float32),
)


def test_a_head_comes_back_and_equal_heads_are_equal_bytes(tmp_path: Path) -> None:
    write_head(tmp_path, HEAD)
    found = read_head(tmp_path, hidden=8)
    assert found.config == HEAD.config
    assert (found.weight == HEAD.weight).all()
    assert (found.bias == HEAD.bias).all()
    before = {name: (tmp_path / name).read_bytes() for name in (CONFIG, TENSORS)}
    write_head(tmp_path, HEAD)
    assert before == {name: (tmp_path / name).read_bytes() for name in (CONFIG, TENSORS)}


def test_a_folder_without_one_has_none(tmp_path: Path) -> None:
    assert not has_head(tmp_path)
    with pytest.raises(IntegrityFailure):
        read_head(tmp_path, hidden=8)


@pytest.mark.parametrize(
    "change",
    [
        {"labels": ["yes"]},
        {"labels": ["yes", "yes"]},
        {"labels": ["", "yes"]},
        {"labels": [f"l{number}" for number in range(5000)]},
        {"pooling": "cls"},
        {"format": 2},
        {"max_length": 0},
        {"more": 1},
    ],
)
def test_a_config_that_says_something_else_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    write_head(tmp_path, HEAD)
    document = json.loads((tmp_path / CONFIG).read_text()) | change
    (tmp_path / CONFIG).write_text(json.dumps(document))
    with pytest.raises(IntegrityFailure) as refused:
        read_head(tmp_path, hidden=8)
    assert refused.value.code == "model.head_invalid"


@pytest.mark.parametrize(
    "tensors",
    [
        {"weight": HEAD.weight},
        {"weight": HEAD.weight[:, :4].copy(), "bias": HEAD.bias},
        {"weight": HEAD.weight.astype(np.float64), "bias": HEAD.bias},
        {"weight": HEAD.weight * np.float32(np.inf), "bias": HEAD.bias},
        {"weight": HEAD.weight, "bias": HEAD.bias, "more": HEAD.bias},
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_tensors_that_do_not_fit_are_refused(tmp_path: Path, tensors: dict[str, Any]) -> None:
    write_head(tmp_path, HEAD)
    save_file(tensors, tmp_path / TENSORS)
    with pytest.raises(IntegrityFailure) as refused:
        read_head(tmp_path, hidden=8)
    assert refused.value.code == "model.head_invalid"


def test_a_torn_file_is_refused(tmp_path: Path) -> None:
    write_head(tmp_path, HEAD)
    (tmp_path / TENSORS).write_bytes((tmp_path / TENSORS).read_bytes()[:20])
    with pytest.raises(IntegrityFailure):
        read_head(tmp_path, hidden=8)
