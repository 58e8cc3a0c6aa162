from __future__ import annotations

from pathlib import Path

import pytest

from appliance.datasets.layouts import find_source, side_in_name
from appliance.kernel.errors import BadInput, NotFound
from appliance.kernel.paths import StatePaths

CARD = """---
license: mit
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*.jsonl
  - split: test
    path: ["data/test-*", "more/**/x.jsonl"]
dataset_info:
  features:
  - name: label
    dtype:
      class_label:
        names:
          '0': 'no'
          '10': maybe
          '2': yes indeed
---
# Title
"""


@pytest.fixture
def state(tmp_path: Path) -> StatePaths:
    return StatePaths(tmp_path / "state")


def lay_out(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    return folder


def sides(folder: Path, state: StatePaths, *more: Path) -> dict[str, str]:
    source = find_source(str(folder), [str(path) for path in more], state=state)
    return {one.name: one.side for one in source.files}


@pytest.mark.parametrize(
    ("path", "side"),
    [
        ("data/train-00000-of-00001.parquet", "train"),
        ("test.jsonl", "heldout"),
        ("validation/data-0.arrow", "heldout"),
        ("my_dev.csv", "heldout"),
        ("held-out.csv", "heldout"),
        ("contest.csv", ""),
        ("training/x.csv", "train"),
        ("testing-train.csv", "train"),
        ("a.csv", ""),
    ],
)
def test_a_name_tells_the_part(path: str, side: str) -> None:
    assert side_in_name(path) == side


def test_a_single_file_is_split_whatever_its_name(tmp_path: Path, state: StatePaths) -> None:
    lay_out(tmp_path / "d", "test.csv")
    assert sides(tmp_path / "d" / "test.csv", state) == {"test.csv": ""}


def test_names_decide_where_they_name_both_parts(tmp_path: Path, state: StatePaths) -> None:
    folder = lay_out(tmp_path / "d", "train.csv", "test.csv", "extra.csv")
    files = [folder / name for name in ("train.csv", "test.csv", "extra.csv")]
    assert sides(files[0], state, *files[1:]) == {"train.csv": "train", "test.csv": "heldout", "extra.csv": ""}
    assert sides(files[0], state, files[2]) == {"train.csv": "", "extra.csv": ""}


def test_a_folder_without_a_card_is_walked(tmp_path: Path, state: StatePaths) -> None:
    names = ("train.jsonl", "sub/test.csv", "README.md", "dataset_info.json", ".cache/x.csv", "LICENSE.txt", "run.py")
    assert sides(lay_out(tmp_path / "a", *names), state) == {"train.jsonl": "train", "sub/test.csv": "heldout"}
    others = ("data/train-0.parquet", "data/test-0.parquet", "old/train.csv")
    assert sides(lay_out(tmp_path / "b", *others), state).keys() == {"data/train-0.parquet", "data/test-0.parquet"}
    assert sides(lay_out(tmp_path / "c", "one.txt", "two.txt"), state) == {"one.txt": "", "two.txt": ""}


def test_the_card_decides(tmp_path: Path, state: StatePaths) -> None:
    folder = lay_out(tmp_path / "d", "data/train-1.jsonl", "data/test-1.jsonl", "more/a/x.jsonl", "data/other.jsonl")
    (folder / "README.md").write_text(CARD)
    source = find_source(str(folder), (), state=state)
    assert {one.name: one.side for one in source.files} == {
        "data/train-1.jsonl": "train",
        "data/test-1.jsonl": "heldout",
        "more/a/x.jsonl": "heldout",
    }
    assert source.class_names == {"label": ("no", "yes indeed", "maybe")}


@pytest.mark.parametrize(
    ("card", "code"),
    [
        ("---\na: [\n---\n", "dataset.card"),
        (
            "---\nconfigs:\n- {config_name: a, data_files: x.csv}\n- {config_name: b, data_files: y.csv}\n---\n",
            "dataset.card",
        ),
        ("---\nconfigs:\n- {config_name: a, data_files: ../../etc/passwd}\n---\n", "dataset.no_files"),
        ("---\nconfigs:\n- {config_name: a, data_files: /etc/passwd}\n---\n", "dataset.no_files"),
    ],
)
def test_cards_that_cannot_be_followed(tmp_path: Path, state: StatePaths, card: str, code: str) -> None:
    folder = lay_out(tmp_path / "d", "x.csv", "y.csv")
    (folder / "README.md").write_text(card)
    with pytest.raises(BadInput) as raised:
        find_source(str(folder), (), state=state)
    assert raised.value.code == code


@pytest.mark.parametrize(
    "card", ["no front matter", "---\n- 1\n---\n", "---\na: &x [1]\nb: *x\n---\n", "---\nconfigs: 3\n---\n"]
)
def test_cards_that_say_nothing_of_files_are_passed_over(tmp_path: Path, state: StatePaths, card: str) -> None:
    folder = lay_out(tmp_path / "d", "x.csv")
    (folder / "README.md").write_text(card)
    assert sides(folder, state) == {"x.csv": ""}


def test_links_may_lead_into_the_cache_beside_the_folder_and_nowhere_else(tmp_path: Path, state: StatePaths) -> None:
    folder = tmp_path / "cache" / "snapshots" / "1"
    lay_out(tmp_path / "cache" / "blobs", "ab12")
    folder.mkdir(parents=True)
    (folder / "train.csv").symlink_to("../../blobs/ab12")
    assert sides(folder, state) == {"train.csv": ""}
    (folder / "test.csv").symlink_to("/etc/hostname")
    with pytest.raises(BadInput) as raised:
        sides(folder, state)
    assert raised.value.code == "dataset.symlink_escapes"


def test_nothing_to_read(tmp_path: Path, state: StatePaths) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput) as raised:
        find_source(str(tmp_path / "empty"), (), state=state)
    assert raised.value.code == "dataset.no_files"
    with pytest.raises(NotFound):
        find_source(str(tmp_path / "absent"), (), state=state)
