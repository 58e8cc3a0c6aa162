"""The other side of the training benchmark: TRL's SFTTrainer, in `.venv-bench`.

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
from trl import SFTConfig, SFTTrainer

from benchmarks import training_case as case


class _InOrder(SFTTrainer):  # type: ignore[misc]  # trl is not installed where types are checked
    """Takes the rows in the order of the case."""

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(train_dataset if train_dataset is not None else self.train_dataset)


class _Clock(TrainerCallback):  # type: ignore[misc]
    """Times the steps, without imports and set-up."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    def on_train_begin(self, *_args: Any, **_words: Any) -> None:
        self.wall, self.cpu = -time.monotonic(), -time.process_time()

    def on_train_end(self, *_args: Any, **_words: Any) -> None:
        self.wall, self.cpu = self.wall + time.monotonic(), self.cpu + time.process_time()


def main(folder: Path, threads: int) -> None:
    """Train and print losses and CPU time."""
    torch.set_num_threads(threads)
    given = case.Case(folder)
    clock = _Clock()
    with tempfile.TemporaryDirectory() as scratch:
        trainer = _InOrder(
            model=given.load_model(),
            processing_class=_tokenizer(),
            train_dataset=Dataset.from_dict({"input_ids": given.rows()}),
            callbacks=[clock],
            args=SFTConfig(
                output_dir=scratch,
                max_steps=case.STEPS,
                per_device_train_batch_size=case.BATCH_SIZE,
                learning_rate=case.LEARNING_RATE,
                lr_scheduler_type="constant",
                optim="adamw_torch_fused",
                adam_beta1=case.BETAS[0],
                adam_beta2=case.BETAS[1],
                adam_epsilon=case.EPSILON,
                weight_decay=0.0,
                max_grad_norm=case.CLIP_NORM,
                max_length=case.LENGTH,
                packing=False,
                gradient_checkpointing=False,
                dataset_kwargs={"skip_prepare_dataset": True},
                bf16=False,
                use_cpu=True,
                logging_steps=1,
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
                seed=0,
            ),
        )
        trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    print(case.report(losses=losses, cpu_seconds=clock.cpu, wall_seconds=clock.wall))


def _tokenizer() -> Any:
    """TRL asks for one even when the rows are token ids already."""
    from tokenizers import Tokenizer, models

    words = {f"<{index}>": index for index in range(case.VOCABULARY)}
    plain = Tokenizer(models.WordLevel(words, unk_token="<0>"))
    return PreTrainedTokenizerFast(
        tokenizer_object=plain, bos_token="<0>", eos_token="<1>", pad_token="<2>", unk_token="<0>"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
