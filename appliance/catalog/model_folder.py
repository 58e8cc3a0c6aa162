"""Looks at a model before it is taken in: which files, whether they are whole and harmless, and what they describe.

A source is one .gguf file or one Hugging Face folder. Files are taken by an allow-list of names; everything else is
left behind and named. Pickled weights run code when they are loaded, so they are never taken. Reads headers and small
JSON files only, so a refusal takes milliseconds whatever the size.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from appliance.catalog.bounded_json import decode, decode_object, read_bounded
from appliance.catalog.description import ModelDescription
from appliance.catalog.gguf_header import read_gguf_header
from appliance.catalog.refusals import lying_header, not_a_model, printable, truncated, unsupported
from appliance.catalog.safetensors_header import SafetensorsHeader, read_safetensors_header
from appliance.kernel.errors import BadInput, storage_errors
from appliance.kernel.sources import FileIdentity, identity_of, open_regular
from appliance.weights import head

_MIB = 1 << 20
_CONFIG = "config.json"
_TOKENIZER = "tokenizer.json"
_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_TEMPLATE = "chat_template.jinja"
_POOLING = "1_Pooling/config.json"
"""where sentence-transformers says how one vector is made of a text; the one file that lies deeper"""
_LICENCES = ("LICENSE", "LICENSE.txt", "LICENSE.md")
_SMALL_FILES: dict[str, int] = {
    _CONFIG: _MIB,
    "generation_config.json": _MIB,
    "tokenizer_config.json": 16 * _MIB,
    "special_tokens_map.json": _MIB,
    _TOKENIZER: 64 * _MIB,
    _TEMPLATE: _MIB,
    _INDEX: 16 * _MIB,
    "README.md": 4 * _MIB,
    "modules.json": _MIB,
    "sentence_bert_config.json": _MIB,
    "config_sentence_transformers.json": _MIB,
    _POOLING: _MIB,
    head.CONFIG: _MIB,
    head.TENSORS: 64 * _MIB,
} | dict.fromkeys(_LICENCES, _MIB)
"""Names that are taken beside the weights, and how long each may be."""
_LABELS_LIMIT = 4096
_PICKLES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"})
_SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """One file to take: the name it gets, where it is now, and its identity when it was inspected."""

    name: str
    path: Path
    identity: FileIdentity


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectedModel:
    """A source that may be taken in. `left_out` names what lies beside it and is not taken."""

    description: ModelDescription
    files: tuple[SourceFile, ...]
    left_out: tuple[str, ...]


class _Index(msgspec.Struct, frozen=True):
    weight_map: dict[str, str]


class _Tokenizer(msgspec.Struct, frozen=True):
    model: dict[str, msgspec.Raw]


class _TokenizerConfig(msgspec.Struct, frozen=True):
    chat_template: str | list[dict[str, str]] | None = None


def inspect_model(source: Path) -> InspectedModel:
    """Inspect a .gguf file or a Hugging Face folder.

    Raises BadInput (`model.not_a_model`, `model.unsupported`, `model.pickle_weights`, `model.symlink_escapes`,
    `source.not_a_file`), IntegrityFailure (`model.truncated`, `model.lying_header`, `model.missing_shard`).
    """
    with storage_errors(f"reading {source}"):
        if source.is_dir():
            return _inspect_folder(source.resolve())
        return _inspect_gguf(source)


def _inspect_gguf(source: Path) -> InspectedModel:
    if source.suffix in _PICKLES:
        raise _pickled(source.name)
    identity = _identify(source)
    if source.suffix == ".safetensors":
        raise not_a_model(printable(source.name), "weights alone say nothing of the model; name the folder they are in")
    header = read_gguf_header(source)
    description = ModelDescription(
        format="gguf",
        architecture=header.architecture,
        name=header.name,
        parameters=header.parameters,
        context_length=header.context_length,
        vocabulary=header.vocabulary,
        quantisation=header.quantisation,
        layers=header.layers,
        hidden=header.hidden,
        heads=header.heads,
        kv_heads=header.kv_heads,
        licence=header.licence,
        has_chat_template=header.has_chat_template,
        size=header.size,
        pooling=header.pooling,
        feed_forward=header.feed_forward,
        key_width=header.key_width,
    )
    return InspectedModel(
        description=description, files=(SourceFile(name="model.gguf", path=source, identity=identity),), left_out=()
    )


def _inspect_folder(folder: Path) -> InspectedModel:
    present = {entry.name for entry in folder.iterdir()}
    if (folder / _POOLING).is_file():
        present = (present - {Path(_POOLING).parent.name}) | {_POOLING}
    if _CONFIG not in present:
        raise _explain_no_config(folder.name, present)
    weights = _weight_names(folder, present)
    beside = present & _SMALL_FILES.keys()
    names = sorted(weights) + sorted(beside - {_INDEX} if _SINGLE in weights else beside)
    files = tuple(
        SourceFile(name=name, path=_inside(folder, name), identity=_identify(folder / name)) for name in names
    )
    for file in files:
        if file.identity.size > _SMALL_FILES.get(file.name, file.identity.size):
            raise lying_header(file.name, f"it is longer than {_SMALL_FILES[file.name]} bytes")
    headers = {name: read_safetensors_header(folder / name) for name in sorted(weights)}
    _check_index(weights, headers)
    if _TOKENIZER not in present:
        raise unsupported(
            printable(folder.name),
            "it has no tokenizer.json",
            hint="Save the tokenizer in the fast format (save_pretrained) and import the folder again.",
        )
    decode(read_bounded(folder / _TOKENIZER, _SMALL_FILES[_TOKENIZER]), _Tokenizer, name=_TOKENIZER)
    if {head.CONFIG, head.TENSORS} <= present:
        headers[head.TENSORS] = read_safetensors_header(folder / head.TENSORS)
    description = _describe_folder(folder, present, headers, size=sum(file.identity.size for file in files))
    return InspectedModel(
        description=description,
        files=files,
        left_out=tuple(printable(name) for name in sorted(present - set(names))),
    )


def _explain_no_config(name: str, present: set[str]) -> BadInput:
    shown = printable(name)
    models = sorted(entry for entry in present if entry.endswith(".gguf"))
    if models:
        return BadInput(
            "model.not_a_model",
            f"{shown} is a folder with {len(models)} GGUF file(s) and no config.json.",
            hint=f"Name the file itself, such as {shown}/{printable(models[0])}.",
        )
    return not_a_model(shown, "the folder has no config.json")


def _weight_names(folder: Path, present: set[str]) -> dict[str, frozenset[str] | None]:
    """Return the weight files and, where an index exists, which tensors it expects in each."""
    if _SINGLE in present:
        return {_SINGLE: None}
    if _INDEX in present:
        _inside(folder, _INDEX)
        index = decode(read_bounded(folder / _INDEX, _SMALL_FILES[_INDEX]), _Index, name=_INDEX)
        expected: dict[str, set[str]] = {}
        for tensor, shard in index.weight_map.items():
            if not _SHARD.fullmatch(shard):
                raise lying_header(_INDEX, "it names a file that is not a shard of this model")
            expected.setdefault(shard, set()).add(tensor)
        missing = sorted(expected.keys() - present)
        if missing or not expected:
            raise _missing_shard(folder.name, missing)
        return {shard: frozenset(tensors) for shard, tensors in expected.items()}
    if any(_SHARD.fullmatch(name) for name in present):
        raise _missing_shard(folder.name, [_INDEX])
    pickles = sorted(name for name in present if Path(name).suffix in _PICKLES and name != "training_args.bin")
    if pickles:
        raise _pickled(pickles[0])
    raise not_a_model(printable(folder.name), "the folder has no safetensors weights")


def _check_index(weights: Mapping[str, frozenset[str] | None], headers: Mapping[str, SafetensorsHeader]) -> None:
    for shard, expected in weights.items():
        if expected is not None and expected != headers[shard].names:
            raise lying_header(shard, f"it does not hold the tensors that {_INDEX} announces")


def _inside(folder: Path, name: str) -> Path:
    """Return the file's real path. Raises BadInput when a symbolic link leads out of the folder."""
    path = folder / name
    real = path.resolve()
    if not real.is_relative_to(folder):
        raise BadInput(
            "model.symlink_escapes",
            f"{printable(name)} is a symbolic link that leads out of its folder.",
            hint="Copy the folder with its links followed (cp -rL) and import the copy.",
        )
    return real


def _identify(path: Path) -> FileIdentity:
    with open_regular(path) as stream:
        return identity_of(stream)


def _describe_folder(
    folder: Path, present: set[str], headers: Mapping[str, SafetensorsHeader], *, size: int
) -> ModelDescription:
    top = decode_object(read_bounded(folder / _CONFIG, _SMALL_FILES[_CONFIG]), name=_CONFIG)
    inner = top.get("text_config")
    config: dict[str, Any] = top | inner if isinstance(inner, dict) else top
    counts: dict[str, int] = {}
    for header in headers.values():
        for dtype, parameters in header.parameters_by_dtype.items():
            counts[dtype] = counts.get(dtype, 0) + parameters
    if not any(counts.values()):
        raise truncated(printable(folder.name), "its weights have no elements")
    heads = _integer(config, "num_attention_heads", "n_head", "n_heads")
    own = _own_head(folder, present)
    return ModelDescription(
        format="safetensors",
        architecture=_architecture(top),
        name=printable(folder.name),
        parameters=sum(counts.values()),
        context_length=_integer(config, "max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"),
        vocabulary=_integer(config, "vocab_size"),
        quantisation=_quantisation(top, counts),
        layers=_integer(config, "num_hidden_layers", "n_layer", "n_layers", "num_layers"),
        hidden=_integer(config, "hidden_size", "n_embd", "d_model", "dim"),
        heads=heads,
        kv_heads=_integer(config, "num_key_value_heads") or heads,
        licence=_licence(folder, present),
        has_chat_template=_has_chat_template(folder, present),
        size=size,
        head=_head(top) if own is None else head.ARCHITECTURE,
        labels=_labels(top) if own is None else tuple(printable(label, 100) for label in own.labels),
        feed_forward=_integer(config, "intermediate_size", "n_inner", "ffn_dim"),
        key_width=2 * _integer(config, "head_dim"),
    )


def _architecture(config: Mapping[str, Any]) -> str:
    value = config.get("model_type")
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", value):
        raise lying_header(_CONFIG, "it does not name its model_type")
    return value


def _head(config: Mapping[str, Any]) -> str:
    """Return the class the model was saved from; empty where config.json names none or several."""
    named = config.get("architectures")
    if isinstance(named, list) and len(named) == 1 and isinstance(named[0], str):
        return printable(named[0], 100)
    return ""


def _own_head(folder: Path, present: set[str]) -> head.HeadConfig | None:
    """Return what a head of our own beside the encoder is about; both of its files must be there."""
    if head.CONFIG not in present:
        return None
    if head.TENSORS not in present:
        raise _missing_shard(folder.name, [head.TENSORS])
    return head.parse_config(read_bounded(folder / head.CONFIG, _SMALL_FILES[head.CONFIG]))


def _labels(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a classifier's labels by output; only where there is one for each output."""
    stated = config.get("id2label")
    if not isinstance(stated, dict) or not _head(config).endswith("ForSequenceClassification"):
        return ()
    if len(stated) > _LABELS_LIMIT or any(str(number) not in stated for number in range(len(stated))):
        raise lying_header(_CONFIG, "id2label does not number its labels from 0 on")
    return tuple(printable(str(stated[str(number)]), 100) for number in range(len(stated)))


def _quantisation(config: Mapping[str, Any], counts: Mapping[str, int]) -> str:
    stated = config.get("quantization_config")
    method = stated.get("quant_method") if isinstance(stated, dict) else None
    if isinstance(method, str) and method:
        return printable(method, 32)
    return max(counts, key=lambda dtype: (counts[dtype], dtype))


def _integer(config: Mapping[str, Any], *keys: str) -> int:
    for key in keys:
        value = config.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 31:
            raise lying_header(_CONFIG, f"{key} is not a plausible number")
        return value
    return 0


def _has_chat_template(folder: Path, present: set[str]) -> bool:
    if _TEMPLATE in present:
        return True
    name = "tokenizer_config.json"
    if name not in present:
        return False
    return bool(decode(read_bounded(folder / name, _SMALL_FILES[name]), _TokenizerConfig, name=name).chat_template)


def _licence(folder: Path, present: set[str]) -> str:
    """Return the licence that the model card states, else the first line of the licence file."""
    if "README.md" in present:
        card = read_bounded(folder / "README.md", _SMALL_FILES["README.md"])[:65536].decode(errors="replace")
        front = re.match(r"---\r?\n(.*?)\r?\n---", card, re.DOTALL)
        stated = re.search(r"^license:[ \t]*([\w.+-]{1,64})[ \t]*\r?$", front.group(1), re.MULTILINE) if front else None
        if stated:
            return stated.group(1)
    for name in _LICENCES:
        if name in present:
            lines = read_bounded(folder / name, _SMALL_FILES[name]).decode(errors="replace").split("\n")
            return printable(next((line.strip() for line in lines if line.strip()), ""), 80)
    return ""


def _missing_shard(folder: str, missing: list[str]) -> BadInput:
    named = ", ".join(printable(name) for name in missing[:3]) or "every shard"
    return BadInput(
        "model.missing_shard",
        f"{printable(folder)} is not whole: {named} is missing.",
        hint="Copy the whole folder again.",
    )


def _pickled(name: str) -> BadInput:
    return BadInput(
        "model.pickle_weights",
        f"{printable(name)} holds pickled weights, which run code when they are loaded.",
        hint="Save the model as safetensors (save_pretrained) and import that.",
    )
