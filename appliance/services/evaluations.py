"""Finds what was measured of a model on a suite or data set, and compares two models row by row.

Reads only; evaluations are written by `outcomes` when their job ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, select

from appliance.api import types as t
from appliance.evaluation.difference import Difference
from appliance.kernel.errors import BadInput, NotFound
from appliance.services.context import Context
from appliance.services.jobs import model_input
from appliance.services.records import file_entries, find_dataset, find_job, find_suite, ref_of
from appliance.store.schema import evaluations

_SCORES = "scores.json"


def compare(ctx: Context, body: t.Compare) -> t.ComparisonView:
    """Compare the newest evaluations of two models on one suite or data set. Raises NotFound for a missing one."""
    if bool(body.suite) == bool(body.dataset):
        raise BadInput("evaluation.on", "Name one thing to compare on.", hint="Give --suite NAME or --data NAME.")
    with ctx.appliance.database.read() as connection:
        on = find_suite(connection, body.suite) if body.suite else find_dataset(connection, body.dataset)
        subjects = [model_input(connection, text) for text in (body.first, body.second)]
        rows = [newest(connection, subject.digest, on=(on.digest,)) for subject in subjects]
    for text, row in zip((body.first, body.second), rows, strict=True):
        if row is None:
            flag = "--suite" if body.suite else "--data"
            raise NotFound(
                "evaluation.none",
                f"{text} was not evaluated on {ref_of(on)}.",
                hint=f"Run `intramuros eval {text} {flag} {ref_of(on)}`.",
            )
    first, second = (row for row in rows if row is not None)
    with ctx.appliance.database.read() as connection:
        found = differences(ctx, connection, first, second)
    return t.ComparisonView(
        first=subjects[0].ref,
        second=subjects[1].ref,
        on=ref_of(on),
        differences=tuple(_view(one) for one in found),
    )


def newest(connection: Connection, subject_digest: str, *, on: tuple[str, ...]) -> Row[Any] | None:
    """Return the newest evaluation of these weights on one of these suites or data sets; none named: any data set."""
    query = select(evaluations).where(evaluations.c.subject_digest == subject_digest)
    query = query.where(evaluations.c.dataset_digest.in_(on)) if on else query.where(evaluations.c.suite == "")
    return connection.execute(query.order_by(evaluations.c.id.desc()).limit(1)).first()


def differences(ctx: Context, connection: Connection, first: Row[Any], second: Row[Any]) -> tuple[Difference, ...]:
    """Compare two evaluations by the scores their jobs kept. Raises NotFound where those are gone."""
    # numpy is loaded for a comparison alone, not with the daemon.
    from appliance.evaluation.comparison import compare as compare_scores

    return compare_scores(_scores(ctx, connection, first), _scores(ctx, connection, second))


def by_metric(found: tuple[Difference, ...]) -> Mapping[str, Difference]:
    """Return differences by their metric."""
    return {one.metric: one for one in found}


def _scores(ctx: Context, connection: Connection, row: Row[Any]) -> Any:
    from appliance.evaluation.scores import decode_scores

    files = file_entries(find_job(connection, row.job_id).files)
    entry = next((file for file in files if file.path == _SCORES), None)
    if entry is None:
        raise NotFound(
            "evaluation.no_scores",
            f"The evaluation of {row.subject} on {row.dataset} kept no scores for its rows.",
            hint="Evaluate it again; evaluations by an older version kept figures alone.",
        )
    with ctx.appliance.blobs.open(entry.digest) as stream:
        return decode_scores(stream.read())


def _view(one: Difference) -> t.DifferenceView:
    return t.DifferenceView(
        metric=one.metric,
        first=one.first,
        second=one.second,
        difference=one.difference,
        low=one.low,
        high=one.high,
        p=one.p,
        rows=one.rows,
        left_out=one.left_out,
        lower_is_better=one.lower_is_better,
        verdict=str(one.outcome),
    )
