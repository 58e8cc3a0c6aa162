"""Data sets: check, split, remove."""

from __future__ import annotations

from appliance.api import calls
from appliance.api import types as t
from appliance.api.calls import Call
from tui.deed import Action, Answers, Deed, Field, Target, quoted
from tui.deeds.answers import count, share
from tui.deeds.choices import fixed, model_refs
from tui.deeds.destinations import to_job
from tui.deeds.roles import BUILDERS, OPERATORS

_DIVISIONS = fixed("hash", "stratified")


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
        id="dataset.check",
        keys=("c",),
        label="check",
        help="Look for duplicates, leakage, personal data.",
        places=("datasets", "dataset"),
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
        places=("datasets", "dataset"),
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
        places=("datasets", "dataset"),
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
