"""`intramuros dataset …`."""

from __future__ import annotations

from pathlib import Path

import click

from appliance.api import calls
from appliance.api import types as t
from appliance.api.column_text import parse_columns
from appliance.api.example_files import example_path
from appliance.cli.dataset_export import export_rows, write_export
from appliance.cli.dataset_text import check_text, dataset_text, diff_text
from appliance.cli.follow import follow
from appliance.cli.line_files import read_labels, read_lines
from appliance.cli.session import Session, confirmed, verb
from appliance.kernel.errors import BadInput
from appliance.kernel.terminal import size_text, table, when


@click.group()
def dataset() -> None:
    """Import, check, split, compare and export data sets."""


@dataset.command("import")
@click.argument("sources", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="SOURCE…")
@click.option("--name", required=True, help="Name of the data set.")
@click.option("--map", "mapping", multiple=True, metavar="PART=COLUMN", help="Which column is what, e.g. label=intent.")
@click.option("--form", default="", help="chat, text, preference, classification, tags or completion.")
@click.option("--labels", type=click.Path(path_type=Path), help="File of the labels that are allowed, one a line.")
@click.option("--keep", multiple=True, metavar="COLUMN", help="Keep a column with each row, to split by it later.")
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
    keep: tuple[str, ...],
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
        mapping=parse_columns(mapping),
        form=form,
        labels=read_labels(labels) if labels else (),
        keep=keep,
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
            ("DATA SET", "FORM", "TRAIN", "HELD OUT", "LABELS", "REJECTED", "DUPLICATES", "SIZE", "CREATED"),
            [
                (
                    entry.ref,
                    entry.form + (" *" if entry.synthetic else ""),
                    str(entry.train_rows),
                    str(entry.heldout_rows),
                    str(entry.labels or ""),
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
    """Show statistics, labels, samples, personal data, and the rows that were refused."""
    _show(session, session.send(calls.dataset(ref)))


@dataset.command()
@click.argument("ref")
@click.option("--model", default="", metavar="REF", help="Count tokens with this model's tokenizer.")
@click.option("--near", default=0.85, show_default=True, help="Likeness from which two texts are nearly the same.")
@verb
def check(session: Session, ref: str, model: str, near: float) -> None:
    """Look for duplicates, leakage between the parts, outliers, personal data and label trouble."""
    job = follow(session, session.send(calls.check_dataset(ref, t.CheckDataset(model=model, near=near))))
    session.show(job.summary, lambda: check_text(job.title, job.summary))


@dataset.command()
@click.argument("ref")
@click.option("--train", default=80, show_default=True, help="Percent to train on.")
@click.option("--heldout", default=20, show_default=True, help="Percent held out.")
@click.option("--by", default="hash", show_default=True, help="hash, stratified, group:COLUMN or time:COLUMN.")
@click.option("--seed", default=0, show_default=True, help="Another seed divides otherwise.")
@click.option("--name", default="", help="Name of the new version.  [default: the same name]")
@click.option("--drop-near", default=0.0, help="Set aside training rows so like another or a held-out one, e.g. 0.85.")
@verb
def split(
    session: Session, ref: str, train: int, heldout: int, by: str, seed: int, name: str, drop_near: float
) -> None:
    """Divide a data set anew, into a new version; equal choices give equal bytes."""
    body = t.SplitDataset(by=by, train=train, heldout=heldout, seed=seed, name=name, drop_near=drop_near)
    job = follow(session, session.send(calls.split_dataset(ref, body)))
    _show(session, session.send(calls.dataset(str(job.summary["ref"]))))


@dataset.command()
@click.argument("before")
@click.argument("after")
@verb
def diff(session: Session, before: str, after: str) -> None:
    """Compare two versions: rows added, removed and moved, columns, figures side by side."""
    found = session.send(calls.diff_datasets(before, after))
    session.show(found, lambda: diff_text(found))


@dataset.command()
@click.argument("ref")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--part", type=click.Choice(["train", "heldout"]), help="Only this part.  [default: both]")
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
@verb
def export(session: Session, ref: str, file: Path, part: str | None, force: bool) -> None:
    """Write a data set to a .jsonl or .parquet file, with a column `split`; every export is audited."""
    detail = session.send(calls.dataset(ref))
    rows = export_rows(session, detail.dataset.ref, (part,) if part else ("train", "heldout"))
    written = write_export(file, rows, detail=detail, force=force)
    answer = {"ref": detail.dataset.ref, "file": str(file.absolute()), "rows": written}
    session.show(answer, lambda: f"{written} rows of {detail.dataset.ref} written to {file}")


@dataset.command()
@click.argument("ref")
@click.option("--yes", is_flag=True, help="Do not ask.")
@verb
def remove(session: Session, ref: str, yes: bool) -> None:
    """Remove a version that nothing depends on, and free its bytes."""
    if not confirmed(f"Remove {ref} for good?", yes=yes):
        raise BadInput("dataset.not_confirmed", f"{ref} was not removed.", hint="Confirm it, or add --yes.")
    gone = session.send(calls.remove_dataset(ref))
    session.show(gone, lambda: f"{gone.ref} removed")


@dataset.command()
@click.option("--model", required=True, metavar="REF", help="The model that writes: a version or run:ID.")
@click.option("--name", required=True, help="Name of the data set that it writes.")
@click.option("--data", default="", metavar="REF", help="Data set whose questions are answered and varied.")
@click.option("--prompts", type=click.Path(path_type=Path), help="File of questions, one a line.")
@click.option("--count", default=100, show_default=True, help="Rows to write.")
@click.option("--seed", default=0, show_default=True)
@click.option("--temperature", default=0.8, show_default=True)
@click.option("--top-p", default=0.95, show_default=True)
@click.option("--max-tokens", default=128, show_default=True, help="Longest answer.")
@click.option("--vary", is_flag=True, help="Have it write new questions like those, and answer them.")
@click.option("--heldout", default=0, show_default=True, help="Percent held out; what a model wrote is a poor measure.")
@verb
def generate(
    session: Session,
    model: str,
    name: str,
    data: str,
    prompts: Path | None,
    count: int,
    seed: int,
    temperature: float,
    top_p: float,
    max_tokens: int,
    vary: bool,
    heldout: int,
) -> None:
    """Have a local model write instruction rows. They are marked as synthetic, and so is what is trained on them."""
    body = t.GenerateDataset(
        name=name,
        model=model,
        data=data,
        prompts=read_lines(prompts, what="a text file with one question a line") if prompts else (),
        count=count,
        seed=seed,
        temperature=temperature,
        top_p=top_p,
        max_tokens=max_tokens,
        vary=vary,
        heldout_percent=heldout,
    )
    job = follow(session, session.send(calls.generate_dataset(body)))
    _show(session, session.send(calls.dataset(str(job.summary["ref"]))))


def _show(session: Session, detail: t.DatasetDetail) -> None:
    session.show(detail, lambda: dataset_text(detail))
