"""Writes a LoRA adapter in PEFT's layout as a GGUF adapter that llama.cpp applies at run time.

llama.cpp's own script for this is not part of what set-up installs beside the converter (decision 0032). It knows the
architectures that `convert` knows; what an adapter has beyond plain low-rank updates is refused, never left out.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from appliance.conversion.convert import ARCHITECTURES
from appliance.kernel.errors import BadInput, IntegrityFailure

_PREFIX: Final = "base_model.model."
_PLAIN: Final[dict[str, Any]] = {
    "use_dora": False,
    "modules_to_save": None,
    "rank_pattern": {},
    "alpha_pattern": {},
    "bias": "none",
    "trainable_token_indices": None,
    "alora_invocation_tokens": None,
}
Matrix = np.ndarray[Any, np.dtype[np.float32]]


def write_adapter(adapter: Path, base: Path, output: Path) -> dict[str, Any]:
    """Write `output` from a PEFT folder and its base's config.json; return rank, alpha and the number of matrices.

    Raises BadInput (`conversion.adapter`) for what a GGUF adapter cannot say, IntegrityFailure for broken files.
    """
    options, config = _document(adapter / "adapter_config.json"), _document(base / "config.json")
    for name, plain in _PLAIN.items():
        if options.get(name) not in (plain, None):
            raise _refused(f"it sets {name}")
    rank, alpha = int(options["r"]), float(options["lora_alpha"])
    if options.get("use_rslora"):
        alpha *= math.sqrt(rank)  # llama.cpp scales by alpha / rank, this kind by alpha / sqrt(rank)
    pairs = _pairs(adapter / "adapter_model.safetensors")
    architecture = _architecture(config)
    known = {name: number for number, name in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(known[architecture], int(config["num_hidden_layers"]))
    writer = gguf.GGUFWriter(output, architecture)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", alpha)
    for module, (down, up) in sorted(pairs.items()):
        target = names.get_name(f"{module}.weight", try_suffixes=(".weight",))
        if target is None:
            raise _refused(f"{module} is no matrix of the architecture")
        writer.add_tensor(f"{target}.lora_a", np.ascontiguousarray(down))
        if architecture == "llama":
            up = _reordered(up, module, config)
        writer.add_tensor(f"{target}.lora_b", np.ascontiguousarray(up))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return {"rank": rank, "alpha": alpha, "matrices": len(pairs)}


def _architecture(config: dict[str, Any]) -> str:
    named = (config.get("architectures") or [""])[0]
    if named not in ARCHITECTURES:
        raise _refused(f"its base is of the architecture {named}")
    return ARCHITECTURES[named]


def _pairs(file: Path) -> dict[str, tuple[Matrix, Matrix]]:
    try:
        tensors = load_file(file)
    except (OSError, SafetensorError, ValueError) as error:
        raise IntegrityFailure("conversion.adapter_unreadable", f"{file.name} cannot be read: {error}.") from error
    halves: dict[str, dict[str, Matrix]] = {}
    for name, tensor in tensors.items():
        module, dot, half = name.removeprefix(_PREFIX).rpartition(".lora_")
        if not dot or half not in ("A.weight", "B.weight"):
            raise _refused(f"it has the tensor {name}")
        halves.setdefault(module, {})[half[0]] = tensor.astype(np.float32)
    if not halves or any(len(pair) != 2 for pair in halves.values()):
        raise _refused("a matrix has only one of its two halves" if halves else "it has no matrices")
    return {module: (pair["A"], pair["B"]) for module, pair in halves.items()}


def _reordered(up: Matrix, module: str, config: dict[str, Any]) -> Matrix:
    """Reorder the rows of queries and keys: transformers turns halves, llama.cpp neighbours (RoPE)."""
    heads = int(config["num_attention_heads"])
    if module.endswith("k_proj"):
        heads = int(config.get("num_key_value_heads") or heads)
    elif not module.endswith("q_proj"):
        return up
    rows, rank = up.shape
    return up.reshape(heads, 2, rows // heads // 2, rank).swapaxes(1, 2).reshape(rows, rank)


def _document(file: Path) -> dict[str, Any]:
    try:
        document = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise IntegrityFailure("conversion.adapter_unreadable", f"{file.name} cannot be read: {error}.") from error
    if not isinstance(document, dict):
        raise IntegrityFailure("conversion.adapter_unreadable", f"{file.name} is no JSON object.")
    return document


def _refused(why: str) -> BadInput:
    return BadInput(
        "conversion.adapter",
        f"The adapter cannot be written as GGUF: {why}.",
        hint="Plain LoRA on linear layers can; serve the merged model otherwise.",
    )
