"""What the answers say about the data volume, as the playbooks hand it over: JSON on standard input, no secrets."""

from __future__ import annotations

from typing import Literal

import msgspec

from appliance.kernel.errors import BadInput
from installer.storage.header import Purpose
from installer.storage.tang import TangServer, check_servers


class StorageRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The wished-for volume. `wipe` must name `device` for a device that is not empty."""

    device: str
    mount: str = "/srv/intramuros"
    unlock: tuple[Literal["passphrase", "tpm2", "tang"], ...]
    tang_servers: tuple[TangServer, ...] = ()
    wipe: str = ""
    filesystem: Literal["ext4", "xfs"] = "ext4"

    @property
    def wanted(self) -> tuple[Purpose, ...]:
        """The purposes that need a slot; the recovery key comes first, because everything else leans on it."""
        return (Purpose.RECOVERY, *(Purpose(name) for name in self.unlock))


def parse_request(data: bytes) -> StorageRequest:
    """Parse the request. Raises BadInput."""
    try:
        request = msgspec.json.decode(data, type=StorageRequest)
    except msgspec.DecodeError as error:
        raise BadInput("storage.request", f"The description of the data volume is not accepted: {error}.") from error
    for name in ("device", "mount"):
        value = getattr(request, name)
        if not value.startswith("/") or any(letter.isspace() or letter in "\\#" for letter in value):
            raise BadInput("storage.path", f"{name} = {value!r} must be an absolute path without spaces.")
    if not request.unlock:
        raise BadInput("storage.no_unlock", "An encrypted volume needs at least one way to unlock it.")
    if Purpose.TANG in request.wanted:
        check_servers(request.tang_servers)
    return request
