"""The content of a row: a record's values checked and brought into the canonical form, one function for each form.

A value is refused, never repaired, except line ends (`\\r\\n` becomes `\\n`, and places in the text move with it) and
the cells of a CSV that hold JSON. Reasons name columns, counts and labels, never a text.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from appliance.datasets.forms import Form, Shape, name_columns

FIELD_LIMIT: Final = 1 << 20
"""Longest field, in characters."""
LABEL_LIMIT: Final = 200
"""Longest label, in characters."""
_NAME: Final = 40
"""Longest label that a reason quotes, in characters."""
_ROLES: Final = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "bot": "assistant",
}


class Refused(Exception):
    """A record that cannot become a row."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def content_of(
    fields: Mapping[str, Any], shape: Shape, *, labels: frozenset[str] = frozenset(), keep: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return the canonical content of a record; the columns to keep go under `meta`. Raises Refused."""
    content = _BUILDERS[shape.form](fields, shape)
    if labels:
        _require_declared(content, labels)
    if keep:
        content["meta"] = {column: _kept(fields.get(column), column) for column in keep}
    return content


def _chat(fields: Mapping[str, Any], shape: Shape) -> dict[str, Any]:
    if shape.messages:
        return {"messages": _conversation(fields.get(shape.messages), ends_with="assistant")}
    prompt = _text(fields, shape.prompt)
    if shape.context and fields.get(shape.context) not in (None, ""):
        prompt = f"{prompt}\n\n{_text(fields, shape.context)}"
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": _text(fields, shape.answer)}]
    if shape.system and fields.get(shape.system) not in (None, ""):
        messages.insert(0, {"role": "system", "content": _text(fields, shape.system)})
    return {"messages": messages}


def _plain(fields: Mapping[str, Any], shape: Shape) -> dict[str, Any]:
    return {"text": _text(fields, shape.text)}


def _completion(fields: Mapping[str, Any], shape: Shape) -> dict[str, Any]:
    return {"prompt": _text(fields, shape.prompt), "completion": _text(fields, shape.completion)}


def _classification(fields: Mapping[str, Any], shape: Shape) -> dict[str, Any]:
    return {"text": _text(fields, shape.text), "label": _label(fields.get(shape.label), shape.label)}


def _preference(fields: Mapping[str, Any], shape: Shape) -> dict[str, Any]:
    """Two answers to one conversation. Answers may be texts or whole conversations that begin alike."""
    ahead: list[dict[str, str]] = []
    column = shape.messages or shape.prompt
    if column and fields.get(column) is not None:
        asked = fields[column]
        ahead = (
            [{"role": "user", "content": _text(fields, column)}]
            if isinstance(asked, str) and not asked.lstrip().startswith("[{")
            else _conversation(asked, ends_with="user")
        )
    sides = [_answer(fields, column, ahead) for column in (shape.chosen, shape.rejected)]
    (before, chosen), (other, rejected) = sides
    if before != other:
        raise Refused("row.preference", "the two answers belong to different conversations")
    if not before:
        raise Refused("row.missing_field", "nothing says what was asked")
    if chosen == rejected:
        raise Refused("row.same_answers", "the chosen and the rejected answer are the same")
    return {"messages": before, "chosen": chosen, "rejected": rejected}


def _answer(fields: Mapping[str, Any], column: str, ahead: list[dict[str, str]]) -> tuple[list[dict[str, str]], str]:
    """Return what was said before an answer, and the answer."""
    value = _opened(fields.get(column))
    if not isinstance(value, list):
        return ahead, _text(fields, column)
    if len(value) == 1 and ahead:
        value = [*ahead, *value]
    messages = _conversation(value, ends_with="assistant")
    return messages[:-1], messages[-1]["content"]


def _tags(fields: Mapping[str, Any], shape: Shape) -> dict[str, Any]:
    if shape.tokens:
        return _joined(_words(fields, shape.tokens), _names(fields, shape.tags))
    raw = fields.get(shape.text)
    text = _text(fields, shape.text)
    spans = _opened(fields.get(shape.spans))
    if not isinstance(spans, list):
        raise Refused("row.spans", f"{name_columns([shape.spans])} is not a list of spans")
    moved = _places_without_returns(raw) if isinstance(raw, str) and "\r\n" in raw else None
    found = sorted((_span(span, moved) for span in spans), key=lambda span: (span["start"], span["end"]))
    last = 0
    for span in found:
        if not 0 <= span["start"] < span["end"] <= len(text):
            raise Refused(
                "row.spans",
                f"a span from {span['start']} to {span['end']} is not inside the {len(text)} characters of the text",
            )
        if span["start"] < last:
            raise Refused("row.spans", f"the span that begins at {span['start']} overlaps another")
        last = span["end"]
    return {"text": text, "spans": found}


def _span(value: Any, moved: Callable[[int], int] | None) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Refused("row.spans", "a span is not an object")
    start = _first(value, ("start", "start_position", "start_offset", "begin"))
    end = _first(value, ("end", "end_position", "end_offset", "stop"))
    if type(start) is not int or type(end) is not int:
        raise Refused("row.spans", "a span has no start and end in whole characters")
    label = _label(_first(value, ("label", "entity_type", "type", "tag")), "label")
    return (
        {"start": moved(start), "end": moved(end), "label": label}
        if moved
        else {
            "start": start,
            "end": end,
            "label": label,
        }
    )


def _joined(words: list[str], tags: list[str]) -> dict[str, Any]:
    """Return words with BIO (or IO, BIOES) tags as one text with spans; words are joined by single spaces."""
    if len(words) != len(tags):
        raise Refused("row.tags", f"there are {len(words)} tokens and {len(tags)} tags")
    spans: list[dict[str, Any]] = []
    at = 0
    before = "O"
    for word, tag in zip(words, tags, strict=True):
        head, dash, rest = tag.partition("-")
        label = rest if dash and head in ("B", "I", "E", "S", "L", "U") else "" if tag == "O" else tag
        if label:
            goes_on = head in ("I", "E", "L") or not dash
            if goes_on and spans and before == label:
                spans[-1]["end"] = at + len(word)
            else:
                spans.append({"start": at, "end": at + len(word), "label": _label(label, "tags")})
        before = label
        at += len(word) + 1
    return {"text": " ".join(words), "spans": spans}


def _words(fields: Mapping[str, Any], column: str) -> list[str]:
    value = _opened(fields.get(column))
    if not isinstance(value, list) or not value:
        raise Refused("row.tags", f"{name_columns([column])} is not a list of words")
    words = [_clean(word, name_columns([column])) for word in value]
    if sum(map(len, words)) + len(words) > FIELD_LIMIT:
        raise Refused("row.too_long", f"{name_columns([column])} has more than {FIELD_LIMIT} characters")
    return words


def _names(fields: Mapping[str, Any], column: str) -> list[str]:
    value = _opened(fields.get(column))
    if not isinstance(value, list):
        raise Refused("row.tags", f"{name_columns([column])} is not a list of tags")
    if not all(isinstance(tag, str) for tag in value):
        raise Refused("row.tags", f"{name_columns([column])} has tags by number, and nothing says what they are called")
    return value


def _conversation(value: Any, *, ends_with: str) -> list[dict[str, str]]:
    """Check a conversation: an optional system message, then user and assistant in turn, ending as it must."""
    value = _opened(value)
    if not isinstance(value, list) or not value or not all(isinstance(item, dict) for item in value):
        raise Refused("row.messages", "messages is not a list of messages")
    named = [item.get("role", item.get("from")) for item in value]
    roles = [_ROLES.get(role) if isinstance(role, str) else None for role in named]
    if None in roles:
        raise Refused("row.roles", "a message has a role other than system, user and assistant")
    turns = roles[1:] if roles[0] == "system" else roles
    alternate = all(role == ("user", "assistant")[place % 2] for place, role in enumerate(turns))
    if not turns or turns[-1] != ends_with or not alternate:
        raise Refused("row.roles", f"user and assistant do not take turns, ending with the {ends_with}")
    return [
        {"role": str(role), "content": _text(item, "content" if "content" in item or "value" not in item else "value")}
        for role, item in zip(roles, value, strict=True)
    ]


def _text(fields: Mapping[str, Any], name: str) -> str:
    """Return a field as clean text. `name` is a column, not content, and may be told."""
    shown = name_columns([name])
    value = fields.get(name)
    if value is None:
        raise Refused("row.missing_field", f"{shown} is missing")
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return _clean(value, shown)


def _clean(value: Any, shown: str) -> str:
    if not isinstance(value, str):
        raise Refused("row.not_text", f"{shown} is not text")
    if len(value) > FIELD_LIMIT:
        raise Refused("row.too_long", f"{shown} has {len(value)} characters; {FIELD_LIMIT} are allowed")
    if "\0" in value:
        raise Refused("row.nul", f"{shown} has a NUL byte at character {value.index(chr(0)) + 1}")
    if not value.strip():
        raise Refused("row.empty", f"{shown} is empty")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise Refused("row.encoding", f"{shown} has half a character (a lone surrogate)") from error
    return value.replace("\r\n", "\n")


def _label(value: Any, column: str) -> str:
    """Return a label: a short text; a whole number or a truth value is written out."""
    shown = name_columns([column])
    if isinstance(value, bool):
        value = "true" if value else "false"
    label = " ".join(_text({column: value}, column).split())
    if len(label) > LABEL_LIMIT:
        raise Refused("row.label", f"{shown} has {len(label)} characters; a label may have {LABEL_LIMIT}")
    return label


def _kept(value: Any, column: str) -> str:
    """Return a value that stays with its row: a short text, a number or a time written out, or nothing."""
    if value is None:
        return ""
    if isinstance(value, datetime.date):
        return value.isoformat()
    text = str(value) if isinstance(value, str | int | float) else ""
    if len(text) > LABEL_LIMIT or "\0" in text or (not text and value != ""):
        raise Refused("row.meta", f"{name_columns([column])} is not a value of up to {LABEL_LIMIT} characters")
    return text


def _require_declared(content: Mapping[str, Any], labels: frozenset[str]) -> None:
    given = [content["label"]] if "label" in content else [span["label"] for span in content.get("spans", ())]
    for label in given:
        if label not in labels:
            # A label is a name and may be told; what is as long as a text may be one.
            which = f" {label!r}" if len(label) <= _NAME else f", of {len(label)} characters,"
            raise Refused("row.label", f"its label{which} is none of the {len(labels)} that were declared")


def _opened(value: Any) -> Any:
    """Return a list that stands as JSON in a cell; anything else as it is."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            return msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return value
    return value


def _first(value: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((value[name] for name in names if name in value), None)


def _places_without_returns(raw: str) -> Callable[[int], int]:
    """Return what a place in a text becomes when its line ends lose their carriage returns."""
    return lambda place: place - raw.count("\r\n", 0, max(0, place))


_BUILDERS: Final[dict[Form, Callable[[Mapping[str, Any], Shape], dict[str, Any]]]] = {
    Form.CHAT: _chat,
    Form.TEXT: _plain,
    Form.COMPLETION: _completion,
    Form.CLASSIFICATION: _classification,
    Form.PREFERENCE: _preference,
    Form.TAGS: _tags,
}
