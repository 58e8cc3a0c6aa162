from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from appliance.jobs.folds import assign, view_fold
from appliance.jobs.spec import Environment, Fold, JobKind, JobSpec
from appliance.kernel.canonical import digest_of, sha256_file
from appliance.kernel.errors import BadInput


def rows(count: int) -> list[dict[str, Any]]:
    return [{"text": f"row {number}", "label": "rare" if number % 5 == 0 else "common"} for number in range(count)]


def written(folder: Path, content: list[dict[str, Any]]) -> Path:
    """A data set as a job sees it: links to stored files."""
    folder.mkdir()
    for name, part in (("train.jsonl", content), ("heldout.jsonl", [{"text": "kept aside", "label": "common"}])):
        (folder.parent / name).write_text("".join(json.dumps(row) + "\n" for row in part))
        (folder / name).symlink_to(folder.parent / name)
    return folder


def read(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_the_folds_share_out_the_training_rows_and_the_stored_files_stay_as_they_are(tmp_path: Path) -> None:
    before = None
    held: list[str] = []
    for index in range(3):
        folder = written(tmp_path / f"in{index}", rows(31))
        before = before or sha256_file(tmp_path / "train.jsonl")
        view_fold(folder, Fold(input="data", index=index, of=3, seed=1))
        kept = read(folder / "train.jsonl")
        held += read(folder / "heldout.jsonl")
        assert sorted(kept + read(folder / "heldout.jsonl")) == sorted(read(tmp_path / "train.jsonl"))
    assert sorted(held) == sorted(read(tmp_path / "train.jsonl"))
    assert sha256_file(tmp_path / "train.jsonl") == before
    assert {path.name for path in folder.iterdir()} == {"train.jsonl", "heldout.jsonl"}


def test_labels_are_spread_evenly_and_the_order_of_the_file_does_not_matter() -> None:
    dealt = assign(rows(50), of=5, seed=3)
    assert dealt == assign(reversed(rows(50)), of=5, seed=3)
    assert dealt != assign(rows(50), of=5, seed=4)
    sizes = Counter(dealt.values())
    assert set(sizes.values()) == {10}
    rare = assign([row for row in rows(50) if row["label"] == "rare"], of=5, seed=3)
    assert set(Counter(rare.values()).values()) == {2}


def test_rows_that_ask_the_same_are_in_one_fold() -> None:
    same = [
        {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": str(n)}]} for n in range(9)
    ]
    others = [{"messages": [{"role": "user", "content": f"q{n}"}]} for n in range(4)]
    assert len(assign([*same, *others], of=5, seed=0)) == 5


def test_more_folds_than_rows_are_refused() -> None:
    with pytest.raises(BadInput) as refused:
        assign(rows(3), of=4, seed=0)
    assert refused.value.code == "kfold.too_few_rows"


def test_a_fold_is_part_of_a_runs_identity_and_its_absence_is_not() -> None:
    environment = Environment(code="c", packages={}, threads=1, device="cpu", cpu="x")
    spec = JobSpec(kind=JobKind.TRAIN_SEED, inputs={}, parameters={}, seed=0, environment=environment)
    folded = JobSpec(
        kind=JobKind.TRAIN_SEED,
        inputs={},
        parameters={},
        seed=0,
        environment=environment,
        fold=Fold(input="corpus", index=0, of=2, seed=0),
    )
    assert spec.run_id != folded.run_id
    before_folds = {
        "kind": "train.seed",
        "inputs": {},
        "parameters": {},
        "seed": 0,
        "environment": {"code": "c", "packages": {}, "threads": 1, "device": "cpu", "cpu": "x"},
    }
    assert spec.run_id == digest_of(before_folds)
