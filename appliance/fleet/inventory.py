"""The inventory of a fleet: which boxes train together, and where each one's rank host is. Hosts as data, in order.

own = "alpha"            # which of them this box is
interface = "wg-fleet"   # the network device that leads to the others
port = 7600              # TCP port of every rank host, inside the fleet's private network

[[boxes]]
name = "alpha"
address = "10.77.0.1"
"""

from __future__ import annotations

import ipaddress
import tomllib
from pathlib import Path
from typing import Annotated

import msgspec

from appliance.kernel.errors import BadInput, Unavailable, storage_failure

BoxName = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")]


class Box(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One box: its name, and its address inside the fleet's private network."""

    name: BoxName
    address: str


class Inventory(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every box of the fleet, this one among them."""

    own: BoxName
    boxes: tuple[Box, ...]
    interface: str = "lo"
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 7600

    def box(self, name: str) -> Box:
        """Return a box. Raises BadInput (`fleet.no_box`)."""
        for box in self.boxes:
            if box.name == name:
                return box
        known = ", ".join(box.name for box in self.boxes)
        raise BadInput(
            "fleet.no_box",
            f"There is no box {name} in this fleet.",
            hint=f"It has {known}; see `intramuros fleet`.",
        )


def read_inventory(file: Path) -> Inventory:
    """Read an inventory. Raises BadInput that names the file and what is wrong in it, or StorageFailure."""
    try:
        found = msgspec.convert(tomllib.loads(file.read_text()), Inventory)
    except OSError as error:
        raise storage_failure(error, doing=f"reading {file}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise _invalid(file, str(error)) from error
    names, addresses = {box.name for box in found.boxes}, {box.address for box in found.boxes}
    if len(names) != len(found.boxes) or len(addresses) != len(found.boxes):
        raise _invalid(file, "two boxes have the same name or the same address")
    if found.own not in names:
        raise _invalid(file, f"own names {found.own}, which is none of the boxes")
    for box in found.boxes:
        try:
            ipaddress.ip_address(box.address)
        except ValueError as error:
            raise _invalid(file, f"the address of {box.name} is none: {error}") from error
    return found


def _invalid(file: Path, what: str) -> BadInput:
    return BadInput(
        "fleet.inventory",
        f"{file}: {what}.",
        hint="The installer writes this file from the answers; see docs/it-staff/fleet.md.",
    )


def no_fleet() -> Unavailable:
    """Return the error of a run that names boxes where there is no fleet."""
    return Unavailable(
        "fleet.none",
        "The recipe names boxes, and this box is in no fleet.",
        hint="Leave `boxes` out, or join the boxes as docs/it-staff/fleet.md says.",
    )


def socket_of(folder: Path, box: str) -> Path:
    """Return the Unix socket on which a box's rank host is reached from this box."""
    return folder / f"{box}.sock"
