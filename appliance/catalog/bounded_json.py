"""JSON from strangers: bounded in bytes, members and depth before and while it is decoded.

Typed decoding skips what is not asked for without building it, so a 30 MB tokenizer costs its bytes and no more.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import msgspec

from appliance.catalog.refusals import lying_header, printable
from appliance.kernel.errors import storage_errors
from appliance.kernel.sources import open_regular

_MEMBERS_LIMIT = 1_000_000
_DEPTH_LIMIT = 32

T = TypeVar("T")


def read_bounded(path: Path, limit: int) -> bytes:
    """Return a file's content. Raises IntegrityFailure `model.lying_header` when it is longer than `limit`."""
    with open_regular(path) as stream, storage_errors(f"reading {path.name}"):
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise lying_header(printable(path.name), f"it is longer than {limit} bytes")
    return data


def decode(data: bytes, kind: type[T], *, name: str) -> T:
    """Decode JSON into `kind`. Raises IntegrityFailure `model.lying_header` naming the file, not its content."""
    if data.count(b":") > _MEMBERS_LIMIT:
        raise lying_header(name, f"it has more than {_MEMBERS_LIMIT} members")
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise lying_header(name, f"its JSON has the wrong form: {printable(str(error))}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise lying_header(name, f"it is not JSON: {printable(str(error))}") from error
    except RecursionError as error:
        raise lying_header(name, "its JSON is nested without end") from error


def decode_object(data: bytes, *, name: str) -> dict[str, Any]:
    """Decode a small JSON object whole, at most 32 levels deep. Raises as `decode`."""
    value = decode(data, dict[str, Any], name=name)
    level: list[Any] = [value]
    for _ in range(_DEPTH_LIMIT):
        level = [inner for item in level for inner in _children(item)]
        if not level:
            return value
    raise lying_header(name, f"its JSON is nested deeper than {_DEPTH_LIMIT} levels")


def _children(item: Any) -> list[Any]:
    if isinstance(item, dict):
        return list(item.values())
    return item if isinstance(item, list) else []
