"""Files that say one thing a line, as a person names them to a verb: labels, questions."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from appliance.kernel.errors import BadInput

_LABELS: Final = "a text file with one label a line, or a JSON array"


def read_lines(file: Path, *, what: str) -> tuple[str, ...]:
    """Return the lines that say something. Raises BadInput (`cli.file`); `what` says what file was wanted."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise BadInput("cli.file", f"There is no file {file}.", hint=f"Name {what}.") from error
    except IsADirectoryError as error:
        raise BadInput("cli.file", f"{file} is a folder.", hint=f"Name {what}.") from error
    except UnicodeDecodeError as error:
        raise BadInput("cli.file", f"{file} is not UTF-8.", hint="Save it as UTF-8.") from error
    except OSError as error:
        raise BadInput(
            "cli.file", f"{file} cannot be read: {error.strerror}.", hint=f"Name {what} that you may read."
        ) from error
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def read_labels(file: Path) -> tuple[str, ...]:
    """Return a list of labels: one a line, or a JSON array. Raises BadInput (`cli.file`, `dataset.labels`)."""
    lines = read_lines(file, what=_LABELS)
    text = "\n".join(lines)
    if not text.startswith("["):
        return lines
    try:
        return msgspec.json.decode(text, type=tuple[str, ...])
    except msgspec.DecodeError as error:
        raise BadInput(
            "dataset.labels",
            f"{file} is no JSON array of labels: {error}.",
            hint='Write one label a line, or an array such as ["card", "place"].',
        ) from error
