"""Every screen against the fake appliance, at 80x24 (golden text) and at 120x40."""

from __future__ import annotations

import msgspec
import pytest

from appliance.kernel.errors import GateRefused, InternalError
from tests.console import fake_data
from tests.console.fake_campaigns import SEARCH, STEPS, campaign_detail
from tests.console.fake_client import FakeAppliance
from tests.console.fake_data import FAILED, FINISHED
from tests.console.screen_text import BASIC, RICH, check_golden, running
from tui.places import READ_OF
from tui.term import Choice
from tui.widgets.panes import Listing, Page

SCREENS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "home": ((), ("Health", "Newest audit events", "deployment.deploy")),
    "models": (("1",), ("faq@3", "1 of 3")),
    "model": (("1", "enter"), ("Evaluations", "Lineage", "seed@1")),
    "jobs": (("2",), ("faq-tune on faq@2", "dataset.encoding")),
    "job": (("2", "enter"), ("Loss", "15 min left", "heldout_loss")),
    "datasets": (("3",), ("faq@2", "1,240")),
    "dataset": (("3", "enter"), ("Statistics", "empty answer")),
    "dataset_checked": (("3", "G", "enter"), ("leakage", "95 % 41")),
    "tune": (("5",), ("lora", "distil")),
    "recipe": (("5", "enter"), ("Rank of the adapters", ">= 1, <= 256")),
    "form": (("5", "n"), ("choose one", "learning_rate")),
    "form_change": (("5", "n", "down", "down", "down", "enter"), ("width of the update", "--base BASE")),
    "compare": (("2", " ", "down", " ", "="), ("rank", "0.934")),
    "serve": (("4",), ("assistant", "faq@3")),
    "deployment": (("4", "enter"), ("roll back to", "Revisions")),
    "backups": (("6",), ("box-7", "4.3 GiB")),
    "audit": (("7",), ("key.create", "1 of 100")),
    "event": (("7", "enter"), ("sequence", "Evidence")),
    "access": (("8",), ("intranet", "everything")),
    "fleet": (("F",), ("alpha (this one)", "10.77.0.3", "✗ FAIL")),
    "box": (("F", "down", "enter"), ("rank host of box beta does not answer", "systemctl status")),
    "help": (("4", "?"), ("Help: serve", "roll back")),
    "ask": (("4", "V"), ("Roll back assistant", "[ Back ]")),
    "palette": (("4", ":"), ("part of a name", "stop serving")),
}


@pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=["80x24", "120x40"])
@pytest.mark.parametrize("name", SCREENS)
async def test_screen_shows_what_it_is_for(name: str, size: tuple[int, int]) -> None:
    keys, wanted = SCREENS[name]
    async with running(FakeAppliance(), size=size) as console:
        await console.shows("Newest audit events")
        text = await console.press(*keys, shows=wanted)
        assert all(len(row) <= size[0] for row in text.splitlines())
        if size == (80, 24):
            check_golden(name, text)


CAMPAIGN_SCREENS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "jobs_tree": (("2",), ("├ trial 1: seed@", "2 of 8 done", "3 of 5 done")),
    "campaigns": (("9",), ("heldout_loss 1.31 so far", "at promote", "trial 2: 1.287", "accuracy 0.931")),
    "search": (("9", "enter"), ("trial 1 so far", "stopped at step 20", "40 %, 1 min left")),
    "pipeline": (("9", "down", "enter"), ("waits", "model approve faq@3", "promote")),
    "kfold": (("9", "down", "down", "enter"), ("0.9205 to 0.9419", "fold 3")),
    "search_found": (("9", "down", "down", "down", "enter"), ("learning_rate 71%", "^2", "The best recipe")),
    "rerun": (("9", "G", "enter"), ("all 7 files have the same SHA-256",)),
}


@pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=["80x24", "120x40"])
@pytest.mark.parametrize("name", CAMPAIGN_SCREENS)
async def test_campaign_screen_shows_what_it_is_for(name: str, size: tuple[int, int]) -> None:
    keys, wanted = CAMPAIGN_SCREENS[name]
    async with running(FakeAppliance().with_campaigns(), size=size) as console:
        await console.shows("Newest audit events")
        text = await console.press(*keys, shows=wanted)
        assert all(len(row) <= size[0] for row in text.splitlines())
        if size == (80, 24):
            check_golden(name, text)


async def test_tree_in_the_basic_look_is_ascii_only() -> None:
    async with running(FakeAppliance().with_campaigns(), choice=BASIC) as console:
        await console.shows("Newest audit events")
        text = await console.press("2", shows=("|- trial 1: seed", "`- trial 3: seed"))
        assert text.isascii()
        check_golden("jobs_tree_basic", text)


async def test_search_is_opened_from_its_row_and_cancelled_as_a_whole() -> None:
    appliance = FakeAppliance().with_campaigns()
    async with running(appliance) as console:
        await console.shows("Health")
        await console.press("2", shows="2 of 8 done")
        await console.press(" ", shows="mark: only runs are compared")
        await console.press("enter", shows=("Campaign seed@1 + faq@2", "(m to models)"))
        await console.press("C", shows=("what runs seals a checkpoint", f"intramuros search cancel {SEARCH}"))
        await console.press("right", "enter", shows="is asked to stop")
        assert ("POST", f"/v1/campaigns/{SEARCH}/cancel") in appliance.sent


async def test_parts_of_a_campaign_are_opened_from_its_page() -> None:
    async with running(FakeAppliance().with_campaigns()) as console:
        await console.shows("Health")
        await console.press("9", "enter", shows=("Campaign seed@1 + faq@2", "Enter open"))
        await console.press("enter", shows="Job trial 1: seed@1 + faq@2")
        await console.press("escape", shows="Campaign seed@1 + faq@2")
        await console.press("down", "enter", shows=("Job trial 3: seed@1 + faq@2", "rank 16  learning_rate 0.0021"))
        await console.press("escape", "down", "enter", shows="Job trial 3")
        await console.press("escape", "up", "up", "enter", shows="Job trial 1")


async def test_page_without_a_part_to_open_only_scrolls() -> None:
    async with running(FakeAppliance().with_campaigns()) as console:
        await console.shows("Health")
        await console.press("9", "down", "down", "enter", shows=("Campaign banking@1", "fold 3"))
        await console.press("down", "enter", shows=("Campaign banking@1", "fold 3", "no part with a job is in sight"))


async def test_cursor_of_a_long_campaign_stays_in_sight(monkeypatch: pytest.MonkeyPatch) -> None:
    last = STEPS[SEARCH][-1]
    many = tuple(msgspec.structs.replace(last, number=number, name=f"trial {number}") for number in range(1, 41))
    monkeypatch.setitem(STEPS, SEARCH, many)
    async with running(FakeAppliance().with_campaigns()) as console:
        await console.shows("Health")
        await console.press("9", "enter", shows="RUN       1 ")
        page = console.app.screen.query_one("#body", Page)
        first = page.stop
        await console.press(*["down"] * 39, shows="RUN      40 ")
        assert page.stop == first + 39
        await console.press("down", "g", shows="   state ")
        assert page.top < page.stop < page.top + page.size.height
        await console.press("G", "up", shows="RUN      40 ")
        assert page.top <= page.stop < page.top + page.size.height


@pytest.mark.parametrize("was", ["failed", "cancelled", "interrupted"])
async def test_page_of_a_stopped_job_follows_what_goes_on_elsewhere(was: str) -> None:
    appliance = FakeAppliance()
    *others, stopped = appliance.jobs
    appliance.jobs = (*others, msgspec.structs.replace(stopped, state=was, problem=None))
    async with running(appliance) as console:
        await console.shows("Health")
        await console.press("2", shows="1 of 4")
        await console.press("G", "enter", shows=("Job support-mails", was))
        appliance.jobs = (*others, msgspec.structs.replace(stopped, state="succeeded", problem=None))
        await console.shows("✓ OK", "succeeded")


@pytest.mark.parametrize(
    ("was", "looks"), [("running", True), ("cancelled", True), ("failed", True), ("succeeded", False)]
)
def test_page_of_a_campaign_looks_again_until_it_has_succeeded(was: str, looks: bool) -> None:
    detail = campaign_detail(SEARCH)
    campaign = msgspec.structs.replace(detail.campaign, state=was)
    assert bool(READ_OF["campaign"].interval(msgspec.structs.replace(detail, campaign=campaign))) is looks


async def test_rows_of_a_narrowed_tree_stand_alone() -> None:
    async with running(FakeAppliance().with_campaigns()) as console:
        await console.shows("Health")
        await console.press("2", shows="├ trial 1")
        await console.press("/", *"seed@1 on", "enter", shows="1 of 2")
        assert "├" not in console.text


async def test_run_becomes_a_model_version() -> None:
    appliance = FakeAppliance()
    async with running(appliance) as console:
        await console.shows("Health")
        await console.press("2", shows="(m to models)")
        await console.press("down", "down", "m", shows=f"intramuros model register run:{FINISHED}")
        await console.press(*"faq", "enter", "enter", "enter", shows="Model faq@3")
        sent = appliance.bodies[appliance.sent.index(("POST", "/v1/models/register"))]
        assert (sent.name, sent.run, sent.licence) == ("faq", f"run:{FINISHED}", "")


async def test_best_run_of_a_search_becomes_a_model_version() -> None:
    appliance = FakeAppliance().with_campaigns()
    async with running(appliance) as console:
        await console.shows("Health")
        await console.press("9", shows="trial 2")
        await console.press(
            "down", "down", "down", "m", shows=("To models", f"intramuros model register run:{FINISHED}")
        )


async def test_run_is_done_again_and_the_verdict_shown() -> None:
    appliance = FakeAppliance()
    async with running(appliance) as console:
        await console.shows("Health")
        await console.press("2", shows="1 of 4")
        await console.press("down", "down", "v", shows=f"intramuros run rerun {FINISHED} --verify")
        await console.press("enter", shows="all 7 files have the same SHA-256")
        assert ("POST", f"/v1/runs/{FINISHED}/verify") in appliance.sent


@pytest.mark.parametrize("name", ["home", "job", "serve", "ask", "form", "dataset_checked"])
async def test_basic_look_is_ascii_only(name: str) -> None:
    keys, wanted = SCREENS[name]
    async with running(FakeAppliance(), choice=BASIC) as console:
        await console.shows("Newest audit events")
        text = await console.press(*keys, shows=wanted)
        assert text.isascii()
        check_golden(f"{name}_basic", text)


@pytest.mark.parametrize(
    ("key", "wanted"),
    [
        ("1", "intramuros model import"),
        ("2", "intramuros train lora"),
        ("3", "intramuros dataset import"),
        ("4", "intramuros deploy"),
        ("5", "intramuros train recipes"),
        ("6", "intramuros backup create"),
        ("7", "No event"),
        ("8", "intramuros key create"),
        ("9", "intramuros search run"),
    ],
)
async def test_empty_list_says_what_to_do_next(key: str, wanted: str) -> None:
    async with running(FakeAppliance(empty=True)) as console:
        await console.shows("none yet")
        await console.press(key, shows=wanted)
        await console.press("enter", "i", "y")  # nothing under the cursor: nothing happens
        await console.shows(wanted)


async def test_home_never_asks_for_the_trail_without_the_role() -> None:
    appliance = FakeAppliance(roles=("operator",))
    async with running(appliance) as console:
        await console.shows("Only an administrator or an auditor")
        await console.press("7", shows="audit: needs the role admin or auditor")
        assert not [path for _, path in appliance.sent if path.startswith("/v1/audit")]


async def test_action_without_the_role_is_dimmed_and_says_why() -> None:
    appliance = FakeAppliance(roles=("auditor",))
    async with running(appliance) as console:
        await console.shows("Health")
        await console.press("4", shows=("(V roll back)", "(D deploy)"))
        await console.press("V", shows="roll back: needs the role admin or operator")
        assert all(method == "GET" for method, _ in appliance.sent)


async def test_action_that_does_not_fit_the_state_says_why() -> None:
    async with running(FakeAppliance()) as console:
        await console.shows("Health")
        await console.press("2", shows="(u resume)")
        await console.press("u", shows="resume: the job is running")


async def test_roll_back_needs_more_than_enter() -> None:
    appliance = FakeAppliance()
    async with running(appliance) as console:
        await console.shows("Health")
        await console.press("4", shows="faq@3")
        await console.press("V", shows=("assistant goes back from faq@3 to faq@2", "intramuros rollback assistant"))
        await console.press("enter", shows="Nothing was changed")
        assert ("POST", "/v1/deployments/assistant/rollback") not in appliance.sent
        await console.press("V", shows=">[ Back ]<")
        await console.press("right", "enter", shows="assistant is going back to faq@2")
        assert ("POST", "/v1/deployments/assistant/rollback") in appliance.sent


async def test_deploy_sends_the_chosen_version() -> None:
    appliance = FakeAppliance()
    async with running(appliance) as console:
        await console.shows("Health")
        await console.press("4", shows="faq@3")
        await console.press("D", shows="intramuros deploy faq@3 --as assistant")
        await console.shows("needs 1.4 GiB, and up to 256 MiB for saved prefixes;", "serving has 3.0 GiB free")
        await console.press(
            "enter", "down", "enter", "enter", "enter", "right", "enter", shows="assistant is switching to faq@2"
        )
        sent = appliance.bodies[appliance.sent.index(("POST", "/v1/deployments/assistant/deploy"))]
        assert (sent.model, sent.override, sent.options.draft, len(sent.request_id)) == ("faq@2", "", None, 26)


async def test_draft_that_cannot_guess_is_blamed_before_it_is_agreed_to() -> None:
    appliance = FakeAppliance()
    async with running(appliance) as console:
        await console.shows("Health")
        await console.press("4", shows="faq@3")
        await console.press("D", shows="serving has 3.0 GiB free")
        await console.press("enter", "enter", *"faq@3", shows="A model cannot guess for itself.")
        await console.press("backspace", "2", shows=("200 MiB of it for the draft", "--draft faq@2"))
        assert ("POST", "/v1/deployments/assistant/deploy") not in appliance.sent


async def test_remove_wants_the_name_typed() -> None:
    appliance = FakeAppliance()
    async with running(appliance) as console:
        await console.shows("Health")
        await console.press("1", shows="faq@3")
        await console.press("down", "X", shows=("Type its name to agree", "intramuros model remove faq@2"))
        await console.press("f", "a", "q", "enter", "right", "enter", shows="Type faq@2 to agree")
        assert not [method for method, _ in appliance.sent if method == "DELETE"]
        await console.press("up", "@", "2", "enter", "enter", shows="faq@2 is removed")
        assert ("DELETE", "/v1/models/faq@2") in appliance.sent


async def test_run_is_filled_in_planned_and_started() -> None:
    appliance = FakeAppliance()
    async with running(appliance) as console:
        await console.shows("Health")
        await console.press("5", shows="Low-rank adapters")
        await console.press("n", shows="choose one")
        await console.press("p", shows="choose base and data")
        await console.press("enter", shows="Up/Down: 3")
        await console.press("enter", "down", "enter", shows="intramuros train lora --base faq@3 --data faq@2")
        await console.press("enter", "down", "down", "enter", shows=("It takes 1 to 256", "[ Change ]"))
        await console.press("backspace", "backspace", "8", "enter")
        await console.until(lambda: "It takes" not in console.text)
        await console.press("p", shows=("1.9 GiB of 21.0 GiB available", "1,550", "138 held out"))
        check_golden("plan", console.text)
        await console.press("s", shows="intramuros train lora --base faq@3 --data faq@2 --set rank=8")
        await console.press("enter", shows="Job faq@3 on faq@2")
        sent = appliance.bodies[appliance.sent.index(("POST", "/v1/jobs"))]
        assert (sent.kind, sent.inputs, sent.parameters) == (
            "train.lora",
            {"base": "faq@3", "dataset": "faq@2"},
            {"rank": 8},
        )


async def test_value_out_of_range_is_refused_and_the_old_one_stays() -> None:
    async with running(FakeAppliance()) as console:
        await console.shows("Health")
        await console.press("5", shows="Low-rank adapters")
        await console.press("n", shows="choose one")
        await console.press("down", "down", "down", "enter", shows="It takes 1 to 256")
        await console.press(
            "0", "0", "0", "enter", shows=("rank cannot be '16000'. It takes >= 1, <= 256.", "--data DATA ")
        )
        await console.press("backspace", "backspace", "backspace")
        await console.until(lambda: "rank cannot be" not in console.text)
        await console.press("0", "0", "0", "escape", shows="16               16")


async def test_form_left_by_a_digit_is_there_again() -> None:
    async with running(FakeAppliance()) as console:
        await console.shows("Health")
        await console.press("5", shows="Low-rank adapters")
        await console.press("n", shows="choose one")
        await console.press("enter", shows="Up/Down: 3")
        await console.press("enter", shows="base                          faq@3")
        await console.press("8", shows="intranet")
        await console.press("5", shows="Low-rank adapters")
        await console.press("n", shows=("base                          faq@3", "As you left it; n begins afresh."))
        await console.press("n")
        await console.until(lambda: console.text.count("choose one") == 2)


async def test_run_that_does_not_fit_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = msgspec.structs.replace(fake_data.PLAN.memory, fits=False, available=1 << 30)
    plan = msgspec.structs.replace(fake_data.PLAN, memory=memory, proposals=("batch_size 4 would need 0.9 GiB",))
    monkeypatch.setattr(fake_data, "PLAN", plan)
    async with running(FakeAppliance()) as console:
        await console.shows("Health")
        await console.press("5", shows="Low-rank adapters")
        await console.press("down", "n", shows="teacher")
        await console.press("enter", shows="Up/Down: 3")
        await console.press("enter", "p", shows=("it does not fit", "batch_size 4 would need", "(s start)"))
        await console.press("s", shows="start: it does not fit in memory")


async def test_data_set_is_checked_and_the_job_is_shown() -> None:
    appliance = FakeAppliance()
    async with running(appliance) as console:
        await console.shows("Health")
        await console.press("3", shows="faq@2")
        await console.press("c", shows="intramuros dataset check faq@2 --near 0.85")
        await console.press("enter", "enter", "enter", shows="Job faq@3 on faq@2")
        assert ("POST", "/v1/datasets/faq@2/check") in appliance.sent


async def test_data_set_is_split_with_what_was_filled_in() -> None:
    appliance = FakeAppliance()
    async with running(appliance) as console:
        await console.shows("Health")
        await console.press("3", shows="faq@2")
        await console.press("d", shows="--train 80 --heldout 20 --by hash")
        await console.press("enter", "down", "enter", "enter", "enter", "enter", "enter", shows="Job faq@3 on faq@2")
        sent = appliance.bodies[appliance.sent.index(("POST", "/v1/datasets/faq@2/split"))]
        assert (sent.by, sent.train, sent.heldout, sent.drop_near) == ("stratified", 80, 20, 0.0)


async def test_data_set_in_use_is_not_removed_and_says_why() -> None:
    async with running(FakeAppliance()) as console:
        await console.shows("Health")
        await console.press("3", "enter", shows="(X remove)")
        await console.press("X", shows="remove: it is used by faq@2")


async def test_runs_are_compared_only_when_marked() -> None:
    async with running(FakeAppliance()) as console:
        await console.shows("Health")
        await console.press("2", shows="1 of 4")
        await console.press("=", shows="mark two runs or more")
        await console.press(" ", " ", shows=("2 marked", "*▸ RUN"))
        await console.press("up", "up", " ", shows="1 marked")


async def test_two_models_are_compared_on_a_data_set() -> None:
    async with running(FakeAppliance()) as console:
        await console.shows("Health")
        await console.press("1", shows="faq@3")
        await console.press("=", shows=("Compare faq@3", "Up/Down: 3"))
        await console.press("down", "enter", "enter", "down", "enter", shows=("worse", "0.913, 0.87 on 230 rows"))


async def test_try_shows_answer_and_timings() -> None:
    async with running(FakeAppliance()) as console:
        await console.shows("Health")
        await console.press("4", shows="faq@3")
        await console.press("t", shows="Prompt")
        await console.press(*"Where?", "enter", shows=("Building B.", "80 ms", "21 in, 4 out"))
        await console.press("escape", shows="Serve")


async def test_new_key_shows_its_secret_once() -> None:
    async with running(FakeAppliance()) as console:
        await console.shows("Health")
        await console.press("8", shows="intranet")
        await console.press("n", shows="New key")
        await console.press(*"web", *["enter"] * 6, shows="im-secret-shown-once")
        await console.press("escape")
        await console.until(lambda: "im-secret" not in console.text)


async def test_chain_is_verified_on_request() -> None:
    async with running(FakeAppliance()) as console:
        await console.shows("Health")
        await console.press("7", shows="1204")
        await console.press("v", shows=("The chain is whole", "19 signatures"))


async def test_audit_can_be_narrowed_and_paged() -> None:
    appliance = FakeAppliance()
    async with running(appliance) as console:
        await console.shows("Health")
        await console.press("7", shows="1 of 100")
        await console.press("o", shows="1 of 200")
        await console.press("a", shows=("action: key.create", "1 of 40"))
        await console.press("a", shows="1 of 100")


async def test_filter_narrows_and_escape_ends_it() -> None:
    async with running(FakeAppliance()) as console:
        await console.shows("Health")
        await console.press("2", shows="1 of 4")
        await console.press("/", *"fail", "enter", shows=("filter: fail", "1 of 1", "support-mails"))
        await console.press("enter", shows="dataset.encoding: mails.csv is not UTF-8")
        await console.press("escape", shows="filter: fail")
        await console.press("escape", shows="of 4")
        await console.press("/", *"zzz", shows="No row has this text")
        await console.press("escape", shows="of 4")


async def test_sort_goes_through_the_columns() -> None:
    async with running(FakeAppliance()) as console:
        await console.shows("Health")
        await console.press("1", shows="faq@3")
        text = await console.press("s", shows="by model")
        assert text.index("faq@2") < text.index("faq@3") < text.index("seed@1")


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [
        (("7", "v"), "The chain is whole"),
        (("2", "?"), "Help: jobs"),
        (("8", "n"), "intramuros key create"),
    ],
)
async def test_keys_typed_ahead_reach_the_new_screen(keys: tuple[str, ...], wanted: str) -> None:
    async with running(FakeAppliance()) as console:
        await console.shows("Health")
        for key in keys:
            console.app.simulate_key(key)  # all in the queue before the first one has been handled
        await console.shows(wanted)


async def test_running_job_is_followed_by_long_poll_and_left_alone_when_covered() -> None:
    appliance = FakeAppliance()
    async with running(appliance) as console:
        await console.shows("Health")
        await console.press("2", "enter", shows="15 min left")
        await console.until(lambda: appliance.long_polls == 1, "one long poll")
        await console.press("escape", shows="Created")
        assert appliance.long_polls == 1


async def test_finished_job_shows_its_figures_and_is_not_polled() -> None:
    appliance = FakeAppliance()
    async with running(appliance) as console:
        await console.shows("Health")
        await console.press("2", "down", "down", "enter", shows=("2 h 00 min", "tokens 1,200,345", FINISHED))
        assert appliance.long_polls == 0
        await console.press("l", shows="adapter.safetensors")


async def test_refused_deed_shows_code_and_hint() -> None:
    appliance = FakeAppliance()
    appliance.failures["POST /v1/models/faq@2/promote"] = GateRefused(
        "gate.exact_match", "exact_match 0.81 is below 0.9.", hint="Train longer, then evaluate again."
    )
    async with running(appliance) as console:
        await console.shows("Health")
        await console.press("1", shows="faq@2")
        await console.press("down", "p", shows="intramuros model promote faq@2 --to prod")
        await console.press("enter", "enter", shows=("gate.exact_match", "below 0.9", "Train longer"))
        await console.press("escape", shows="2 of 3")


async def test_failing_list_shows_its_error_and_the_console_lives() -> None:
    appliance = FakeAppliance()
    appliance.failures["GET /v1/models"] = InternalError(
        "store.broken", "The registry cannot be read.", hint="See the log."
    )
    async with running(appliance) as console:
        await console.shows("Health")
        await console.press("1", shows=("store.broken", "See the log."))
        appliance.failures.clear()
        await console.press("r", shows="faq@3")


async def test_lost_service_shows_a_banner_until_it_is_back() -> None:
    appliance = FakeAppliance()
    async with running(appliance) as console:
        await console.shows("Health")
        await console.press("4", shows="assistant")
        appliance.away = True
        await console.press("r", shows=("FAIL  No control service: models still answer", "(V roll back)", "assistant"))
        await console.press("V", shows="FAIL  No control service")
        appliance.away = False
        await console.press("r")
        await console.until(lambda: "No control service" not in console.text)


async def test_small_terminal_says_so_and_recovers() -> None:
    async with running(FakeAppliance()) as console:
        await console.shows("Health")
        for width, height in ((60, 20), (20, 5), (1, 1), (40, 12)):
            await console.resize(width, height)
        await console.shows("Enlarge to 80x24 (now 40x12)")
        await console.press("4", "X")
        await console.resize(80, 24)
        await console.shows("Health")
        await console.press("1", "down", shows="2 of 3")


async def test_every_place_can_be_opened_at_a_tiny_size() -> None:
    async with running(FakeAppliance(), size=(20, 5)) as console:
        await console.shows("Enlarge to")
        await console.press("?", "escape", "q")
        await console.until(lambda: len(console.app.screen_stack) == 2)


@pytest.mark.parametrize("choice", [RICH, BASIC], ids=["rich", "basic"])
async def test_look_can_be_changed_and_back(choice: Choice) -> None:
    async with running(FakeAppliance(), choice=choice) as console:
        first = await console.shows("Health")
        await console.press("f4")
        await console.until(lambda: console.text.isascii() != first.isascii())
        await console.press("f4", "f3")
        await console.until(lambda: console.text.splitlines()[4:] == first.splitlines()[4:])


async def test_palette_finds_and_does() -> None:
    async with running(FakeAppliance()) as console:
        await console.shows("Health")
        await console.press("4", shows="assistant")
        await console.press(":", *"roll b", "enter", shows="Roll back assistant")


async def test_q_at_home_asks_and_escape_stays() -> None:
    async with running(FakeAppliance()) as console:
        await console.shows("Health")
        await console.press("q", shows="Leave the console?")
        await console.press("enter", shows="Health")
        await console.press("escape")
        assert console.app.is_running
        await console.press("ctrl+c", shows="Ctrl+Q leaves the console")


async def test_escape_at_home_never_asks() -> None:
    async with running(FakeAppliance()) as console:
        await console.shows("Health")
        await console.press("escape", "1", shows="Models")


async def test_hostile_text_cannot_reach_the_terminal() -> None:
    appliance = FakeAppliance()
    appliance.jobs = (
        *appliance.jobs[:1],
        type(appliance.jobs[0])(
            **{
                **{f: getattr(appliance.jobs[1], f) for f in appliance.jobs[1].__struct_fields__},
                "title": "\x1b[2Jgone [bold]x[/bold] \u202eevil",
            }
        ),
    )
    async with running(appliance) as console:
        await console.shows("Health")
        text = await console.press("2", shows="[2Jgone [bold]x")
        assert "\x1b" not in text
        assert "\u202e" not in text


async def test_cursor_stays_on_its_thing_when_the_list_changes() -> None:
    appliance = FakeAppliance()
    async with running(appliance) as console:
        await console.shows("Health")
        await console.press("2", shows="1 of 4")
        await console.press("down", "down", "down", shows="4 of 4")
        appliance.jobs = appliance.jobs[1:]
        await console.press("r", shows="3 of 3")
        await console.press("y", shows=FAILED)


async def test_hardware_cursor_follows_the_row() -> None:
    async with running(FakeAppliance()) as console:
        await console.shows("Health")
        await console.press("2", shows="1 of 4")
        await console.press("down")
        await console.until(lambda: console.app.cursor_position.y == 4)


async def test_only_changed_lines_are_sent_again() -> None:
    async with running(FakeAppliance()) as console:
        await console.shows("Health")
        await console.press("2", shows="1 of 4")
        listing = console.app.screen.query_one("#body", Listing)
        assert not listing.changed_rows(listing.lines_now())
        listing.cursor = 1
        assert listing.changed_rows(listing.lines_now()) == [1, 2]


async def test_a_box_that_is_ready_says_how_to_train_there() -> None:
    async with running(FakeAppliance()) as console:
        await console.shows("Newest audit events")
        text = await console.press("F", "enter", shows=("the same as this box's", "90.0 GiB free of 128 GiB"))
        assert "intramuros train full --base MODEL --data DATA --set boxes=alpha" in text
