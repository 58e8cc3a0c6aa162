"""How a revision is served: what was asked, what it takes over from the live one, and what the model can do at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row

from appliance.api import types as t
from appliance.catalog.purpose import KINDS, kind_of
from appliance.jobs.spec import FileEntry, manifest_digest
from appliance.kernel.errors import BadInput
from appliance.residency.offload import AUTO
from appliance.services.jobs import encoder_part
from appliance.services.records import file_entries, ref_of, served_gguf
from appliance.services.served_adapters import find_adapters
from appliance.services.served_draft import find_draft

_LEAST_MEMORY: Final = 64 << 20
_CATEGORY_LIMIT: Final = 256
_MOST_LAYERS: Final = 9999
_SERVABLE: Final = {
    "generate": ("generate", "embed"),
    "embed": ("embed",),
    "rerank": ("rerank", "classify"),
    "classify": ("classify",),
    "tag": (),
}
"""kind a model was made for -> kinds it can be deployed as"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """What an engine loads: one GGUF file, or the files of a Hugging Face folder. `digest` names it."""

    digest: str
    size: int
    files: tuple[FileEntry, ...] = ()


def artifact_of(row: Row[Any], kind: str) -> Artifact:
    """Return what serves this kind: the GGUF file where there is one. Raises BadInput `deploy.no_gguf`."""
    files = file_entries(row.files)
    own = served_gguf(files)
    if own is not None:
        return Artifact(digest=own.digest, size=own.size)
    folder = encoder_part(files)
    if kind == "generate" or not folder:
        raise BadInput(
            "deploy.no_gguf",
            f"{ref_of(row)} has no GGUF file and cannot be served.",
            hint=f"Convert it first: `intramuros model convert {ref_of(row)}`.",
        )
    return Artifact(digest=manifest_digest(folder), size=sum(entry.size for entry in folder), files=folder)


def options_of(revision: Row[Any]) -> t.ServingOptions:
    """Return how a revision is served."""
    return msgspec.convert(revision.options, t.ServingOptions)


def policy_of(deployment: Row[Any]) -> t.Policy:
    """Return how a deployment is kept in memory."""
    return msgspec.convert(deployment.policy, t.Policy)


def merged_options(
    connection: Connection,
    row: Row[Any],
    change: t.OptionsChange,
    live: t.ServingOptions | None,
    *,
    any_stage: bool = False,
) -> t.ServingOptions:
    """Return the options of a new revision; with `any_stage` adapters need not be at prod.

    Raises BadInput (`deploy.kind`, `deploy.options`, `deploy.no_gguf`, `deploy.adapter`, `deploy.draft`) or Conflict.
    """
    made_for = kind_of(row.description)
    if not _SERVABLE[made_for]:
        raise BadInput(
            "deploy.kind",
            f"{ref_of(row)} marks spans of a text, and no address of the gateway serves that.",
            hint=f"Take it to what uses it: `intramuros model export {ref_of(row)}`.",
        )
    given = {name: value for name, value in msgspec.structs.asdict(change).items() if value is not None}
    wanted = given.get("adapters", {label: entry.ref for label, entry in live.adapters.items()} if live else {})
    given["adapters"] = find_adapters(connection, row, wanted, any_stage=any_stage)
    given["draft"] = find_draft(connection, row, given.get("draft", live.draft.ref if live and live.draft else ""))
    options = msgspec.structs.replace(live or t.ServingOptions(kind=made_for), **given)
    if options.kind not in KINDS:
        raise BadInput("deploy.kind", f"{options.kind!r} is not a kind.", hint=f"Kinds: {', '.join(KINDS)}.")
    if options.kind not in _SERVABLE[made_for]:
        raise BadInput(
            "deploy.kind",
            f"{ref_of(row)} was made to {made_for} and cannot be deployed as kind {options.kind}.",
            hint="Deploy it under another name, or leave --kind out.",
        )
    artifact_of(row, options.kind)
    _check(row, options)
    return options


def merged_policy(present: t.Policy, change: t.PolicyChange) -> t.Policy:
    """Return the changed policy. Raises BadInput `deploy.options`."""
    given = {name: value for name, value in msgspec.structs.asdict(change).items() if value is not None}
    policy = msgspec.structs.replace(present, **given)
    if not 0 <= policy.idle_timeout <= 366 * 86400:
        raise _wrong("the time to idle", policy.idle_timeout, "0 (as the setting says) or seconds up to a year")
    return policy


def _check(row: Row[Any], options: t.ServingOptions) -> None:
    if not 0 <= options.threads <= 1024:
        raise _wrong("threads", options.threads, "0 (every physical core) to 1024")
    if options.context and not 16 <= options.context <= 1 << 24:
        raise _wrong("the context", options.context, "0 (as the setting says) or 16 tokens and more")
    if options.memory_limit and options.memory_limit < _LEAST_MEMORY:
        raise _wrong("the memory limit", options.memory_limit, f"0 (none) or at least {_LEAST_MEMORY} bytes")
    if options.shortens and options.kind != "embed":
        raise _wrong("shorter vectors", options.kind, "a deployment of kind embed")
    if options.adapters and (options.kind != "generate" or served_gguf(file_entries(row.files)) is None):
        raise _wrong("adapters", options.kind, "a deployment of kind generate")
    if options.draft and options.kind != "generate":
        raise _wrong("a draft model", options.kind, "a deployment of kind generate")
    if not AUTO <= options.gpu_layers <= _MOST_LAYERS:
        raise _wrong("layers on a GPU", options.gpu_layers, f"{AUTO} (as many as fit) to {_MOST_LAYERS}")
    if options.gpu_layers > 0 and options.kind != "generate":
        raise _wrong("layers on a GPU", options.kind, "a deployment of kind generate")
    if not options.categories:
        return
    if options.kind != "classify":
        raise _wrong("moderation categories", options.kind, "a deployment of kind classify")
    labels = tuple(row.description.get("labels", ()))
    unknown = sorted(set(options.categories) - set(labels)) if labels else []
    if unknown:
        raise _wrong("the label of a category", unknown[0], f"one of {', '.join(labels[:20])}")
    if not all(0 < len(name) <= _CATEGORY_LIMIT for name in options.categories.values()):
        raise _wrong("a category", "", f"a name of 1 to {_CATEGORY_LIMIT} characters")


def _wrong(what: str, value: object, wanted: str) -> BadInput:
    return BadInput("deploy.options", f"{value!r} is not possible for {what}.", hint=f"Wanted: {wanted}.")
