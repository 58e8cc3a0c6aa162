"""How much memory an engine will need, predicted from what the model's header says before anything is loaded.

Sizes are bytes. The parts: `weights` (the mapped file, or torch's copy), `cache` (KV cells, 16-bit), `compute` (the
graph's buffers for one physical batch) and `process` (interpreter, libraries, vocabulary). What llama.cpp repacks for
the processor is a second copy of those weights. A `draft` model brings all of this once more, without a process of its
own. With use come prefixes that left the KV cache, up to `saved`. The daemon measures each engine and tells how far
this was off. What layers on a GPU change is said in `appliance.residency.offload`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

MIB: Final = 1 << 20
_UBATCH: Final = 512
_TORCH_BATCH: Final = 2048
_LLAMA_PROCESS: Final = 48 * MIB
_TEMPLATE_PROCESS: Final = 20 * MIB
_TORCH_PROCESS: Final = 330 * MIB
_TOKEN_RECORD: Final = 120
"""Bytes that one vocabulary entry costs in Python and in llama.cpp."""
_REPACKED: Final = frozenset({"Q4_0", "IQ4_NL", "Q4_K_S", "Q4_K_M"})
"""Formats for whose weights llama.cpp keeps a copy laid out for x86 matrix kernels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OnDevice:
    """The part of an engine that a GPU holds: `layers` of the model, the output counted as one."""

    layers: int = 0
    weights: int = 0
    cache: int = 0
    compute: int = 0
    overhead: int = 0
    """what the backend takes for the process itself"""

    @property
    def allocated(self) -> int:
        """What the engine allocates there by itself, and can measure."""
        return self.weights + self.cache + self.compute

    @property
    def total(self) -> int:
        """What the device has less of while the engine runs."""
        return self.allocated + self.overhead


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """A prediction. `repacked` is the part of the weights that is there twice, `mapped` what lies in a mapped file."""

    weights: int
    mapped: int
    repacked: int
    cache: int
    compute: int
    process: int
    saved: int = 0
    draft: int = 0
    device: OnDevice = field(default_factory=OnDevice)

    @property
    def total(self) -> int:
        """What a fresh engine takes."""
        return self.weights + self.repacked + self.cache + self.compute + self.process + self.draft

    @property
    def most(self) -> int:
        """What it takes at most: the memory to keep for it."""
        return self.total + self.saved

    @property
    def own(self) -> int:
        """The part of it that the process allocates itself, which a memory limit bounds."""
        return self.most - self.mapped


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The figures of a model that decide its memory; 0 where its files do not say."""

    parameters: int
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    key_width: int
    feed_forward: int
    vocabulary: int
    context: int
    quantisation: str


def shape_of(description: Mapping[str, Any]) -> Shape:
    """Read a description (see `ModelDescription`); what is unsaid is taken as the usual proportion."""

    def number(name: str) -> int:
        value = description.get(name)
        return value if isinstance(value, int) and value > 0 else 0

    hidden, heads = number("hidden"), number("heads") or 1
    return Shape(
        parameters=number("parameters"),
        layers=number("layers"),
        hidden=hidden,
        heads=heads,
        kv_heads=number("kv_heads") or heads,
        key_width=number("key_width") or 2 * hidden // heads,
        feed_forward=number("feed_forward") or 4 * hidden,
        vocabulary=number("vocabulary"),
        context=number("context_length"),
        quantisation=str(description.get("quantisation", "")),
    )


def generator(shape: Shape, *, file: int, cells: int, sequences: int, chats: bool, saved: int) -> Footprint:
    """An engine that generates: `cells` of KV, logits for `sequences` rows, at most `saved` bytes of saved prefixes."""
    activations = _UBATCH * (8 * shape.hidden + 3 * shape.feed_forward) * 4
    mask = _UBATCH * cells * (4 + 2)
    logits = 2 * sequences * shape.vocabulary * 4
    return Footprint(
        weights=file,
        mapped=file,
        repacked=file if shape.quantisation in _REPACKED else 0,
        cache=cells * shape.layers * shape.kv_heads * shape.key_width * 2,
        compute=activations + mask + logits,
        process=_LLAMA_PROCESS + shape.vocabulary * _TOKEN_RECORD + (_TEMPLATE_PROCESS if chats else 0),
        saved=saved,
    )


def draft_model(shape: Shape, *, file: int, cells: int, sequences: int) -> Footprint:
    """A model in the engine of another, with as many cells; it saves no prefixes and shares the other's vocabulary."""
    alone = generator(shape, file=file, cells=cells, sequences=sequences, chats=False, saved=0)
    return replace(alone, process=shape.vocabulary * _TOKEN_RECORD)


def beside(alone: Footprint, draft: Footprint) -> Footprint:
    """An engine together with its draft model, whose parts are told as one."""
    return replace(alone, mapped=alone.mapped + draft.mapped, draft=draft.total)


def llama_encoder(shape: Shape, *, file: int, context: int) -> Footprint:
    """An encoder in GGUF: it keeps no cells but those of one batch."""
    batch = max(_UBATCH, min(context, shape.context or context))
    return Footprint(
        weights=file,
        mapped=file,
        repacked=file if shape.quantisation in _REPACKED else 0,
        cache=0,
        compute=batch * (8 * shape.hidden + 3 * shape.feed_forward) * 4 + shape.heads * batch * batch * 4,
        process=_LLAMA_PROCESS + shape.vocabulary * _TOKEN_RECORD,
    )


def torch_encoder(shape: Shape, *, context: int) -> Footprint:
    """An encoder in a Hugging Face folder: weights as 32-bit floats, one padded batch."""
    longest = min(context, shape.context or context)
    batch = max(_TORCH_BATCH, longest)
    return Footprint(
        weights=4 * shape.parameters,
        mapped=0,
        repacked=0,
        cache=0,
        compute=batch * (6 * shape.hidden + 2 * shape.feed_forward) * 4 + shape.heads * batch * longest * 4,
        process=_TORCH_PROCESS + shape.vocabulary * _TOKEN_RECORD,
    )
