from __future__ import annotations

import json
import os
import random
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from appliance.catalog.safetensors_header import read_safetensors_header
from appliance.kernel.errors import IntramurosError


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    tensors: dict[str, np.ndarray[Any, Any]] = {
        "a": np.ones((3, 4), dtype=np.float32),
        "b": np.ones((5,), dtype=np.float16),
        "scalar": np.array(1.0, dtype=np.float32),
        "none": np.ones((0, 7), dtype=np.float32),
    }
    save_file(tensors, path, metadata={"format": "pt"})
    return path


def forge(path: Path, header: Any, data: bytes = b"", *, length: int | None = None) -> Path:
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(encoded) if length is None else length) + encoded + data)
    return path


def code_of(path: Path) -> str:
    with pytest.raises(IntramurosError) as raised:
        read_safetensors_header(path)
    return raised.value.code


def entry(begin: int, end: int, *, shape: Any = (4,), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_reads_what_the_library_wrote(weights: Path) -> None:
    header = read_safetensors_header(weights)
    assert header.names == {"a", "b", "scalar", "none"}
    assert header.parameters_by_dtype == {"F32": 13, "F16": 5}
    assert header.parameters == 18
    assert header.size == weights.stat().st_size


def test_every_truncation_is_refused(weights: Path, tmp_path: Path) -> None:
    data = weights.read_bytes()
    cut = tmp_path / "cut.safetensors"
    for length in range(len(data)):
        cut.write_bytes(data[:length])
        assert code_of(cut) == ("model.not_a_model" if length < 9 else "model.truncated")


LIES: dict[str, tuple[Any, int, str]] = {
    "hole": ({"a": entry(0, 16), "b": entry(20, 36)}, 36, "model.lying_header"),
    "overlap": ({"a": entry(0, 16), "b": entry(8, 24)}, 24, "model.lying_header"),
    "late start": ({"a": entry(4, 20)}, 20, "model.lying_header"),
    "backwards": ({"a": entry(0, 16), "b": entry(16, 0)}, 16, "model.lying_header"),
    "negative offset": ({"a": entry(-16, 0)}, 0, "model.lying_header"),
    "negative shape": ({"a": entry(0, 16, shape=[-2, -2])}, 16, "model.lying_header"),
    "shape of text": ({"a": entry(0, 16, shape=["4"])}, 16, "model.lying_header"),
    "wrong size": ({"a": entry(0, 16, shape=[5])}, 16, "model.lying_header"),
    "huge shape": ({"a": entry(0, 16, shape=[1 << 62, 1 << 62])}, 16, "model.lying_header"),
    "unknown type": ({"a": entry(0, 16, dtype="PICKLE")}, 16, "model.unsupported"),
    "extra field": ({"a": entry(0, 16) | {"code": "x"}}, 16, "model.lying_header"),
    "past the end": ({"a": entry(0, 1 << 40, shape=[1 << 38])}, 16, "model.truncated"),
    "trailing bytes": ({"a": entry(0, 16)}, 17, "model.lying_header"),
    "no tensors": ({"__metadata__": {}}, 0, "model.unsupported"),
    "metadata form": ({"__metadata__": {"a": 1}, "a": entry(0, 16)}, 16, "model.lying_header"),
    "long entry": ({"a": entry(0, 16, shape=[1] * 5000)}, 16, "model.lying_header"),
    "not JSON": (b"{not json at all}", 0, "model.lying_header"),
    "list": (b"[1, 2]", 0, "model.not_a_model"),
    "deep": (b'{"a":' + b"[" * 200_000 + b"}", 0, "model.lying_header"),
    "many members": (b"{" + b'"a":1,' * 1_100_000 + b'"b":1}', 0, "model.lying_header"),
}


@pytest.mark.parametrize("lie", LIES)
def test_each_lie_has_its_code(tmp_path: Path, lie: str) -> None:
    header, size, expected = LIES[lie]
    assert code_of(forge(tmp_path / "forged.safetensors", header, bytes(size))) == expected


@pytest.mark.parametrize(
    ("length", "expected"),
    [(0, "model.lying_header"), (1 << 63, "model.lying_header"), (90_000_000, "model.truncated")],
)
def test_header_length_is_checked_before_it_is_read(tmp_path: Path, length: int, expected: str) -> None:
    assert code_of(forge(tmp_path / "forged.safetensors", {"a": entry(0, 0)}, length=length)) == expected


def test_gigabytes_of_zeros_are_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "zeros.safetensors"
    path.touch()
    os.truncate(path, 10 << 30)
    began = time.monotonic()
    assert code_of(path) == "model.not_a_model"
    assert time.monotonic() - began < 1


def test_a_huge_sparse_header_is_not_parsed(tmp_path: Path) -> None:
    path = forge(tmp_path / "sparse.safetensors", b"{", length=99_000_000)
    os.truncate(path, 1 << 30)
    assert code_of(path) == "model.unsupported"


def test_mutated_files_raise_nothing_but_our_errors(weights: Path, tmp_path: Path) -> None:
    data = weights.read_bytes()
    edge = 8 + int.from_bytes(data[:8], "little")
    chance = random.Random(11)
    path = tmp_path / "mutant.safetensors"
    refused = 0
    for _ in range(2000):
        mutant = bytearray(data[: chance.randint(1, len(data))] if chance.random() < 0.2 else data)
        for _ in range(chance.choice((1, 1, 3))):
            mutant[chance.randrange(min(edge, len(mutant)))] = chance.randrange(256)
        path.write_bytes(mutant)
        try:
            read_safetensors_header(path)
        except IntramurosError:
            refused += 1
    assert refused > 1000
