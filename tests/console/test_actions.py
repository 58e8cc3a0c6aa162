"""The action table: keys, dangers, roles, and the CLI lines it promises."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import click
import pytest

from appliance.access.roles import PERMISSIONS
from appliance.cli.main import cli
from tests.console import fake_data as data
from tests.console.fake_campaigns import CAMPAIGNS, FOUND, PIPELINE, SEARCH
from tui.actions import BY_ID, TABLE, at, for_key, markdown
from tui.deed import Action, Target
from tui.draft import Draft
from tui.places import LIST_OF, LISTS, READ_OF, campaign_target, deployment_target, job_target, model_target
from tui.views.tune import Planned

PLACES = ("home", "sheet", "draft", *LIST_OF, *READ_OF)
DEEDS = [action for action in TABLE if action.deed]
MANUAL = Path(__file__).parents[2] / "docs" / "operators" / "console.md"
_TYPED = {
    "near": "0.9",
    "train": "70",
    "seed": "3",
    "folds": "4",
    "trials": "9",
    "count": "5",
    "heldout": "20",
    "dtype": "f16",
}
FITTING = {"job.cancel": {SEARCH, PIPELINE}, "job.resume": set[str](), "job.register": {FOUND}}
"""deed -> campaigns that it can be done to"""
PERMISSION_OF = {
    "model.verify": "read",
    "model.compare": "read",
    "model.evaluate": "job.submit",
    "model.convert": "job.submit",
    "model.quantise": "job.submit",
    "train.start": "job.submit",
    "train.kfold": "campaign.submit",
    "train.search": "campaign.submit",
    "search.start": "campaign.submit",
    "kfold.start": "campaign.submit",
    "pipeline.start": "campaign.submit",
    "model.deploy": "deployment.deploy",
    "job.resume": "job.submit",
    "job.register": "model.register",
    "job.verify": "campaign.submit",
    "deployment.try": "read",
    "deployment.roll_back": "deployment.rollback",
    "deployment.pin": "deployment.deploy",
    "deployment.unpin": "deployment.deploy",
    "deployment.remove": "deployment.deploy",
    "audit.verify": "audit.read",
}


@pytest.mark.parametrize("place", PLACES)
def test_no_key_has_two_meanings(place: str) -> None:
    keys = [key for action in at(place) for key in action.keys]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("place", PLACES)
def test_dangerous_letter_is_never_a_harmless_one(place: str) -> None:
    here = at(place)
    for action in here:
        if action.danger >= 2:
            assert all(key.isupper() for key in action.keys)
            others = {key.lower() for other in here if other is not action for key in other.keys}
            assert not {key.lower() for key in action.keys} & others, action.id


def test_every_action_is_described() -> None:
    assert len({action.id for action in TABLE}) == len(TABLE)
    for action in TABLE:
        assert action.label
        assert action.keys
        assert action.help.endswith(".")
        assert len(action.help) <= 53, action.help
        assert set(action.places) <= set(PLACES)
        assert 0 <= action.danger <= 3


def test_dangerous_deeds_say_what_will_happen() -> None:
    for action in DEEDS:
        assert action.deed is not None
        assert action.deed.consequences or action.danger == 0, action.id


def test_every_place_can_be_reached_and_left() -> None:
    for place in LISTS:
        assert for_key("home", next(a.keys[0] for a in TABLE if a.id == f"go.{place.id}")) is not None
        assert place.opens in READ_OF
    for name in PLACES:
        assert for_key(name, "escape") is not None
        assert for_key(name, "?") is not None


def test_keys_are_ones_every_terminal_sends() -> None:
    fine = re.compile(r"^(.|f\d+|escape|enter|up|down|pageup|pagedown|home|end|ctrl\+[pq])$")
    assert all(fine.match(key) for action in TABLE for key in action.keys)


@pytest.mark.parametrize("action", DEEDS, ids=lambda action: action.id)
def test_roles_are_those_the_server_enforces(action: Action) -> None:
    allowed = {str(role) for role in PERMISSIONS[PERMISSION_OF.get(action.id, action.id)]}
    assert PERMISSIONS["campaign.cancel"] == PERMISSIONS["job.cancel"]  # one key cancels both
    assert PERMISSIONS["campaign.submit"] == PERMISSIONS["job.submit"]
    assert action.roles == allowed or (not action.roles and PERMISSION_OF[action.id] == "read")


@pytest.mark.parametrize("action", DEEDS, ids=lambda action: action.id)
@pytest.mark.parametrize("override", ["", "the pilot group's wish"])
def test_cli_line_is_a_real_one(action: Action, override: str) -> None:
    assert action.deed is not None
    target = {
        "model": model_target(data.MODELS[1]),
        "job": job_target(data.JOBS[0]),
        "deployment": deployment_target(data.DEPLOYMENTS[0]),
        "dataset": Target(name="faq@2", item=data.DATASETS[0], words={"ref": "faq@2"}),
        "train": Target(name="lora", item=Planned(draft=Draft(recipe=data.RECIPES[0]), plan=data.PLAN)),
        "key": Target(name="intranet", item=data.KEYS[0], words={"id": "k7", "name": "intranet"}),
    }.get(action.id.split(".", maxsplit=1)[0], Target())
    answers = {field.name: "prod" if field.name == "stage" else "some" for field in action.deed.fields}
    answers |= {"override": override} if "override" in answers else {}
    answers |= {name: value for name, value in _TYPED.items() if name in answers}
    answers |= {"days": "30", "only": "", "priority": "batch"} if "days" in answers else {}
    program, *words = shlex.split(action.deed.command(target, answers))
    assert program == "intramuros"
    _parse(words)


@pytest.mark.parametrize("number", range(len(CAMPAIGNS)))
@pytest.mark.parametrize("name", ["job.cancel", "job.resume", "job.register"])
def test_cli_line_fits_a_campaign_of_every_kind(name: str, number: int) -> None:
    deed, target = BY_ID[name].deed, campaign_target(CAMPAIGNS[number])
    assert deed is not None
    if not deed.ready(target):
        _parse(shlex.split(deed.command(target, {"name": "faq", "licence": ""}))[1:])
    assert bool(deed.ready(target)) is not (CAMPAIGNS[number].id in FITTING[name])


def test_lines_that_empty_lists_advise_are_real() -> None:
    advised = [line for place in LISTS for line in place.empty if "intramuros" in line]
    assert len(advised) == len(LISTS)
    for line in advised:
        _parse(shlex.split(line[line.index("intramuros") :])[1:])


def test_manual_lists_every_key() -> None:
    text = MANUAL.read_text(encoding="utf-8")
    begin, end = "<!-- keys: begin -->\n", "<!-- keys: end -->"
    if os.environ.get("UPDATE_GOLDEN") == "1":
        head, tail = text[: text.index(begin)], text[text.index(end) :]
        text = f"{head}{begin}{markdown().strip()}\n{tail}"
        MANUAL.write_text(text, encoding="utf-8")
    assert text[text.index(begin) + len(begin) : text.index(end)].strip() == markdown().strip()
    for action in TABLE:
        assert action.help in text


def _parse(words: list[str]) -> None:
    """Let click parse a line to its last argument, without running it."""
    command: click.Command = _root()
    context = click.Context(command, info_name="intramuros")
    while isinstance(command, click.Group):
        found = command.get_command(context, words[0])
        assert found is not None, words
        command, words = found, words[1:]
        context = click.Context(command, info_name=command.name, parent=context)
    command.parse_args(context, list(words))


def _root() -> click.Group:
    assert isinstance(cli, click.Group)
    return cli
