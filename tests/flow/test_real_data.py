"""Public data sets by real verbs: seven files of other people, and a classifier of 77 intents judged by its folds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.factories.box import Box, running_box
from tests.factories.real_data import REAL_DATA, needs_real_data
from tests.factories.tiny_encoder import make_tiny_bert

pytestmark = needs_real_data

RECIPE = """\
recipe: classify
base: encoder@1
data: banking77@1
with: {method: baseline, max_length: 32, folds: 2}
"""


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    with running_box(tmp_path_factory.mktemp("box")) as started:
        files = [str(REAL_DATA / "banking77" / f"{part}.csv") for part in ("train", "test")]
        started.verb("dataset", "import", *files, "--name", "banking77", "--map", "label=category")
        yield started


def counts(shown: dict[str, Any]) -> tuple[str, int, int]:
    data = shown["dataset"]
    return data["form"], data["train_rows"], data["heldout_rows"]


@pytest.mark.parametrize(
    ("file", "options", "expected", "personal"),
    [
        ("faq/faq.tsv", (), ("chat", 786, 93), {"email": 10, "phone": 17}),
        ("kev/kev.csv", ("--map", "text=shortDescription", "--keep", "dateAdded"), ("text", 1202, 118), {"ip": 2}),
        (
            "hatecheck/hatecheck.csv",
            ("--map", "text=test_case", "--map", "label=label_gold"),
            ("classification", 3383, 345),
            {},
        ),
        ("pii/pii.json", (), ("tags", 1253, 139), None),
        ("text/tinyshakespeare.txt", (), ("text", 6445, 703), {}),
    ],
)
def test_files_are_read_as_they_are(
    box: Box, file: str, options: tuple[str, ...], expected: tuple[str, int, int], personal: dict[str, int] | None
) -> None:
    name = Path(file).parent.name
    shown = box.verb("dataset", "import", str(REAL_DATA / file), "--name", name, *options)
    assert counts(shown) == expected
    assert shown["personal"] == personal or personal is None
    assert box.verb("dataset", "check", name)["findings"] is not None


def test_a_split_by_time_keeps_the_latest_for_the_end(box: Box, tmp_path: Path) -> None:
    file = str(REAL_DATA / "kev" / "kev.csv")
    box.verb("dataset", "import", file, "--name", "dated", "--map", "text=shortDescription", "--keep", "dateAdded")
    split = box.verb("dataset", "split", "dated", "--by", "time:dateAdded", "--train", "80", "--heldout", "20")
    assert split["dataset"]["heldout_rows"] == pytest.approx(0.2 * 1320, abs=40)


def test_intents_are_learned_and_judged_by_folds_that_share_the_vectors(box: Box, tmp_path: Path) -> None:
    make_tiny_bert(tmp_path / "encoder")
    box.verb("model", "import", str(tmp_path / "encoder"), "--name", "encoder", "--licence", "Apache-2.0")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    shown = box.verb("kfold", "run", str(tmp_path / "recipe.yaml"), "-k", "2")
    found = shown["campaign"]["summary"]["metrics"]["accuracy"]
    assert found["mean"] > 10 / 77  # a random encoder of a few words still tells much
    first, second = (step["job"] for step in shown["steps"])
    said = "parts of the vectors had been computed before"
    assert [said in str(box.verb("job", "log", job)) for job in (first, second)] == [False, True]
