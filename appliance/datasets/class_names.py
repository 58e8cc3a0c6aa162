"""What the numbers of a column are called, where a source says so in the way of Hugging Face.

Two places: the schema of an Arrow or Parquet file, and the front matter of a README. Whatever is not in the form that
is expected names nothing; a number without a name stays a number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

ClassNames = dict[str, tuple[str, ...]]


def names_in_schema(metadata: Mapping[bytes, bytes] | None) -> ClassNames:
    """Return the names that a file's own schema carries under the key `huggingface`."""
    try:
        document = msgspec.json.decode((metadata or {}).get(b"huggingface", b"{}"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    features = _get(_get(document, "info"), "features")
    if not isinstance(features, dict):
        return {}
    return {
        column: names
        for column, feature in features.items()
        if (names := _names(_get(feature, "names") or _get(_get(feature, "feature"), "names")))
    }


def names_in_card(front_matter: Any) -> ClassNames:
    """Return the names that `dataset_info: features:` of a README gives."""
    info = _get(front_matter, "dataset_info")
    features = _get(info[0] if isinstance(info, list) and info else info, "features")
    if not isinstance(features, list):
        return {}
    found: ClassNames = {}
    for feature in features:
        column = _get(feature, "name")
        for key in ("dtype", "sequence", "list"):
            names = _names(_get(_get(_get(feature, key), "class_label"), "names"))
            if isinstance(column, str) and names:
                found[column] = names
    return found


def with_class_names(fields: Mapping[str, Any], class_names: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return a record whose numbers are replaced by what they are called, alone or in lists."""
    return {
        column: _called(value, class_names[column]) if column in class_names else value
        for column, value in fields.items()
    }


def _called(value: Any, names: Sequence[str]) -> Any:
    if isinstance(value, list):
        return [_called(item, names) for item in value]
    if type(value) is int and 0 <= value < len(names):
        return names[value]
    return value


def _names(value: Any) -> tuple[str, ...]:
    if isinstance(value, dict):
        value = [value[key] for key in sorted(value, key=lambda key: (len(str(key)), str(key)))]
    if isinstance(value, list) and value and all(isinstance(name, str) for name in value):
        return tuple(value)
    return ()


def _get(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None
