"""Data sets: bring in, check, split, have written, remove."""

from __future__ import annotations

from appliance.api import calls
from appliance.api import types as t
from appliance.api.calls import Call
from appliance.api.column_text import parse_columns
from tui.deed import Action, Answers, Deed, Field, Target, quoted
from tui.deeds.answers import count, share
from tui.deeds.choices import dataset_refs, fixed, model_refs
from tui.deeds.destinations import to_job
from tui.deeds.files import data_files, whole_path
from tui.deeds.roles import BUILDERS, OPERATORS

_DIVISIONS = fixed("hash", "stratified")
_FORMS = fixed("chat", "text", "preference", "classification", "tags", "completion")
_PLACES = ("datasets", "dataset")


def _import(_: Target, answers: Answers) -> Call[t.JobView]:
    body = t.ImportDataset(
        source=whole_path(answers["file"]),
        name=answers["as"],
        mapping=parse_columns(answers.get("map", "").split()),
        form=answers.get("form", ""),
        heldout_percent=count("Per cent held out", answers["heldout"]),
        redact=answers["redact"] == "yes",
    )
    return calls.import_dataset(body)


def _import_line(_: Target, answers: Answers) -> str:
    words = ["intramuros dataset import", quoted(answers["file"]) or "FILE", "--name", quoted(answers["as"]) or "NAME"]
    words += [f"--map {quoted(pair)}" for pair in answers.get("map", "").split()]
    words += ["--form", quoted(answers["form"])] if answers.get("form") else []
    words += ["--heldout", quoted(answers["heldout"])] if answers["heldout"] not in ("", "10") else []
    words += ["--redact"] if answers["redact"] == "yes" else []
    return " ".join(words)


def _generate(_: Target, answers: Answers) -> Call[t.JobView]:
    body = t.GenerateDataset(
        name=answers["as"],
        model=answers["model"],
        data=answers["data"],
        count=count("Rows", answers["count"]),
        seed=count("Seed", answers["seed"]),
        vary=answers["vary"] == "yes",
    )
    return calls.generate_dataset(body)


def _generate_line(_: Target, answers: Answers) -> str:
    words = [f"intramuros dataset generate --model {quoted(answers['model']) or 'MODEL'}"]
    words += ["--name", quoted(answers["as"]) or "NAME", "--data", quoted(answers["data"]) or "DATASET"]
    words += ["--count", quoted(answers["count"])] if answers["count"] else []
    words += ["--seed", quoted(answers["seed"])] if answers["seed"] not in ("", "0") else []
    words += ["--vary"] if answers["vary"] == "yes" else []
    return " ".join(words)


def _dataset_in_use(target: Target) -> str:
    used = target.item.used_by if isinstance(target.item, t.DatasetDetail) else ()
    return f"it is used by {', '.join(used)}" if used else ""


def _check(target: Target, answers: Answers) -> Call[t.JobView]:
    near = share("Likeness", answers["near"])
    return calls.check_dataset(target.name, t.CheckDataset(model=answers.get("model", ""), near=near))


def _split(target: Target, answers: Answers) -> Call[t.JobView]:
    train = count("Per cent to train on", answers["train"])
    body = t.SplitDataset(
        by=answers["by"],
        train=train,
        heldout=100 - train,
        seed=count("Seed", answers["seed"]),
        name=answers.get("as", ""),
        drop_near=share("Likeness", answers["near"]),
    )
    return calls.split_dataset(target.name, body)


def _split_line(target: Target, answers: Answers) -> str:
    train, name, near = answers["train"], answers.get("as", ""), answers["near"]
    words = ["intramuros dataset split", quoted(target.name), "--train", quoted(train)]
    words += ["--heldout", str(100 - int(train))] if train.isdecimal() else []
    words += ["--by", quoted(answers["by"]), "--seed", quoted(answers["seed"])]
    words += ["--name", quoted(name)] if name else []
    words += ["--drop-near", quoted(near)] if near not in ("", "0") else []
    return " ".join(words)


DEEDS: tuple[Action, ...] = (
    Action(
        id="dataset.import",
        keys=("n",),
        label="bring in",
        help="Import a file or folder as a data set.",
        places=("datasets",),
        roles=BUILDERS,
        danger=1,
        bar=True,
        deed=Deed(
            call=_import,
            cli=_import_line,
            done="It is being read.",
            consequences=("Rows that cannot be used are set aside, with line and reason. The file stays as it is.",),
            fields=(
                Field(name="file", label="File or folder", choices=data_files, faults=("dataset.", "source.")),
                Field(name="as", label="Name", faults=("name.",)),
                Field(name="form", label="Form (empty: found)", choices=_FORMS, required=False),
                Field(name="map", label="Columns (label=intent)", required=False, faults=("dataset.mapping",)),
                Field(
                    name="heldout",
                    label="Per cent held out",
                    default=lambda _: "10",
                    faults=("dataset.heldout", "console.field"),
                ),
                Field(name="redact", label="Mark personal data", default=lambda _: "no", choices=fixed("no", "yes")),
            ),
            needs_target=False,
            then=to_job,
        ),
    ),
    Action(
        id="dataset.generate",
        keys=("w",),
        label="have written",
        help="Have a local model write instruction rows.",
        places=_PLACES,
        roles=BUILDERS,
        danger=1,
        deed=Deed(
            call=_generate,
            cli=_generate_line,
            done="It is being written.",
            consequences=("The rows are marked as synthetic, and so is every model that is trained on them.",),
            fields=(
                Field(name="model", label="Model that writes", choices=model_refs, faults=("model.",)),
                Field(name="data", label="Questions of", default=lambda target: target.name, choices=dataset_refs),
                Field(name="as", label="Name of the new one", faults=("name.",)),
                Field(name="count", label="Rows", default=lambda _: "100"),
                Field(name="vary", label="Vary the questions", default=lambda _: "no", choices=fixed("no", "yes")),
                Field(name="seed", label="Seed", default=lambda _: "0"),
            ),
            needs_target=False,
            then=to_job,
        ),
    ),
    Action(
        id="dataset.check",
        keys=("c",),
        label="check",
        help="Look for duplicates, leakage, personal data.",
        places=_PLACES,
        roles=BUILDERS,
        danger=1,
        bar=True,
        deed=Deed(
            call=_check,
            cli="intramuros dataset check {ref}[ --model {model}] --near {near}",
            done="{ref} is being checked.",
            consequences=("Reads every row and changes nothing; its report is shown with the data set.",),
            fields=(
                Field(name="model", label="Count tokens as", choices=model_refs, required=False),
                Field(name="near", label="Nearly the same from", default=lambda _: "0.85"),
            ),
            then=to_job,
        ),
    ),
    Action(
        id="dataset.split",
        keys=("d",),
        label="split",
        help="Divide it anew, into a new version.",
        places=_PLACES,
        roles=BUILDERS,
        danger=1,
        bar=True,
        deed=Deed(
            call=_split,
            cli=_split_line,
            done="{ref} is being divided.",
            consequences=(
                "Makes a new version; {ref} stays as it is. What is not trained on is held out.",
                "By group:COLUMN or time:COLUMN too, for columns that the import kept.",
            ),
            fields=(
                Field(name="train", label="Per cent to train on", default=lambda _: "80"),
                Field(name="by", label="By", default=lambda _: "hash", choices=_DIVISIONS),
                Field(name="seed", label="Seed", default=lambda _: "0"),
                Field(name="as", label="New name (empty: same)", required=False),
                Field(name="near", label="Drop likeness (0: keep)", default=lambda _: "0"),
            ),
            then=to_job,
        ),
    ),
    Action(
        id="dataset.remove",
        keys=("X",),
        label="remove",
        help="Remove a version that nothing depends on.",
        places=_PLACES,
        roles=OPERATORS,
        danger=3,
        bar=True,
        deed=Deed(
            call=lambda target, _: calls.remove_dataset(target.name),
            cli="intramuros dataset remove {ref}",
            done="{ref} is removed.",
            consequences=(
                "The version and the rows that only it has are deleted.",
                "Only a backup can bring them back. A version in use is refused.",
            ),
            ready=_dataset_in_use,
        ),
    ),
)
