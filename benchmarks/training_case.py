"""What both training programs are given: one model with fixed weights, one list of batches, one optimiser.

Written once as files, so that neither side makes its own. No dropout, constant learning rate, no decay: whatever then
differs between the two losses is arithmetic. Knows neither our loop nor TRL, and runs in both environments.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STEPS = 40
BATCH_SIZE = 8
LENGTH = 128
LEARNING_RATE = 3e-4
BETAS = (0.9, 0.95)
EPSILON = 1e-8
CLIP_NORM = 1.0
VOCABULARY = 2048


@dataclass(frozen=True, slots=True)
class Case:
    """The files of one comparison below `folder`."""

    folder: Path

    @property
    def model(self) -> Path:
        """Hugging Face folder."""
        return self.folder / "model"

    def write(self) -> None:
        """Write model (the seed model's shape) and rows. Needs torch and transformers."""
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=256,
            intermediate_size=768,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=2,
        )
        LlamaForCausalLM(config).save_pretrained(self.model)
        # Zipf's law instead of uniform tokens, so that there is something to learn.
        chances = 1.0 / torch.arange(1, VOCABULARY - 2)
        rows = torch.multinomial(chances, STEPS * BATCH_SIZE * LENGTH, replacement=True) + 3
        (self.folder / "rows.json").write_text(json.dumps(rows.view(-1, LENGTH).tolist()))

    def rows(self) -> list[list[int]]:
        """Return every row in training order."""
        rows: list[list[int]] = json.loads((self.folder / "rows.json").read_text())
        return rows

    def load_model(self) -> Any:
        """Return the model with its fixed weights, in float32."""
        import torch
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(
            self.model, local_files_only=True, dtype=torch.float32, attn_implementation="sdpa"
        )
        for weight in model.parameters():
            weight.data = weight.data.clone(memory_format=torch.contiguous_format)
        return model


def report(*, losses: list[float], cpu_seconds: float, wall_seconds: float) -> str:
    """Return the one line of JSON with which either program ends."""
    tokens = len(losses) * BATCH_SIZE * LENGTH
    return json.dumps(
        {"losses": losses, "tokens": tokens, "cpu_seconds": cpu_seconds, "wall_seconds": wall_seconds}, allow_nan=False
    )
