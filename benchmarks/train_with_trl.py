"""The other side of the training benchmark: TRL's SFTTrainer and DPOTrainer, in `.venv-bench`.

`python -m benchmarks.train_with_trl CASE_FOLDER THREADS`. Imports nothing of the appliance.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch.utils.data import SequentialSampler
from transformers import PreTrainedTokenizerFast, TrainerCallback
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from benchmarks import training_case as case


class _InOrder:
    """Takes the rows in the order of the case."""

    train_dataset: Any

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(train_dataset if train_dataset is not None else self.train_dataset)


class _Answers(_InOrder, SFTTrainer):  # type: ignore[misc]  # trl is not installed where types are checked
    """Next-token loss on the rows as they are."""


class _Preferences(_InOrder, DPOTrainer):  # type: ignore[misc]
    """Preference loss on pairs that are token ids already."""

    def _prepare_dataset(self, dataset: Any, *_args: Any, **_words: Any) -> Any:
        return dataset


class _Clock(TrainerCallback):  # type: ignore[misc]
    """Times the steps, without imports and set-up."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    def on_train_begin(self, *_args: Any, **_words: Any) -> None:
        self.wall, self.cpu = -time.monotonic(), -time.process_time()

    def on_train_end(self, *_args: Any, **_words: Any) -> None:
        self.wall, self.cpu = self.wall + time.monotonic(), self.cpu + time.process_time()


class _ExactLosses(TrainerCallback):  # type: ignore[misc]
    """Keeps the losses as they were logged."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_log(self, _args: Any, _state: Any, _control: Any, logs: dict[str, float], **_words: Any) -> None:
        if "loss" in logs:
            self.losses.append(float(logs["loss"]))


def main(folder: Path, threads: int) -> None:
    """Train and print losses and CPU time."""
    torch.set_num_threads(threads)
    given = case.Case(folder)
    load = given.load
    clock, kept = _Clock(), _ExactLosses()
    with tempfile.TemporaryDirectory() as scratch:
        common = {
            "output_dir": scratch,
            "max_steps": load.steps,
            "per_device_train_batch_size": load.batch_size,
            "learning_rate": case.LEARNING_RATE,
            "lr_scheduler_type": "constant",
            "optim": "adamw_torch_fused",
            "adam_beta1": case.BETAS[0],
            "adam_beta2": case.BETAS[1],
            "adam_epsilon": case.EPSILON,
            "weight_decay": 0.0,
            "max_grad_norm": case.CLIP_NORM,
            "gradient_checkpointing": False,
            "bf16": False,
            "use_cpu": True,
            "logging_steps": 1,
            "save_strategy": "steps",  # once, at the end, as the other side does
            "save_steps": load.steps,
            "report_to": [],
            "disable_tqdm": True,
            "seed": 0,
        }
        if load.method == "dpo":
            trainer: Any = _Preferences(
                model=given.load_model(),
                processing_class=_tokenizer(load.vocabulary),
                train_dataset=Dataset.from_list(given.rows()),
                callbacks=[clock, kept],
                args=DPOConfig(beta=case.BETA, precompute_ref_log_probs=True, max_length=None, **common),
            )
        else:
            trainer = _Answers(
                model=given.load_model(),
                processing_class=_tokenizer(load.vocabulary),
                train_dataset=Dataset.from_dict({"input_ids": given.rows()}),
                callbacks=[clock, kept],
                args=SFTConfig(
                    max_length=load.length,
                    packing=False,
                    dataset_kwargs={"skip_prepare_dataset": True},
                    **common,
                ),
            )
        trainer.train()
    print(
        case.report(
            losses=kept.losses, tokens=_tokens(load, given.rows()), cpu_seconds=clock.cpu, wall_seconds=clock.wall
        )
    )


def _tokens(load: case.Load, rows: list[Any]) -> int:
    """Return how many positions the model has read, padding included, as the other side counts them."""
    if load.method != "dpo":
        return load.rows * load.length
    total = 0
    for start in range(0, len(rows), load.batch_size):
        batch = rows[start : start + load.batch_size]
        total += (
            2
            * len(batch)
            * max(len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"])) for row in batch)
        )
    return total


def _tokenizer(vocabulary: int) -> Any:
    """TRL asks for one even when the rows are token ids already."""
    from tokenizers import Tokenizer, models

    words = {f"<{index}>": index for index in range(vocabulary)}
    plain = Tokenizer(models.WordLevel(words, unk_token="<0>"))
    return PreTrainedTokenizerFast(
        tokenizer_object=plain, bos_token="<0>", eos_token="<1>", pad_token="<2>", unk_token="<0>"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
