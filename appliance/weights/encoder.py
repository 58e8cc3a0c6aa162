"""Text encoders in memory for jobs: strict loading, the pieces of a text, and one vector for each text.

A text is cut into pieces exactly as the serving worker does it: what looks like a control token in it is plain text,
and only the tokenizer's own frame is put around it. Rows of a batch are masked, so a text's vector does not depend on
its neighbours beyond the last bits of float32.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForTokenClassification
from transformers.utils import logging as transformers_logging

from appliance.kernel.errors import BadInput, IntegrityFailure
from appliance.weights.families import require_encoder
from appliance.weights.head import Head, HeadConfig, has_head, read_head
from appliance.weights.products import with_fast_products
from appliance.weights.token_ids import int32, slices

_UNREADABLE = (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError)
CHARACTERS_PER_TOKEN: Final = 64
"""A text is cut to this many characters for each token that may be kept before it is tokenised: a million characters
must not cost a minute. Pieces of natural text are far shorter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedEncoder:
    """An encoder in evaluation mode. `longest` is how many tokens its positions hold."""

    model: Any
    tokenizer: Tokenizer
    padding: int
    longest: int

    @property
    def hidden(self) -> int:
        """Width of a piece's vector."""
        return int(self.model.config.hidden_size)


class TextClassifier(nn.Module):
    """Encoder, one vector of length 1 for each text, one matrix. Gives scores (logits) by label."""

    def __init__(self, encoder: nn.Module, *, hidden: int, labels: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden, labels)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return float32 scores, texts x labels."""
        scores: Tensor = self.head(self.dropout(unit_mean(self.encoder, tokens, mask)))
        return scores

    def set_head(self, head: Head) -> None:
        """Take up a head's numbers."""
        with torch.no_grad():
            self.head.weight.copy_(torch.from_numpy(head.weight))
            self.head.bias.copy_(torch.from_numpy(head.bias))

    def as_head(self, config: HeadConfig) -> Head:
        """Return the matrix as it is written beside the encoder."""
        weight, bias = self.head.weight.detach(), self.head.bias.detach()
        return Head(config=config, weight=weight.numpy().copy(), bias=bias.numpy().copy())


def load_encoder(folder: Path) -> LoadedEncoder:
    """Load an encoder's folder, with or without a head. Raises BadInput `model.no_encoder`, IntegrityFailure."""
    transformers_logging.disable_progress_bar()
    try:
        config: Any = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except _UNREADABLE as error:
        raise _unreadable(error) from error
    family = require_encoder(str(config.model_type))
    try:
        model, loading = AutoModel.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except _UNREADABLE as error:
        raise _unreadable(error) from error
    # The pooler of BERT's first training is never used here; everything else must be there.
    missing = sorted(name for name in loading["missing_keys"] if not name.startswith("pooler."))
    if missing or loading["mismatched_keys"]:
        raise unreadable(f"it has no weights for {(missing or sorted(map(str, loading['mismatched_keys'])))[0]}")
    for weight in model.parameters():
        # Out of the mapped file into memory of our own alignment: it decides the last bit of every product.
        weight.data = weight.data.clone(memory_format=torch.contiguous_format)
    return LoadedEncoder(
        model=with_fast_products(model.eval()),
        tokenizer=load_tokenizer(folder),
        padding=int(config.pad_token_id or 0),
        longest=int(config.max_position_embeddings) - family.offset,
    )


def load_classifier(folder: Path) -> tuple[TextClassifier, LoadedEncoder, HeadConfig]:
    """Load an encoder with its head. Raises BadInput `model.no_head`, and what `load_encoder` and `read_head` raise."""
    if not has_head(folder):
        raise BadInput(
            "model.no_head",
            "The model has no classification head.",
            hint="Use the outcome of a `train classify` run.",
        )
    loaded = load_encoder(folder)
    head = read_head(folder, hidden=loaded.hidden)
    classifier = TextClassifier(loaded.model, hidden=loaded.hidden, labels=len(head.config.labels))
    classifier.set_head(head)
    return classifier.eval(), loaded, head.config


def load_token_classifier(folder: Path, names: Sequence[str]) -> Any:
    """Return transformers' own token classifier on the folder's encoder, with a new output layer by torch's seed.

    Raises IntegrityFailure `model.unreadable`.
    """
    ids = {name: number for number, name in enumerate(names)}
    transformers_logging.set_verbosity_error()  # that the output layer is new is meant
    try:
        model, loading = AutoModelForTokenClassification.from_pretrained(
            folder,
            dtype=torch.float32,
            id2label=dict(enumerate(names)),
            label2id=ids,
            ignore_mismatched_sizes=True,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except _UNREADABLE as error:
        raise _unreadable(error) from error
    missing = sorted(name for name in loading["missing_keys"] if not name.startswith("classifier."))
    if missing:
        raise unreadable(f"it has no weights for {missing[0]}")
    for weight in model.parameters():
        weight.data = weight.data.clone(memory_format=torch.contiguous_format)
    return with_fast_products(model)


def load_tokenizer(folder: Path) -> Tokenizer:
    """Load tokenizer.json without its padding and truncation. Raises IntegrityFailure `model.unreadable`."""
    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:
        raise _unreadable(error) from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.encode_special_tokens = True
    return tokenizer


def encode_texts(tokenizer: Tokenizer, texts: Sequence[str], *, max_length: int) -> list[array[int]]:
    """Return each text's tokens in the tokenizer's frame, the text cut so that all of it has at most `max_length`."""
    tokenizer.enable_truncation(max_length)
    most = max_length * CHARACTERS_PER_TOKEN
    found = [
        int32(encoding.ids)
        for some in slices(texts)
        for encoding in tokenizer.encode_batch_fast([text[:most] for text in some])
    ]
    tokenizer.no_truncation()
    return found


def padded(rows: Sequence[Sequence[int]], *, padding: int) -> tuple[Tensor, Tensor]:
    """Return token ids and mask (int64, rows x longest), filled up on the right."""
    width = max(len(row) for row in rows)
    tokens = torch.full((len(rows), width), padding, dtype=torch.int64)
    mask = torch.zeros((len(rows), width), dtype=torch.int64)
    for number, row in enumerate(rows):
        tokens[number, : len(row)] = torch.tensor(row)
        mask[number, : len(row)] = 1
    return tokens, mask


def unit_mean(encoder: Any, tokens: Tensor, mask: Tensor) -> Tensor:
    """Return one vector of length 1 for each text: the mean of its pieces' last vectors, control tokens included."""
    hidden = encoder(input_ids=tokens, attention_mask=mask).last_hidden_state.float()
    weights = mask[:, :, None].float()
    pooled: Tensor = nn.functional.normalize((hidden * weights).sum(1) / weights.sum(1), dim=1)
    return pooled


def unreadable(reason: str) -> IntegrityFailure:
    """Return the error for a folder whose parts do not fit together."""
    return IntegrityFailure(
        "model.unreadable",
        f"The encoder's folder cannot be loaded: {reason}.",
        hint="It must be a Hugging Face folder with safetensors weights and tokenizer.json; import it again.",
    )


def _unreadable(error: Exception) -> IntegrityFailure:
    return unreadable(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
