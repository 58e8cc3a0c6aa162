from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from appliance.datasets import generate_task
from appliance.jobs.spec import JobKind
from appliance.jobs.workspace import Interrupted, Workspace
from appliance.kernel.errors import BadInput
from tests.factories.tiny_llama import make_tiny_llama
from tests.unit.datasets.conftest import Opener, asked, stored, written

PROMPTS = ["What is the first thing?", "Who is there?", "Where does it lead?"]
WISH: dict[str, Any] = {"name": "s", "count": 6, "temperature": 2.0, "top_p": 1.0, "max_tokens": 40}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A random model that ends its answer at every token that is no whole character."""
    folder = make_tiny_llama(tmp_path_factory.mktemp("tiny"))
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    tokenizer = Tokenizer.from_str(files["tokenizer.json"].decode())
    broken = "\N{REPLACEMENT CHARACTER}"
    ends = [token for token in range(tokenizer.get_vocab_size()) if broken in tokenizer.decode([token])]
    return files | {"generation_config.json": json.dumps({"eos_token_id": ends}).encode()}


def outputs(workspace: Workspace) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in workspace.output.iterdir()}


def test_rows_are_written_marked_and_the_same_each_time(open_job: Opener, model: dict[str, bytes]) -> None:
    results = []
    for seed in (0, 0, 1):
        workspace = open_job(JobKind.GENERATE_DATASET, {"model": model}, seed=seed, prompts=PROMPTS, **WISH)
        summary = generate_task.run(workspace)
        results.append(outputs(workspace))
        rows = written(workspace, "train")
        assert summary["train_rows"] == len(rows) > 0
        assert {row["messages"][0]["content"] for row in rows} <= set(PROMPTS)
        assert summary["synthetic"]["model"] == "model@1"
        assert summary["synthetic"]["from"] == "3 prompts"
        assert summary["origin"]["attempts"] == len(rows) + sum(summary["origin"]["refused"].values())
    assert results[0] == results[1]
    assert results[0]["train.jsonl"] != results[2]["train.jsonl"]


def test_a_stopped_job_goes_on_to_the_same_bytes(open_job: Opener, model: dict[str, bytes]) -> None:
    whole = open_job(JobKind.GENERATE_DATASET, {"model": model}, prompts=PROMPTS, **WISH)
    generate_task.run(whole)

    class StopsAfter(Workspace):
        left = 4

        def stop_requested(self) -> bool:
            self.left -= 1
            return self.left < 0

    workspace = open_job(JobKind.GENERATE_DATASET, {"model": model}, prompts=PROMPTS, **WISH)
    stopped = StopsAfter(workspace.directory)
    with pytest.raises(Interrupted):
        generate_task.run(stopped)
    stopped.close()
    log = workspace.checkpoints / "attempts.jsonl"
    lines = log.read_bytes().count(b"\n")
    assert lines == 4
    log.write_bytes(log.read_bytes() + b'{"entry": {"att')
    generate_task.run(workspace)
    assert outputs(workspace) == outputs(whole)


def test_questions_come_from_the_training_part_alone(open_job: Opener, model: dict[str, bytes]) -> None:
    data = stored([asked("Who is there?", "x")], [asked("Where does it lead?", "y")])
    workspace = open_job(JobKind.GENERATE_DATASET, {"model": model, "data": data}, **WISH)
    summary = generate_task.run(workspace)
    assert {row["messages"][0]["content"] for row in written(workspace, "train")} == {"Who is there?"}
    assert summary["synthetic"]["from"] == "data@1"


def test_a_model_can_be_asked_for_questions_first(open_job: Opener, model: dict[str, bytes]) -> None:
    workspace = open_job(JobKind.GENERATE_DATASET, {"model": model}, prompts=PROMPTS, vary=True, **WISH | {"count": 2})
    summary = generate_task.run(workspace)
    assert summary["synthetic"]["varied"] is True
    assert not {row["messages"][0]["content"] for row in written(workspace, "train")} & set(PROMPTS)


@pytest.mark.parametrize(
    ("data", "parameters", "code"),
    [
        ([{"text": "plain"}], {}, "dataset.generate_form"),
        ([], {}, "dataset.no_rows"),
        (None, {"prompts": [" "]}, "dataset.no_rows"),
        (None, {"prompts": PROMPTS, "max_tokens": 1, "count": 1}, "dataset.nothing_generated"),
    ],
)
def test_what_cannot_be_written_has_one_clear_error(
    open_job: Opener, model: dict[str, bytes], data: list[dict[str, Any]] | None, parameters: dict[str, Any], code: str
) -> None:
    inputs = {"model": model} | ({"data": stored(data)} if data is not None else {})
    workspace = open_job(JobKind.GENERATE_DATASET, inputs, **WISH | parameters)
    with pytest.raises(BadInput) as raised:
        generate_task.run(workspace)
    assert raised.value.code == code


def test_a_model_without_a_template_is_refused(open_job: Opener, model: dict[str, bytes], tmp_path: Path) -> None:
    files = {name: data for name, data in model.items() if name != "chat_template.jinja"}
    config = files["tokenizer_config.json"]
    assert b"chat_template" not in config
    workspace = open_job(JobKind.GENERATE_DATASET, {"model": files}, prompts=PROMPTS, **WISH)
    with pytest.raises(BadInput) as raised:
        generate_task.run(workspace)
    assert raised.value.code == "dataset.no_chat_template"
