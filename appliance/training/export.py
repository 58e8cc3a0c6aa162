"""Writes a trained model as a plain Hugging Face folder: one safetensors file, configuration, tokenizer.

The same weights give the same bytes: no path of this machine, no time, no generated page goes in.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from appliance.kernel.canonical import canonical_json
from appliance.kernel.errors import storage_errors

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "generation_config.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
)


def write_model(model: Any, output: Path) -> None:
    """Write configuration and weights, the weights as one file."""
    with storage_errors("writing the trained model"):
        model.save_pretrained(output, max_shard_size="1TB")


def copy_tokenizer(base: Path, output: Path) -> None:
    """Copy the base model's tokenizer files byte by byte; training does not change them."""
    with storage_errors("writing the tokenizer"):
        for name in _TOKENIZER_FILES:
            if (base / name).exists():
                # Opened and read: the input is a link to a read-only file, and neither must be inherited.
                (output / name).write_bytes((base / name).read_bytes())


def write_template(output: Path, template: str) -> None:
    """Write a chat template in place of the one that the tokenizer came with."""
    config = output / "tokenizer_config.json"
    with storage_errors("writing the chat template"):
        (output / "chat_template.jinja").write_text(template, encoding="utf-8")
        if config.exists():
            named = json.loads(config.read_bytes())
            if named.pop("chat_template", None) is not None:  # older folders keep it in there, and it would win
                config.write_bytes(canonical_json(named) + b"\n")


def write_adapter(adapted: Any, output: Path, *, base: str) -> None:
    """Write the adapter in PEFT's layout, naming its base by reference instead of by path."""
    from peft import get_peft_model_state_dict

    config = adapted.peft_config["default"].to_dict() | {"base_model_name_or_path": base, "inference_mode": True}
    with storage_errors("writing the adapter"):
        output.mkdir()
        tensors = get_peft_model_state_dict(adapted, save_embedding_layers=False)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, output / "adapter_model.safetensors")
        (output / "adapter_config.json").write_bytes(canonical_json(_plain(config)) + b"\n")


def _plain(value: Any) -> Any:
    """Return a configuration as JSON values: sets sorted, enumerations by value."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(_plain(item) for item in value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.value if hasattr(value, "value") else value
