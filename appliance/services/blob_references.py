"""Which blobs are still needed. Blobs are named by model versions, data sets, suites and outputs of finished runs."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from sqlalchemy import Connection, delete, insert, null, select, update

from appliance.jobs.spec import FileEntry
from appliance.services.context import Context
from appliance.services.records import file_entries
from appliance.store.schema import blobs, datasets, jobs, models, suites


def note_blobs(connection: Connection, files: Iterable[FileEntry], at: str) -> None:
    """Record that these blobs are in the store."""
    known = set(connection.execute(select(blobs.c.digest)).scalars())
    for entry in {entry.digest: entry for entry in files}.values():
        if entry.digest not in known:
            connection.execute(insert(blobs).values(digest=entry.digest, size=entry.size, added_at=at))


def release_unreferenced(connection: Connection, files: Iterable[FileEntry]) -> tuple[str, ...]:
    """Forget the blobs of a removed version that nothing else names; return their digests for deletion.

    A finished run that only this version conserved loses its outputs: an equal run would be made again.
    """
    wanted = {entry.digest for entry in files}
    documents = connection.execute(select(models.c.files).where(models.c.removed_at == "")).scalars().all()
    documents = [
        *documents,
        *connection.execute(select(datasets.c.files).where(datasets.c.removed_at == "")).scalars().all(),
    ]
    kept_suites = select(suites.c.files).where(suites.c.removed_at == "")
    documents = [*documents, *connection.execute(kept_suites).scalars().all()]
    lost = wanted - _digests(documents)
    finished = connection.execute(select(jobs.c.id, jobs.c.files).where(jobs.c.files.is_not(None))).all()
    emptied = [row for row in finished if lost & _digests([row.files])]
    for row in emptied:
        connection.execute(update(jobs).where(jobs.c.id == row.id).values(files=null(), output_digest=""))
    remaining = [row.files for row in finished if row not in emptied]
    gone = (wanted | _digests(row.files for row in emptied)) - _digests([*documents, *remaining])
    connection.execute(delete(blobs).where(blobs.c.digest.in_(gone)))
    return tuple(sorted(gone))


def drop_outputs(ctx: Context, campaign_id: str, *, keep: Collection[str]) -> None:
    """Give up the outputs of a campaign's own jobs but those to keep: what nothing else names is deleted.

    A job that a version was made from, or that a waiting job reads, keeps its files; a file that it only shares with
    one, such as a tokenizer, does not count. Doing it twice changes nothing.
    """
    with ctx.appliance.adopting:
        with ctx.appliance.database.write() as connection:
            gone = _drop(connection, campaign_id, keep)
        for digest in gone:
            ctx.appliance.blobs.remove(digest)


def _drop(connection: Connection, campaign_id: str, keep: Collection[str]) -> tuple[str, ...]:
    held = _digests(connection.execute(select(models.c.files).where(models.c.removed_at == "")).scalars())
    held |= _digests(connection.execute(select(datasets.c.files)).scalars())
    needed = {
        step["job"]
        for lineage in connection.execute(select(models.c.lineage).where(models.c.removed_at == "")).scalars()
        for step in lineage.get("runs", [])
    }
    for spec in connection.execute(select(jobs.c.spec).where(jobs.c.state.in_(("queued", "running")))).scalars():
        for given in spec["inputs"].values():
            held |= _digests([given["files"]])
            needed.add(given["ref"].removeprefix("run:"))
    finished = connection.execute(
        select(jobs.c.id, jobs.c.campaign_id, jobs.c.files).where(jobs.c.files.is_not(None))
    ).all()
    dropped = [
        row for row in finished if row.campaign_id == campaign_id and row.id not in keep and row.id not in needed
    ]
    left = held | _digests(row.files for row in finished if row not in dropped)
    for row in dropped:
        connection.execute(update(jobs).where(jobs.c.id == row.id).values(files=null(), output_digest=""))
    gone = _digests(row.files for row in dropped) - left
    connection.execute(delete(blobs).where(blobs.c.digest.in_(gone)))
    return tuple(sorted(gone))


def _digests(documents: Iterable[Any]) -> set[str]:
    return {entry.digest for document in documents for entry in file_entries(document)}


def known_digests(connection: Connection) -> frozenset[str]:
    """Return every blob that the database names."""
    return frozenset(connection.execute(select(blobs.c.digest)).scalars())
