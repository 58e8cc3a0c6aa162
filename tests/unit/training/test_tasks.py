"""Every job of training end to end on a very small model: what it writes, repeats, stops at, resumes and refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from appliance.jobs.spec import JobKind
from appliance.jobs.tasks import load_task
from appliance.jobs.workspace import Interrupted
from appliance.kernel.errors import BadInput, IntegrityFailure
from appliance.kernel.events import CheckpointSkipped, Metric
from appliance.training import lora_task, merge, seed_task
from appliance.training.plan import plan_memory, shape_of_folder
from appliance.training.recipes.lora import LoraRecipe
from appliance.training.sampler import Batch
from tests.unit.training.conftest import write_parts
from tests.unit.training.task_runs import LORA, SEED, Stoppable, digests, workspace

# Two of torch's and peft's own deprecations, seen by whoever imports them first.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

_CHATTING = {"epochs": 2, "batch_size": 2, "max_length": 64}
_EVERY_STEP = {"checkpoint_seconds": 0.0}
KINDS: dict[str, tuple[JobKind, dict[str, Any]]] = {
    "seed": (JobKind.TRAIN_SEED, SEED),
    "lora": (JobKind.TRAIN_LORA, LORA),
    "lora, half": (JobKind.TRAIN_LORA, LORA | {"base_precision": "bfloat16", "precision": "bfloat16"}),
    "lora, nf4": (JobKind.TRAIN_LORA, LORA | {"base_precision": "nf4", "gradient_checkpointing": True}),
    "lora, packed": (JobKind.TRAIN_LORA, LORA | {"packing": True, "epochs": 4, "loss_on": "all"}),
    "full": (JobKind.TRAIN_FULL, _CHATTING),
    "full, checkpointing": (JobKind.TRAIN_FULL, _CHATTING | {"gradient_checkpointing": True}),
    "full, best kept": (JobKind.TRAIN_FULL, _CHATTING | {"evaluate_every": 1, "learning_rate": 0.3}),
    "pretrain": (JobKind.TRAIN_PRETRAIN, {"epochs": 2, "batch_size": 1, "sequence_length": 64}),
    "dpo": (JobKind.TRAIN_DPO, _CHATTING | {"rank": 4}),
    "dpo, full": (JobKind.TRAIN_DPO, _CHATTING | {"rank": 0, "label_smoothing": 0.1}),
}
WRITTEN = {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"}


@pytest.fixture
def inputs(corpus: Path, chats: Path, preferences: Path, request: pytest.FixtureRequest) -> dict[JobKind, Any]:
    base = request.getfixturevalue("base")
    return {
        JobKind.TRAIN_SEED: {"corpus": corpus},
        JobKind.TRAIN_LORA: {"base": base, "dataset": chats},
        JobKind.TRAIN_FULL: {"base": base, "dataset": chats},
        JobKind.TRAIN_PRETRAIN: {"base": base, "corpus": corpus},
        JobKind.TRAIN_DPO: {"base": base, "dataset": preferences},
    }


def prepared(directory: Path, name: str, inputs: dict[JobKind, Any], **more: Any) -> Stoppable:
    kind, parameters = KINDS[name]
    return workspace(directory, kind, inputs[kind], parameters | _EVERY_STEP | more)


@pytest.mark.parametrize("name", KINDS)
def test_a_run_goes_on_to_the_same_bytes_past_a_stop_and_a_damaged_checkpoint(
    tmp_path: Path, inputs: dict[JobKind, Any], name: str
) -> None:
    task = load_task(KINDS[name][0])
    whole = prepared(tmp_path / "whole", name, inputs).run(task)
    assert whole["steps"] >= 4
    stopped = prepared(tmp_path / "parts", name, inputs)
    stopped.stop_at = 3
    with pytest.raises(Interrupted):
        stopped.run(task)
    assert not list((tmp_path / "parts" / "out").iterdir())
    # One flipped bit in the newest checkpoint: it is told, and the one before is used.
    newest = tmp_path / "parts" / "checkpoints" / "step-00000003" / "tensors.safetensors"
    data = bytearray(newest.read_bytes())
    data[-5] ^= 1
    newest.write_bytes(data)
    resumed = prepared(tmp_path / "parts", name, inputs)
    again = resumed.run(task)
    assert [event.name for event in resumed.events if isinstance(event, CheckpointSkipped)] == ["step-00000003"]
    assert digests(tmp_path / "parts" / "out") == digests(tmp_path / "whole" / "out")
    assert set(digests(tmp_path / "whole" / "out")) >= WRITTEN
    moving = ("seconds", "job_seconds", "tokens_per_cpu_second", "memory_measured", "memory_predicted", "memory_error")
    assert {key: again[key] for key in again if key not in moving} == {
        key: whole[key] for key in whole if key not in moving
    }


def test_a_seed_is_a_plain_folder_that_tells_its_size(tmp_path: Path, corpus: Path, base: Path) -> None:
    summary = workspace(tmp_path, JobKind.TRAIN_SEED, {"corpus": corpus}, SEED).run(seed_task.run)
    assert digests(tmp_path / "out") == digests(base)
    assert summary["architecture"] == "LlamaForCausalLM"
    assert summary["tokens"] == 4 * 4 * 32
    weights = load_file(base / "model.safetensors")
    assert summary["parameters"] == sum(weight.numel() for weight in weights.values())
    assert shape_of_folder(base).parameters == summary["parameters"]


def test_chat_rows_make_a_seed_too(tmp_path: Path, chats: Path) -> None:
    summary = workspace(tmp_path, JobKind.TRAIN_SEED, {"corpus": chats}, SEED).run(seed_task.run)
    assert summary["final_loss"] > 0


@pytest.mark.parametrize("name", ["lora", "lora, half", "lora, nf4"])
def test_lora_changes_the_base_and_hands_its_tokenizer_on(
    tmp_path: Path, inputs: dict[JobKind, Any], base: Path, name: str
) -> None:
    whole = prepared(tmp_path, name, inputs).run(lora_task.run)
    outcome = digests(tmp_path / "out")
    assert outcome["model.safetensors"] != digests(base)["model.safetensors"]
    for file in ("tokenizer.json", "chat_template.jinja", "tokenizer_config.json"):
        assert outcome[file] == digests(base)[file]
    assert set(outcome) >= {"adapter/adapter_model.safetensors", "adapter/adapter_config.json"}
    adapter = json.loads((tmp_path / "out/adapter/adapter_config.json").read_text())
    assert adapter["base_model_name_or_path"] == "base@1"
    assert load_file(tmp_path / "out/model.safetensors")["model.norm.weight"].dtype is torch.float32
    assert (whole["examples"], whole["steps"]) == (6, 6)
    assert whole["adapter_parameters"] > 0
    assert whole["merge_difference"] <= merge.TOLERANCE
    assert whole["heldout_loss"] > 0


def test_computing_layers_twice_changes_no_bit(tmp_path: Path, inputs: dict[JobKind, Any]) -> None:
    task = load_task(JobKind.TRAIN_FULL)
    for name in ("full", "full, checkpointing"):
        prepared(tmp_path / name, name, inputs).run(task)
    assert digests(tmp_path / "full" / "out") == digests(tmp_path / "full, checkpointing" / "out")


def test_the_best_weights_are_kept(tmp_path: Path, inputs: dict[JobKind, Any]) -> None:
    run = prepared(tmp_path, "full, best kept", inputs, patience=2, epochs=6)
    summary = run.run(load_task(JobKind.TRAIN_FULL))
    measured = [event.value for event in run.events if isinstance(event, Metric) and event.name == "validation_loss"]
    assert summary["best_validation_loss"] == pytest.approx(min(measured), abs=1e-6)
    assert summary["best_step"] < summary["steps"] < 18
    assert (summary["examples"], summary["validation_examples"]) == (5, 1)
    judged = [event.value for event in run.events if isinstance(event, Metric) and event.name == "heldout_loss"]
    assert judged == [pytest.approx(summary["heldout_loss"], abs=1e-6)]  # once, when all was chosen
    assert summary["heldout_loss"] != pytest.approx(min(measured), abs=1e-4)


def test_preferences_are_learnt(tmp_path: Path, inputs: dict[JobKind, Any]) -> None:
    run = prepared(tmp_path, "dpo", inputs, epochs=20, learning_rate=0.003)
    summary = run.run(load_task(JobKind.TRAIN_DPO))
    assert summary["heldout_accuracy"] == 1.0
    assert summary["heldout_loss"] < 0.6931
    assert (summary["examples"], summary["merge_difference"] <= merge.TOLERANCE) == (6, True)


def test_a_template_of_the_recipe_is_used_and_handed_on(tmp_path: Path, inputs: dict[JobKind, Any], base: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(base, bare)
    (bare / "chat_template.jinja").unlink()
    config = json.loads((bare / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (bare / "tokenizer_config.json").write_text(json.dumps(config))
    given = {"base": bare, "dataset": inputs[JobKind.TRAIN_LORA]["dataset"]}
    with pytest.raises(BadInput) as refused:
        workspace(tmp_path / "without", JobKind.TRAIN_LORA, given, LORA).run(lora_task.run)
    assert refused.value.code == "training.no_chat_template"
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}<|end|>{% endfor %}assistant: "
    template = template.replace("assistant: ", "{% if add_generation_prompt %}assistant: {% endif %}")
    workspace(tmp_path / "with", JobKind.TRAIN_LORA, given, LORA | {"chat_template": template}).run(lora_task.run)
    assert (tmp_path / "with/out/chat_template.jinja").read_text() == template


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("lora", "training.dataset_empty"),
        ("full", "training.dataset_empty"),
        ("pretrain", "training.corpus_empty"),
        ("dpo", "training.no_preferences"),
        ("seed", "training.corpus_empty"),
    ],
)
def test_a_data_set_without_rows_of_its_kind_is_refused(
    tmp_path: Path, inputs: dict[JobKind, Any], name: str, code: str
) -> None:
    kind, parameters = KINDS[name]
    (tmp_path / "none").mkdir()
    folder = write_parts(tmp_path / "none", [{"text": " "}], [])
    given = {word: source if word == "base" else folder for word, source in inputs[kind].items()}
    with pytest.raises(BadInput) as refused:
        workspace(tmp_path / "run", kind, given, parameters).run(load_task(kind))
    assert refused.value.code == code


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path, corpus: Path, chats: Path) -> None:
    with pytest.raises(IntegrityFailure) as refused:
        workspace(tmp_path, JobKind.TRAIN_LORA, {"base": corpus, "dataset": chats}, LORA).run(lora_task.run)
    assert refused.value.code == "model.unreadable"


def test_a_merge_that_answers_differently_is_refused() -> None:
    class Adapted(torch.nn.Module):
        shift = 0.0

        def forward(self, input_ids: torch.Tensor, use_cache: bool, logits_to_keep: int) -> Any:
            logits = input_ids.float() + self.shift
            return type("Output", (), {"logits": logits})

        def merge_and_unload(self) -> Adapted:
            merged = Adapted()
            merged.shift = 0.5
            return merged

    tokens = torch.ones(1, 4, dtype=torch.int64)
    with pytest.raises(IntegrityFailure) as refused:
        merge.merge(Adapted(), [Batch(tokens=tokens, labels=tokens)])
    assert refused.value.code == "training.merge_differs"


def test_the_planner_reads_the_base(base: Path) -> None:
    plan = plan_memory(shape_of_folder(base), LoraRecipe().load(), available=1 << 20)
    assert not plan.fits
