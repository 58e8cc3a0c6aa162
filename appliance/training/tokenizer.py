"""The seed model's tokenizer: byte-level BPE trained on the corpus itself, and its chat template.

The pre-tokenizer is plain ByteLevel, which llama.cpp knows as `gpt-2`, so a conversion tokenises identically.
No beginning-of-text token is ever added; `<|end|>` closes documents and turns alike, and stops generation.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Sequence
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from appliance.weights.token_ids import int32, slices

END = "<|end|>"
PAD = "<|pad|>"
_ROLES = ("<|system|>", "<|user|>", "<|assistant|>")

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "<|{{ message['role'] }}|>\n{{ message['content'] }}<|end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def train_tokenizer(texts: Iterable[str], *, vocabulary: int) -> Tokenizer:
    """Learn at most `vocabulary` tokens from texts; every byte and the special tokens are among them."""
    # One thread: counting in parallel gains nothing at this size, and a forked pool would warn.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=2,
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=[AddedToken(token, normalized=False, special=True) for token in (END, PAD, *_ROLES)],
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def as_transformers(tokenizer: Tokenizer, *, context_length: int) -> Any:
    """Wrap a trained tokenizer as transformers knows it, with special tokens and chat template."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=list(_ROLES),
        add_bos_token=False,
        add_eos_token=False,
        clean_up_tokenization_spaces=False,
        model_max_length=context_length,
        chat_template=CHAT_TEMPLATE,
    )


def encode_documents(tokenizer: Tokenizer, texts: Sequence[str]) -> list[array[int]]:
    """Return each text's token ids, closed by the end token."""
    (end,) = tokenizer.encode(END, add_special_tokens=False).ids
    return [
        int32([*encoding.ids, end])
        for some in slices(texts)
        for encoding in tokenizer.encode_batch(some, add_special_tokens=False)
    ]
