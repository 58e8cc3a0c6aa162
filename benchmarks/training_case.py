"""What both training programs are given: one model with fixed weights, one list of batches, one optimiser.

Written once as files, so that neither side makes its own. No dropout, constant learning rate, no decay: whatever then
differs between the two losses is arithmetic. Knows neither our loop nor TRL, and runs in both environments.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

LEARNING_RATE: Final = 3e-4
BETAS: Final = (0.9, 0.95)
EPSILON: Final = 1e-8
CLIP_NORM: Final = 1.0
BETA: Final = 0.1
"""of direct preference optimisation"""
RANK: Final = 8
ALPHA: Final = 16.0
_FIRST: Final = 3
"""Tokens below it have a meaning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is trained how long. `method` is full, lora or dpo; a row of dpo is a pair of answers."""

    method: str
    steps: int = 40
    batch_size: int = 8
    length: int = 128
    hidden: int = 256
    feed_forward: int = 768
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    vocabulary: int = 2048

    @property
    def rows(self) -> int:
        """Rows of the whole run."""
        return self.steps * self.batch_size


@dataclass(frozen=True, slots=True)
class Case:
    """The files of one comparison below `folder`."""

    folder: Path

    @property
    def model(self) -> Path:
        """Hugging Face folder."""
        return self.folder / "model"

    @property
    def load(self) -> Load:
        """What is to be trained."""
        return Load(**json.loads((self.folder / "load.json").read_text()))

    def write(self, load: Load) -> None:
        """Write model, adapter and rows. Needs torch, transformers and peft."""
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        (self.folder / "load.json").write_text(json.dumps(asdict(load)))
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=load.vocabulary,
            hidden_size=load.hidden,
            intermediate_size=load.feed_forward,
            num_hidden_layers=load.layers,
            num_attention_heads=load.heads,
            num_key_value_heads=load.kv_heads,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=2,
        )
        LlamaForCausalLM(config).save_pretrained(self.model)
        if load.method == "lora":
            self._write_adapter()
        # Zipf's law instead of uniform tokens, so that there is something to learn.
        chances = 1.0 / torch.arange(1, load.vocabulary - _FIRST + 1)
        drawn = torch.multinomial(chances, load.rows * load.length, replacement=True) + _FIRST
        rows: Any = drawn.view(-1, load.length).tolist()
        if load.method == "dpo":
            rows = [_pair(row, number) for number, row in enumerate(rows)]
        (self.folder / "rows.json").write_text(json.dumps(rows))

    def rows(self) -> list[Any]:
        """Return every row in training order: token ids, or {"prompt_ids", "chosen_ids", "rejected_ids"}."""
        rows: list[Any] = json.loads((self.folder / "rows.json").read_text())
        return rows

    def load_model(self) -> Any:
        """Return the model with its fixed weights and, where the method has one, its adapter; all in float32."""
        import torch
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(
            self.model, local_files_only=True, dtype=torch.float32, attn_implementation="sdpa"
        )
        for weight in model.parameters():
            weight.data = weight.data.clone(memory_format=torch.contiguous_format)
        if self.load.method == "lora":
            from peft import PeftModel

            return PeftModel.from_pretrained(model, str(self.folder / "adapter"), is_trainable=True)
        return model

    def _write_adapter(self) -> None:
        import torch
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM

        base = AutoModelForCausalLM.from_pretrained(self.model, local_files_only=True, dtype=torch.float32)
        torch.manual_seed(1)
        shape = LoraConfig(
            r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
        )
        get_peft_model(base, shape).save_pretrained(str(self.folder / "adapter"))


def report(*, losses: list[float], tokens: int, cpu_seconds: float, wall_seconds: float) -> str:
    """Return the one line of JSON with which either program ends."""
    return json.dumps(
        {"losses": losses, "tokens": tokens, "cpu_seconds": cpu_seconds, "wall_seconds": wall_seconds}, allow_nan=False
    )


def _pair(row: list[int], number: int) -> dict[str, list[int]]:
    """Cut a row into a prompt and two answers of different lengths."""
    prompt, answers = len(row) // 3, row[len(row) // 3 :]
    middle = len(answers) // 2 + number % 5
    return {"prompt_ids": row[:prompt], "chosen_ids": answers[:middle], "rejected_ids": answers[middle:]}
