from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import update

from appliance.daemon.state import lock_state, open_appliance
from appliance.jobs.spec import FileEntry, JobKind, TaskResult
from appliance.kernel import clock
from appliance.kernel.canonical import sha256_hex
from appliance.kernel.errors import BadInput, Conflict, IntegrityFailure, StorageFailure
from appliance.kernel.paths import StatePaths
from appliance.kernel.settings import Settings
from appliance.services.context import Appliance
from appliance.store import schema
from tests.factories.appliance import WEIGHTS, context, imported_dataset, imported_model, open_test_appliance, queue_run

HOUR = 3600 * 10**9


def reopen(appliance: Appliance) -> Appliance:
    appliance.database.close()
    return open_appliance(appliance.paths, Settings())


def test_a_state_belongs_to_one_daemon(tmp_path: Path) -> None:
    paths = StatePaths(tmp_path / "state")
    lock = lock_state(paths)
    with pytest.raises(Conflict) as raised:
        lock_state(paths)
    assert raised.value.code == "state.in_use"
    os.close(lock)
    os.close(lock_state(paths))


def test_what_is_private_is_private_from_the_start(tmp_path: Path) -> None:
    paths = StatePaths(tmp_path / "state")
    lock = lock_state(paths)
    open_appliance(paths, Settings()).database.close()
    folders = (paths.secrets, paths.run, paths.blobs, paths.jobs, paths.tls, paths.logs)
    files = (paths.database, *paths.secrets.iterdir())
    assert {stat.S_IMODE(path.stat().st_mode) for path in folders} == {0o700}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    os.close(lock)


def test_a_path_too_long_for_sockets_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as raised:
        lock_state(StatePaths(tmp_path / ("x" * 120)))
    assert raised.value.code == "state.path_too_long"


def test_a_file_in_the_place_of_the_directory_is_a_storage_failure(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(StorageFailure):
        lock_state(StatePaths(tmp_path / "state"))


def test_identity_and_keys_outlive_a_restart(tmp_path: Path) -> None:
    first = open_test_appliance(tmp_path / "state")
    second = reopen(first)
    assert second.instance == first.instance
    assert second.trail.key.public_bytes == first.trail.key.public_bytes
    second.database.close()


def test_jobs_keep_their_order_when_the_clock_is_set_back_between_two_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_test_appliance(tmp_path / "state")
    monkeypatch.setattr(clock, "_floor", (time.time_ns() + HOUR) // 10**6)
    before = queue_run(context(first), JobKind.TRAIN_SEED, {"corpus": imported_dataset(context(first))})
    monkeypatch.setattr(clock, "_floor", 0)
    second = reopen(first)
    after = queue_run(context(second), JobKind.TRAIN_SEED, {"corpus": "faq"}, seed=1)
    second.database.close()
    assert before.id < after.id


def test_gates_that_somebody_wrote_are_kept(tmp_path: Path) -> None:
    first = open_test_appliance(tmp_path / "state")
    first.paths.gates.write_text("[dev]\n[test]\n[prod]\n")
    reopen(first).database.close()
    assert first.paths.gates.read_text() == "[dev]\n[test]\n[prod]\n"


def test_a_damaged_database_is_called_so(tmp_path: Path) -> None:
    appliance = open_test_appliance(tmp_path / "state")
    appliance.database.close()
    appliance.paths.database.write_bytes(b"not a database any more " * 50)
    with pytest.raises(IntegrityFailure) as raised:
        open_appliance(appliance.paths, Settings())
    assert raised.value.code == "store.damaged"


def test_a_start_sweeps_what_nobody_names(tmp_path: Path) -> None:
    appliance = open_test_appliance(tmp_path / "state")
    imported_model(context(appliance), "tiny", WEIGHTS)
    named = set(appliance.blobs.digests())
    stray = appliance.blobs.add_bytes(b"left by a daemon that died before its commit")
    (appliance.paths.blobs / "incoming" / "half").write_bytes(b"half a file")
    again = reopen(appliance)
    assert set(again.blobs.digests()) == named
    assert stray not in named
    assert list((appliance.paths.blobs / "incoming").iterdir()) == []
    again.database.close()


@pytest.mark.parametrize("readable", [True, False])
def test_what_a_sealed_result_waits_to_bring_in_is_kept(tmp_path: Path, readable: bool) -> None:
    """The daemon died between the adoption of a file and the commit that names it."""
    appliance = open_test_appliance(tmp_path / "state")
    ctx = context(appliance)
    job = queue_run(ctx, JobKind.TRAIN_SEED, {"corpus": imported_dataset(ctx)})
    with appliance.database.write() as connection:
        connection.execute(update(schema.jobs).where(schema.jobs.c.id == job.id).values(state="running"))
    adopted = appliance.blobs.add_bytes(b"adopted")
    sealed = TaskResult(summary={}, files=(FileEntry(path="model", digest=sha256_hex(b"adopted"), size=7),))
    directory = appliance.paths.job(job.id)
    directory.mkdir(parents=True)
    (directory / "result.json").write_bytes(msgspec.json.encode(sealed) if readable else b"{")
    again = reopen(appliance)
    assert (adopted in set(again.blobs.digests())) == readable
    again.database.close()
