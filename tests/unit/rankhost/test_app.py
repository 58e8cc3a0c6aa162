"""What a rank host refuses: it is asked by other boxes, and one of them may be somebody else's by now."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from appliance.fleet.wire import BoxFacts, Order, RunView, Start
from appliance.jobs.spec import FileEntry, InputRef, JobKind, JobSpec
from appliance.kernel.process import start
from appliance.rankhost import runs as runs_module
from appliance.rankhost.app import build_app
from appliance.rankhost.runs import Runs
from appliance.services.machine import code_digest, environment

KEY = "01M8P32RG67KB035NK0326PY47"
ROWS = b'{"prompt": "a", "completion": "b"}\n'
DIGEST = hashlib.sha256(ROWS).hexdigest()


def spec(*, path: str = "train.jsonl", kind: JobKind = JobKind.TRAIN_FULL, seed: int = 1, **changes: Any) -> JobSpec:
    entry = FileEntry(path=path, digest=DIGEST, size=len(ROWS))
    return JobSpec(
        kind=kind,
        inputs={"dataset": InputRef(ref="d@1", digest="0" * 64, files=(entry,))},
        parameters={},
        seed=seed,
        environment=msgspec.structs.replace(environment(1, code_digest()), **changes),
    )


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path / "runs", address="127.0.0.1", niceness=0)


@pytest.fixture
async def http(runs: Runs) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(build_app(runs, name="alpha"))
    async with httpx2.AsyncClient(transport=transport, base_url="http://alpha") as client:
        yield client
    await runs.shut_down()


async def lay_out(http: httpx2.AsyncClient, asked: JobSpec, key: str = KEY) -> httpx2.Response:
    return await http.put(f"/runs/{key}", content=msgspec.json.encode(Order(spec=asked)))


def code(response: httpx2.Response) -> str:
    assert not response.is_success
    return str(response.json()["code"])


async def test_the_box_says_what_it_has(http: httpx2.AsyncClient) -> None:
    facts = msgspec.json.decode((await http.get("/")).content, type=BoxFacts)
    assert (facts.name, facts.code, facts.running) == ("alpha", code_digest(), 0)
    assert 0 < facts.memory_available < facts.memory


async def test_a_run_says_which_files_it_needs_until_it_has_them(http: httpx2.AsyncClient) -> None:
    view = msgspec.json.decode((await lay_out(http, spec())).content, type=RunView)
    assert (view.state, view.missing) == ("laid_out", (DIGEST,))
    assert view.free_port > 0
    assert code(await http.post(f"/runs/{KEY}/start", content=b'{"placement": {}}')) == "rankhost.incomplete"
    assert (await http.put(f"/runs/{KEY}/given/{DIGEST}", content=ROWS)).status_code == 204
    assert msgspec.json.decode((await http.get(f"/runs/{KEY}")).content, type=RunView).missing == ()
    assert (await http.delete(f"/runs/{KEY}")).status_code == 204
    assert code(await http.get(f"/runs/{KEY}")) == "rankhost.no_run"


@pytest.mark.parametrize("path", ["../../escape", "/etc/passwd", "a/../../b", "", "a\0b"])
async def test_an_input_stays_in_its_folder(http: httpx2.AsyncClient, tmp_path: Path, path: str) -> None:
    assert code(await lay_out(http, spec(path=path))) == "rankhost.path"
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("key", ["short", "..%2f..%2fetc0000000000000000", "01m8p32rg67kb035nk0326py47"])
async def test_a_key_is_a_job_id(http: httpx2.AsyncClient, key: str) -> None:
    assert code(await lay_out(http, spec(), key)) in ("rankhost.key", "api.route")


@pytest.mark.parametrize(
    ("asked", "refusal"),
    [
        (spec(kind=JobKind.IMPORT_MODEL), "rankhost.kind"),
        (spec(code="0" * 64), "rankhost.other_version"),
        (spec(packages={"torch": "1.0"}), "rankhost.other_packages"),
    ],
)
async def test_what_would_not_compute_the_same_is_refused(
    http: httpx2.AsyncClient, asked: JobSpec, refusal: str
) -> None:
    assert code(await lay_out(http, asked)) == refusal


async def test_one_key_is_one_run(http: httpx2.AsyncClient) -> None:
    await lay_out(http, spec())
    assert code(await lay_out(http, spec(seed=2))) == "rankhost.other_run"
    assert (await lay_out(http, spec())).is_success


async def test_bytes_that_are_not_what_was_declared_are_not_kept(http: httpx2.AsyncClient, tmp_path: Path) -> None:
    await lay_out(http, spec())
    given = f"/runs/{KEY}/given"
    assert code(await http.put(f"{given}/{DIGEST}", content=ROWS[::-1])) == "rankhost.corrupt"
    assert code(await http.put(f"{given}/{DIGEST}", content=ROWS + b"x")) == "rankhost.too_long"
    assert code(await http.put(f"{given}/{'0' * 64}", content=b"x")) == "rankhost.not_declared"
    assert code(await http.put(f"{given}/short", content=b"x")) == "rankhost.digest"
    assert list((tmp_path / "runs" / KEY / "given").iterdir()) == []


async def test_nothing_but_what_a_run_made_can_be_read(http: httpx2.AsyncClient) -> None:
    await lay_out(http, spec())
    for path in ("../spec.json", "spec.json", "%2e%2e/spec.json"):
        assert code(await http.get(f"/runs/{KEY}/out/{path}")) in ("rankhost.no_file", "api.route")


async def test_a_body_that_is_none_is_refused(http: httpx2.AsyncClient) -> None:
    assert code(await http.put(f"/runs/{KEY}", content=b"[")) == "api.body"
    assert code(await http.put(f"/runs/{KEY}", content=b"{" + b" " * (9 << 20))) == "api.body_too_large"
    assert code(await http.post(f"/runs/{KEY}/other")) == "api.route"


async def test_a_run_that_nobody_asks_about_is_stopped(
    runs: Runs, http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start_sleep(directory: Path, _spec: JobSpec, *, niceness: int) -> subprocess.Popen[bytes]:
        return start(["sleep", "60"], log=directory / "process.log")

    monkeypatch.setattr(runs_module, "LEASE", 0.2)
    monkeypatch.setattr(runs_module, "start_job", start_sleep)  # in place of a job that would go on
    await lay_out(http, spec())
    await http.put(f"/runs/{KEY}/given/{DIGEST}", content=ROWS)
    started = await http.post(f"/runs/{KEY}/start", content=msgspec.json.encode(Start(placement={"ranks": 1})))
    assert msgspec.json.decode(started.content, type=RunView).state == "running"
    assert code(await http.delete(f"/runs/{KEY}")) == "rankhost.running"
    looking = asyncio.create_task(runs.look_after())
    try:
        async with asyncio.timeout(20):
            while runs.running:
                await asyncio.sleep(0.05)
    finally:
        looking.cancel()
    assert msgspec.json.decode((await http.get(f"/runs/{KEY}")).content, type=RunView).state == "stopped"
