"""Which column of a file is which part of a row, as a person writes it: `prompt=question`. For CLI and console."""

from __future__ import annotations

from collections.abc import Iterable

from appliance.kernel.errors import BadInput


def parse_columns(pairs: Iterable[str]) -> dict[str, str]:
    """Return part -> column. Raises BadInput (`dataset.mapping`) for what is not PART=COLUMN, or a part given twice."""
    found: dict[str, str] = {}
    for pair in pairs:
        part, _, column = pair.partition("=")
        if not (part and column):
            raise BadInput("dataset.mapping", f"Columns cannot be {pair!r}.", hint="Write them like prompt=question.")
        if part in found:
            raise BadInput(
                "dataset.mapping",
                f"{part} is mapped twice: to {found[part]} and to {column}.",
                hint="A part comes from one column; leave one of the two out.",
            )
        found[part] = column
    return found
