"""LoRA adapters served beside a model: which versions' adapters a deployment offers, under which labels.

Clients name one as `DEPLOYMENT:LABEL`. An adapter fits the very weights it was trained on, and needs the same stage as
the model that it is served with.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Connection, Row

from appliance.api import types as t
from appliance.kernel.errors import BadInput, Conflict
from appliance.registry.refs import check_name
from appliance.registry.stages import Stage
from appliance.services.records import file_entries, find_model, ref_of, stage_of

FILE: Final = "adapter/adapter.gguf"
_MOST: Final = 16


def find_adapters(
    connection: Connection, base: Row[Any], wanted: dict[str, str], *, any_stage: bool
) -> dict[str, t.ServedAdapter]:
    """Return the adapters behind labels -> references. Raises BadInput, or Conflict `deploy.not_in_prod`."""
    if len(wanted) > _MOST:
        raise BadInput("deploy.adapter", f"{len(wanted)} adapters are too many for one engine.", hint=f"Most: {_MOST}.")
    return {label: _find(connection, base, label, ref, any_stage) for label, ref in sorted(wanted.items())}


def _find(connection: Connection, base: Row[Any], label: str, text: str, any_stage: bool) -> t.ServedAdapter:
    check_name(label, what="adapter")
    row = find_model(connection, text)
    ref = ref_of(row)
    entry = next((entry for entry in file_entries(row.files) if entry.path == FILE), None)
    if entry is None:
        raise BadInput(
            "deploy.adapter",
            f"{ref} has no adapter that can be served.",
            hint=f"Make it with `intramuros model adapter {ref}`, and register that run.",
        )
    trained_on = (row.lineage.get("base") or {}).get("digest")
    if trained_on != base.weights_digest:
        raise BadInput(
            "deploy.adapter",
            f"The adapter of {ref} was trained on other weights than those of {ref_of(base)}.",
            hint="Deploy its own base, name an adapter that was trained on this one, or none with --no-adapters.",
        )
    stage = stage_of(connection, row.id)
    if stage != Stage.PROD and not any_stage:
        raise Conflict(
            "deploy.not_in_prod",
            f"{ref} is at {stage}; only versions at prod are deployed, adapters too.",
            hint=f"Promote it with `intramuros model promote {ref} --to prod`.",
        )
    return t.ServedAdapter(ref=ref, digest=entry.digest, size=entry.size)
