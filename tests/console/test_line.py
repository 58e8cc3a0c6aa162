"""Line mode: the same places and actions through print and input."""

from __future__ import annotations

import io

from appliance.kernel.errors import GateRefused
from tests.console.fake_client import FakeAppliance
from tests.console.fake_data import NOW
from tests.console.screen_text import session_over
from tui.actions import TABLE
from tui.line import run_line

PLANNING = ("5", "1", "n", "1", "1", "2", "1", "4", "8", "p")
"""Tune, lora, new run; base, data, rank; the plan."""


def said(appliance: FakeAppliance, *typed: str) -> str:
    """What line mode prints for these lines of input; the end of the input follows them."""
    out, given = io.StringIO(), io.StringIO("".join(f"{line}\n" for line in typed))
    assert run_line(session_over(appliance), out=out, read=given.readline, host="box-7", clock=lambda: NOW) == 0
    return out.getvalue()


def test_end_of_input_leaves_cleanly() -> None:
    text = said(FakeAppliance())
    assert text.startswith("Intramuros console on box-7")
    assert text.endswith("Goodbye. Nothing was stopped.\n")


def test_output_is_plain_ascii_without_control_codes() -> None:
    walk = [
        "1",
        "1",
        "i",
        "q",
        "q",
        *(step for place in "23456" for step in (place, "1", "q", "q")),
        "7",
        "1",
        "q",
        "q",
        "?",
    ]
    text = said(FakeAppliance(), *walk, "2", "1", "l")
    assert text.isascii()
    assert not [character for character in text if ord(character) < 32 and character != "\n"]
    assert "#" not in text.split("Loss")[1].split("Log")[0]


def test_numbers_are_those_of_the_full_screen() -> None:
    text = said(FakeAppliance(), "4", "q", "7", "q", "q")
    assert "Serve: 2" in text
    assert "Audit: 100" in text


def test_every_deed_is_offered_somewhere() -> None:
    text = said(
        FakeAppliance(),
        *[
            "1",
            "1",
            "q",
            "q",
            "2",
            "1",
            "q",
            "q",
            "3",
            "1",
            "q",
            "q",
            *PLANNING,
            "q",
            "q",
            "q",
            "q",
            "4",
            "1",
            "q",
            "q",
            "6",
            "q",
            "7",
            "q",
            "8",
            "1",
            "q",
            "q",
            "9",
            "q",
        ],
    )
    for action in TABLE:
        if action.deed is not None:
            assert f"  {action.keys[0]}  {action.label}" in text, action.id


def test_unknown_choice_is_asked_again() -> None:
    assert said(FakeAppliance(), "99", "nonsense").count("is not in the menu.") == 2


def test_dangerous_deed_defaults_to_no() -> None:
    appliance = FakeAppliance()
    text = said(appliance, "4", "1", "V", "")
    assert "assistant goes back from faq@3 to faq@2." in text
    assert "The same from a shell: intramuros rollback assistant" in text
    assert "Nothing was changed." in text
    assert all(method == "GET" for method, _ in appliance.sent)


def test_dangerous_deed_is_done_on_yes() -> None:
    appliance = FakeAppliance()
    assert "assistant is going back to faq@2." in said(appliance, "4", "1", "V", "yes")
    assert ("POST", "/v1/deployments/assistant/rollback") in appliance.sent


def test_destroying_wants_the_name() -> None:
    appliance = FakeAppliance()
    assert "Nothing was changed." in said(appliance, "4", "1", "X", "yes")
    assert "assistant is no longer served." in said(appliance, "4", "1", "X", "assistant")
    assert appliance.sent.count(("DELETE", "/v1/deployments/assistant")) == 1


def test_choices_are_numbered_and_defaults_kept() -> None:
    appliance = FakeAppliance()
    assert "assistant is switching to faq@2." in said(appliance, "4", "1", "D", "", "2", "", "", "y")


def test_what_serving_would_need_is_said_before_it_is_agreed_to() -> None:
    appliance = FakeAppliance()
    text = " ".join(said(appliance, "4", "1", "D", "", "1", "2", "", "no").split())
    assert "needs 1.6 GiB, 200 MiB of it for the draft, and up to 256 MiB for saved prefixes; serving has 3.0" in text
    assert "load assistant: needs 1.4 GiB, 3 GiB are free" in text
    assert "intramuros deploy faq@3 --as assistant --draft faq@2" in text
    assert "A model cannot guess for itself." in said(appliance, "4", "1", "D", "", "1", "1", "", "y")
    assert ("POST", "/v1/deployments/assistant/deploy") not in appliance.sent


def test_missing_answer_changes_nothing() -> None:
    appliance = FakeAppliance()
    text = said(appliance, "4", "1", "t", "")
    assert "Prompt is needed." in text
    assert ("POST", "/v1/deployments/assistant/try") not in appliance.sent


def test_end_of_input_in_a_question_does_nothing() -> None:
    appliance = FakeAppliance()
    assert said(appliance, "4", "1", "V").endswith("Goodbye. Nothing was stopped.\n")
    assert all(method == "GET" for method, _ in appliance.sent)


def test_role_that_is_missing_is_said() -> None:
    appliance = FakeAppliance(roles=("operator",))
    text = said(appliance, "7", "1", "2", "a")
    assert "Audit (not for you: needs the role admin or auditor)" in text
    assert "approve (not now: needs the role approver)" in text
    assert "approve: needs the role approver." in text
    assert not [path for _, path in appliance.sent if path.startswith("/v1/audit")]


def test_filter_narrows() -> None:
    text = said(FakeAppliance(), "2", "/support", "1", "q")
    assert "Jobs: 1 with support" in text
    assert "mails.csv is not UTF-8" in text


def test_refusal_is_told_with_its_hint() -> None:
    appliance = FakeAppliance()
    appliance.failures["POST /v1/models/faq@2/promote"] = GateRefused("gate.approval", "Nobody approved.", hint="Ask.")
    assert "FAIL gate.approval: Nobody approved.\n  Ask.\n" in said(appliance, "1", "2", "p", "", "y")


def test_lost_service_is_told_and_the_menu_stays() -> None:
    appliance = FakeAppliance()
    appliance.away = True
    text = said(appliance, "4", "q")
    assert text.count("FAIL api.not_running") == 3
    assert "Start it with `intramuros up`." in text


def test_empty_appliance_says_what_to_do() -> None:
    text = said(FakeAppliance(empty=True), "1", "q", "4", "q")
    assert "intramuros model import" in text
    assert "intramuros deploy" in text


def test_run_is_filled_in_planned_and_started() -> None:
    appliance = FakeAppliance()
    text = said(appliance, *PLANNING, "s", "y", "q")
    assert "1  base: choose one" in text
    assert "It takes 1 to 256." in text
    assert "4  rank: 8" in text
    assert "1.9 GiB of 21.0 GiB available" in text
    assert "The same from a shell: intramuros train lora --base faq@3 --data faq@2 --set rank=8" in text
    assert "The run is queued." in text
    assert "Job 01K03ZQ5XD0000000000000004" in text


def test_run_without_its_inputs_is_not_planned() -> None:
    appliance = FakeAppliance()
    text = said(appliance, "5", "1", "n", "p", "4", "fast", "q")
    assert "Still to choose: base, data." in text
    assert "FAIL rank cannot be 'fast'. It takes a whole number." in text
    assert ("POST", "/v1/jobs/plan") not in appliance.sent


def test_campaigns_and_their_jobs_are_spoken_without_branches() -> None:
    text = said(FakeAppliance().with_campaigns(), "2", "=3 4", "q", "3", "q", "q", "9", "4", "q", "q")
    assert "part of it: OK, trial 1: seed@1 on faq@2" in text
    assert "heldout_loss: " not in text.split("Name 2 to 4 runs")[0]
    assert "best" in text.split("Campaigns: 5")[1]


def test_parts_of_a_campaign_are_opened_by_their_numbers() -> None:
    text = said(FakeAppliance().with_campaigns(), "9", "1", "3", "q", "2", "q", "q", "q")
    assert "number  open its job" in text
    assert "part of      trial 3 of search" in text
    assert "2 is not in the menu" in text


def test_runs_are_compared_by_their_numbers() -> None:
    text = said(FakeAppliance(), "2", "=1 3", "q", "=1", "q", "q")
    assert "rank: 16; 8" in text
    assert "loss: 1.21; 0.934" in text
    assert "Name 2 to 4 runs" in text
