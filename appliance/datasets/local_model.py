"""A model of the registry that writes: one chat turn at a time, sampled from a seed of its own.

The only module of data sets that loads torch. Equal weights, question, seed and threads give equal text.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import torch

from appliance.kernel.errors import BadInput
from appliance.weights.loading import load_model


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How an answer is drawn."""

    temperature: float
    top_p: float
    max_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What the model said, and whether it came to an end by itself."""

    text: str
    ended: bool


class LocalModel:
    """A causal model with a chat template, in memory."""

    def __init__(self, folder: Path, *, threads: int) -> None:
        """Load it. Raises IntegrityFailure `model.unreadable` or BadInput `dataset.no_chat_template`."""
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(True)
        loaded = load_model(folder)
        self._tokenizer: Any = loaded.tokenizer
        self._model = loaded.model
        self._context = loaded.context_length
        self._ends = loaded.end_tokens()
        if not self._tokenizer.chat_template:
            raise BadInput(
                "dataset.no_chat_template",
                "The model has no chat template, so it cannot be asked anything.",
                hint="Use a model that was tuned on conversations.",
            )

    def say(self, question: str, sampling: Sampling, *, seed: int) -> Said | None:
        """Return the answer to a question, or None where both do not fit into the model's context."""
        ids: list[int] = self._tokenizer.encode(self._render(question), add_special_tokens=False)
        room = min(sampling.max_tokens, self._context - len(ids))
        if not ids or room < 1:
            return None
        tokens, ended = self._draw(ids, sampling, room, seed)
        text = str(self._tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))
        return Said(text=text.strip(), ended=ended)

    @torch.inference_mode()
    def _draw(self, ids: list[int], sampling: Sampling, room: int, seed: int) -> tuple[list[int], bool]:
        generator = torch.Generator().manual_seed(seed)
        fed = torch.tensor([ids])
        cache: Any = None
        tokens: list[int] = []
        for _ in range(room):
            output = self._model(input_ids=fed, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache = output.past_key_values
            token = _sample(output.logits[0, -1].double(), sampling, generator)
            if token in self._ends:
                return tokens, True
            tokens.append(token)
            fed = torch.tensor([[token]])
        return tokens, False

    def _render(self, question: str) -> str:
        messages = [{"role": "user", "content": question}]
        try:
            return str(self._tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))
        except (jinja2.TemplateError, ValueError) as error:
            raise BadInput(
                "dataset.no_chat_template", f"The model's chat template fails: {str(error)[:160]}."
            ) from error


def _sample(logits: torch.Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """Draw a token from the most probable ones that together have `top_p` (Holtzman et al. 2020)."""
    ordered, order = (logits / sampling.temperature).softmax(-1).sort(descending=True, stable=True)
    before = ordered.cumsum(-1) - ordered
    ordered = ordered.masked_fill(before >= sampling.top_p, 0.0)
    return int(order[torch.multinomial(ordered, 1, generator=generator)])
