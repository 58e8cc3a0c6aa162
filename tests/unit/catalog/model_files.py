"""Small real model files, written by the formats' own libraries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from safetensors.numpy import save_file

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "max_position_embeddings": 128,
    "vocab_size": 16,
    "num_hidden_layers": 2,
    "hidden_size": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def write_gguf(path: Path, *, name: str = "Tiny", template: bool = True, split: int = 0) -> Path:
    """Write a GGUF v3 file of two tensors and a vocabulary of 16 tokens."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(name)
    writer.add_license("apache-2.0")
    writer.add_context_length(128)
    writer.add_embedding_length(32)
    writer.add_block_count(2)
    writer.add_head_count(4)
    writer.add_head_count_kv([2, 2])
    writer.add_file_type(7)
    writer.add_token_list([f"t{i}" for i in range(16)])
    writer.add_token_scores([0.5] * 16)
    if template:
        writer.add_chat_template("{{ messages }}")
    if split:
        writer.add_uint16("split.count", split)
    writer.add_tensor("token_embd.weight", np.ones((16, 32), dtype=np.float32))
    quantised = gguf.quants.quantize(np.ones((4, 32), dtype=np.float32), gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("output.weight", quantised, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_folder(folder: Path, *, shards: int = 1, config: dict[str, Any] | None = None) -> Path:
    """Write a Hugging Face folder with `shards` weight files of one 16 x 8 tensor each."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG if config is None else config))
    (folder / "tokenizer.json").write_text(json.dumps({"version": "1.0", "model": {"type": "BPE", "vocab": {"a": 0}}}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    (folder / "README.md").write_text("---\nlanguage: en\nlicense: apache-2.0\n---\n# Tiny\n")
    if shards == 1:
        save_file({"weight": np.ones((16, 8), dtype=np.float16)}, folder / "model.safetensors")
        return folder
    weight_map = {}
    for number in range(1, shards + 1):
        shard = f"model-{number:05}-of-{shards:05}.safetensors"
        save_file({f"weight.{number}": np.ones((16, 8), dtype=np.float16)}, folder / shard)
        weight_map[f"weight.{number}"] = shard
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder
