"""Both jobs end to end on a very small model: what they write, that they repeat, stop, resume and refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file

from appliance.jobs.spec import Environment, InputRef, JobKind, JobSpec
from appliance.jobs.workspace import Interrupted, Task, Workspace
from appliance.kernel.canonical import sha256_file
from appliance.kernel.errors import BadInput, IntegrityFailure
from appliance.kernel.events import Event, Progress
from appliance.training import lora_task, merge, seed_task
from appliance.training.plan import plan_memory, shape_of_folder
from appliance.training.recipes.lora import LoraRecipe
from appliance.training.sampler import Batch

# Two of torch's and peft's own deprecations, seen by whoever imports them first.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

SEED = {
    "vocabulary": 300,
    "hidden_size": 32,
    "intermediate_size": 64,
    "layers": 2,
    "heads": 2,
    "kv_heads": 1,
    "context_length": 128,
    "sequence_length": 32,
    "steps": 4,
}
LORA = {"rank": 4, "epochs": 2, "batch_size": 2, "max_length": 64}


class Stoppable(Workspace):
    """A workspace whose stop is requested once a step is reached."""

    stop_at = 1_000_000
    reached = 0

    def emit(self, event: Event) -> None:
        if isinstance(event, Progress):
            self.reached = max(self.reached, event.step)
        super().emit(event)

    def stop_requested(self) -> bool:
        return self.reached >= self.stop_at

    def run(self, task: Task) -> dict[str, Any]:
        try:
            return task(self)
        finally:
            self.close()


def workspace(directory: Path, kind: JobKind, inputs: dict[str, Path], parameters: dict[str, Any]) -> Stoppable:
    for folder in ("in", "out", "checkpoints", "scratch"):
        (directory / folder).mkdir(parents=True, exist_ok=True)
    for name, source in inputs.items():
        if not (directory / "in" / name).exists():
            (directory / "in" / name).symlink_to(source, target_is_directory=True)
    spec = JobSpec(
        kind=kind,
        inputs={name: InputRef(ref=f"{name}@1", digest="0" * 64, files=()) for name in inputs},
        parameters=parameters,
        seed=7,
        environment=Environment(code="test", packages={}, threads=1, device="cpu", cpu="any"),
    )
    (directory / "spec.json").write_bytes(msgspec.json.encode(spec))
    return Stoppable(directory)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    rows = [json.dumps({"text": f"The gateway number {n} listens on port 8443."}) for n in range(12)]
    (folder / "train.jsonl").write_text("\n".join(rows))
    return folder


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chats")
    for part, count in (("train", 6), ("heldout", 2)):
        rows = [
            {"messages": [{"role": "user", "content": f"port {n}?"}, {"role": "assistant", "content": "Port 8443."}]}
            for n in range(count)
        ]
        (folder / f"{part}.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    directory = tmp_path_factory.mktemp("base")
    workspace(directory, JobKind.TRAIN_SEED, {"corpus": corpus}, SEED).run(seed_task.run)
    return directory / "out"


def digests(output: Path) -> dict[str, str]:
    return {str(path.relative_to(output)): sha256_file(path) for path in sorted(output.rglob("*")) if path.is_file()}


def test_a_seed_is_a_plain_folder_and_repeats(tmp_path: Path, corpus: Path, base: Path) -> None:
    summary = workspace(tmp_path, JobKind.TRAIN_SEED, {"corpus": corpus}, SEED).run(seed_task.run)
    assert digests(tmp_path / "out") == digests(base)
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"} <= set(digests(base))
    assert summary["architecture"] == "LlamaForCausalLM"
    assert summary["steps"] == 4
    assert summary["tokens"] == 4 * 4 * 32
    weights = load_file(base / "model.safetensors")
    assert summary["parameters"] == sum(weight.numel() for weight in weights.values())
    assert shape_of_folder(base).parameters == summary["parameters"]


def test_a_stopped_seed_goes_on_to_the_same_bytes(tmp_path: Path, corpus: Path, base: Path) -> None:
    first = workspace(tmp_path, JobKind.TRAIN_SEED, {"corpus": corpus}, SEED)
    first.stop_at = 2
    with pytest.raises(Interrupted):
        first.run(seed_task.run)
    assert not list((tmp_path / "out").iterdir())
    workspace(tmp_path, JobKind.TRAIN_SEED, {"corpus": corpus}, SEED).run(seed_task.run)
    assert digests(tmp_path / "out") == digests(base)


def test_chat_rows_make_a_seed_too(tmp_path: Path, chats: Path) -> None:
    summary = workspace(tmp_path, JobKind.TRAIN_SEED, {"corpus": chats}, SEED).run(seed_task.run)
    assert summary["final_loss"] > 0


def test_lora_changes_the_base_and_repeats_after_a_stop(tmp_path: Path, base: Path, chats: Path) -> None:
    inputs = {"base": base, "dataset": chats}
    whole = workspace(tmp_path / "whole", JobKind.TRAIN_LORA, inputs, LORA).run(lora_task.run)
    stopped = workspace(tmp_path / "parts", JobKind.TRAIN_LORA, inputs, LORA)
    stopped.stop_at = 3
    with pytest.raises(Interrupted):
        stopped.run(lora_task.run)
    workspace(tmp_path / "parts", JobKind.TRAIN_LORA, inputs, LORA).run(lora_task.run)
    outcome = digests(tmp_path / "whole" / "out")
    assert digests(tmp_path / "parts" / "out") == outcome
    assert outcome["model.safetensors"] != digests(base)["model.safetensors"]
    for name in ("tokenizer.json", "chat_template.jinja", "tokenizer_config.json"):
        assert outcome[name] == digests(base)[name]
    assert set(outcome) >= {"adapter/adapter_model.safetensors", "adapter/adapter_config.json"}
    assert (
        json.loads((tmp_path / "whole/out/adapter/adapter_config.json").read_text())["base_model_name_or_path"]
        == "base@1"
    )
    assert whole["examples"] == 6
    assert whole["steps"] == 6
    assert whole["adapter_parameters"] > 0
    assert whole["merge_difference"] <= merge.TOLERANCE
    assert whole["heldout_loss"] > 0


def test_a_data_set_without_conversations_is_refused(tmp_path: Path, base: Path, corpus: Path) -> None:
    with pytest.raises(BadInput) as refused:
        workspace(tmp_path, JobKind.TRAIN_LORA, {"base": base, "dataset": corpus}, LORA).run(lora_task.run)
    assert refused.value.code == "training.dataset_empty"


def test_an_empty_corpus_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_text("")
    with pytest.raises(BadInput) as refused:
        workspace(tmp_path, JobKind.TRAIN_SEED, {"corpus": tmp_path / "data"}, SEED).run(seed_task.run)
    assert refused.value.code == "training.corpus_empty"


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path, corpus: Path, chats: Path) -> None:
    with pytest.raises(IntegrityFailure) as refused:
        workspace(tmp_path, JobKind.TRAIN_LORA, {"base": corpus, "dataset": chats}, LORA).run(lora_task.run)
    assert refused.value.code == "model.unreadable"


def test_a_merge_that_answers_differently_is_refused() -> None:
    class Adapted(torch.nn.Module):
        shift = 0.0

        def forward(self, input_ids: torch.Tensor, use_cache: bool) -> Any:
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
