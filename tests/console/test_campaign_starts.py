"""Campaigns are started from files: what is shown of one, what is sent, and where a refusal stands."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from appliance.kernel.errors import BadInput, IntramurosError, NotFound, Unavailable
from tests.console import fake_data
from tests.console.fake_campaigns import CAMPAIGNS
from tests.console.fake_client import FakeAppliance
from tests.console.screen_text import BASIC, Driver, check_golden, running
from tests.console.test_line import said
from tui.actions import BY_ID
from tui.campaign_file import files_of, look_at, look_into, seen_in
from tui.deed import Target
from tui.draft import Draft
from tui.places import campaign_target
from tui.views.tune import Planned
from tui.widgets.entry import Entry

RECIPE = "recipe: lora\nbase: faq@3\ndata: faq@2\nseed: 4\nwith: {rank: 8}\n"
SEARCH = (
    "recipe: {recipe: lora, base: faq@3, data: faq@2}\n"
    "space:\n  learning_rate: {low: 1e-4, high: 1e-2, log: true}\n  rank: {choices: [4, 16]}\ntrials: 8\n"
)
PIPELINE = "pipeline: faq\nsteps:\n  - data: faq\n  - name: tune\n    train: {recipe: lora}\n"
START = {
    "search": ("n", "new search", SEARCH),
    "kfold": ("f", "k-fold", RECIPE),
    "pipeline": ("p", "pipeline", PIPELINE),
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The console was opened in a folder that holds a file of each kind, and one that is none."""
    for kind, (_, _, text) in START.items():
        (tmp_path / f"{kind}.yaml").write_text(text, encoding="utf-8")
    (tmp_path / "broken.yaml").write_text("a: [1\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("kind", START)
async def test_file_of_the_folder_is_offered_and_started(kind: str, folder: Path) -> None:
    key, label, text = START[kind]
    appliance = FakeAppliance()
    async with running(appliance) as console:
        await console.shows("Health")
        await console.press("9", shows=("No search, k-fold or pipeline", label))
        await console.press(key, shows=f"intramuros {kind} run {kind}.yaml")
        await console.press("enter", *(("enter",) if kind == "kfold" else ()), "enter", shows=("Campaign ", "Esc back"))
    body = appliance.bodies[appliance.sent.index(("POST", f"/v1/campaigns/{kind}"))]
    assert (body.text, body.name) == (text, f"{kind}.yaml")
    assert getattr(body, "folds", 5) == 5
    assert getattr(body, "folder", str(folder)) == str(folder)


async def test_search_says_what_it_varies_and_what_its_runs_need_at_the_most() -> None:
    appliance = FakeAppliance()
    async with running(appliance) as console:
        await console.shows("Health")
        await console.press(
            "9", "n", shows=("varies learning_rate 0.0001 to 0.01 (log); rank 4 16", "trials 8", "1,550 steps")
        )
        check_golden("new_search", await console.shows("1.9 GiB of 21.0 GiB at the highest values"))
    plans = [body.parameters for sent, body in zip(appliance.sent, appliance.bodies, strict=True) if "plan" in sent[1]]
    assert plans[-2:] == [{}, {"learning_rate": 0.01, "rank": 16}]


async def test_dialog_in_the_basic_look_is_ascii_only() -> None:
    async with running(FakeAppliance(), choice=BASIC) as console:
        await console.shows("Health")
        await console.press("9", "n")
        assert (await console.shows("varies learning_rate", "1,550 steps")).isascii()


async def test_search_whose_runs_do_not_fit_says_so_before_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = msgspec.structs.replace(fake_data.PLAN.memory, fits=False, available=1 << 30)
    plan = msgspec.structs.replace(fake_data.PLAN, memory=memory, proposals=("batch_size 4 would need 0.9 GiB",))
    monkeypatch.setattr(fake_data, "PLAN", plan)
    async with running(FakeAppliance()) as console:
        await console.shows("Health")
        await console.press("9", "n")
        await console.shows(
            "does not fit: 1.9 GiB of 1.0 GiB at the highest values ", "instead      batch_size 4 would need"
        )


async def test_more_than_the_dialog_has_room_for_ends_in_dots(folder: Path) -> None:
    space = "".join(f"  field_{number}: {{low: 0.001, high: 1000}}\n" for number in range(9))
    (folder / "a.yaml").write_text(f"recipe: {{recipe: lora}}\nspace:\n{space}", encoding="utf-8")
    async with running(FakeAppliance()) as console:
        await console.shows("Health")
        await console.press("9", "n")
        assert (await console.shows("varies field_0", "[ New search ]", "…")).count("field_") < 9


async def test_refused_file_is_named_below_its_field_and_can_be_corrected(folder: Path) -> None:
    appliance = FakeAppliance()
    refused = BadInput("search.file", "search.yaml, line 4: rank: choices must differ.", hint="Correct it.")
    appliance.failures["POST /v1/campaigns/search"] = refused
    async with running(appliance) as console:
        await console.shows("Health")
        await console.press("9", "n", shows="1,550 steps")
        await console.press("enter", "enter")
        rows = (await console.shows("search.file: search.yaml, line 4: rank: choices")).splitlines()
        field = next(at for at, row in enumerate(rows) if "File  " in row)
        assert "search.file: search.yaml, line 4" in rows[field + 1]
        assert "search.yaml" in rows[field]
        (folder / "s.yaml").write_text(SEARCH, encoding="utf-8")
        appliance.failures.clear()
        await console.press(*["backspace"] * len("earch.yaml"))
        await console.until(lambda: "search.file" not in console.text)
        await console.press(*".yaml", shows=("intramuros search run s.yaml", "1,550 steps"))
        await console.press("enter", "enter", shows="Campaign seed@1 + faq@2")


async def test_what_is_wrong_in_the_recipe_stands_below_the_file_before_it_starts() -> None:
    appliance = FakeAppliance()
    appliance.failures["POST /v1/jobs/plan"] = NotFound("model.unknown", "There is no model faq@3.")
    async with running(appliance) as console:
        await console.shows("Health")
        await console.press("9", "f", shows="model.unknown: There is no model faq@3.")


@pytest.mark.parametrize(
    ("folds", "refused"), [("x", "Folds cannot be 'x'. It takes a whole number."), ("5", "5 folds cannot be made.")]
)
async def test_refused_folds_are_named_below_their_field(folds: str, refused: str) -> None:
    appliance = FakeAppliance()
    appliance.failures["POST /v1/campaigns/kfold"] = BadInput("kfold.folds", "5 folds cannot be made.")
    async with running(appliance) as console:
        await console.shows("Health")
        await console.press("9", "f", shows="intramuros kfold run kfold.yaml -k 5")
        await console.press("enter", "backspace", folds, "enter", "enter")
        rows = (await console.shows(refused)).splitlines()
        field = next(at for at, row in enumerate(rows) if "Folds  " in row)
        assert refused in rows[field + 1]
        assert "Folds                   " + folds in rows[field]


async def test_file_that_is_not_there_and_one_of_another_kind_are_told() -> None:
    async with running(FakeAppliance()) as console:
        await console.shows("Health")
        await console.press("9", "p", shows="2 steps: data, tune (train)")
        await console.press(
            *["backspace"] * len("pipeline.yaml"), *"kfold.yaml", shows="holds        a recipe, not a pipeline"
        )
        await console.press("backspace", "enter", "enter", shows="yaml.not_found: There is no file kfold.yam.")


@pytest.mark.parametrize("name", ["~nobody-of-that-name/x.yaml", "x" * 300, "/", ""])
async def test_name_that_no_file_has_is_refused_and_the_dialog_lives(name: str) -> None:
    appliance = FakeAppliance()
    async with running(appliance) as console:
        await console.shows("Health")
        await console.press("9", "p", shows="2 steps")
        await console.press("ctrl+u")
        entry = console.app.screen.query_one("#field-file", Entry)
        entry.value = name
        await console.press("enter", "enter")
        await console.until(lambda: any(said in console.text for said in ("yaml.not_found", "is needed", "too long")))
        assert ("POST", "/v1/campaigns/pipeline") not in appliance.sent


async def test_lost_service_is_told_as_ever() -> None:
    appliance = FakeAppliance()
    async with running(appliance) as console:
        await console.shows("Health")
        await console.press("9", "p", shows="2 steps")
        appliance.failures["POST /v1/campaigns/pipeline"] = Unavailable(
            "disk.full", "The disk is full.", hint="Free it."
        )
        await console.press("enter", "enter", shows=("Pipeline: disk.full", "The disk is full."))


async def test_keys_that_arrive_at_once_are_taken_in_their_order() -> None:
    async with running(FakeAppliance()) as console:
        await console.shows("Health")
        await console.press("9", "f", shows="intramuros kfold run kfold.yaml -k 5")
        console.burst("backspace", "x", "left", "y", "enter", "backspace", "1", "2", "left", "backspace", "3")
        await console.shows("intramuros kfold run kfold.yamyx -k 32")


async def test_nobody_starts_one_without_the_role() -> None:
    async with running(FakeAppliance(roles=("auditor",))) as console:
        await console.shows("Health")
        await console.press("9", shows="(n new search)")
        await console.press("n", shows="needs the role admin or data_scientist or operator")


async def planned(console: Driver, *, bar: str = "f k-fold") -> None:
    """Go to the plan of a run."""
    await console.shows("Health")
    await console.press("5", shows="Low-rank adapters")
    await console.press("n", shows="choose one")
    for chosen in ("Up/Down: 3", "intramuros train lora --base faq@3 --data faq@2"):
        await console.press("enter", shows=chosen)
        await console.press("enter", "down")
        await console.until(lambda: "From" not in console.text and "The same" not in console.text)
    await console.press("p", shows=(bar, "v vary"))


async def test_planned_run_becomes_a_kfold() -> None:
    appliance = FakeAppliance()
    async with running(appliance) as console:
        await planned(console)
        await console.press("f", shows="intramuros kfold lora --base faq@3 --data faq@2 -k 5")
        await console.press("backspace", "3", "enter", "enter", shows="Campaign banking@1")
    body = appliance.bodies[appliance.sent.index(("POST", "/v1/campaigns/kfold"))]
    assert (body.text, body.folds) == (fake_data.PLAN.file, 3)


async def test_planned_run_becomes_a_search() -> None:
    appliance = FakeAppliance()
    async with running(appliance) as console:
        await planned(console)
        await console.press("v", shows=("varies learning_rate 0.0003 to 0.03 (log)", "1,550 steps"))
        check_golden("vary", console.text)
        await console.press(*" rank=4,", shows="learning_rate=0.0003..0.03:log --vary rank=4, --trials 20")
        await console.press(*"16 x", "enter", "enter", "enter")
        rows = (await console.shows("search.vary: 'x' does not say which values a field may take.")).splitlines()
        field = next(at for at, row in enumerate(rows) if "Vary    " in row)
        assert "search.vary" in rows[field + 1]
        await console.press(
            "backspace", "backspace", "enter", "backspace", "enter", "enter", shows="Campaign seed@1 + faq@2"
        )
    body = appliance.bodies[appliance.sent.index(("POST", "/v1/campaigns/search"))]
    seen = look_at(body.text)
    assert seen.told == ("varies learning_rate 0.0003 to 0.03 (log); rank 4 16", "trials 2, batch 2")
    assert seen.recipe["with"] == {"rank": 8}


def test_learning_rate_that_was_set_is_not_proposed_to_vary() -> None:
    lora = next(recipe for recipe in fake_data.RECIPES if recipe.name == "lora")
    deed = BY_ID["train.search"].deed
    assert deed is not None
    proposed = deed.fields[0].default
    for given, told in (({}, "learning_rate=0.0003..0.03:log"), ({"learning_rate": 0.01}, "")):
        run = Planned(draft=Draft(recipe=lora, given=given), plan=fake_data.PLAN)
        assert proposed(Target(name="lora", item=run)) == told


async def test_run_that_does_not_fit_becomes_no_kfold(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = msgspec.structs.replace(fake_data.PLAN.memory, fits=False)
    monkeypatch.setattr(fake_data, "PLAN", msgspec.structs.replace(fake_data.PLAN, memory=memory))
    async with running(FakeAppliance()) as console:
        await planned(console, bar="(f k-fold)")
        await console.press("f", shows="k-fold: it does not fit in memory")


def test_line_mode_starts_one_too() -> None:
    appliance = FakeAppliance()
    text = said(appliance, "9", "f", "1", "3", "yes", "q", "q")
    assert "1  kfold.yaml" in text
    assert "memory       1.9 GiB of 21.0 GiB available" in text
    assert "The same from a shell: intramuros kfold run kfold.yaml -k 3" in text
    assert appliance.bodies[appliance.sent.index(("POST", "/v1/campaigns/kfold"))].folds == 3


def test_line_mode_starts_nothing_with_a_recipe_that_is_refused() -> None:
    appliance = FakeAppliance()
    appliance.failures["POST /v1/jobs/plan"] = BadInput("recipe.invalid", "rank is too large.")
    text = said(appliance, "9", "f", "kfold.yaml", "3")
    assert "FAIL recipe.invalid: rank is too large." in text
    assert "Nothing was changed." in text


@pytest.mark.parametrize("state", ["cancelled", "failed"])
@pytest.mark.parametrize("kind", START)
def test_campaign_that_stopped_goes_on_and_one_under_way_stops(kind: str, state: str) -> None:
    resume, cancel = BY_ID["job.resume"].deed, BY_ID["job.cancel"].deed
    assert resume is not None
    assert cancel is not None
    view = next(one for one in CAMPAIGNS if one.kind == kind)
    stopped = campaign_target(msgspec.structs.replace(view, state=state))
    assert (resume.ready(stopped), cancel.ready(stopped)) == ("", f"the {kind} is {state}")
    assert resume.call(stopped, {}).path == f"/v1/campaigns/{view.id}/resume"
    assert resume.command(stopped, {}) == f"intramuros {kind} resume {view.id}"
    running_one = campaign_target(msgspec.structs.replace(view, state="running"))
    assert cancel.ready(running_one) == ""
    assert cancel.call(running_one, {}).path == f"/v1/campaigns/{view.id}/cancel"


def test_files_are_told_apart_by_what_they_hold(folder: Path) -> None:
    assert [files_of(kind, folder) for kind in START] == [(f"{kind}.yaml",) for kind in START]
    assert files_of("search", folder / "none") == ()
    (folder / "large.yaml").write_text(SEARCH + "#" * (1 << 16), encoding="utf-8")
    (folder / "gone.yaml").symlink_to(folder / "none.yaml")
    (folder / "folder.yaml").mkdir()
    assert files_of("search", folder) == ("search.yaml",)
    assert look_into(folder / "none.yaml") is None


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"recipe": 3},
        {"steps": "all"},
        {"space": {"rank": 3}, "recipe": {}},
        {"space": {"rank": {"choices": ["a", True], "low": None}}, "recipe": {"recipe": []}},
        {"steps": [3, {}, {"name": "x"}]},
    ],
)
def test_document_of_any_shape_can_be_looked_into(value: dict[str, object]) -> None:
    assert not seen_in(value).highest


@pytest.mark.parametrize(
    ("error", "field"),
    [
        (BadInput("kfold.folds", "no"), "folds"),
        (BadInput("kfold.no_data", "no"), "file"),
        (NotFound("dataset.unknown", "no"), "file"),
        (Unavailable("api.not_running", "no"), ""),
    ],
)
def test_error_is_about_the_field_with_the_longest_beginning(error: IntramurosError, field: str) -> None:
    deed = BY_ID["kfold.start"].deed
    assert deed is not None
    assert deed.at_fault(error) == field
