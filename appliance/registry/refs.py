"""References that people type: `name` (newest), `name@3`, `run:01ABC…` (a finished job's outputs)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from appliance.kernel.errors import BadInput

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_VERSION = re.compile(r"[1-9][0-9]{0,8}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ref:
    """A parsed reference: a run, or a name with a version (0 = newest)."""

    name: str = ""
    version: int = 0
    run: str = ""

    def __str__(self) -> str:
        if self.run:
            return f"run:{self.run}"
        return f"{self.name}@{self.version}" if self.version else self.name


def check_name(name: str, *, what: str) -> str:
    """Return a valid name of a model, data set or deployment. Raises BadInput."""
    if not _NAME.fullmatch(name):
        article = "an" if what[0] in "aeiou" else "a"
        raise BadInput(
            "name.invalid",
            f"{name!r} cannot be the name of {article} {what}.",
            hint="Use 1 to 63 lower-case letters, digits, '.', '_' or '-', starting with a letter or digit.",
        )
    return name


def parse_ref(text: str, *, what: str) -> Ref:
    """Parse a reference. Raises BadInput."""
    if text.startswith("run:"):
        run = text.removeprefix("run:").strip().upper()
        if not run:
            raise BadInput("ref.invalid", "run: needs a job id after it.", hint="See `intramuros job list`.")
        return Ref(run=run)
    name, at, version = text.partition("@")
    check_name(name, what=what)
    if not at:
        return Ref(name=name)
    if not _VERSION.fullmatch(version):
        raise BadInput("ref.invalid", f"{text!r} has no valid version.", hint="Write it like assistant@3.")
    return Ref(name=name, version=int(version))
