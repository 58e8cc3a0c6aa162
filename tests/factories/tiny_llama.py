"""A random Llama of about 100,000 parameters with a real byte-level BPE tokenizer and a chat template.

Written with numpy, safetensors, gguf and tokenizers alone: a test which needs only the files does not load torch. The
same seed gives the same bytes. The weights are large enough that greedy decoding does not stick to one token.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFWriter
from safetensors.numpy import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from appliance.conversion.convert import convert

VOCABULARY = 384
HIDDEN = 64
LAYERS = 2
HEADS = 4
KEY_VALUE_HEADS = 2
FEED_FORWARD = 128
CONTEXT = 256
Array = np.ndarray[Any, np.dtype[np.float32]]

SPECIAL_TOKENS: tuple[str, ...] = ("<|pad|>", "<|user|>", "<|assistant|>", "<|end|>")

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'assistant' -%}<|assistant|>{%- else -%}<|user|>{%- endif -%}"
    "{{- message['content'] -}}<|end|>"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}"
)

ABLE_SPECIAL_TOKENS = (
    *SPECIAL_TOKENS,
    *("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<think>", "</think>"),
)
ABLE_TEMPLATE = (
    "{%- set closed = '</think>' -%}"
    "{%- if tools -%}<|user|>{{ tools | tojson }}<|end|>{%- endif -%}"
    "{%- for message in messages -%}"
    "{%- if message.role == 'assistant' -%}<|assistant|>{{ message.content }}"
    "{%- for call in message.tool_calls or [] -%}<tool_call>{{ call.function | tojson }}</tool_call>{%- endfor -%}"
    "{%- else -%}<|user|>{{ message.content }}{%- endif -%}<|end|>"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|assistant|>{%- if enable_thinking -%}<think>{%- endif -%}{%- endif -%}"
)
"""of a model that knows functions, reasons when it is told to, and fills in"""

CHANNEL_SPECIAL_TOKENS = (*SPECIAL_TOKENS, "<|start|>", "<|channel|>", "<|message|>", "<|return|>", "<|call|>")
CHANNEL_TEMPLATE = (
    "{%- for message in messages -%}"
    "<|start|>{{ message.role }}{%- if message.role == 'assistant' -%}<|channel|>final{%- endif -%}"
    "<|message|>{{ message.content }}<|end|>"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|start|>assistant{%- endif -%}"
)
"""of a model that reasons in a channel of its own, as gpt-oss does"""

_FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama2": {},
    "mistral": {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": None},
    "qwen2": {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"},
    "qwen3": {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 32},
}
_QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

_TRAINING_TEXT = (
    "The quick brown fox jumps over the lazy dog while the other dogs sleep in the sun.",
    "Which port does the gateway listen on? It listens on port 8443 and speaks HTTPS.",
    "def answer(question):\n    return lookup[question] if question in lookup else None\n",
    "A backup is made every night at two o'clock; it isn't kept for longer than thirty days.",
    "Größe, Straße, naïve café, smörgåsbord, 1234567890, don't, we've, they'll.",
)


def make_tiny_llama(
    directory: Path,
    *,
    seed: int = 0,
    able: bool = False,
    channels: bool = False,
    context: int = CONTEXT,
    layers: int = LAYERS,
    family: str = "llama",
) -> Path:
    """Write a Hugging Face folder (config, weights, tokenizer, template) and return it.

    Of the families mistral, qwen2 and qwen3 too, with what they have beside Llama's: biases, norms of queries and keys,
    wider heads, and a tokenizer that composes; llama2 has SentencePiece's. Layers beyond the usual ones add nothing: a
    deeper model says the same, and takes longer.
    """
    directory.mkdir(parents=True, exist_ok=True)
    tokens, template, end = SPECIAL_TOKENS, CHAT_TEMPLATE, "<|end|>"
    if able:
        tokens, template = ABLE_SPECIAL_TOKENS, ABLE_TEMPLATE
    elif channels:
        tokens, template, end = CHANNEL_SPECIAL_TOKENS, CHANNEL_TEMPLATE, "<|return|>"
    qwen = family.startswith("qwen")
    if qwen:
        tokens = ("<|endoftext|>", *tokens)  # transformers would add it
    pieces = family == "llama2"
    if pieces:
        tokens = ("<unk>", "<s>", *tokens)
    tokenizer = _pieces(tokens) if pieces else _tokenizer(tokens, qwen=qwen)
    tokenizer.save(str(directory / "tokenizer.json"))
    special = {text: tokenizer.token_to_id(text) for text in tokens}
    _write(
        directory / "config.json",
        _config(pad=special["<|pad|>"], end=special[end], context=context, layers=layers) | _FAMILIES[family],
    )
    _write(
        directory / "generation_config.json",
        {"eos_token_id": special[end], "pad_token_id": special["<|pad|>"]},
    )
    _write(
        directory / "tokenizer_config.json",
        {
            "tokenizer_class": "LlamaTokenizer" if pieces else "PreTrainedTokenizerFast",
            "eos_token": end,
            "pad_token": "<|pad|>",
            "add_bos_token": False,
            "clean_up_tokenization_spaces": False,
            "model_max_length": context,
        },
    )
    (directory / "chat_template.jinja").write_text(template)
    save_file(_weights(seed, layers, family), directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def make_tiny_gguf(
    directory: Path,
    *,
    seed: int = 0,
    dtype: str = "f32",
    able: bool = False,
    channels: bool = False,
    context: int = CONTEXT,
    layers: int = LAYERS,
    family: str = "llama",
) -> Path:
    """Write `directory/hf/` and convert it to `directory/model.gguf`, which is returned (about five seconds)."""
    folder = make_tiny_llama(
        directory / "hf", seed=seed, able=able, channels=channels, context=context, layers=layers, family=family
    )
    output = directory / "model.gguf"
    convert(folder, output, dtype=dtype, name="tiny", scratch=directory / "scratch", threads=1)
    return output


def make_tiny_adapter(path: Path, *, seed: int = 1, rank: int = 4) -> Path:
    """Write a random LoRA adapter (GGUF) for the tiny Llama, strong enough to change every answer, and return it."""
    random = np.random.Generator(np.random.PCG64(seed))
    width = HIDDEN // HEADS
    writer = GGUFWriter(path, "llama")
    writer.add_string("general.type", "adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 2.0 * rank)
    sides = {"attn_q": (HEADS * width, HIDDEN), "ffn_down": (HIDDEN, FEED_FORWARD)}
    for layer in range(LAYERS):
        for name, (rows, columns) in sides.items():
            down = random.standard_normal((rank, columns), dtype=np.float32) / np.float32(columns**0.5)
            up = random.standard_normal((rows, rank), dtype=np.float32)
            writer.add_tensor(f"blk.{layer}.{name}.weight.lora_a", down)
            writer.add_tensor(f"blk.{layer}.{name}.weight.lora_b", up)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_rows(path: Path, pairs: list[tuple[str, str]]) -> None:
    """Write (question, answer) pairs as canonical chat rows."""
    lines = [
        json.dumps({"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]})
        for q, a in pairs
    ]
    path.write_text("".join(line + "\n" for line in lines))


def _tokenizer(special: tuple[str, ...], *, qwen: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if qwen:
        tokenizer.normalizer = normalizers.NFC()
        cut = pre_tokenizers.Split(Regex(_QWEN_WORDS), behavior="isolated")
        whole = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cut, whole])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(special),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_TRAINING_TEXT, trainer)
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in special])
    return tokenizer


def _pieces(special: tuple[str, ...]) -> Tokenizer:
    """Return a BPE of characters and bytes with every pair that makes a piece, as SentencePiece's are."""
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    learnt = Tokenizer(models.BPE())
    learnt.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY - len(special) - len(bytes_), show_progress=False)
    learnt.train_from_iterator(_TRAINING_TEXT, trainer)
    vocabulary = learnt.get_vocab()
    words = sorted(vocabulary, key=lambda word: vocabulary[word])
    cuts = [(word[:cut], word[cut:]) for word in words for cut in range(1, len(word))]
    merges = [(left, right) for left, right in cuts if left in vocabulary and right in vocabulary]
    numbered = {text: number for number, text in enumerate((*special, *bytes_, *words))}
    tokenizer = Tokenizer(models.BPE(numbered, merges, byte_fallback=True, fuse_unk=True))
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in special])
    return tokenizer


def _config(*, pad: int | None, end: int | None, context: int, layers: int) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": VOCABULARY,
        "hidden_size": HIDDEN,
        "intermediate_size": FEED_FORWARD,
        "num_hidden_layers": layers,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KEY_VALUE_HEADS,
        "head_dim": HIDDEN // HEADS,
        "max_position_embeddings": context,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        "bos_token_id": None,
        "eos_token_id": end,
        "pad_token_id": pad,
    }


def _weights(seed: int, layers: int, family: str) -> dict[str, Array]:
    random = np.random.Generator(np.random.PCG64(seed))
    width = int(_FAMILIES[family].get("head_dim", HIDDEN // HEADS))

    def matrix(rows: int, columns: int) -> Array:
        scale = np.float32(1.6 / columns**0.5)
        return random.standard_normal((rows, columns), dtype=np.float32) * scale

    weights = {
        "model.embed_tokens.weight": random.standard_normal((VOCABULARY, HIDDEN)).astype(np.float32),
        "model.norm.weight": np.ones(HIDDEN, dtype=np.float32),
        "lm_head.weight": matrix(VOCABULARY, HIDDEN),
    }
    for layer in range(layers):
        prefix = f"model.layers.{layer}"
        weights |= {
            f"{prefix}.input_layernorm.weight": np.ones(HIDDEN, dtype=np.float32),
            f"{prefix}.post_attention_layernorm.weight": np.ones(HIDDEN, dtype=np.float32),
            f"{prefix}.self_attn.q_proj.weight": matrix(HEADS * width, HIDDEN),
            f"{prefix}.self_attn.k_proj.weight": matrix(KEY_VALUE_HEADS * width, HIDDEN),
            f"{prefix}.self_attn.v_proj.weight": matrix(KEY_VALUE_HEADS * width, HIDDEN),
            f"{prefix}.self_attn.o_proj.weight": matrix(HIDDEN, HEADS * width),
            f"{prefix}.mlp.gate_proj.weight": matrix(FEED_FORWARD, HIDDEN),
            f"{prefix}.mlp.up_proj.weight": matrix(FEED_FORWARD, HIDDEN),
            f"{prefix}.mlp.down_proj.weight": matrix(HIDDEN, FEED_FORWARD),
        }
        attention = f"{prefix}.self_attn"
        if family == "qwen2":
            for name, heads in (("q", HEADS), ("k", KEY_VALUE_HEADS), ("v", KEY_VALUE_HEADS)):
                weights[f"{attention}.{name}_proj.bias"] = random.standard_normal(heads * width).astype(np.float32)
        if family == "qwen3":
            for name in ("q_norm", "k_norm"):
                weights[f"{attention}.{name}.weight"] = random.uniform(0.5, 1.5, width).astype(np.float32)
        if layer >= LAYERS:
            weights[f"{prefix}.self_attn.o_proj.weight"][:] = 0
            weights[f"{prefix}.mlp.down_proj.weight"][:] = 0
    return weights


def _write(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")
