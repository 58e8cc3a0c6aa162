from __future__ import annotations

import os
import random
import struct
import time
import tracemalloc
from pathlib import Path

import gguf
import pytest

from appliance.catalog.gguf_header import read_gguf_header
from appliance.catalog.gguf_layout import FILE_TYPES, SCALARS, TENSOR_TYPES
from appliance.kernel.errors import IntramurosError
from tests.unit.catalog.model_files import write_gguf


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "tiny.gguf")


def code_of(path: Path) -> str:
    with pytest.raises(IntramurosError) as raised:
        read_gguf_header(path)
    assert "\x1b" not in str(raised.value)
    return raised.value.code


def forge(path: Path, *, pairs: bytes = b"", pair_count: int = 0, tensors: bytes = b"", count: int = 0) -> Path:
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, count, pair_count) + pairs + tensors)
    return path


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def tensor(name: str, shape: tuple[int, ...], kind: int, offset: int) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


ARCHITECTURE = text("general.architecture") + struct.pack("<I", 8) + text("llama")


def test_reads_what_the_writer_wrote(model: Path) -> None:
    header = read_gguf_header(model)
    assert header.version == 3
    assert (header.architecture, header.name, header.licence) == ("llama", "Tiny", "apache-2.0")
    assert (header.parameters, header.vocabulary, header.context_length) == (16 * 32 + 4 * 32, 16, 128)
    assert (header.layers, header.hidden, header.heads, header.kv_heads) == (2, 32, 4, 2)
    assert header.quantisation == "Q8_0"
    assert header.has_chat_template
    assert header.size == model.stat().st_size
    assert header.data_offset == gguf.GGUFReader(model).data_offset


def test_layout_tables_are_those_of_the_gguf_package() -> None:
    for kind in gguf.GGMLQuantizationType:
        block, nbytes = gguf.GGML_QUANT_SIZES[kind]
        known = TENSOR_TYPES[kind.value]
        assert (known.name, known.block, known.nbytes) == (kind.name, block, nbytes)
    assert set(SCALARS) | {8, 9} == {kind.value for kind in gguf.GGUFValueType}
    assert set(FILE_TYPES) == {kind.value for kind in gguf.LlamaFileType} - {1024}


def test_every_truncation_is_refused(model: Path, tmp_path: Path) -> None:
    data = model.read_bytes()
    last = read_gguf_header(model)
    end_of_data = last.data_offset + 16 * 32 * 4 + 4 * 34
    cut = tmp_path / "cut.gguf"
    for length in [*range(0, last.data_offset + 64), end_of_data - 1]:
        cut.write_bytes(data[:length])
        assert code_of(cut) == ("model.not_a_model" if length < 4 else "model.truncated")


def test_ten_gigabytes_of_zeros_are_refused_at_once(tmp_path: Path) -> None:
    zeros = tmp_path / "zeros.gguf"
    zeros.touch()
    os.truncate(zeros, 10 << 30)
    began = time.monotonic()
    assert code_of(zeros) == "model.not_a_model"
    assert time.monotonic() - began < 1


def test_a_header_followed_by_gigabytes_of_nothing_is_refused(model: Path) -> None:
    os.truncate(model, 10 << 30)
    assert code_of(model) == "model.lying_header"


@pytest.mark.parametrize("code", ["<I", ">I"])
def test_other_versions_are_named(tmp_path: Path, code: str) -> None:
    path = tmp_path / "v.gguf"
    path.write_bytes(b"GGUF" + struct.pack(code, 3 if code == ">I" else 1) + bytes(64))
    assert code_of(path) == "model.unsupported"


LIES: dict[str, tuple[dict[str, object], str]] = {
    "tensor count": ({"count": 1 << 40}, "model.lying_header"),
    "pair count": ({"pair_count": 1 << 60}, "model.lying_header"),
    "key length": ({"pair_count": 1, "pairs": struct.pack("<Q", 1 << 62)}, "model.lying_header"),
    "value type": ({"pair_count": 1, "pairs": text("a") + struct.pack("<I", 99)}, "model.lying_header"),
    "string length": ({"pair_count": 1, "pairs": text("a") + struct.pack("<IQ", 8, 1 << 63)}, "model.lying_header"),
    "list length": ({"pair_count": 1, "pairs": text("a") + struct.pack("<IIQ", 9, 4, 1 << 61)}, "model.lying_header"),
    "token count": ({"pair_count": 1, "pairs": text("a") + struct.pack("<IIQ", 9, 8, 1 << 61)}, "model.lying_header"),
    "list of lists": ({"pair_count": 1, "pairs": text("a") + struct.pack("<IIQ", 9, 9, 1)}, "model.lying_header"),
    "truth value": ({"pair_count": 1, "pairs": text("a") + struct.pack("<IB", 7, 2)}, "model.lying_header"),
    "key twice": ({"pair_count": 2, "pairs": ARCHITECTURE * 2}, "model.lying_header"),
    "not UTF-8": ({"pair_count": 1, "pairs": struct.pack("<Q", 2) + b"\xff\xfe"}, "model.lying_header"),
    "no tensors": ({"pair_count": 1, "pairs": ARCHITECTURE}, "model.unsupported"),
    "five dimensions": ({"count": 1, "tensors": tensor("a", (1,) * 5, 0, 0)}, "model.lying_header"),
    "overflowing shape": ({"count": 1, "tensors": tensor("a", (1 << 32,) * 4, 0, 0)}, "model.lying_header"),
    "empty tensor": ({"count": 1, "tensors": tensor("a", (0, 4), 0, 0)}, "model.lying_header"),
    "broken block": ({"count": 1, "tensors": tensor("a", (33,), 8, 0)}, "model.lying_header"),
    "unknown type": ({"count": 1, "tensors": tensor("a", (32,), 77, 0)}, "model.unsupported"),
    "offset": ({"count": 1, "tensors": tensor("a", (32,), 0, 32) + bytes(512)}, "model.lying_header"),
    "overlap": ({"count": 2, "tensors": tensor("a", (32,), 0, 0) + tensor("b", (32,), 0, 0)}, "model.lying_header"),
    "same name": (
        {"count": 2, "tensors": tensor("a", (32,), 0, 0) + tensor("a", (32,), 0, 128)},
        "model.lying_header",
    ),
    "no architecture": ({"count": 1, "tensors": tensor("a", (32,), 0, 0) + bytes(21 + 128)}, "model.lying_header"),
}


@pytest.mark.parametrize("lie", LIES)
def test_each_lie_has_its_code(tmp_path: Path, lie: str) -> None:
    parts, expected = LIES[lie]
    path = forge(tmp_path / "forged.gguf", **parts)  # type: ignore[arg-type]
    with path.open("ab") as stream:
        stream.write(bytes(4096 if lie not in ("offset", "no architecture") else 0))
    assert code_of(path) == expected


@pytest.mark.parametrize("alignment", [0, 3, 1 << 20])
def test_alignment_is_checked(tmp_path: Path, alignment: int) -> None:
    pairs = ARCHITECTURE + text("general.alignment") + struct.pack("<II", 4, alignment)
    path = forge(tmp_path / "a.gguf", pairs=pairs, pair_count=2, tensors=tensor("a", (32,), 0, 0), count=1)
    assert code_of(path) == "model.lying_header"


def test_split_models_and_adapters_are_unsupported(tmp_path: Path) -> None:
    assert code_of(write_gguf(tmp_path / "split.gguf", split=3)) == "model.unsupported"


def test_text_from_the_file_cannot_drive_the_terminal(tmp_path: Path) -> None:
    header = read_gguf_header(write_gguf(tmp_path / "esc.gguf", name="\x1b[2Jevil\n"))
    assert header.name == "?[2Jevil?"


def test_a_vocabulary_of_a_million_is_walked_quickly(tmp_path: Path) -> None:
    tokens = struct.pack("<IIQ", 9, 8, 1_000_000) + text("abc") * 1_000_000
    path = forge(tmp_path / "v.gguf", pairs=text("tokenizer.ggml.tokens") + tokens, pair_count=1)
    began = time.process_time()
    tracemalloc.start()
    try:
        assert code_of(path) == "model.unsupported"
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert time.process_time() - began < 4


def test_mutated_files_raise_nothing_but_our_errors(model: Path, tmp_path: Path) -> None:
    data = model.read_bytes()
    edge = read_gguf_header(model).data_offset
    path = tmp_path / "mutant.gguf"
    chance = random.Random(7)
    interesting = [0, 1, 0x7F, 0x80, 0xFF]
    refused = 0
    tracemalloc.start()
    try:
        for _ in range(1500):
            mutant = bytearray(data[: chance.randint(1, len(data))] if chance.random() < 0.2 else data)
            for _ in range(chance.choice((1, 1, 2, 8))):
                mutant[chance.randrange(min(edge, len(mutant)))] = chance.choice([*interesting, chance.randrange(256)])
            path.write_bytes(mutant)
            try:
                read_gguf_header(path)
            except IntramurosError:
                refused += 1
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()
    assert refused > 500
