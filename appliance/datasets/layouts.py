"""Which files make up a source: one file, several, or a folder in a Hugging Face layout; and which part each is.

In a folder, the `configs:` of a README's front matter decide; without them every data file counts, and a word such as
`train`, `test` or `validation` in its path says where it belongs. Knows paths, never a row.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import yaml

from appliance.datasets.class_names import ClassNames, names_in_card
from appliance.datasets.formats import FORMATS
from appliance.datasets.rows import side_of
from appliance.kernel.errors import BadInput
from appliance.kernel.paths import StatePaths
from appliance.kernel.sources import resolve_source

_MOST_FILES = 10_000
_DEEPEST = 8
_CARD_LIMIT = 1 << 20
_NO_DATA: Final = frozenset(
    {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "config.json", "report.json"}
)
_WORD = re.compile(r"[a-z]+(?:[_-]?out)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """One file: its real path, what to call it, and train, heldout or empty for the part that its name gives it."""

    path: Path
    name: str
    side: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Everything that is read for one data set."""

    name: str
    files: tuple[SourceFile, ...]
    class_names: ClassNames = field(default_factory=dict)


def find_source(given: object, more: object, *, state: StatePaths) -> Source:
    """Return the files of a source. Raises BadInput (`dataset.no_files`, `dataset.card`, …), NotFound or Forbidden."""
    if not isinstance(more, list | tuple):
        raise BadInput("source.missing", "The further sources are not a list of paths.")
    paths = [resolve_source(one, state=state) for one in (given, *more)]
    if len(paths) == 1 and not paths[0].is_dir():
        return Source(name=paths[0].name, files=(SourceFile(path=paths[0], name=paths[0].name),))
    files: list[SourceFile] = []
    names: ClassNames = {}
    for path in paths:
        if path.is_dir():
            found, called = _folder(path, state)
            files += found
            names |= called
        else:
            files.append(SourceFile(path=path, name=path.name, side=side_in_name(path.name)))
    return Source(name=paths[0].name, files=_with_sides(files), class_names=names)


def side_in_name(path: str) -> str:
    """Return the part that the last telling word of a relative path names: `data/test-00000-of-00001.parquet`."""
    words = _WORD.findall(path.rpartition(".")[0].lower() or path.lower())
    return next((side for word in reversed(words) if (side := side_of(word))), "")


def _with_sides(files: list[SourceFile]) -> tuple[SourceFile, ...]:
    """Let names decide only where they name both parts: a folder of training files alone is split like any file."""
    if {one.side for one in files} >= {"train", "heldout"}:
        return tuple(files)
    return tuple(replace(one, side="") for one in files)


def _folder(folder: Path, state: StatePaths) -> tuple[list[SourceFile], ClassNames]:
    card = _front_matter(folder)
    listed = sorted(_walk(folder, folder, depth=0))
    if (patterns := _patterns(card, folder.name)) is not None:
        chosen = [
            (path, side)
            for split, pattern in patterns
            for path in listed
            if fnmatch.fnmatchcase(path, pattern.removeprefix("./").replace("**/", "*"))
            for side in [side_of(split) or side_in_name(path)]
        ]
    else:
        data = [path for path in listed if Path(path).suffix.lower() in FORMATS and Path(path).name not in _NO_DATA]
        data = [path for path in data if path.startswith("data/")] or data
        rows = [path for path in data if not path.lower().endswith(".txt")] or data
        chosen = [(path, side_in_name(path)) for path in rows]
    if not chosen:
        raise BadInput(
            "dataset.no_files",
            f"{folder.name} has no data files.",
            hint=f"A folder has files named {', '.join(FORMATS)}, in itself or in data/.",
        )
    files = [SourceFile(path=_inside(folder, path, state), name=path, side=side) for path, side in dict(chosen).items()]
    return files, names_in_card(card)


def _inside(folder: Path, path: str, state: StatePaths) -> Path:
    """Return the real path of a file of a folder; a link may lead into the cache that Hugging Face keeps beside it."""
    real = resolve_source(str(folder / path), state=state)
    if not any(real.is_relative_to(place) for place in (folder, folder.parent.parent / "blobs")):
        raise BadInput(
            "dataset.symlink_escapes",
            f"{path} of {folder.name} is a link that leads out of the folder.",
            hint="Put the file itself there.",
        )
    return real


def _walk(folder: Path, top: Path, *, depth: int) -> Iterator[str]:
    """Yield the relative paths of the files of a folder, hidden ones left out."""
    if depth > _DEEPEST:
        raise BadInput("dataset.no_files", f"{top.name} has folders more than {_DEEPEST} deep.")
    count = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path), top, depth=depth + 1)
                continue
            count += 1
            if count > _MOST_FILES:
                raise BadInput("dataset.no_files", f"{top.name} has more than {_MOST_FILES} files in one folder.")
            yield Path(entry.path).relative_to(top).as_posix()


def _front_matter(folder: Path) -> Any:
    """Return the YAML between the two `---` lines of README.md, or None."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    with card.open("rb") as stream:
        text = stream.read(_CARD_LIMIT).decode(errors="replace")
    match = re.match(r"---\r?\n(.*?)\n---\s*(?:\n|\Z)", text, re.DOTALL)
    if match is None or ("&" in match.group(1) and re.search(r"(?m)[:\s-]\s*[&*]\w", match.group(1))):
        return None  # nothing there, or anchors: a small text that unfolds into a large one
    try:
        return yaml.safe_load(match.group(1))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise BadInput(
            "dataset.card",
            f"The front matter of {folder.name}/README.md is not YAML: {str(error).splitlines()[0][:120]}.",
            hint="Correct it, or take README.md away; then names of files decide.",
        ) from error


def _patterns(card: Any, name: str) -> list[tuple[str, str]] | None:
    """Return (split, pattern) pairs of the default configuration, or None where the card names no files."""
    configs = card.get("configs") if isinstance(card, dict) else None
    if not isinstance(configs, list) or not configs:
        return None
    usable = [one for one in configs if isinstance(one, dict) and "data_files" in one]
    chosen = [one for one in usable if one.get("default") is True or one.get("config_name") == "default"]
    if not usable:
        return None
    if not chosen and len(usable) > 1:
        names = ", ".join(str(one.get("config_name", ""))[:40] for one in usable[:10])
        raise BadInput(
            "dataset.card",
            f"{name} holds several data sets: {names}.",
            hint="Import the files or the subfolder of one of them.",
        )
    given = (chosen or usable)[0]["data_files"]
    listed = given if isinstance(given, list) else [given]
    pairs: list[tuple[str, str]] = []
    for one in listed:
        split = str(one.get("split", "")) if isinstance(one, dict) else ""
        paths = one.get("path") if isinstance(one, dict) else one
        pairs += [(split, path) for path in (paths if isinstance(paths, list) else [paths]) if isinstance(path, str)]
    return pairs
