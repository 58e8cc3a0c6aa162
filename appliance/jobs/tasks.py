"""Which function does which kind of job. Imports are deferred to the job process that needs them."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from appliance.jobs.spec import JobKind
from appliance.jobs.workspace import Task

_MODULES: dict[JobKind, str] = {
    JobKind.IMPORT_MODEL: "appliance.catalog.import_task",
    JobKind.IMPORT_DATASET: "appliance.datasets.import_task",
    JobKind.CHECK_DATASET: "appliance.datasets.check_task",
    JobKind.SPLIT_DATASET: "appliance.datasets.split_task",
    JobKind.GENERATE_DATASET: "appliance.datasets.generate_task",
    JobKind.TRAIN_SEED: "appliance.training.seed_task",
    JobKind.TRAIN_LORA: "appliance.training.lora_task",
    JobKind.TRAIN_FULL: "appliance.training.full_task",
    JobKind.TRAIN_PRETRAIN: "appliance.training.pretrain_task",
    JobKind.TRAIN_DPO: "appliance.training.dpo_task",
    JobKind.TRAIN_CLASSIFY: "appliance.training.encoders.classify_task",
    JobKind.TRAIN_TAG: "appliance.training.encoders.tag_task",
    JobKind.TRAIN_DISTIL: "appliance.training.shrink.distil_task",
    JobKind.TRAIN_PRUNE: "appliance.training.shrink.prune_task",
    JobKind.IMPORT_SUITE: "appliance.evaluation.suite_import_task",
    JobKind.EVALUATE: "appliance.evaluation.evaluate_task",
    JobKind.CONVERT_GGUF: "appliance.conversion.convert_task",
    JobKind.CONVERT_LADDER: "appliance.conversion.ladder_task",
    JobKind.CONVERT_ADAPTER: "appliance.conversion.adapter_task",
    JobKind.TUNE: "appliance.tuning.tune_task",
    JobKind.SEARCH_ASK: "appliance.campaigns.ask_task",
}


def load_task(kind: JobKind) -> Task:
    """Import the module of a kind and return its `run`."""
    return cast(Task, import_module(_MODULES[kind]).run)
