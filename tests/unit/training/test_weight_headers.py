from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from appliance.training.weight_headers import layers_in, parameters_in


def write(file: Path, shapes: dict[str, list[int]]) -> None:
    header = json.dumps({"__metadata__": {"format": "pt"}} | {name: {"shape": shape} for name, shape in shapes.items()})
    file.write_bytes(struct.pack("<Q", len(header)) + header.encode())


def test_every_file_of_a_folder_counts(tmp_path: Path) -> None:
    write(tmp_path / "a.safetensors", {"model.layers.0.self_attn.q_proj.weight": [4, 8], "model.norm.weight": [8]})
    write(tmp_path / "b.safetensors", {"lm_head.weight": [30, 8], "lm_head.bias": [30]})
    assert parameters_in(tmp_path) == 32 + 8 + 240 + 30
    assert layers_in(tmp_path) == {"q_proj", "lm_head"}


def test_a_length_beyond_the_file_is_no_header(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"\xff" * 16)
    with pytest.raises(ValueError, match=r"a\.safetensors has no safetensors header"):
        layers_in(tmp_path)
