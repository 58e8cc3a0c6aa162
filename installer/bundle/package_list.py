"""The lists of Debian packages in the source tree: one package a line, and why."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from appliance.kernel.errors import BadInput

FOLDER = Path(__file__).parent / "packages"
WANTED = FOLDER / "debian12.txt"
REFEREES = FOLDER / "referees.txt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Referee:
    """A package that comes from a newer suite, by exact version."""

    name: str
    version: str
    suite: str


def read_wanted(file: Path = WANTED) -> tuple[str, ...]:
    """Return the packages of the list. Raises BadInput for a line without a reason, or a package listed twice."""
    names = [words[0] for words in _lines(file, 1)]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise BadInput("bundle.package_list", f"{file.name} lists {', '.join(twice)} twice.")
    return tuple(names)


def read_referees(file: Path = REFEREES) -> tuple[Referee, ...]:
    """Return the packages of a newer suite."""
    return tuple(Referee(name=name, version=version, suite=suite) for name, version, suite in _lines(file, 3))


def _lines(file: Path, words: int) -> list[list[str]]:
    found = []
    for number, line in enumerate(file.read_text().splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        said, separator, reason = line.partition("#")
        if len(said.split()) != words or not separator or not reason.strip():
            raise BadInput(
                "bundle.package_list", f"{file.name}, line {number}: {words} word(s), then # and the reason."
            )
        found.append(said.split())
    return found
