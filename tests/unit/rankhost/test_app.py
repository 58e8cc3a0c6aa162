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
from appliance.services.version import product_version

KEY = "01M8P32RG67KB035NK0326PY47"
ROWS = b'{"prompt": "a", "completion": "b"}\n'
DIGEST = hashlib.sha256(ROWS).hexdigest()


def spec(
    *, path: str = "train.jsonl", kind: JobKind = JobKind.TRAIN_FULL, seed: int = 1, name: str = "dataset"
) -> JobSpec:
    entry = FileEntry(path=path, digest=DIGEST, size=len(ROWS))
    return JobSpec(
        kind=kind,
        inputs={name: InputRef(ref="d@1", digest="0" * 64, files=(entry,))},
        parameters={},
        seed=seed,
        environment=environment(1, "of an older version"),
    )


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path / "runs", address="127.0.0.1", interface="lo", niceness=0)


@pytest.fixture
async def http(runs: Runs) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(build_app(runs, name="alpha"))
    async with httpx2.AsyncClient(transport=transport, base_url="http://alpha") as client:
        yield client
    await runs.shut_down()


async def lay_out(
    http: httpx2.AsyncClient, asked: JobSpec, key: str = KEY, *, version: str = "", **changes: Any
) -> httpx2.Response:
    own = msgspec.structs.replace(environment(1, code_digest()), **changes)
    order = Order(spec=asked, version=version or product_version(), environment=own)
    return await http.put(f"/runs/{key}", content=msgspec.json.encode(order))


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


@pytest.mark.parametrize("name", ["../../other", "/tmp", "", "a/b"])
async def test_an_input_has_a_plain_name(http: httpx2.AsyncClient, tmp_path: Path, name: str) -> None:
    assert code(await lay_out(http, spec(name=name))) == "rankhost.path"
    assert not (tmp_path / "runs").exists()


async def test_what_would_not_compute_the_same_is_refused(http: httpx2.AsyncClient) -> None:
    assert code(await lay_out(http, spec(kind=JobKind.IMPORT_MODEL))) == "rankhost.kind"
    assert code(await lay_out(http, spec(), version="0.0.9")) == "rankhost.other_version"
    assert code(await lay_out(http, spec(), code="0" * 64)) == "rankhost.other_version"
    assert code(await lay_out(http, spec(), packages={"torch": "1.0"})) == "rankhost.other_packages"


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


@pytest.fixture
def sleeping(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Put a sleep in place of a job that would go on; returns the processes that were started."""
    started: list[int] = []

    def start_sleep(directory: Path, _spec: JobSpec, *, niceness: int) -> subprocess.Popen[bytes]:
        process = start(["sleep", "600"], log=directory / "process.log")
        started.append(process.pid)
        return process

    monkeypatch.setattr(runs_module, "start_job", start_sleep)
    return started


async def started_run(http: httpx2.AsyncClient) -> httpx2.Response:
    await lay_out(http, spec())
    await http.put(f"/runs/{KEY}/given/{DIGEST}", content=ROWS)
    return await start_run(http)


async def start_run(http: httpx2.AsyncClient) -> httpx2.Response:
    return await http.post(f"/runs/{KEY}/start", content=msgspec.json.encode(Start(placement={"ranks": 1})))


async def test_two_who_start_a_run_at_once_start_it_once(http: httpx2.AsyncClient, sleeping: list[int]) -> None:
    await lay_out(http, spec())
    await http.put(f"/runs/{KEY}/given/{DIGEST}", content=ROWS)
    views = await asyncio.gather(start_run(http), start_run(http))
    assert [msgspec.json.decode(view.content, type=RunView).state for view in views] == ["running", "running"]
    assert len(sleeping) == 1


async def test_many_runs_leave_room_for_questions(runs: Runs, http: httpx2.AsyncClient, sleeping: list[int]) -> None:
    for number in range(40):
        key = f"{KEY[:-2]}{number:02d}"
        await lay_out(http, spec(), key)
        await http.put(f"/runs/{key}/given/{DIGEST}", content=ROWS)
        await http.post(f"/runs/{key}/start", content=msgspec.json.encode(Start(placement={"ranks": 1})))
    async with asyncio.timeout(10):
        assert (await http.get("/")).json()["running"] == 40
        assert (await http.get(f"/runs/{KEY[:-2]}07")).json()["state"] == "running"


async def test_a_run_that_ended_elsewhere_begins_again_here(
    http: httpx2.AsyncClient, tmp_path: Path, sleeping: list[int]
) -> None:
    await lay_out(http, spec())
    await http.put(f"/runs/{KEY}/given/{DIGEST}", content=ROWS)
    run = tmp_path / "runs" / KEY
    (run / "result.json").write_text('{"summary": {}}')
    assert (await http.get(f"/runs/{KEY}")).json()["state"] == "succeeded"
    (run / "error.json").write_text('{"code": "training.ranks_apart", "message": "…"}')
    assert msgspec.json.decode((await start_run(http)).content, type=RunView).state == "running"
    assert not (run / "result.json").exists(), "else it would count as ended when it is stopped"
    assert not (run / "error.json").exists()


async def test_inputs_are_given_up_after_a_rest_and_damaged_ones_are_asked_for_again(
    runs: Runs, http: httpx2.AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await lay_out(http, spec())
    given = tmp_path / "runs" / KEY / "given" / DIGEST
    await http.put(f"/runs/{KEY}/given/{DIGEST}", content=ROWS)
    given.write_bytes(ROWS[::-1])
    (given.parent.parent / "error.json").write_text('{"code": "blob.corrupt", "message": "…"}')
    assert msgspec.json.decode((await lay_out(http, spec())).content, type=RunView).missing == (DIGEST,)
    await http.put(f"/runs/{KEY}/given/{DIGEST}", content=ROWS)
    monkeypatch.setattr(runs_module, "INPUTS_KEPT", 0.0)
    looking = asyncio.create_task(runs.look_after())
    try:
        async with asyncio.timeout(20):
            while given.exists():
                await asyncio.sleep(0.02)
    finally:
        looking.cancel()
    assert (tmp_path / "runs" / KEY / "spec.json").exists()


async def test_a_run_that_nobody_asks_about_is_stopped(
    runs: Runs, http: httpx2.AsyncClient, sleeping: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs_module, "LEASE", 0.2)
    assert msgspec.json.decode((await started_run(http)).content, type=RunView).state == "running"
    assert code(await http.delete(f"/runs/{KEY}")) == "rankhost.running"
    looking = asyncio.create_task(runs.look_after())
    try:
        async with asyncio.timeout(20):
            while runs.running:
                await asyncio.sleep(0.05)
    finally:
        looking.cancel()
    assert msgspec.json.decode((await http.get(f"/runs/{KEY}")).content, type=RunView).state == "stopped"
