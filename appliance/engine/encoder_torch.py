"""Encoders in a Hugging Face folder: vectors, relevance scores and labels by transformers on torch.

The one module of the engine that loads torch. Weights come from safetensors alone, code from the installed libraries
alone: nothing of the folder is executed, and nothing is looked up outside it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

from appliance.engine.encoder import Framing, Matrix, Passage, framing_of, sigmoid, softmax, unit
from appliance.engine.frames import Kind
from appliance.kernel.errors import BadInput, IntegrityFailure
from appliance.weights.head import Head, has_head, read_head
from appliance.weights.products import with_fast_products

MOST_SEQUENCES: Final = 64
LEAST_BATCH: Final = 2048
_UNBOUNDED: Final = 1 << 24
"""`model_max_length` of a tokenizer that knows no limit is a number beyond any context."""
_EXAMPLE: Final = "word"
_OFFSET_POSITIONS: Final = frozenset({"roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "mpnet", "longformer"})
"""Families whose positions begin after the padding token's: two of them cannot be used."""
_MODULES: Final = frozenset({"Transformer", "Pooling", "Normalize"})


class TorchEncoder:
    """A Hugging Face model that encodes. The parts of the `Encoder` protocol are said there."""

    padded = True

    def __init__(self, folder: Path, *, kind: Kind, context: int, threads: int) -> None:
        """Load the folder. BadInput `engine.kind` or `engine.tokenizer`, IntegrityFailure `engine.model_refused`."""
        torch.set_num_threads(threads)
        transformers.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        config = _config(folder)
        self.kind: Kind = kind
        self.build = f"transformers {transformers.__version__}, torch {torch.__version__}"
        self._tokenizer = _tokenizer(folder)
        self._head = _own_head(folder, config) if kind == "classify" else None
        self._pool = _pooling(folder) if kind == "embed" else "mean"
        self._model = _model(folder, config, head=kind != "embed" and self._head is None)
        self.parameters = sum(parameter.numel() for parameter in self._model.parameters())
        self.description = f"{config.model_type} {self.parameters / 1e6:.1f}M F32"
        self.vocabulary = int(config.vocab_size)
        self.longest_piece = max((len(piece) for piece in self._tokenizer.get_vocab()), default=1)
        limit = _longest(folder, config) if self._head is None else self._head.config.max_length
        self.context = min(context, limit)
        self.batch = max(self.context, LEAST_BATCH)
        self.sequences = MOST_SEQUENCES
        names = () if kind == "embed" else _labels(config) if self._head is None else self._head.config.labels
        outputs = int(config.hidden_size) if kind == "embed" else len(names)
        if kind == "rerank" and outputs != 1:
            raise BadInput("engine.kind", f"A reranker gives one score; this model has {outputs} labels.")
        several = self._head is None and getattr(config, "problem_type", None) == "multi_label_classification"
        self._each_label = outputs == 1 or several
        self.width = outputs
        self.labels = names if kind == "classify" else ()
        self._types = getattr(config, "type_vocab_size", 1) > 1
        self._padding = config.pad_token_id or 0
        bare = self._tokenizer.encode(_EXAMPLE, add_special_tokens=False).ids
        self.single = framing_of(self._tokenizer.encode(_EXAMPLE).ids, bare)
        self.pair = self._pair(bare)

    def tokenise(self, text: str) -> list[int]:
        """Token ids of a text, without control tokens; what looks like one in the text is plain text."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def compute(self, passages: Sequence[Passage]) -> Matrix:
        """One row for each sequence."""
        longest = max(len(passage.tokens) for passage in passages)
        tokens = np.full((len(passages), longest), self._padding, np.int64)
        mask = np.zeros((len(passages), longest), np.int64)
        segments = np.zeros((len(passages), longest), np.int64)
        for row, passage in enumerate(passages):
            length = len(passage.tokens)
            tokens[row, :length] = passage.tokens
            mask[row, :length] = 1
            segments[row, passage.second : length] = 1
        given = {"input_ids": torch.from_numpy(tokens), "attention_mask": torch.from_numpy(mask)}
        if self._types:
            given["token_type_ids"] = torch.from_numpy(segments)
        with torch.inference_mode():
            outcome = self._model(**given)
            if self.kind == "embed":
                return unit(self._pooled(outcome.last_hidden_state, given["attention_mask"]).numpy())
            if self._head is not None:
                vectors = unit(self._pooled(outcome.last_hidden_state, given["attention_mask"]).numpy())
                return softmax(vectors @ self._head.weight.T + self._head.bias)
            logits: Matrix = outcome.logits.float().numpy()
        return sigmoid(logits) if self._each_label else softmax(logits)

    def _pooled(self, hidden: Any, mask: Any) -> Any:
        hidden = hidden.float()
        match self._pool:
            case "cls":
                return hidden[:, 0]
            case "lasttoken":
                return hidden[torch.arange(len(hidden)), mask.sum(1) - 1]
            case "max":
                return hidden.masked_fill(mask[:, :, None] == 0, -torch.inf).amax(1)
            case _:
                weights = mask[:, :, None].float()
                return (hidden * weights).sum(1) / weights.sum(1)

    def _pair(self, bare: list[int]) -> Framing:
        both = self._tokenizer.encode(_EXAMPLE, _EXAMPLE).ids
        size = len(bare)
        starts = [at for at in range(len(both) - size + 1) if both[at : at + size] == bare]
        if len(starts) < 2:
            raise BadInput("engine.tokenizer", "The tokenizer changes a text when it adds its control tokens.")
        first, second = starts[0], starts[-1]
        return Framing(
            before=tuple(both[:first]), between=tuple(both[first + size : second]), after=tuple(both[second + size :])
        )


def _own_head(folder: Path, config: Any) -> Head | None:
    """The head that a `train classify` run put beside the encoder, or None for a classifier of transformers' own."""
    return read_head(folder, hidden=int(config.hidden_size)) if has_head(folder) else None


def _labels(config: Any) -> tuple[str, ...]:
    return tuple(str(config.id2label[number]) for number in range(int(config.num_labels)))


def _config(folder: Path) -> Any:
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (ValueError, KeyError, OSError, TypeError) as error:
        raise _refused("config.json", error) from error


def _tokenizer(folder: Path) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:
        raise _refused("tokenizer.json", error) from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.encode_special_tokens = True
    return tokenizer


def _model(folder: Path, config: Any, *, head: bool) -> Any:
    maker = AutoModelForSequenceClassification if head else AutoModel
    try:
        model, report = maker.from_pretrained(
            folder,
            config=config,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except (ValueError, KeyError, OSError, TypeError, RuntimeError) as error:
        raise _refused("the model", error) from error
    missing = sorted(name for name in report["missing_keys"] if "pooler" not in name or head)
    if missing:
        raise BadInput(
            "engine.kind",
            f"The folder has no weights for {missing[0]}: this model was not made for that.",
            hint="Deploy it with the --kind it was made for.",
        )
    return with_fast_products(model.eval())


def _pooling(folder: Path) -> str:
    """How sentence-transformers pools this model; the mean where nothing is said. BadInput for what is not known."""
    modules = _read(folder / "modules.json", list)
    for module in modules or []:
        kind = str(module.get("type", "")).rpartition(".")[2] if isinstance(module, dict) else ""
        if kind not in _MODULES:
            raise BadInput("engine.kind", f"modules.json names a step that is not served: {kind[:60]!r}.")
    stated = _read(folder / "1_Pooling" / "config.json", dict) or {}
    modes = [name for name, on in stated.items() if name.startswith("pooling_mode_") and on is True]
    named = {
        "pooling_mode_mean_tokens": "mean",
        "pooling_mode_cls_token": "cls",
        "pooling_mode_max_tokens": "max",
        "pooling_mode_lasttoken": "lasttoken",
    }
    if isinstance(stated.get("pooling_mode"), str):
        modes, named = [stated["pooling_mode"]], {name: name for name in named.values()}
    if not modes:
        return "mean"
    if len(modes) > 1 or modes[0] not in named:
        raise BadInput("engine.kind", f"The pooling {', '.join(modes)[:80]} is not served.")
    return named[modes[0]]


def _longest(folder: Path, config: Any) -> int:
    """Tokens of the longest sequence that config, tokenizer and sentence-transformers allow together."""
    positions = int(getattr(config, "max_position_embeddings", 0) or _UNBOUNDED)
    if config.model_type in _OFFSET_POSITIONS:
        positions -= 2
    tokenizer = _read(folder / "tokenizer_config.json", dict) or {}
    sentence = _read(folder / "sentence_bert_config.json", dict) or {}
    stated = (tokenizer.get("model_max_length"), sentence.get("max_seq_length"))
    limits = [int(value) for value in stated if isinstance(value, int | float) and 0 < value < _UNBOUNDED]
    return max(1, min(positions, *limits)) if limits else positions


def _read(path: Path, form: type) -> Any:
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise _refused(path.name, error) from error
    if not isinstance(document, form):
        raise IntegrityFailure("engine.model_refused", f"{path.name} does not have its form.")
    return document


def _refused(what: str, error: BaseException) -> IntegrityFailure:
    reason = " ".join(str(error).split())[:300].rstrip(".")
    return IntegrityFailure("engine.model_refused", f"transformers refuses {what}: {reason}.")
