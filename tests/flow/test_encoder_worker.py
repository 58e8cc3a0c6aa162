"""The worker that encodes as a process: torch and llama.cpp behind the same frames, computing the same numbers."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from appliance.engine.encoder_worker import folder_digest
from appliance.engine.frames import Encode, Failed, Finished, Rows, Submit
from appliance.jobs.spec import FileEntry, manifest_digest
from tests.factories.engine_client import EngineClient, connected, digest_of_file, end_worker, start_encoder, wait_ready
from tests.factories.tiny_encoder import CONTEXT, HIDDEN, make_tiny_bert, make_tiny_bert_gguf

TEXTS = ("my card was stolen", "where is the money transfer", "a dog sleeps on the beach in summer", "[SEP] [CLS] card")
LABELS = {"embed": (), "rerank": ("relevance",), "classify": ("card", "money", "other")}


def encode(client: EngineClient, number: int, *texts: str, query: str | None = None, tenant: str = "t") -> np.ndarray:
    """Ask and gather the rows."""
    client.send(Encode(id=number, tenant=tenant, texts=texts, query=query))
    rows: dict[int, bytes] = {}
    while True:
        for frame in client.receive():
            if isinstance(frame, Rows):
                rows |= dict(enumerate(frame.rows, start=frame.first))
            elif isinstance(frame, Failed):
                raise AssertionError(frame)
            elif isinstance(frame, Finished):
                assert frame.completion_tokens == 0 < frame.prompt_tokens
                return np.stack([np.frombuffer(rows[index], "<f4") for index in range(len(texts))])


def failure(client: EngineClient, frame: Encode | Submit) -> Failed:
    client.send(frame)
    while True:
        for answer in client.receive():
            if isinstance(answer, Failed):
                return answer


@pytest.fixture(scope="module", params=["embed", "rerank", "classify"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """One model served twice: by torch and by llama.cpp."""
    kind, folder = request.param, tmp_path_factory.mktemp("encoder")
    models = {
        "torch": make_tiny_bert(folder / "hf", labels=LABELS[kind]),
        "llama": make_tiny_bert_gguf(folder / "model.gguf", labels=LABELS[kind]),
    }
    processes = {name: start_encoder(model, folder / f"{name}.sock", kind) for name, model in models.items()}
    try:
        for name, process in processes.items():
            wait_ready(process, folder / f"{name}.sock", timeout=120)
        yield folder / "torch.sock", folder / "llama.sock"
    finally:
        for process in processes.values():
            end_worker(process)


def test_both_libraries_compute_the_same_and_a_text_does_not_depend_on_its_batch(pair: tuple[Path, Path]) -> None:
    answers = []
    for socket in pair:
        with connected(socket) as client:
            info = client.hello()
            query = "is my card lost" if info.kind == "rerank" else None
            assert (info.context, info.labels) == (CONTEXT, LABELS["classify"] if info.kind == "classify" else ())
            together = encode(client, 1, *TEXTS, query=query)
            alone = np.concatenate([encode(client, 2, text, query=query) for text in TEXTS])
            assert together.shape == (4, info.width)
            assert np.abs(together - alone).max() < 0.01
            assert len({row.tobytes() for row in together}) == 4
            if info.kind == "embed":
                assert info.width == HIDDEN
                assert np.linalg.norm(together, axis=1) == pytest.approx(1.0, abs=1e-5)
            elif info.kind == "classify":
                assert together.sum(axis=1) == pytest.approx(1.0, abs=1e-5)
            else:
                assert ((together > 0) & (together < 1)).all()
            answers.append(together)
    assert np.abs(answers[0] - answers[1]).max() < 0.01


def test_bad_requests_get_one_clear_refusal_and_the_worker_goes_on(pair: tuple[Path, Path]) -> None:
    for socket in pair:
        with connected(socket) as client:
            kind = client.hello().kind
            query = "card" if kind == "rerank" else None
            long = failure(client, Encode(id=1, tenant="t", texts=("card " * 100,), query=query))
            assert (long.code, long.retryable) == ("engine.context_length", False)
            wrong = failure(client, Encode(id=2, tenant="t", texts=("card",), query=None if query else "card"))
            assert wrong.code == "engine.input"
            assert failure(client, Submit(id=3, tenant="t", prompt="card")).code == "engine.kind"
            before = client.state()
            assert len(encode(client, 4, "card", query=query)) == 1
            after = client.state()
            assert (after.finished, after.steps) == (before.finished + 1, before.steps + 1)
            assert after.times is not None
            assert sum(after.times.step.counts) == after.steps
            assert after.times.first_token is None


def test_a_folders_digest_is_that_of_its_manifest(tmp_path: Path) -> None:
    model = make_tiny_bert(tmp_path / "hf")
    entries = tuple(
        FileEntry(path=path.relative_to(model).as_posix(), digest=digest_of_file(path), size=path.stat().st_size)
        for path in model.rglob("*")
        if path.is_file()
    )
    assert folder_digest(model) == manifest_digest(entries)


def test_a_changed_folder_is_refused(tmp_path: Path) -> None:
    model = make_tiny_bert(tmp_path / "hf")
    process = start_encoder(model, tmp_path / "s", "embed")
    (model / "extra.json").write_text("{}")
    _, said = process.communicate(timeout=60)
    assert process.returncode == 7
    assert b"engine.digest" in said


@pytest.mark.parametrize(("labels", "kind"), [((), "classify"), (("a", "b"), "rerank")])
def test_a_model_that_has_no_head_for_the_kind_is_refused(tmp_path: Path, labels: tuple[str, ...], kind: str) -> None:
    process = start_encoder(make_tiny_bert(tmp_path / "hf", labels=labels), tmp_path / "s", kind)
    _, said = process.communicate(timeout=120)
    assert (process.returncode, said.count(b"\n")) == (2, 1)
    assert b"engine.kind" in said


def test_sigterm_drains(tmp_path: Path) -> None:
    process = start_encoder(make_tiny_bert_gguf(tmp_path / "m.gguf"), tmp_path / "s", "embed")
    try:
        wait_ready(process, tmp_path / "s")
        with connected(tmp_path / "s") as client:
            encode(client, 1, "card")
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
    finally:
        end_worker(process)
    assert not (tmp_path / "s").exists()
