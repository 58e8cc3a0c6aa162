from __future__ import annotations

from typing import Any

import msgspec
import pytest

from appliance.jobs.spec import Environment, FileEntry, InputRef, JobKind, JobSpec, TaskResult, manifest_digest
from appliance.jobs.tasks import load_task

ENVIRONMENT = Environment(code="c", packages={"torch": "2"}, threads=2, device="cpu", cpu="x")
FILES = (FileEntry(path="b", digest="1" * 64, size=1), FileEntry(path="a", digest="2" * 64, size=2))
SPEC = JobSpec(
    kind=JobKind.TRAIN_SEED,
    inputs={"corpus": InputRef(ref="faq@1", digest="0" * 64, files=FILES)},
    parameters={"steps": 1, "name": "ü"},
    seed=0,
    environment=ENVIRONMENT,
)


def test_the_run_id_survives_storage() -> None:
    stored = msgspec.json.decode(msgspec.json.encode(SPEC), type=JobSpec)
    assert stored == SPEC
    assert stored.run_id == SPEC.run_id
    assert msgspec.convert(msgspec.to_builtins(SPEC), JobSpec).run_id == SPEC.run_id


@pytest.mark.parametrize(
    "change",
    [
        {"kind": JobKind.TRAIN_LORA},
        {"inputs": {}},
        {"parameters": {"steps": 2}},
        {"seed": 1},
        {"environment": msgspec.structs.replace(ENVIRONMENT, threads=1)},
        {"environment": msgspec.structs.replace(ENVIRONMENT, packages={"torch": "3"})},
        {"environment": msgspec.structs.replace(ENVIRONMENT, code="d")},
        {"environment": msgspec.structs.replace(ENVIRONMENT, cpu="y")},
    ],
)
def test_whatever_decides_the_bytes_decides_the_run_id(change: dict[str, Any]) -> None:
    assert msgspec.structs.replace(SPEC, **change).run_id != SPEC.run_id


def test_a_manifest_does_not_know_in_which_order_files_were_listed() -> None:
    assert manifest_digest(FILES) == manifest_digest(FILES[::-1])
    assert TaskResult(summary={}, files=FILES).digest == manifest_digest(FILES)
    assert manifest_digest(FILES[:1]) != manifest_digest(FILES)


@pytest.mark.parametrize("kind", [JobKind.IMPORT_MODEL, JobKind.IMPORT_DATASET, JobKind.EVALUATE])
def test_every_kind_has_a_task(kind: JobKind) -> None:
    assert callable(load_task(kind))
