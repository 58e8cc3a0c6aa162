"""The files of a task of lm-evaluation-harness: the templates that it includes, and its rows, all beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from appliance.evaluation.local_rows import read_local_rows
from appliance.kernel.errors import BadInput
from appliance.kernel.plain_yaml import read_plain_yaml

_LOCAL: Final = {"json": (".json", ".jsonl"), "csv": (".csv",), "parquet": (".parquet",)}
_SPLITS: Final = ("test", "validation", "train")
_MOST: Final = 32
"""Files that a task may include."""


def whole(document: Mapping[str, Any], file: Path, *, seen: set[Path] | None = None) -> dict[str, Any]:
    """Return a task with what it includes, itself last: what it says counts. Raises BadInput or NotFound.

    `seen` are the files that were taken in so far.
    """
    own = dict(document)
    named = own.pop("include", None) or []
    seen = {file.resolve()} if seen is None else seen
    found: dict[str, Any] = {}
    for name in named if isinstance(named, list) else [named]:
        template = inside(file, str(name))
        if template in seen or len(seen) > _MOST:
            raise refused(file.name, f"{template.name!r} is included a second time, or is one of more than {_MOST}")
        seen.add(template)
        included = read_plain_yaml(template).value
        if not isinstance(included, dict):
            raise refused(template.name, "it is no mapping")
        found |= whole(included, template, seen=seen)
    return found | own


def rows_of(document: Mapping[str, Any], file: Path) -> list[dict[str, Any]]:
    """Return the rows that a task measures. Raises BadInput for anything that a hub would have to give."""
    split = next((document[f"{name}_split"] for name in _SPLITS[:2] if document.get(f"{name}_split")), None)
    files = _data_files(document, file)
    if isinstance(files, dict):
        files = files.get(split if split in files else next((name for name in _SPLITS if name in files), None))
    return read_local_rows(_one(files, document, file, "its test split"))


def rows_of_split(document: Mapping[str, Any], split: str, file: Path) -> list[dict[str, Any]]:
    """Return the rows of a split that has a file of its own. Raises BadInput."""
    files = _data_files(document, file)
    return read_local_rows(_one(files.get(split) if isinstance(files, dict) else None, document, file, split))


def inside(file: Path, name: str) -> Path:
    """Return a file beside the task or below it: a task must not read the rest of the disk."""
    folder = file.parent.resolve()
    found = (folder / name).resolve()
    if "://" in name or not found.is_relative_to(folder):
        raise refused(file.name, f"{name[:80]!r} does not lie beside the task")
    if not found.is_file():
        raise refused(file.name, f"there is no file {name[:80]!r} beside it")
    return found


def refused(source: str, why: str) -> BadInput:
    """Return the error that says what of a task cannot be taken over."""
    return BadInput(
        "suite.lm_eval",
        f"{source}: {why}.",
        hint="docs/operators/evaluation.md says which tasks of lm-evaluation-harness can be imported.",
    )


def _data_files(document: Mapping[str, Any], file: Path) -> Any:
    """Return what a task says about its files: a name, a list, or either by split."""
    path = document.get("dataset_path")
    if isinstance(path, str) and path not in _LOCAL and (file.parent / path).is_file():
        return path
    if path not in _LOCAL:
        raise refused(
            file.name,
            f"the data set {str(path)[:80]!r} would have to come from a hub; "
            "only json, csv and parquet files beside the task can be read",
        )
    options = document.get("dataset_kwargs") or {}
    return options.get("data_files") if isinstance(options, dict) else None


def _one(files: Any, document: Mapping[str, Any], file: Path, split: str) -> Path:
    if isinstance(files, list) and len(files) == 1:
        files = files[0]
    if not isinstance(files, str):
        raise refused(file.name, f"dataset_kwargs.data_files does not name one local file for {split}")
    found, kinds = inside(file, files), _LOCAL.get(document["dataset_path"])
    if kinds is not None and found.suffix not in kinds:
        raise refused(file.name, f"{files[:80]!r} is not a {document['dataset_path']} file")
    return found
