"""What an exported version holds: stored files under their places in a layout, and the texts that go with them.

Nothing is copied here. The client copies blobs into a folder of its own, so that an export belongs to who asked for
it; what was asked for, and by whom, is in the trail.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import Row

from appliance.api import types as t
from appliance.catalog.purpose import kind_of
from appliance.jobs.spec import FileEntry
from appliance.kernel.errors import BadInput
from appliance.registry.mlflow_layout import Described, place_of, render
from appliance.registry.model_card import Card, Measurement, render_card
from appliance.services.context import Context
from appliance.services.jobs import encoder_part, huggingface_part
from appliance.services.machine import environment
from appliance.services.models import model_detail
from appliance.services.records import file_entries, find_model, ref_of, served_gguf

_CARD: Final = "README.md"
_OWN_CARD: Final = "README.original.md"


def export(ctx: Context, text: str, body: t.ExportModel) -> t.ExportPlan:
    """Return the plan of an export. Raises BadInput (`export.layout`, `export.not_there`)."""
    with ctx.appliance.database.read() as connection:
        row = find_model(connection, text)
    ref = ref_of(row)
    ctx.authorise("model.export", ref)
    if body.layout not in _LAYOUTS:
        raise BadInput(
            "export.layout", f"{body.layout!r} is not a layout.", hint=f"Layouts: {', '.join(sorted(_LAYOUTS))}."
        )
    with ctx.appliance.database.write() as connection:
        detail = model_detail(connection, row)
        files = (*_LAYOUTS[body.layout](ctx, row, detail), t.ExportFile(path=_CARD, text=_card(row, detail)))
        ctx.record(connection, "model.export", ref, layout=body.layout, digest=row.digest)
    return t.ExportPlan(model=ref, layout=body.layout, files=tuple(sorted(files, key=lambda file: file.path)))


def _huggingface(_ctx: Context, row: Row[Any], _detail: t.ModelDetail) -> list[t.ExportFile]:
    files = file_entries(row.files)
    folder = encoder_part(files)
    if not folder:
        raise _not_there(row, "a Hugging Face folder")
    adapter = [entry for entry in files if entry.path.startswith("adapter/") and not entry.path.endswith(".gguf")]
    return [_stored(entry, _OWN_CARD if entry.path == _CARD else entry.path) for entry in (*folder, *adapter)]


def _gguf(_ctx: Context, row: Row[Any], _detail: t.ModelDetail) -> list[t.ExportFile]:
    files = file_entries(row.files)
    own = served_gguf(files)
    if own is None:
        raise _not_there(row, "a GGUF file")
    adapter = [entry for entry in files if entry.path == "adapter/adapter.gguf"]
    return [_stored(own, "model.gguf"), *(_stored(entry, entry.path) for entry in adapter)]


def _mlflow(ctx: Context, row: Row[Any], detail: t.ModelDetail) -> list[t.ExportFile]:
    folder = huggingface_part(file_entries(row.files))
    if not folder:
        raise _not_there(row, "a Hugging Face folder")
    config = _json(ctx, folder, "config.json")
    described = Described(
        ref=detail.model.ref,
        digest=detail.model.digest,
        purpose=kind_of(row.description),
        architecture=str((config.get("architectures") or [""])[0]),
        tokenizer=str(_json(ctx, folder, "tokenizer_config.json").get("tokenizer_class", "")),
        dtype=str(config.get("dtype") or config.get("torch_dtype") or "float32"),
        made_at=detail.model.created_at,
        python=platform.python_version(),
        packages=_packages(ctx, detail),
    )
    stored = [_stored(entry, place_of(entry.path)) for entry in folder if entry.path != _CARD]
    return [*stored, *(t.ExportFile(path=path, text=text) for path, text in render(described).items())]


_LAYOUTS: Final[dict[str, Callable[[Context, Row[Any], t.ModelDetail], list[t.ExportFile]]]] = {
    "huggingface": _huggingface,
    "gguf": _gguf,
    "mlflow": _mlflow,
}


def _card(row: Row[Any], detail: t.ModelDetail) -> str:
    described: dict[str, Any] = row.description
    return render_card(
        Card(
            ref=detail.model.ref,
            digest=detail.model.digest,
            kind=detail.model.kind,
            purpose=kind_of(described),
            licence=detail.model.licence,
            stage=detail.model.stage,
            architecture=detail.model.architecture,
            parameters=detail.model.parameters,
            context_length=detail.model.context_length,
            quantisation=str(described.get("quantisation", "")),
            made_by=detail.model.created_by,
            made_at=detail.model.created_at,
            lineage=detail.lineage,
            parity=row.parity or {},
            measurements=tuple(
                Measurement(
                    on=one.dataset,
                    at=one.at,
                    examples=one.examples,
                    metrics=one.metrics,
                    intervals=one.intervals,
                )
                for one in detail.evaluations
            ),
            approvals=tuple(f"{one.approver} for {one.stage}" for one in detail.approvals),
        )
    )


def _packages(ctx: Context, detail: t.ModelDetail) -> dict[str, str]:
    """Return the versions that made the model; of an imported one those that read it here."""
    runs = detail.lineage.get("runs", [])
    made: dict[str, str] = runs[0]["environment"]["packages"] if runs else {}
    return made or environment(1, ctx.appliance.code_digest).packages


def _json(ctx: Context, files: tuple[FileEntry, ...], name: str) -> dict[str, Any]:
    entry = next((file for file in files if file.path == name), None)
    if entry is None:
        return {}
    with ctx.appliance.blobs.open(entry.digest) as stream:
        try:
            document = json.loads(stream.read())
        except (ValueError, RecursionError) as error:
            raise BadInput("export.not_there", f"{name} of the version is no JSON: {error}.") from error
    return document if isinstance(document, dict) else {}


def _stored(entry: FileEntry, path: str) -> t.ExportFile:
    return t.ExportFile(path=path, digest=entry.digest, size=entry.size)


def _not_there(row: Row[Any], what: str) -> BadInput:
    return BadInput(
        "export.not_there",
        f"{ref_of(row)} has no {what.split(' ', 1)[1]}.",
        hint=f"This layout is made from {what}.",
    )
