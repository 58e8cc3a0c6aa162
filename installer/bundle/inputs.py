"""What was collected for a bundle: a folder `tree/` laid out as the bundle, and `inputs.json` that describes each file.

Building reads nothing else: the same inputs and date give the same bytes, on another machine and in another year.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import msgspec

from appliance.kernel.canonical import canonical_json
from appliance.kernel.durable import write_file
from appliance.kernel.errors import BadInput, NotFound
from installer.bundle.manifest import Kind, Origin, parse_instant

SCHEMA = 1
_FILE = "inputs.json"


class Described(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What one collected file is."""

    kind: Kind
    origin: Origin
    licence: str = ""


class Inputs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything about a collection but the bytes. `made_from` is a digest of what decided its content."""

    schema: int
    version: str
    processor: str
    collected: str
    made_from: str
    packages: tuple[str, ...]
    files: dict[str, Described]

    @property
    def collected_at(self) -> datetime:
        """When it was collected; the date of a bundle that is given none."""
        return parse_instant(self.collected)


def tree_of(folder: Path) -> Path:
    """Return where the files of a collection lie."""
    return folder / "tree"


def write_inputs(folder: Path, inputs: Inputs) -> None:
    """Write the description; it comes last, so that a collection that was cut off has none."""
    write_file(folder / _FILE, canonical_json(msgspec.to_builtins(inputs)))


def forget_inputs(folder: Path) -> None:
    """Remove the description before the files change."""
    (folder / _FILE).unlink(missing_ok=True)


def read_inputs(folder: Path) -> Inputs:
    """Read the description. Raises NotFound when nothing was collected there, BadInput when it cannot be read."""
    file = folder / _FILE
    if not file.is_file():
        raise NotFound(
            "bundle.no_inputs",
            f"{folder} holds no whole collection.",
            hint=f"Run on a machine with a network: intramuros bundle collect {folder}",
        )
    try:
        inputs = msgspec.json.decode(file.read_bytes(), type=Inputs)
        parse_instant(inputs.collected)
    except (msgspec.MsgspecError, ValueError) as error:
        raise BadInput("bundle.inputs", f"{file} cannot be read: {error}.") from error
    if inputs.schema != SCHEMA:
        raise BadInput("bundle.inputs", f"{file} has schema {inputs.schema}; this program knows {SCHEMA}.")
    return inputs
