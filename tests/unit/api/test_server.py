from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from appliance.access.roles import ALL_ROLES
from appliance.api import calls
from appliance.api import types as t
from appliance.api.calls import Call
from appliance.kernel.errors import Conflict, Forbidden, IntramurosError
from appliance.kernel.problem import Problem
from tests.factories.appliance import WEIGHTS, context, imported_model, trail
from tests.unit.api.conftest import Api, serving

BODIES: dict[str, t.Request] = {
    "import_model": t.ImportModel(source="/absent", name="x"),
    "register_model": t.RegisterModel(name="x", run="x"),
    "promote": t.Promote(stage="dev"),
    "approve": t.Approve(stage="dev"),
    "import_dataset": t.ImportDataset(source="/absent", name="x"),
    "export_model": t.ExportModel(layout="gguf"),
    "import_suite": t.ImportSuite(source="/absent", name="x"),
    "compare": t.Compare(first="x", second="x"),
    "plan_training": t.SubmitJob(kind="train.lora", inputs={}),
    "check_dataset": t.CheckDataset(),
    "split_dataset": t.SplitDataset(),
    "generate_dataset": t.GenerateDataset(name="x", model="x", prompts=("x",)),
    "submit_job": t.SubmitJob(kind="evaluate", inputs={}),
    "submit_search": t.SubmitSearch(text=""),
    "submit_kfold": t.SubmitKfold(text=""),
    "submit_pipeline": t.SubmitPipeline(text=""),
    "deploy": t.Deploy(model="x"),
    "roll_back": t.RollBack(),
    "set_policy": t.PolicyChange(),
    "plan_deploy": t.PlanDeploy(model="x"),
    "try_prompt": t.TryPrompt(prompt="x"),
    "create_key": t.CreateKey(name="x"),
    "enrol_approver": t.EnrolApprover(name="x", public_key=""),
}


def every_call() -> Iterator[tuple[str, Call[Any]]]:
    """Yield each call of the table, with `x` for every name."""
    for name, make in vars(calls).items():
        if inspect.isfunction(make) and make.__module__ == calls.__name__ and not name.startswith("_"):
            required = [p for p in inspect.signature(make).parameters.values() if p.default is p.empty]
            yield name, make(*(BODIES[name] if p.name == "body" else "x" for p in required))


CALLS = dict(every_call())


@pytest.mark.parametrize("name", [name for name in CALLS if "backup" not in name])
def test_every_call_has_its_route(api: Api, name: str) -> None:
    """An answer of the promised type, or a problem; never HTTP's own "not found"."""
    with api.client() as client:
        try:
            client.send(CALLS[name])
        except IntramurosError as error:
            assert error.code not in ("api.answer", "api.route")  # noqa: PT017 - most calls may be answered either way
    assert api.runtime.stopped == (name == "shut_down")
    api.runtime.stopped = False


def test_the_caller_is_who_the_kernel_says(api: Api) -> None:
    with api.client() as client:
        me = client.send(calls.whoami())
    assert (me.uid, set(me.roles)) == (os.getuid(), {str(role) for role in ALL_ROLES})


def test_a_stranger_is_refused_even_a_look_and_it_is_recorded(tmp_path: Path) -> None:
    with serving(tmp_path, owner_uid=os.getuid() + 1) as api:
        with api.client() as client, pytest.raises(Forbidden) as raised:
            client.send(calls.models())
        assert raised.value.code == "access.role"
        assert trail(context(api.appliance)) == [("read", "refused")]


def send(api: Api, method: str, path: str, content: bytes = b"") -> tuple[int, Problem]:
    transport = httpx2.HTTPTransport(uds=str(api.socket))
    with httpx2.Client(transport=transport, base_url="http://appliance") as client:
        answer = client.request(method, path, content=content)
    return answer.status_code, msgspec.json.decode(answer.content, type=Problem)


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "code"),
    [
        ("GET", "/v1/models/nobody", b"", 404, "model.unknown"),
        ("GET", "/v1/models/", b"", 404, "api.route"),
        ("GET", "/v1/models/..%2Fkeys", b"", 404, "api.route"),
        ("PUT", "/v1/keys", b"", 404, "api.route"),
        ("GET", "/v1/models/a@%C2%B2", b"", 400, "ref.invalid"),
        ("GET", "/v1/models/a@99999999999999999999", b"", 400, "ref.invalid"),
        ("POST", "/v1/keys", b"{", 400, "api.body"),
        ("POST", "/v1/keys", b"[]", 400, "api.body"),
        ("POST", "/v1/keys", b'{"name": "x", "colour": "blue"}', 400, "api.body"),
        ("POST", "/v1/keys", b'{"name": "\xff"}', 400, "api.body"),
        ("POST", "/v1/keys", b'{"name": "x", "days": 99999999999}', 400, "key.days"),
        ("POST", "/v1/keys", b" " * ((1 << 20) + 1), 400, "api.body_too_large"),
        ("GET", "/v1/audit?before=-1", b"", 400, "api.query"),
        ("GET", "/v1/audit?before=%C2%B2", b"", 400, "api.query"),
        ("GET", "/v1/audit?before=99999999999999999999", b"", 400, "api.query"),
        ("GET", "/v1/jobs/x/events?hold=long", b"", 400, "api.query"),
        ("GET", "/v1/deployments", b"", 500, "api.defect"),
        ("POST", "/v1/deployments/x/try", b'{"prompt": ""}', 507, "storage.full"),
    ],
)
def test_what_goes_wrong_is_a_problem_document(
    api: Api, method: str, path: str, content: bytes, status: int, code: str
) -> None:
    found, problem = send(api, method, path, content)
    assert (found, problem.code) == (status, code)
    assert "\n" not in problem.message


@pytest.mark.parametrize(("asked", "held"), [("1e9", "60"), ("nan", "0"), ("-5", "0"), ("7", "7")])
def test_a_long_poll_is_held_within_bounds(api: Api, asked: str, held: str) -> None:
    with api.client() as client:
        page = client.send(Call(method="GET", path=f"/v1/jobs/x/events?hold={asked}", answer=t.JobEvents))
    assert page.state == f"held {held} s"


def test_names_travel_whatever_is_in_them(api: Api) -> None:
    imported_model(context(api.appliance), "tiny", WEIGHTS)
    with api.client() as client:
        assert client.send(calls.model("tiny@1")).model.ref == "tiny@1"
        for name in ("a/b", "../keys", "", ".", "..", "%2e%2e", "ä ö", "a?b#c"):
            with pytest.raises(IntramurosError) as raised:
                client.send(calls.model(name))
            assert raised.value.code == "name.invalid"


def test_on_a_box_systemd_stops_the_appliance(tmp_path: Path) -> None:
    with serving(tmp_path, owner_uid=os.getuid(), on_box=True) as served, served.client() as client:
        with pytest.raises(Conflict, match=r"systemd runs this appliance") as caught:
            client.send(calls.shut_down())
        assert caught.value.code == "appliance.run_by_systemd"
        assert not served.runtime.stopped
