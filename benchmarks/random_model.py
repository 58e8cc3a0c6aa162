"""A Llama with random weights and a real tokenizer, as GGUF: speed does not depend on what the weights mean.

The default is 0.1 billion parameters in Q8_0, with a byte-level BPE learnt from the standard library's sources.
Needs torch and half a minute, once.
"""

from __future__ import annotations

import ctypes
import shutil
import sysconfig
from pathlib import Path
from typing import Any, Final

import gguf
import llama_cpp
import numpy as np

from appliance.conversion.convert import convert
from appliance.training.tokenizer import as_transformers, train_tokenizer

_CONTEXT = 8192
_TEXTS = 400
_VOCABULARY = 16384
_LIVELY: Final = 1.6
"""Spread of a layer's outputs: large enough that greedy text does not stick to one token."""


def write_gguf(folder: Path, *, layers: int = 12, hidden: int = 768) -> Path:
    """Write `folder`/random-q8_0.gguf and return its path."""
    source = folder / "source"
    write_folder(source, layers=layers, hidden=hidden)
    return _quantised(source, folder)


def write_with_drafts(
    folder: Path, *, layers: int = 20, kept: int = 2, quiet: float = 0.004, hidden: int = 1024
) -> tuple[Path, Path, Path]:
    """Write a model in Q8_0, its first `kept` layers as a draft model, and a draft model that is never right.

    Random weights agree with nothing but themselves. Here the layers that the draft lacks add only `quiet` times what
    they would: the smaller it is, the more often the draft is right. What real pairs reach, this cannot tell.
    """
    whole, part, stranger = folder / "whole", folder / "part", folder / "stranger"
    _write_layered(whole, layers=layers, kept=kept, quiet=quiet, hidden=hidden, seed=0)
    _keep_layers(whole, part, kept)
    _write_layered(stranger, layers=kept, kept=kept, quiet=quiet, hidden=hidden, seed=1)
    return _quantised(whole, folder), _quantised(part, part), _quantised(stranger, stranger)


def _quantised(source: Path, folder: Path) -> Path:
    """Write what is below `source` to `folder`/random-q8_0.gguf."""
    exact, small = folder / "random-f32.gguf", folder / "random-q8_0.gguf"
    convert(source, exact, dtype="f32", name="random", scratch=folder / "scratch", threads=1)
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0
    status = llama_cpp.llama_model_quantize(str(exact).encode(), str(small).encode(), ctypes.byref(parameters))
    if status != 0:
        raise RuntimeError(f"llama.cpp could not quantise {exact} (status {status}).")
    exact.unlink()
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
    _random_llama(folder, layers=layers, hidden=hidden, vocabulary=vocabulary, tied=True).save_pretrained(folder)


def _random_llama(folder: Path, *, layers: int, hidden: int, vocabulary: int, tied: bool) -> Any:
    """A model in memory, whose tokenizer lies in the folder."""
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
        tie_word_embeddings=tied,
    )
    return LlamaForCausalLM(config)


def _write_layered(folder: Path, *, layers: int, kept: int, quiet: float, hidden: int, seed: int) -> None:
    """A model whose text does not repeat itself, so that prompt lookup has nothing to guess from."""
    import torch

    model = _random_llama(folder, layers=layers, hidden=hidden, vocabulary=_VOCABULARY, tied=False)
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 2:
                weight.normal_(std=1.0 if "embed" in name else _LIVELY / weight.shape[1] ** 0.5)
        for layer in model.model.layers[kept:]:
            layer.self_attn.o_proj.weight *= quiet
            layer.mlp.down_proj.weight *= quiet
    model.save_pretrained(folder)


def _keep_layers(whole: Path, part: Path, kept: int) -> None:
    """Copy a folder without the layers from number `kept` on."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(whole, dtype="float32")
    model.model.layers = model.model.layers[:kept]
    model.config.num_hidden_layers = kept
    model.save_pretrained(part)
    for file in whole.glob("*token*"):
        shutil.copy(file, part)


def real_texts(count: int) -> list[str]:
    """Return the first sources of the standard library: texts that every machine has."""
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[:count]
    return [file.read_text(encoding="utf-8", errors="replace") for file in files]
