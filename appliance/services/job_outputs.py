"""What a finished job left for people: its reports and predictions, read as text from the store.

Whoever reads them reads the rows they were measured on, so it takes the right to read data sets, and is
audited like that.
"""

from __future__ import annotations

from typing import Final

from appliance.api import types as t
from appliance.kernel.errors import BadInput, NotFound, storage_errors
from appliance.services.context import Context
from appliance.services.records import file_entries, find_job

_MOST: Final = 32 << 20
"""Bytes that one answer may have."""


def read(ctx: Context, job: str, path: str) -> t.JobOutput:
    """Return one output file of a job. Raises NotFound (`job.unknown`, `job.no_output`) or BadInput `job.not_text`."""
    with ctx.appliance.database.read() as connection:
        row = find_job(connection, job)
    ctx.authorise("dataset.read", f"run:{row.id}")
    files = {entry.path: entry for entry in file_entries(row.files)}
    entry = files.get(path)
    if entry is None:
        raise NotFound(
            "job.no_output",
            f"Run {row.id} has no output file {path!r}.",
            hint=f"It has {', '.join(sorted(files)[:20]) or 'none'}.",
        )
    if entry.size > _MOST:
        raise BadInput("job.not_text", f"{path} has {entry.size} bytes, too many to be shown.")
    with storage_errors(f"reading {path} of run {row.id}"), ctx.appliance.blobs.open(entry.digest) as stream:
        data = stream.read()
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise BadInput("job.not_text", f"{path} is no text.", hint="Only reports can be shown.") from error
    with ctx.appliance.database.write() as connection:
        ctx.record(connection, "dataset.read", f"run:{row.id}", path=path)
    return t.JobOutput(job=row.id, path=path, digest=entry.digest, text=text)
