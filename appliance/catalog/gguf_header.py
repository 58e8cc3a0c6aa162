"""Bounded reader of GGUF v2 and v3 headers: what a model file says of itself, checked against the file.

The file is hostile input. Every count, length, type and offset is checked against the file's size and a bound before
anything is allocated; token lists are walked, never kept; the tensors' data is not read. The layout rules are those
of llama.cpp's own loader (`ggml/src/gguf.cpp`), whose answer to a broken file may be `abort()`.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path

from appliance.catalog.gguf_layout import (
    ARRAY,
    BOOL,
    FILE_TYPES,
    SCALARS,
    STRING,
    TENSOR_TYPES,
    TensorType,
)
from appliance.catalog.refusals import lying_header, not_a_model, printable, truncated, unsupported
from appliance.kernel.errors import storage_errors
from appliance.kernel.sources import open_regular

_WINDOW = 1 << 20
_HEADER_LIMIT = 256 << 20
_PAIRS_LIMIT = 1 << 16
_TENSORS_LIMIT = 1 << 16
_KEY_LIMIT = 256
_NAME_LIMIT = 63
_STRING_LIMIT = 16 << 20
_STRINGS_LIMIT = 1 << 21
_KEPT_STRING = 1 << 16
_KEPT_ARRAY = 4096
_PLAUSIBLE_BYTES = 1 << 50
_U64 = struct.Struct("<Q")
_ARCHITECTURE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_TOKENS = "tokenizer.ggml.tokens"
_TEMPLATE = "tokenizer.chat_template"
_KEPT = re.compile(
    r"general\.(architecture|name|license|file_type|alignment|type)|split\.count"
    r"|[A-Za-z0-9_.-]+\.(context_length|embedding_length|block_count|vocab_size|feed_forward_length|pooling_type"
    r"|attention\.(head_count(_kv)?|key_length|value_length))"
)

_POOLING = ("none", "mean", "cls", "last", "rank")
"""llama.cpp's `enum llama_pooling_type`, from 0 on"""

Value = bool | int | float | str | tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufHeader:
    """What one GGUF file holds. Sizes are bytes; an integer that the file does not state is 0."""

    version: int
    architecture: str
    name: str
    licence: str
    parameters: int
    context_length: int
    vocabulary: int
    quantisation: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    has_chat_template: bool
    pooling: str
    feed_forward: int
    key_width: int
    tensors: int
    data_offset: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tensor:
    name: str
    elements: int
    nbytes: int
    kind: TensorType
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Metadata:
    """The kept values, and facts about values that are too long to keep."""

    values: dict[str, Value]
    tokens: int
    has_chat_template: bool

    def integer(self, file: str, key: str) -> int:
        """Return a size or count (the largest, where there is one per layer); 0 when absent."""
        value = self.values.get(key, 0)
        if isinstance(value, tuple):
            value = max(value, default=0)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 31:
            raise lying_header(file, f"{key} is not a plausible number")
        return value

    def text(self, file: str, key: str) -> str:
        """Return a text value, empty when absent."""
        value = self.values.get(key, "")
        if not isinstance(value, str):
            raise lying_header(file, f"{key} is not text")
        return value


class _Cursor:
    """Reads forward through the header in windows of 1 MiB, never past the file's end or the header bound."""

    def __init__(self, descriptor: int, size: int, file: str) -> None:
        self.file = file
        self.size = size
        self._descriptor = descriptor
        self._window = b""
        self._base = 0
        self._at = 0

    @property
    def position(self) -> int:
        return self._base + self._at

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes; the caller has bounded `count`."""
        if self._at + count > len(self._window):
            self._refill(count)
        piece = self._window[self._at : self._at + count]
        self._at += count
        return piece

    def skip(self, count: int) -> None:
        """Go over bytes without reading them."""
        self._at += count
        self._require_within(self.position)

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "little")

    def u64(self) -> int:
        return int.from_bytes(self.take(8), "little")

    def string_length(self, limit: int) -> int:
        length = self.u64()
        if length > limit:
            raise lying_header(self.file, f"a string at byte {self.position - 8} claims {length} bytes")
        return length

    def text(self, limit: int) -> str:
        """Return a UTF-8 string of at most `limit` bytes."""
        start = self.position
        try:
            return self.take(self.string_length(limit)).decode()
        except UnicodeDecodeError as error:
            raise lying_header(self.file, f"the string at byte {start} is not UTF-8") from error

    def skip_strings(self, count: int) -> None:
        """Walk over `count` strings. Written flat: a vocabulary has a quarter of a million of them."""
        unpack = _U64.unpack_from
        window, at, end = self._window, self._at, len(self._window) - 8
        for _ in range(count):
            if at > end:
                self._at = at
                self._refill(8)
                window, at, end = self._window, 0, len(self._window) - 8
            (length,) = unpack(window, at)
            if length > _STRING_LIMIT:
                raise lying_header(self.file, f"a string at byte {self._base + at} claims {length} bytes")
            at += 8 + length
        self._at = at
        self._require_within(self.position)

    def _refill(self, count: int) -> None:
        start = self.position
        self._require_within(start + count)
        self._window = os.pread(self._descriptor, max(count, min(_WINDOW, self.size - start)), start)
        self._base, self._at = start, 0
        if len(self._window) < count:
            raise truncated(self.file, f"it became shorter than {start + count} bytes while it was read")

    def _require_within(self, end: int) -> None:
        if end > self.size:
            raise truncated(self.file, f"its header needs {end} bytes and the file has {self.size}")
        if end > _HEADER_LIMIT:
            raise lying_header(self.file, f"its header claims more than {_HEADER_LIMIT >> 20} MiB")


def read_gguf_header(path: Path) -> GgufHeader:
    """Read and check a GGUF file's header.

    Raises BadInput (`model.not_a_model`, `model.unsupported`), IntegrityFailure (`model.truncated`,
    `model.lying_header`), NotFound or StorageFailure. At most a few MiB are held at once.
    """
    with open_regular(path) as stream, storage_errors(f"reading {path.name}"):
        cursor = _Cursor(stream.fileno(), os.fstat(stream.fileno()).st_size, printable(path.name))
        version = _read_preamble(cursor)
        tensor_count, pair_count = _read_counts(cursor)
        metadata = _read_metadata(cursor, pair_count)
        tensors = [_read_tensor(cursor) for _ in range(tensor_count)]
    data_offset = _check_layout(cursor, metadata, tensors)
    return _describe(cursor, version, metadata, tensors, data_offset)


def _read_preamble(cursor: _Cursor) -> int:
    if cursor.size < 4 or cursor.take(4) != b"GGUF":
        raise not_a_model(cursor.file, "it does not begin with the letters GGUF")
    version = cursor.u32()
    if version in (2, 3):
        return version
    if version in (2 << 24, 3 << 24):
        raise unsupported(cursor.file, "it is big-endian GGUF", hint="Get the little-endian file.")
    raise unsupported(cursor.file, f"it is GGUF version {version}; versions 2 and 3 are read")


def _read_counts(cursor: _Cursor) -> tuple[int, int]:
    tensors, pairs = cursor.u64(), cursor.u64()
    if tensors > _TENSORS_LIMIT or pairs > _PAIRS_LIMIT:
        raise lying_header(cursor.file, f"it claims {tensors} tensors and {pairs} metadata entries")
    return tensors, pairs


def _read_metadata(cursor: _Cursor, count: int) -> _Metadata:
    seen: set[str] = set()
    values: dict[str, Value] = {}
    tokens, strings_left, has_chat_template = 0, _STRINGS_LIMIT, False
    for _ in range(count):
        key = cursor.text(_KEY_LIMIT)
        if not key or key in seen:
            raise lying_header(cursor.file, "a metadata key is empty or occurs twice")
        seen.add(key)
        kept = _KEPT.fullmatch(key) is not None
        kind = cursor.u32()
        if kind == ARRAY:
            element, length = cursor.u32(), cursor.u64()
            if element == STRING:
                strings_left -= length
                if strings_left < 0:
                    raise lying_header(cursor.file, f"it claims more than {_STRINGS_LIMIT} tokens and merges")
                cursor.skip_strings(length)
            elif (array := _read_array(cursor, element, length, keep=kept)) is not None:
                values[key] = array
            if key == _TOKENS:
                tokens = length
        elif kind == STRING:
            if key == _TEMPLATE or key.startswith(_TEMPLATE + "."):
                has_chat_template = True
            if kept and key.startswith("general."):
                values[key] = cursor.text(_KEPT_STRING)
            else:
                cursor.skip(cursor.string_length(_STRING_LIMIT))
        elif (scalar := _read_scalar(cursor, kind)) is not None and kept:
            values[key] = scalar
    return _Metadata(values=values, tokens=tokens, has_chat_template=has_chat_template)


def _read_scalar(cursor: _Cursor, kind: int) -> bool | int | float:
    code = SCALARS.get(kind)
    if code is None:
        raise lying_header(cursor.file, f"a metadata entry has the unknown type {kind}")
    (value,) = struct.unpack(code, cursor.take(struct.calcsize(code)))
    if kind == BOOL and value not in (0, 1):
        raise lying_header(cursor.file, "a truth value is neither 0 nor 1")
    scalar: bool | int | float = bool(value) if kind == BOOL else value
    return scalar


def _read_array(cursor: _Cursor, element: int, length: int, *, keep: bool) -> tuple[int, ...] | None:
    code = SCALARS.get(element)
    if code is None:
        raise lying_header(cursor.file, f"a metadata list has elements of type {element}")
    width = struct.calcsize(code)
    if length > _HEADER_LIMIT // width:
        raise lying_header(cursor.file, f"a metadata list claims {length} elements")
    if not keep or length > _KEPT_ARRAY or code in ("<f", "<d"):
        cursor.skip(length * width)
        return None
    return struct.unpack(f"<{length}{code[1]}", cursor.take(length * width))


def _read_tensor(cursor: _Cursor) -> _Tensor:
    name = cursor.text(_NAME_LIMIT)
    rank = cursor.u32()
    if not name or rank > 4:
        raise lying_header(cursor.file, f"a tensor has no name or {rank} dimensions")
    shape = struct.unpack(f"<{rank}Q", cursor.take(8 * rank))
    number, offset = cursor.u32(), cursor.u64()
    kind = TENSOR_TYPES.get(number)
    shown = printable(name)
    if kind is None:
        raise unsupported(
            cursor.file, f"tensor {shown} has the unknown type {number}", hint="Get a newer quantisation."
        )
    elements = math.prod(shape)
    nbytes = elements // kind.block * kind.nbytes
    if elements == 0 or (shape[0] if shape else 1) % kind.block or nbytes > _PLAUSIBLE_BYTES:
        raise lying_header(cursor.file, f"tensor {shown} has an impossible shape")
    return _Tensor(name=name, elements=elements, nbytes=nbytes, kind=kind, offset=offset)


def _check_layout(cursor: _Cursor, metadata: _Metadata, tensors: list[_Tensor]) -> int:
    """Check that tensors follow each other without gap or overlap and end where the file ends."""
    file = cursor.file
    if not tensors:
        raise unsupported(file, "it holds no tensors", hint="A vocabulary alone cannot be served.")
    if len({tensor.name for tensor in tensors}) < len(tensors):
        raise lying_header(file, "two tensors have the same name")
    alignment = metadata.values.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 1 <= alignment <= 65536 or alignment & (alignment - 1):
        raise lying_header(file, "its alignment is not a power of two")
    start = _padded(cursor.position, alignment)
    expected = 0
    for tensor in tensors:
        if tensor.offset != expected:
            raise lying_header(
                file, f"tensor {printable(tensor.name)} starts at {tensor.offset}, where {expected} is due"
            )
        expected = _padded(tensor.offset + tensor.nbytes, alignment)
    end = start + tensors[-1].offset + tensors[-1].nbytes
    if end > cursor.size:
        raise truncated(file, f"its tensors need {end} bytes and the file has {cursor.size}")
    if cursor.size > start + expected:
        raise lying_header(file, f"{cursor.size - start - expected} bytes after its last tensor belong to nothing")
    return start


def _describe(
    cursor: _Cursor, version: int, metadata: _Metadata, tensors: list[_Tensor], data_offset: int
) -> GgufHeader:
    file = cursor.file
    architecture = metadata.text(file, "general.architecture")
    if not _ARCHITECTURE.fullmatch(architecture):
        raise lying_header(file, "it does not name its architecture")
    purpose = metadata.text(file, "general.type")
    if purpose not in ("", "model"):
        raise unsupported(file, f"it holds a part of a model ({printable(purpose, 32)})", hint="Give the whole model.")
    if metadata.integer(file, "split.count") > 1:
        raise unsupported(
            file, "it is one part of a split model", hint="Join the parts first with llama-gguf-split --merge."
        )
    heads = metadata.integer(file, f"{architecture}.attention.head_count")
    return GgufHeader(
        version=version,
        architecture=architecture,
        name=printable(metadata.text(file, "general.name")),
        licence=printable(metadata.text(file, "general.license")),
        parameters=sum(tensor.elements for tensor in tensors),
        context_length=metadata.integer(file, f"{architecture}.context_length"),
        vocabulary=metadata.tokens or metadata.integer(file, f"{architecture}.vocab_size"),
        quantisation=_quantisation(metadata, file, tensors),
        layers=metadata.integer(file, f"{architecture}.block_count"),
        hidden=metadata.integer(file, f"{architecture}.embedding_length"),
        heads=heads,
        kv_heads=metadata.integer(file, f"{architecture}.attention.head_count_kv") or heads,
        has_chat_template=metadata.has_chat_template,
        pooling=_pooling(metadata, file, f"{architecture}.pooling_type"),
        feed_forward=metadata.integer(file, f"{architecture}.feed_forward_length"),
        key_width=metadata.integer(file, f"{architecture}.attention.key_length")
        + metadata.integer(file, f"{architecture}.attention.value_length"),
        tensors=len(tensors),
        data_offset=data_offset,
        size=cursor.size,
    )


def _quantisation(metadata: _Metadata, file: str, tensors: list[_Tensor]) -> str:
    """Return the stated file type, else the type that holds most parameters."""
    stated = (
        FILE_TYPES.get(metadata.integer(file, "general.file_type")) if "general.file_type" in metadata.values else ""
    )
    if stated:
        return stated
    counts: dict[str, int] = {}
    for tensor in tensors:
        counts[tensor.kind.name] = counts.get(tensor.kind.name, 0) + tensor.elements
    return max(counts, key=lambda name: (counts[name], name))


def _pooling(metadata: _Metadata, file: str, key: str) -> str:
    """Return how an encoder pools; a number that llama.cpp does not know either is told as nothing."""
    number = metadata.integer(file, key)
    return _POOLING[number] if key in metadata.values and number < len(_POOLING) else ""


def _padded(offset: int, alignment: int) -> int:
    return offset + -offset % alignment
