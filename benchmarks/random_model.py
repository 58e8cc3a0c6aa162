"""A Llama with random weights and a real tokenizer, as GGUF: speed does not depend on what the weights mean.

The default is 0.1 billion parameters in Q8_0, with a byte-level BPE learnt from the standard library's sources.
Needs torch and half a minute, once.
"""

from __future__ import annotations

import ctypes
import sysconfig
from pathlib import Path

import gguf
import llama_cpp
import numpy as np

from appliance.conversion.convert import convert
from appliance.training.tokenizer import as_transformers, train_tokenizer

_CONTEXT = 8192
_TEXTS = 400
_VOCABULARY = 16384


def write_gguf(folder: Path, *, layers: int = 12, hidden: int = 768) -> Path:
    """Write `folder`/random-q8_0.gguf and return its path."""
    source = folder / "source"
    write_folder(source, layers=layers, hidden=hidden)
    exact = folder / "random-f32.gguf"
    convert(source, exact, dtype="f32", name="random", scratch=folder / "scratch", threads=1)
    small = folder / "random-q8_0.gguf"
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0
    status = llama_cpp.llama_model_quantize(str(exact).encode(), str(small).encode(), ctypes.byref(parameters))
    if status != 0:
        raise RuntimeError(f"llama.cpp could not quantise {exact} (status {status}).")
    return small


def write_adapter(model: Path, path: Path, *, rank: int = 4, seed: int = 1) -> Path:
    """Write a LoRA adapter with random weights for a GGUF model, strong enough to change its answers; return `path`."""
    random = np.random.Generator(np.random.PCG64(seed))
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_string("general.type", "adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 2.0 * rank)
    for tensor in gguf.GGUFReader(model).tensors:
        if tensor.name.endswith("attn_q.weight"):
            columns, rows = (int(size) for size in tensor.shape)
            down = random.standard_normal((rank, columns), dtype=np.float32) / np.float32(columns**0.5)
            writer.add_tensor(f"{tensor.name}.lora_a", down)
            writer.add_tensor(f"{tensor.name}.lora_b", random.standard_normal((rows, rank), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_folder(folder: Path, *, layers: int, hidden: int, vocabulary: int = _VOCABULARY) -> None:
    """Write a Hugging Face folder with random weights, the same for the same arguments."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = train_tokenizer(real_texts(_TEXTS), vocabulary=vocabulary)
    as_transformers(tokenizer, context_length=_CONTEXT).save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=hidden,
        intermediate_size=hidden * 8 // 3 // 32 * 32,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        num_key_value_heads=hidden // 64,
        max_position_embeddings=_CONTEXT,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def real_texts(count: int) -> list[str]:
    """Return the first sources of the standard library: texts that every machine has."""
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[:count]
    return [file.read_text(encoding="utf-8", errors="replace") for file in files]
