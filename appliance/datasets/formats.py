"""Records out of files of every format, one at a time; a bad one does not stop the others.

Knows the syntax of files and nothing of what a row means. Only a JSON array that stops being JSON stops the whole
import, because nothing after the fault can be told from it.
"""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, Final

import msgspec

from appliance.datasets.class_names import with_class_names
from appliance.datasets.contents import FIELD_LIMIT
from appliance.datasets.forms import Schema, name_columns
from appliance.datasets.lines import LINE_LIMIT, Lines, require_text
from appliance.datasets.rows import Record, Rejected
from appliance.kernel.errors import BadInput

_SAMPLE_BYTES = 1 << 16
_DELIMITERS = (",", ";", "\t")
_PIECE = 1 << 18

COLUMNAR: Final = (".parquet", ".arrow", ".feather")
FORMATS: Final = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".txt", *COLUMNAR)
_ANY_SCHEMA: Final = Schema()
_NO_NAMES: Final[Mapping[str, Sequence[str]]] = MappingProxyType({})

Records = Iterator[Record | Rejected]
Reader = Callable[[BinaryIO, str, Schema], Records]


def read_records(
    stream: BinaryIO,
    *,
    name: str,
    schema: Schema = _ANY_SCHEMA,
    class_names: Mapping[str, Sequence[str]] = _NO_NAMES,
) -> Records:
    """Yield the records of a file, whose format is told by its name (see FORMATS).

    `schema` is what a person said of the columns; it is checked against a header. `class_names` says what the numbers
    of a column are called. Raises BadInput `dataset.unsupported`, `dataset.not_text`, `dataset.encoding`,
    `dataset.columns`, `dataset.mapping`, `dataset.not_json`, `dataset.not_columnar`.
    """
    suffix = Path(name).suffix.lower()
    if suffix in COLUMNAR:
        from appliance.datasets.columnar import read_columnar  # a large library, and only for these

        return read_columnar(stream, name=name, schema=schema, class_names=class_names)
    reader = _READERS.get(suffix)
    if reader is None:
        raise BadInput(
            "dataset.unsupported",
            f"{name} has no format that is read here.",
            hint=f"Give a file named {', '.join(FORMATS)}.",
        )
    require_text(stream, name=name)
    records = reader(stream, name, schema)
    return _named(records, class_names) if class_names else records


def _named(records: Records, class_names: Mapping[str, Sequence[str]]) -> Records:
    for record in records:
        if isinstance(record, Record):
            yield Record(line=record.line, fields=with_class_names(record.fields, class_names))
        else:
            yield record


def sniff_delimiter(lines: Sequence[str]) -> str:
    """Return the delimiter that splits most sample records into as many fields (two or more) as the header."""

    def score(delimiter: str) -> tuple[int, int]:
        try:
            records = [record for record in csv.reader(lines, delimiter=delimiter) if record]
        except csv.Error:
            return (0, 0)
        width = len(records[0]) if records else 0
        return (sum(len(record) == width for record in records), width) if width > 1 else (0, 0)

    return max(_DELIMITERS, key=score)


def _read_csv(stream: BinaryIO, name: str, schema: Schema) -> Records:
    csv.field_size_limit(FIELD_LIMIT)
    delimiter = sniff_delimiter(_sample_lines(stream))
    lines = Lines(stream, name=name)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header = _read_header(reader, lines, name, schema)
    return _csv_records(reader, lines, header)


def _sample_lines(stream: BinaryIO) -> list[str]:
    raw = stream.read(_SAMPLE_BYTES)
    stream.seek(0)
    lines = raw.removeprefix(codecs.BOM_UTF8).decode(errors="replace").split("\n")
    return [f"{line}\n" for line in (lines[:-1] if len(raw) == _SAMPLE_BYTES and len(lines) > 1 else lines)]


def _read_header(reader: Iterator[list[str]], lines: Lines, name: str, schema: Schema) -> list[str]:
    try:
        header = next((fields for fields in reader if fields), [])
    except csv.Error as error:
        raise BadInput(
            "dataset.columns", f"The header of {name} is not CSV: {error}.", hint="Is it the right file?"
        ) from error
    header = [column.strip() for column in header]
    if not header:
        raise BadInput("dataset.columns", f"{name} is empty: there is not even a header.", hint="Is it the right file?")
    if (damage := lines.take_damage()) is not None:
        if damage.code == "row.encoding":
            raise BadInput(
                "dataset.encoding",
                f"The header of {name} is not UTF-8 (line {damage.line}, {damage.reason}).",
                hint="It is probably Latin-1 or Windows-1252: save it as UTF-8 and import it again.",
            )
        raise BadInput(
            "dataset.columns",
            f"The header of {name} is not usable (line {damage.line}: {damage.reason}).",
            hint="Is it the right file?",
        )
    if len(set(header)) < len(header):
        raise BadInput(
            "dataset.columns",
            f"Two columns of {name} have the same name: {name_columns(header)}.",
            hint="Give each column a name of its own in the first line.",
        )
    schema.require_columns(header, name=name)
    return header


def _csv_records(reader: Iterator[list[str]], lines: Lines, header: list[str]) -> Records:
    while True:
        line = lines.number + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            damage = lines.take_damage()
            reason = damage.reason_in(line) if damage else f"lines {line} to {lines.number} are not CSV: {error}"
            yield Rejected(line=line, code=damage.code if damage else "row.not_csv", reason=reason)
            continue
        if (damage := lines.take_damage()) is not None:
            yield Rejected(line=line, code=damage.code, reason=damage.reason_in(line))
        elif len(fields) == len(header):
            yield Record(line=line, fields=dict(zip(header, fields, strict=True)))
        elif fields:
            reason = f"it has {len(fields)} columns and the header {len(header)}"
            yield Rejected(line=line, code="row.columns", reason=reason)


def _read_jsonl(stream: BinaryIO, name: str, schema: Schema) -> Records:
    lines = Lines(stream, name=name)
    for line in lines:
        if (damage := lines.take_damage()) is not None:
            yield Rejected(line=lines.number, code=damage.code, reason=damage.reason)
        elif line.strip():
            yield _decode_object(line, lines.number)


def _decode_object(text: str, line: int) -> Record | Rejected:
    try:
        return _to_record(msgspec.json.decode(text), line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return Rejected(line=line, code="row.not_json", reason=f"it is not JSON: {error}")
    except RecursionError:
        return Rejected(line=line, code="row.not_json", reason="it is nested without end")


def _to_record(value: Any, line: int) -> Record | Rejected:
    if not isinstance(value, dict):
        return Rejected(line=line, code="row.not_object", reason="it is not a JSON object")
    return Record(line=line, fields=value)


def _read_json(stream: BinaryIO, name: str, schema: Schema) -> Records:
    """Read an array of objects; a file that begins with an object is read as JSONL."""
    start = stream.read(_PIECE).removeprefix(codecs.BOM_UTF8).lstrip()
    stream.seek(0)
    if start.startswith(b"{"):
        return _read_jsonl(stream, name, schema)
    if not start.startswith(b"["):
        raise _not_json(name, 1, "it begins with neither [ nor {")
    return _ArrayReader(stream, name).records()


class _ArrayReader:
    """Decodes the elements of a JSON array one by one from a buffer that grows to one element at most."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._stream = stream
        self._name = name
        self._decode = codecs.getincrementaldecoder("utf-8-sig")()
        self._scan = json.JSONDecoder(parse_constant=self._refuse_constant).raw_decode
        self._text = ""
        self._at = 0
        self._line = 1
        self._ended = False

    def records(self) -> Records:
        self._expect("[")
        if self._peek() == "]":
            self._expect("]")
        else:
            separator = ","
            while separator == ",":
                self._peek()
                line = self._line
                yield _to_record(self._element(), line)
                separator = self._expect(",", "]")
        if self._peek():
            raise _not_json(self._name, self._line, "something follows the array")

    def _element(self) -> Any:
        """Decode the value at the cursor, reading further while it may be incomplete."""
        while True:
            try:
                value, end = self._scan(self._text, self._at)
            except json.JSONDecodeError as error:
                if self._ended or len(self._text) - self._at > LINE_LIMIT:
                    raise _not_json(self._name, self._line, error.msg) from error
            except (ValueError, RecursionError) as error:
                raise _not_json(self._name, self._line, "a value is out of bounds") from error
            else:
                if end < len(self._text) or self._ended:
                    self._advance(end)
                    return value
            self._fill(max(_PIECE, len(self._text) - self._at))

    def _expect(self, *wanted: str) -> str:
        found = self._peek()
        if found not in wanted:
            raise _not_json(self._name, self._line, f"{' or '.join(wanted)} is due")
        self._advance(self._at + 1)
        return found

    def _peek(self) -> str:
        """Return the next character that is not white space, and stand on it; empty at the end."""
        while True:
            rest = self._at
            while rest < len(self._text) and self._text[rest] in " \t\r\n":
                rest += 1
            self._advance(rest)
            if rest < len(self._text):
                return self._text[rest]
            if self._ended:
                return ""
            self._fill(_PIECE)

    def _advance(self, to: int) -> None:
        self._line += self._text.count("\n", self._at, to)
        self._at = to

    def _fill(self, count: int) -> None:
        raw = self._stream.read(count)
        self._ended = not raw
        try:
            more = self._decode.decode(raw, final=self._ended)
        except UnicodeDecodeError as error:
            offset = self._stream.tell() - len(raw) + error.start + 1
            raise BadInput(
                "dataset.encoding",
                f"{self._name} is not UTF-8 near byte {offset}.",
                hint="Save it as UTF-8 and import it again.",
            ) from error
        self._text, self._at = self._text[self._at :] + more, 0

    def _refuse_constant(self, constant: str) -> Any:
        raise ValueError(constant)


def _read_text(stream: BinaryIO, name: str, schema: Schema) -> Records:
    """Yield paragraphs (parts between blank lines) as text records."""
    lines = Lines(stream, name=name)
    while True:
        paragraph: list[str] = []
        first = length = 0
        for line in lines:
            if not line.strip():
                break
            first = first or lines.number
            length += len(line)
            # One character over the limit is enough for the refusal; the rest of the paragraph is not kept.
            if length - len(line) <= FIELD_LIMIT:
                paragraph.append(line)
        else:
            line = ""
        if (damage := lines.take_damage()) is not None:
            begins = first or lines.number
            yield Rejected(line=begins, code=damage.code, reason=damage.reason_in(begins))
        elif paragraph:
            yield Record(line=first, fields={"text": "".join(paragraph).rstrip("\r\n")})
        if not line:
            return


def _not_json(name: str, line: int, why: str) -> BadInput:
    return BadInput(
        "dataset.not_json",
        f"{name} is not a JSON array of objects: line {line}: {why}.",
        hint="For one object per line, name the file .jsonl.",
    )


_READERS: dict[str, Reader] = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".json": _read_json,
    ".txt": _read_text,
}
