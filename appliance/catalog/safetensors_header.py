"""Bounded reader of safetensors headers: names, types and places of tensors, checked to tile the file exactly.

The header is hostile input: its length is checked before it is read, its JSON is decoded entry by entry into a
fixed form, and the tensors must follow each other without hole or overlap up to the file's last byte.

Format: https://github.com/huggingface/safetensors#format (whose own limit of 100 MB applies here to lies, and a
lower one to what is taken)
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from appliance.catalog.bounded_json import decode
from appliance.catalog.refusals import lying_header, not_a_model, printable, truncated, unsupported
from appliance.kernel.errors import storage_errors
from appliance.kernel.sources import open_regular

_FORMAT_LIMIT = 100_000_000
_HEADER_LIMIT = 16 << 20
_ENTRY_LIMIT = 4096
_METADATA = "__metadata__"
_DTYPE_BITS = {
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "U16": 16,
    "I16": 16,
    "F16": 16,
    "BF16": 16,
    "U32": 32,
    "I32": 32,
    "F32": 32,
    "U64": 64,
    "I64": 64,
    "F64": 64,
    "C64": 64,
}

_Natural = Annotated[int, msgspec.Meta(ge=0)]


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    dtype: str
    shape: tuple[_Natural, ...]
    data_offsets: tuple[_Natural, _Natural]


@dataclass(frozen=True, slots=True, kw_only=True)
class SafetensorsHeader:
    """What one safetensors file holds. `size` is the file's, in bytes."""

    names: frozenset[str]
    parameters_by_dtype: Mapping[str, int]
    size: int

    @property
    def parameters(self) -> int:
        """Elements of all tensors."""
        return sum(self.parameters_by_dtype.values())


def read_safetensors_header(path: Path) -> SafetensorsHeader:
    """Read and check a safetensors file's header.

    Raises BadInput (`model.not_a_model`, `model.unsupported`), IntegrityFailure (`model.truncated`,
    `model.lying_header`), NotFound or StorageFailure. The tensors' data is not read.
    """
    file = printable(path.name)
    with open_regular(path) as stream, storage_errors(f"reading {path.name}"):
        size = os.fstat(stream.fileno()).st_size
        start = stream.read(9)
        if len(start) < 9 or start[8:] != b"{":
            raise not_a_model(file, "it does not begin as safetensors does")
        length = int.from_bytes(start[:8], "little")
        if length > _FORMAT_LIMIT or length < 2:
            raise lying_header(file, f"it claims a header of {length} bytes")
        if 8 + length > size:
            raise truncated(file, f"its header needs {8 + length} bytes and the file has {size}")
        if length > _HEADER_LIMIT:
            raise unsupported(file, f"its header is larger than {_HEADER_LIMIT >> 20} MiB")
        data = b"{" + stream.read(length - 1)
    if len(data) < length:
        raise truncated(file, "it became shorter while it was read")
    entries = _decode_entries(data, file)
    _check_layout(entries, file, data_size=size - 8 - length)
    counts: dict[str, int] = {}
    for entry in entries.values():
        counts[entry.dtype] = counts.get(entry.dtype, 0) + math.prod(entry.shape)
    return SafetensorsHeader(names=frozenset(entries), parameters_by_dtype=counts, size=size)


def _decode_entries(data: bytes, file: str) -> dict[str, _Entry]:
    raw = decode(data, dict[str, msgspec.Raw], name=file)
    metadata = raw.pop(_METADATA, None)
    if metadata is not None:
        decode(bytes(metadata), dict[str, str], name=file)
    if not raw:
        raise unsupported(file, "it holds no tensors")
    entries = {}
    for name, text in raw.items():
        if len(memoryview(text)) > _ENTRY_LIMIT:
            raise lying_header(file, f"the entry of tensor {printable(name, 80)} is too long")
        entries[name] = decode(bytes(text), _Entry, name=file)
    return entries


def _check_layout(entries: dict[str, _Entry], file: str, *, data_size: int) -> None:
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1].data_offsets):
        shown = printable(name, 80)
        bits = _DTYPE_BITS.get(entry.dtype)
        if bits is None:
            raise unsupported(file, f"tensor {shown} has the unknown type {printable(entry.dtype, 16)}")
        begin, stop = entry.data_offsets
        if begin != end or stop < begin:
            raise lying_header(file, f"tensor {shown} lies at bytes {begin} to {stop}, where {end} is due")
        if math.prod(entry.shape) * bits != (stop - begin) * 8:
            raise lying_header(file, f"the shape of tensor {shown} does not fit its {stop - begin} bytes")
        end = stop
    if end > data_size:
        raise truncated(file, f"its tensors need {end} bytes and the file has {data_size}")
    if end < data_size:
        raise lying_header(file, f"{data_size - end} bytes after its last tensor belong to nothing")
