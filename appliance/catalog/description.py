"""What is known of a model without loading it: one form for every file format."""

from __future__ import annotations

import msgspec


class ModelDescription(msgspec.Struct, frozen=True, kw_only=True):
    """A model in figures. An integer that the files do not state is 0; a text that they do not state is empty."""

    format: str
    """gguf | safetensors"""
    architecture: str
    """llama, qwen2, bert, …"""
    name: str
    """what the publisher calls it"""
    parameters: int
    context_length: int
    """tokens"""
    vocabulary: int
    """tokens"""
    quantisation: str
    """F32, BF16, Q4_K_M, … or the quantisation method"""
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    licence: str
    has_chat_template: bool
    size: int
    """bytes of all files"""
    head: str = ""
    """the class of a Hugging Face model, such as BertForSequenceClassification"""
    labels: tuple[str, ...] = ()
    """of a classifier, in the order of its outputs"""
    pooling: str = ""
    """how an encoder makes one vector or score of a text: none | mean | cls | last | rank; empty where unsaid"""
    feed_forward: int = 0
    key_width: int = 0
    """numbers in one key and one value of a head together; 0 where unsaid"""
