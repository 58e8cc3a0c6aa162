"""`intramuros dataset …`."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

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
@click.argument("sources", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="SOURCE…")
@click.option("--name", required=True, help="Name of the data set.")
@click.option("--map", "mapping", multiple=True, metavar="PART=COLUMN", help="Which column is what, e.g. label=intent.")
@click.option("--form", default="", help="chat, text, preference, classification, tags or completion.")
@click.option("--labels", type=click.Path(path_type=Path), help="File of the labels that are allowed, one a line.")
@click.option("--heldout", default=10, show_default=True, help="Percent held out when the rows do not say.")
@click.option("--redact", is_flag=True, help="Replace personal data by marks such as <EMAIL>.")
@verb
def import_(
    session: Session,
    sources: tuple[Path, ...],
    name: str,
    mapping: tuple[str, ...],
    form: str,
    labels: Path | None,
    heldout: int,
    redact: bool,
) -> None:
    """Bring in a file, several, or a Hugging Face folder; `example:NAME` is one that the product ships.

    CSV, TSV, JSONL, JSON, Parquet, Arrow and plain text are read. Of several files, names such as train and test say
    what is held out.
    """
    paths = [str(example_path(str(source)) or source.absolute()) for source in sources]
    body = t.ImportDataset(
        source=paths[0],
        more=tuple(paths[1:]),
        name=name,
        mapping=_mapping(mapping),
        form=form,
        labels=_labels(labels) if labels else (),
        heldout_percent=heldout,
        redact=redact,
    )
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


def _labels(file: Path) -> tuple[str, ...]:
    """Read a list of labels: one a line, or a JSON array."""
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput("dataset.labels", f"{file} cannot be read: {error}.") from error
    if not text.lstrip().startswith("["):
        return tuple(line.strip() for line in text.splitlines() if line.strip())
    try:
        return msgspec.json.decode(text, type=tuple[str, ...])
    except msgspec.DecodeError as error:
        raise BadInput("dataset.labels", f"{file} is no JSON array of labels: {error}.") from error


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
