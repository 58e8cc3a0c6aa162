"""A random BERT of some thousand parameters as a Hugging Face folder and as GGUF, from the same weights.

Written with numpy, safetensors, tokenizers and gguf alone. The two files describe one model, so that what torch and
llama.cpp compute of a text can be held against each other. The same seed gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFWriter
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

HIDDEN = 32
LAYERS = 2
HEADS = 4
FEED_FORWARD = 64
CONTEXT = 64
CONTROL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_SENTENCES = (
    "my card was lost stolen where is the transfer of money to an account how do i pay top up cash",
    "a beach in summer red blue dog cat sleeps runs fast port gateway listens on backup night",
)
WORDS = tuple(word for sentence in _SENTENCES for word in sentence.split())
LETTERS = tuple(chr(code) for code in range(ord("a"), ord("z") + 1))
PIECES = tuple(f"##{letter}" for letter in LETTERS)
VOCABULARY = tuple(dict.fromkeys((*CONTROL, *LETTERS, *WORDS, *PIECES)))
MEAN, CLS, RANK = 1, 2, 4
"""llama.cpp's pooling types"""

Array = np.ndarray[Any, np.dtype[np.float32]]


def make_tiny_bert(directory: Path, *, seed: int = 0, labels: Sequence[str] = (), pooling: str = "mean") -> Path:
    """Write a Hugging Face folder and return it: an encoder, or with `labels` a classifier (one label: a reranker)."""
    directory.mkdir(parents=True, exist_ok=True)
    _tokenizer().save(str(directory / "tokenizer.json"))
    config: dict[str, Any] = {
        "architectures": ["BertForSequenceClassification" if labels else "BertModel"],
        "model_type": "bert",
        "vocab_size": len(VOCABULARY),
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": FEED_FORWARD,
        "max_position_embeddings": CONTEXT,
        "type_vocab_size": 2,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "pad_token_id": 0,
        "torch_dtype": "float32",
    }
    if labels:
        config |= {
            "id2label": {str(number): label for number, label in enumerate(labels)},
            "label2id": {label: number for number, label in enumerate(labels)},
        }
    _write(directory / "config.json", config)
    _write(directory / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "model_max_length": CONTEXT})
    if not labels:
        _write(
            directory / "modules.json",
            [
                {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
                for number, (path, kind) in enumerate((("", "Transformer"), ("1_Pooling", "Pooling")))
            ],
        )
        (directory / "1_Pooling").mkdir(exist_ok=True)
        _write(
            directory / "1_Pooling" / "config.json",
            {
                "word_embedding_dimension": HIDDEN,
                "pooling_mode_cls_token": pooling == "cls",
                "pooling_mode_mean_tokens": pooling == "mean",
            },
        )
    prefix = "bert." if labels else ""
    weights = {f"{prefix}{name}": value for name, value in _weights(seed).items()}
    save_file(weights | _head(seed, len(labels)), directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def make_tiny_bert_gguf(path: Path, *, seed: int = 0, labels: Sequence[str] = (), pooling: int = MEAN) -> Path:
    """Write the same model as one GGUF file and return it."""
    writer = GGUFWriter(path, "bert")
    writer.add_name("tiny-bert")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_layer_norm_eps(1e-12)
    writer.add_causal_attention(False)
    writer.add_uint32("bert.pooling_type", RANK if labels else pooling)
    writer.add_file_type(0)
    writer.add_tokenizer_model("bert")
    writer.add_token_list([_phantom(token) for token in VOCABULARY])
    writer.add_token_types([3 if token in CONTROL else 1 for token in VOCABULARY])
    writer.add_token_type_count(2)
    ids = {token: number for number, token in enumerate(VOCABULARY)}
    writer.add_uint32("tokenizer.ggml.bos_token_id", ids["[CLS]"])
    writer.add_uint32("tokenizer.ggml.cls_token_id", ids["[CLS]"])
    writer.add_sep_token_id(ids["[SEP]"])
    writer.add_pad_token_id(ids["[PAD]"])
    writer.add_unk_token_id(ids["[UNK]"])
    writer.add_mask_token_id(ids["[MASK]"])
    if labels:
        writer.add_array("bert.classifier.output_labels", list(labels))
    for name, value in (_weights(seed) | _head(seed, len(labels))).items():
        if (target := _gguf_name(name, head=bool(labels))) is not None:
            writer.add_tensor(target, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _tokenizer() -> Tokenizer:
    ids = {token: number for number, token in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    tokenizer.add_special_tokens(list(CONTROL))
    return tokenizer


def _weights(seed: int) -> dict[str, Array]:
    random = np.random.Generator(np.random.PCG64(seed))

    def matrix(rows: int, columns: int) -> Array:
        return random.standard_normal((rows, columns), dtype=np.float32) * np.float32(1.5 / columns**0.5)

    def vector(size: int, *, around: float = 0.0) -> Array:
        return (around + 0.1 * random.standard_normal(size)).astype(np.float32)

    weights = {
        "embeddings.word_embeddings.weight": matrix(len(VOCABULARY), HIDDEN) * np.float32(4),
        "embeddings.position_embeddings.weight": matrix(CONTEXT, HIDDEN),
        "embeddings.token_type_embeddings.weight": np.tile(matrix(1, HIDDEN), (2, 1)),
        "embeddings.LayerNorm.weight": vector(HIDDEN, around=1),
        "embeddings.LayerNorm.bias": vector(HIDDEN),
    }
    for layer in range(LAYERS):
        prefix = f"encoder.layer.{layer}"
        for part in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            weights |= {f"{prefix}.{part}.weight": matrix(HIDDEN, HIDDEN), f"{prefix}.{part}.bias": vector(HIDDEN)}
        for part in ("attention.output.LayerNorm", "output.LayerNorm"):
            weights |= {
                f"{prefix}.{part}.weight": vector(HIDDEN, around=1),
                f"{prefix}.{part}.bias": vector(HIDDEN),
            }
        weights |= {
            f"{prefix}.intermediate.dense.weight": matrix(FEED_FORWARD, HIDDEN),
            f"{prefix}.intermediate.dense.bias": vector(FEED_FORWARD),
            f"{prefix}.output.dense.weight": matrix(HIDDEN, FEED_FORWARD),
            f"{prefix}.output.dense.bias": vector(HIDDEN),
        }
    return weights | {"pooler.dense.weight": matrix(HIDDEN, HIDDEN), "pooler.dense.bias": vector(HIDDEN)}


def _head(seed: int, labels: int) -> dict[str, Array]:
    if not labels:
        return {}
    random = np.random.Generator(np.random.PCG64(seed + 1))
    return {
        "classifier.weight": random.standard_normal((labels, HIDDEN), dtype=np.float32),
        "classifier.bias": np.zeros(labels, np.float32),
    }


_NAMES = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
    "pooler.dense": "cls",
    "classifier": "cls.output",
}


def _gguf_name(name: str, *, head: bool) -> str | None:
    stem, _, kind = name.rpartition(".")
    if stem == "pooler.dense" and not head:
        return None
    if stem.startswith("encoder.layer."):
        _, _, layer, part = stem.split(".", 3)
        return f"blk.{layer}.{_NAMES[part]}.{kind}"
    return f"{_NAMES[stem]}.{kind}"


def _phantom(token: str) -> str:
    if token in CONTROL:
        return token
    return token[2:] if token.startswith("##") else "\u2581" + token


def _write(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")
