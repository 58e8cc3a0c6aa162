"""A Llama of a few thousand random weights in memory, for tests that need real attention and no files."""

from __future__ import annotations

from typing import Any

import torch


def random_llama(*, vocabulary: int = 64, tied: bool = False, seed: int = 3) -> Any:
    """Return it in evaluation mode."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        initializer_range=0.3,
        tie_word_embeddings=tied,
    )
    return LlamaForCausalLM(config).float().eval()
