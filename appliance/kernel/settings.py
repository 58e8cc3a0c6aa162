"""Every setting in one table, loaded once: defaults < state/intramuros.toml < INTRAMUROS_* < flags.

Unknown keys are refused with the file's name. The result is frozen and passed as an argument. No secret is
ever a setting: secrets are files whose mode is checked.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from appliance.kernel.errors import BadInput

_PREFIX = "INTRAMUROS_"


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings. Sizes are bytes, durations are seconds."""

    host: str = "127.0.0.1"
    """Address the gateway listens on."""
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 8443
    """TCP port of the gateway."""
    body_limit: Annotated[int, msgspec.Meta(ge=1024)] = 1 << 20
    """Largest request body the gateway accepts."""
    concurrency: Annotated[int, msgspec.Meta(ge=1)] = 64
    """Requests the gateway serves at once; further ones get 429 with Retry-After."""
    key_concurrency: Annotated[int, msgspec.Meta(ge=1)] = 32
    """Requests one API key may have in flight."""
    slow_client_timeout: Annotated[float, msgspec.Meta(gt=0)] = 60.0
    """How long a client may leave its stream unread before it is cut off."""
    drain_timeout: Annotated[float, msgspec.Meta(gt=0)] = 600.0
    """How long a replaced engine may finish its streams."""
    serving_memory: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Memory that all engines together may take; 0 means all but a fifth, and at least 1 GiB, of this box's."""
    load_timeout: Annotated[float, msgspec.Meta(gt=0)] = 60.0
    """How long a request waits for a model that is being brought into memory; then it gets 503 with Retry-After."""
    idle_timeout: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    """A model that nobody asked for so long leaves memory, unless it is pinned; 0 means never."""
    engine_threads: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Threads of one engine; 0 means every physical core."""
    engine_slots: Annotated[int, msgspec.Meta(ge=1, le=64)] = 16
    """Sequences one engine decodes at once."""
    engine_context: Annotated[int, msgspec.Meta(ge=256)] = 8192
    """KV cells of one engine, shared by its slots."""
    prefix_cache_memory: Annotated[int, msgspec.Meta(ge=0)] = 256 << 20
    """Memory in which one engine keeps prefixes that left its KV cache; 0 keeps none."""
    prefix_cache_disk: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Disk on which one engine keeps what left that memory, until it stops; 0 keeps none."""
    encoder_context: Annotated[int, msgspec.Meta(ge=16)] = 2048
    """Longest text, in tokens, of an engine that encodes, where the model allows as much."""
    engine_spin_count: Annotated[int, msgspec.Meta(ge=0)] = 1000
    """GOMP_SPINCOUNT of an engine: low where cores are shared, 20000 on a box of its own."""
    training_threads: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Threads of one job; 0 means every physical core. Part of a run's identity."""
    job_niceness: Annotated[int, msgspec.Meta(ge=0, le=19)] = 19
    """How far jobs stand back behind serving when both want the processor: 0 not at all; at 19 they run when nobody
    else wants it."""
    job_retries: Annotated[int, msgspec.Meta(ge=0)] = 3
    """Restarts of a job that makes no progress between two crashes."""
    parallel_jobs: Annotated[int, msgspec.Meta(ge=1)] = 1
    """Jobs that run at once."""
    job_keep_days: Annotated[int, msgspec.Meta(ge=0)] = 30
    """How long a stopped job keeps the checkpoints that it can be resumed from; 0 means for ever."""
    tls_file: str = ""
    """PEM file with key, certificate and chain for the gateway; empty means the appliance's own certificate."""
    client_authorities: str = ""
    """PEM file of authorities: clients must then show a certificate of one of them. Empty asks for none."""
    client_revocations: str = ""
    """PEM file of their revocation lists; a client on one, or of an authority without one, is refused."""
    backup_repository: str = ""
    """restic repository; empty means backups/ in the state directory."""
    fleet: str = ""
    """Inventory of the boxes that train together (TOML); empty means that ranks are started by the job itself."""
    rank_sockets: str = ""
    """Folder with a Unix socket for each box's rank host."""
    audit_checkpoint_events: Annotated[int, msgspec.Meta(ge=1)] = 64
    """Audit events between two signed checkpoints."""


def load_settings(
    file: Path, *, flags: Mapping[str, Any] | None = None, environment: Mapping[str, str] | None = None
) -> Settings:
    """Merge the four layers. Raises BadInput naming the file, variable or flag at fault."""
    values: dict[str, Any] = {}
    if file.exists():
        values |= _convert(_read_toml(file), source=str(file), strict=True)
    for name, text in sorted((environment if environment is not None else os.environ).items()):
        key = name.removeprefix(_PREFIX).lower()
        if name.startswith(_PREFIX) and key in Settings.__struct_fields__:
            values |= _convert({key: text}, source=name, strict=False)
    if flags:
        values |= _convert({k: v for k, v in flags.items() if v is not None}, source="flags", strict=False)
    settings = msgspec.convert(values, Settings)
    if bool(settings.fleet) != bool(settings.rank_sockets):
        raise BadInput("settings.invalid", f"{file}: fleet and rank_sockets need each other.")
    return settings


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput("settings.syntax", f"{file} is not valid TOML: {error}.") from error


def _convert(values: dict[str, Any], *, source: str, strict: bool) -> dict[str, Any]:
    try:
        checked = msgspec.convert(values, Settings, strict=strict)
    except msgspec.ValidationError as error:
        raise BadInput(
            "settings.invalid", f"{source}: {error}.", hint="See docs/it-staff/settings.md for every key."
        ) from error
    return {key: getattr(checked, key) for key in values}
