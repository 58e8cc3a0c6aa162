"""A ladder of the tiny model: rungs that its sizes allow, those told instead, and the importance matrix."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from appliance.conversion.importance import collect
from appliance.conversion.ladder_task import run
from appliance.jobs.spec import JobKind
from appliance.jobs.workspace import Interrupted
from appliance.kernel.errors import BadInput
from tests.factories.job_workspace import make_workspace
from tests.factories.stop_signals import ask_to_stop, listening
from tests.factories.tiny_llama import make_tiny_llama, write_rows
from tests.unit.conversion.conftest import QUESTIONS, Converted

FEW = {"parity_prompts": 2, "parity_tokens": 8, "rounds": 1, "answer": 4, "prompt": 8, "perplexity_tokens": 900}


def lay_out(root: Path, model: Path, **parameters: Any) -> Any:
    (root / "rows").mkdir(parents=True)
    answers = [(asked, f"It listens on port {told}, as the quick brown fox says. " * 3) for asked, told in QUESTIONS]
    write_rows(root / "rows" / "heldout.jsonl", answers)
    write_rows(root / "rows" / "train.jsonl", QUESTIONS * 8)
    return make_workspace(
        root / "job",
        JobKind.CONVERT_LADDER,
        inputs={"model": model, "dataset": root / "rows"},
        parameters=FEW | parameters,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Climbed:
    summary: dict[str, Any]
    output: Path
    events: str


@pytest.fixture(scope="module")
def climbed(tmp_path_factory: pytest.TempPathFactory) -> Climbed:
    root = tmp_path_factory.mktemp("ladder")
    model = make_tiny_llama(root / "hf")
    opened = lay_out(root / "run", model, to=["Q8_0", "Q4_K_M", "Q4_0"], imatrix=True, calibration_tokens=512)
    summary = run(opened)
    opened.close()
    return Climbed(summary=summary, output=opened.output, events=(opened.directory / "events.jsonl").read_text())


def test_what_was_made_is_measured_and_what_was_not_is_told(climbed: Climbed) -> None:
    eight, k_quant, four = climbed.summary["rungs"]
    assert [one["made"] for one in (eight, k_quant, four)] == [True, False, True]
    assert "Q4_K_M needs multiples of 256" in k_quant["why_not"]
    assert "Q4_K_M is not made" in climbed.events
    assert eight["perplexity_ratio"] < 1.02
    assert eight["parity"]["passed"] is True
    low, high = eight["perplexity_ratio_interval"]
    assert low <= eight["perplexity_ratio"] <= high
    # Coarser is smaller and worse: a ladder that measured nothing would not show it.
    assert four["gguf_bytes"] < eight["gguf_bytes"] < climbed.summary["gguf_bytes"]
    assert abs(four["perplexity_ratio"] - 1) > 2 * abs(eight["perplexity_ratio"] - 1)


def test_a_stop_while_llama_cpp_computes_waits_for_the_end_of_a_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Raised in a callback it would be lost there, and end the computation as if the model were ruined."""
    opened = lay_out(tmp_path, make_tiny_llama(tmp_path / "hf"), to=["Q8_0"], imatrix=True)
    seen: list[str] = []

    def computing(*_given: Any, on_piece: Any, **_more: Any) -> None:
        ask_to_stop()
        seen.append("computed")
        on_piece(1, 2)
        seen.append("went on")

    monkeypatch.setattr("appliance.conversion.importance.collect", computing)
    with listening(opened), pytest.raises(Interrupted), opened.interruptible():
        run(opened)
    opened.close()
    assert seen == ["computed"]


def test_the_files_are_what_they_are_called(climbed: Climbed) -> None:
    assert sorted(path.relative_to(climbed.output).as_posix() for path in climbed.output.rglob("*.*")) == [
        "Q4_0/model.gguf",
        "Q8_0/model.gguf",
        "report.json",
        "report.md",
    ]
    for name, number in (("Q8_0", 7), ("Q4_0", 2)):
        fields = gguf.GGUFReader(climbed.output / name / "model.gguf").fields
        assert fields["general.file_type"].contents() == number
    assert json.loads((climbed.output / "report.json").read_text()) == climbed.summary


def test_importance_is_the_mean_square_of_what_flows_in(converted: Converted) -> None:
    """Attention's queries, keys and values read the same input, and the counts are those of the tokens."""
    found = collect(
        converted.output / "model.gguf", [[5, 9, 13, 7], [8, 8, 2]], threads=1, context=256, on_piece=lambda *_: None
    )
    assert {"blk.0.attn_q.weight", "blk.1.ffn_down.weight"} <= found.keys()
    assert found["blk.0.attn_q.weight"].shape == (64,)
    np.testing.assert_array_equal(found["blk.0.attn_q.weight"], found["blk.0.attn_k.weight"])
    assert found["blk.1.ffn_down.weight"].shape == (128,)
    # RMSNorm gives a mean square of about 1 before its own weight is applied.
    assert np.isfinite(found["blk.0.attn_q.weight"]).all()
    assert found["blk.0.attn_q.weight"].mean() > 0


def test_without_text_there_is_nothing_to_measure(tmp_path: Path, converted: Converted) -> None:
    (tmp_path / "rows").mkdir()
    write_rows(tmp_path / "rows" / "heldout.jsonl", [])
    opened = make_workspace(
        tmp_path / "job", JobKind.CONVERT_LADDER, inputs={"model": converted.model, "dataset": tmp_path / "rows"}
    )
    with pytest.raises(BadInput, match=r"conversion\.no_text"):
        run(opened)
    opened.close()


def test_a_stopped_ladder_leaves_no_result(tmp_path: Path, converted: Converted) -> None:
    opened = lay_out(tmp_path, converted.model, to=["Q8_0"])
    opened.stop_requested = lambda: True
    with pytest.raises(Interrupted):
        run(opened)
    opened.close()
    assert list(opened.output.iterdir()) == []


def test_a_ladder_that_goes_on_takes_what_is_finished_and_whole(tmp_path: Path, converted: Converted) -> None:
    opened = lay_out(tmp_path, converted.model, to=["Q8_0", "Q4_0"])
    # Stopped by the first thing that happens after a rung was kept.
    opened.stop_requested = lambda: any(opened.checkpoints.glob("rung-Q8_0/figures.json"))
    with pytest.raises(Interrupted):
        run(opened)
    kept = opened.checkpoints / "rung-Q8_0" / "model.gguf"
    figures = json.loads((kept.parent / "figures.json").read_bytes())["figures"]

    opened.stop_requested = lambda: False
    _forget_attempt(opened)
    rungs = run(opened)["rungs"]
    assert rungs[0] == figures
    assert rungs[1]["made"] is True
    assert (opened.output / "Q8_0" / "model.gguf").samefile(kept)

    damaged = bytearray(kept.read_bytes())
    damaged[-1] ^= 1
    _forget_attempt(opened)
    kept.write_bytes(damaged)
    run(opened)
    assert (opened.output / "Q8_0" / "model.gguf").read_bytes() != damaged
    opened.close()


def _forget_attempt(opened: Any) -> None:
    """What the worker does before an attempt."""
    for folder in (opened.output, opened.scratch):
        shutil.rmtree(folder)
        folder.mkdir()
