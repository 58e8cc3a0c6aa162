"""`intramuros dataset …`."""

from __future__ import annotations

from pathlib import Path

import click

from appliance.api import calls
from appliance.api import types as t
from appliance.cli.follow import follow
from appliance.cli.session import Session, verb
from appliance.kernel.errors import BadInput, NotFound
from appliance.kernel.terminal import size_text, table, when


@click.group()
def dataset() -> None:
    """Import and inspect data sets."""


@dataset.command("import")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="Name of the data set.")
@click.option("--map", "mapping", multiple=True, metavar="FIELD=COLUMN", help="prompt=…, answer=… or text=… column.")
@click.option("--heldout", default=10, show_default=True, help="Percent held out when the rows do not say.")
@verb
def import_(session: Session, source: Path, name: str, mapping: tuple[str, ...], heldout: int) -> None:
    """Bring in a CSV, JSONL, JSON or text file; `example:NAME` is one that the product ships."""
    path = example_path(str(source)) or source.absolute()
    body = t.ImportDataset(source=str(path), name=name, mapping=_mapping(mapping), heldout_percent=heldout)
    job = follow(session, session.send(calls.import_dataset(body)))
    _show(session, session.send(calls.dataset(str(job.summary["ref"]))))


@dataset.command("list")
@verb
def list_(session: Session) -> None:
    """List every data set version, newest first."""
    found = session.send(calls.datasets())
    session.show(
        found,
        lambda: table(
            ("DATA SET", "FORM", "TRAIN", "HELD OUT", "REJECTED", "DUPLICATES", "SIZE", "CREATED"),
            [
                (
                    entry.ref,
                    entry.form,
                    str(entry.train_rows),
                    str(entry.heldout_rows),
                    str(entry.rejected_rows),
                    str(entry.duplicate_rows),
                    size_text(entry.size),
                    when(entry.created_at),
                )
                for entry in found
            ],
            empty="No data sets yet. Bring one in with `intramuros dataset import FILE --name NAME`.",
        ),
    )


@dataset.command()
@click.argument("ref")
@verb
def show(session: Session, ref: str) -> None:
    """Show statistics, samples and the rows that were refused."""
    _show(session, session.send(calls.dataset(ref)))


def example_path(text: str) -> Path | None:
    """Return the file of a shipped example (`example:faq`), or None for an ordinary path. Raises NotFound."""
    if not text.startswith("example:"):
        return None
    folder = Path(__file__).parent.parent / "examples"
    path = folder / f"{Path(text.removeprefix('example:')).name}.jsonl"
    if not path.exists():
        known = ", ".join(sorted(entry.stem for entry in folder.glob("*.jsonl")))
        raise NotFound("dataset.no_example", f"There is no shipped example {text}.", hint=f"Examples: {known}.")
    return path


def _mapping(pairs: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for pair in pairs:
        field, equals, column = pair.partition("=")
        if not equals or not column:
            raise BadInput("dataset.mapping", f"{pair!r} is not FIELD=COLUMN.", hint="Write it like prompt=question.")
        found[field] = column
    return found


def _show(session: Session, detail: t.DatasetDetail) -> None:
    entry = detail.dataset
    lines = [
        f"{entry.ref}  {entry.form}  {entry.train_rows} train + {entry.heldout_rows} held-out rows",
        f"  digest      {entry.digest}",
        f"  rejected    {entry.rejected_rows}   duplicates {entry.duplicate_rows}   size {size_text(entry.size)}",
    ]
    lines += [f"  sample      {sample}" for sample in detail.samples[:3]]
    lines += [f"  refused     {row}" for row in detail.rejected[:5]]
    session.show(detail, lambda: "\n".join(lines))
