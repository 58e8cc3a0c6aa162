"""The reference side of the parity gate: tokenizer and greedy decoding by transformers in float32.

One sequence at a time with a key-value cache, as the plainest thing that can be trusted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jinja2
import torch

from appliance.conversion.parity import GreedyRun
from appliance.kernel.errors import BadInput, IntegrityFailure
from appliance.weights.loading import load_model

_BEST = 5


class TransformersModel:
    """A model folder in memory: `tokenizer`, greedy runs and tokenisation."""

    def __init__(self, folder: Path) -> None:
        self._loaded = load_model(folder)
        self.tokenizer: Any = self._loaded.tokenizer
        self._model = self._loaded.model
        self.context_length = self._loaded.context_length

    @property
    def chat_template(self) -> str:
        """The template in force, or empty."""
        return self.tokenizer.chat_template or ""

    def end_tokens(self) -> frozenset[int]:
        """Return the tokens at which generation stops."""
        return self._loaded.end_tokens()

    def special_tokens(self) -> tuple[str, ...]:
        """Return the texts of all added tokens, in order of their ids."""
        added = self.tokenizer.get_added_vocab()
        return tuple(sorted(added, key=lambda text: added[text]))

    def question(self, text: str) -> str:
        """Return a user's question as the model sees it: through the chat template, where there is one."""
        if not self.chat_template:
            return text
        try:
            rendered = self.tokenizer.apply_chat_template(
                [{"role": "user", "content": text}], add_generation_prompt=True, tokenize=False
            )
        except jinja2.TemplateError as error:
            raise BadInput("conversion.chat_template", f"The chat template fails: {str(error)[:200]}.") from error
        return str(rendered)

    def encode(self, text: str, *, special: bool) -> list[int]:
        """Tokenise; with `special`, special tokens in the text count as such and begin/end tokens are added."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=special, split_special_tokens=not special)
        return ids

    def encode_prompt(self, text: str) -> list[int]:
        """Tokenise a rendered prompt: special tokens count, nothing is added to it."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids

    def greedy_runs(self, prompts: Sequence[Sequence[int]], *, tokens: int) -> Iterable[GreedyRun]:
        """Decode each prompt greedily for `tokens` steps. Raises IntegrityFailure on NaN logits.

        End tokens do not stop it: a model that answers briefly would leave too little to compare.
        """
        for prompt in prompts:
            yield self._greedy(prompt, tokens=tokens)

    @torch.inference_mode()
    def _greedy(self, prompt: Sequence[int], *, tokens: int) -> GreedyRun:
        chosen: list[int] = []
        logprobs: list[float] = []
        best: list[tuple[tuple[int, float], ...]] = []
        cache: Any = None
        feed = list(prompt)
        while len(chosen) < tokens:
            output = self._model(input_ids=torch.tensor([feed]), past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            logits = output.logits[0, -1].float()
            if not bool(torch.isfinite(logits).all()):
                raise IntegrityFailure(
                    "conversion.not_finite", "The model's logits are not finite numbers; its weights are ruined."
                )
            token = int(logits.argmax())
            values, ids = logits.topk(min(_BEST, logits.numel()))
            chosen.append(token)
            logprobs.append(float(logits.log_softmax(-1)[token]))
            best.append(tuple(zip(ids.tolist(), values.tolist(), strict=True)))
            feed = [token]
        return GreedyRun(prompt=tuple(prompt), tokens=tuple(chosen), logprobs=tuple(logprobs), best=tuple(best))
