"""The answer file while it is written: what was typed goes in after every change, and comes back after a kill.

Invariant: no secret passes here; passphrases and passwords are no fields. What does not parse yet is kept as typed.
"""

from __future__ import annotations

import contextlib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from appliance.kernel.durable import write_file
from appliance.kernel.errors import BadInput, storage_errors, storage_failure
from tui.install.fields import Field, Kind, Texts, as_text, fields, rows, sections, words

_LIMIT = 1 << 20
_TITLE = "# What was typed in the install wizard, also what is not used at present. No secret is in here.\n"


def value_of(field: Field, text: str) -> Any:
    """Turn what was typed into a value; what cannot be one stays a text, which the judge then refuses."""
    text = text.strip()
    match field.kind:
        case Kind.SWITCH:
            return {"yes": True, "no": False}.get(text, text)
        case Kind.NUMBER:
            return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else text
        case Kind.SEVERAL | Kind.LIST:
            return words(text)
        case Kind.ROWS if field.key == "storage.tang_servers":
            return [_tang(row) for row in rows(text)]
        case Kind.ROWS:
            return rows(text)
        case _:
            return text


def document_of(texts: Texts, asked: Iterable[Field]) -> dict[str, Any]:
    """Return the answers of these fields as the nested document that an answer file is; empty ones are left out."""
    document: dict[str, Any] = {"schema": 1}
    for field in asked:
        if not (text := texts.get(field.key, "").strip()):
            continue
        *groups, name = field.key.split(".")
        place = document
        for group in groups:
            place = place.setdefault(group, {})
        place[name] = value_of(field, text)
    return document


def asked_fields(texts: Texts) -> list[Field]:
    """Every field that makes sense with these answers, in the order of the screens."""
    return [field for section in sections() for field in section.asked(texts)]


def to_toml(document: Mapping[str, Any]) -> str:
    """Write a document as TOML 1.0: plain keys first, then one table per group."""
    plain = [f"{name} = {_literal(value)}\n" for name, value in document.items() if not isinstance(value, Mapping)]
    tables = [
        f"\n[{name}]\n" + "".join(f"{key} = {_literal(value)}\n" for key, value in group.items())
        for name, group in document.items()
        if isinstance(group, Mapping)
    ]
    return "".join([*plain, *tables])


def save(path: Path, texts: Texts) -> None:
    """Keep what was typed, of every field, also of those not asked at present. Raises StorageFailure."""
    save_answers(path, _TITLE + to_toml(document_of(texts, fields().values())))


def save_answers(path: Path, text: str) -> None:
    """Write an answer file, for its owner alone. Raises StorageFailure."""
    with storage_errors(f"keeping the answers in {path}"):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_file(path, text.encode(errors="replace"), mode=0o600)


def load(path: Path) -> dict[str, str] | None:
    """Return what was typed before, or None when there is nothing. Raises BadInput or StorageFailure.

    Unknown keys are passed over: this is our own note, and an older one must not keep anybody from going on.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(_LIMIT)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise storage_failure(error, doing=f"reading {path}") from error
    try:
        document = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(
            "wizard.draft",
            f"{path} is damaged: {error}.",
            hint="Move it away, and the wizard begins with empty answers.",
        ) from error
    return texts_of(document)


def texts_of(document: Mapping[str, Any]) -> dict[str, str]:
    """Return the text of each field that a document answers."""
    texts = {}
    for key, field in fields().items():
        place: Any = document
        with contextlib.suppress(KeyError, TypeError, IndexError):
            for part in key.split("."):
                place = place[part]
            texts[key] = as_text(place, field.kind)
    return texts


def _tang(row: str) -> dict[str, str]:
    url, _, thumbprint = row.partition(" ")
    return {"url": url, "thumbprint": thumbprint.strip()}


def _literal(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case Mapping():
            return "{ " + ", ".join(f"{key} = {_literal(entry)}" for key, entry in value.items()) + " }"
        case list() | tuple() if any(isinstance(entry, Mapping) or len(str(entry)) > 40 for entry in value):
            return "[\n" + "".join(f"  {_literal(entry)},\n" for entry in value) + "]"
        case list() | tuple():
            return "[" + ", ".join(map(_literal, value)) + "]"
        case _:
            return '"' + "".join(_character(character) for character in str(value)) + '"'


def _character(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if ord(character) < 32 or ord(character) == 127:
        return f"\\u{ord(character):04x}"
    return character
