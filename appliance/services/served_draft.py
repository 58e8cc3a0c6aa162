"""The draft model of a deployment: a smaller version that guesses tokens for the one that is served.

It needs no stage: no word of it reaches anybody that the served model has not chosen itself. Whether its vocabulary is
the same is found out by the engine, which alone reads model files; here only what their headers told.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Connection, Row

from appliance.api import types as t
from appliance.catalog.purpose import kind_of
from appliance.kernel.errors import BadInput
from appliance.services.records import file_entries, find_model, ref_of, served_gguf

_MOST_PADDING: Final = 1024
"""Vocabularies of one family differ by their padding; this is more than any of it."""


def find_draft(connection: Connection, model: Row[Any], text: str) -> t.ServedDraft | None:
    """Return the draft model behind a reference, none for an empty one. Raises BadInput `deploy.draft`, or NotFound."""
    if not text:
        return None
    row = find_model(connection, text)
    ref = ref_of(row)
    entry = served_gguf(file_entries(row.files))
    if entry is None:
        raise BadInput(
            "deploy.draft",
            f"{ref} has no GGUF file and cannot guess for {ref_of(model)}.",
            hint=f"Convert it first: `intramuros model convert {ref}`.",
        )
    if (made_for := kind_of(row.description)) != "generate":
        raise BadInput("deploy.draft", f"{ref} was made to {made_for}; a draft model must generate.")
    own, other = (one.description.get("vocabulary") for one in (model, row))
    if isinstance(own, int) and isinstance(other, int) and own and other and abs(own - other) > _MOST_PADDING:
        raise BadInput(
            "deploy.draft",
            f"{ref} has another vocabulary ({other} tokens) than {ref_of(model)} ({own} tokens).",
            hint="Take a smaller model of the same family, or none with --no-draft.",
        )
    return t.ServedDraft(ref=ref, digest=entry.digest, size=entry.size)


def draft_description(connection: Connection, draft: t.ServedDraft | None) -> dict[str, Any]:
    """Return what is known of the draft model's shape, which decides its memory."""
    return dict(find_model(connection, draft.ref).description) if draft is not None else {}
