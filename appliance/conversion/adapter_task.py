"""The adapter job: a LoRA adapter becomes `out/adapter/adapter.gguf`, proven equal to the merged model.

Inputs: "model" (the merged folder), "adapter" (PEFT), "base" (the folder it was trained on), and optionally
"dataset", whose held-out questions join the built-in ones. transformers decodes the merged model greedily; llama.cpp
with the base's f32 file and the adapter applied at run time must choose the same tokens. How many the base alone
chooses is measured too: where that is all of them, the comparison has shown nothing, and says so.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from appliance.conversion import corpus
from appliance.conversion.adapter_writer import write_adapter
from appliance.conversion.convert import convert
from appliance.conversion.convert_task import Parameters, heldout_questions, parameters_of
from appliance.conversion.parity import FollowedRun, GreedyRun, compare_strings, compare_tokens, require_parity
from appliance.conversion.parity_llama import LlamaModel
from appliance.conversion.parity_transformers import TransformersModel
from appliance.jobs.workspace import Interrupted, Workspace
from appliance.kernel.durable import write_file
from appliance.kernel.events import Note, Progress

_CELLS_STEP = 256


def run(workspace: Workspace) -> dict[str, Any]:
    """Convert and compare. Raises BadInput, IntegrityFailure ("conversion.parity"), Interrupted."""
    parameters = parameters_of(workspace.spec.parameters)
    threads = workspace.spec.environment.threads
    output = workspace.output / "adapter" / "adapter.gguf"
    output.parent.mkdir()
    base = workspace.scratch / "base.gguf"
    _step(workspace, "converting", 0.0)
    written = write_adapter(workspace.input("adapter"), workspace.input("base"), output)
    convert(
        workspace.input("base"),
        base,
        dtype="f32",
        name=workspace.spec.inputs["base"].ref,
        scratch=workspace.scratch,
        threads=threads,
    )
    torch.set_num_threads(threads)
    reference = TransformersModel(workspace.input("model"))
    runs = _greedy(workspace, reference, parameters)
    context = -(-max(len(one.prompt) + len(one.tokens) for one in runs) // _CELLS_STEP) * _CELLS_STEP
    alone = _follow(workspace, base, None, runs, context, 0.6)
    adapted = _follow(workspace, base, output, runs, context, 0.8)
    found = compare_tokens(runs, adapted)
    strings = [one.prompt for one in runs]
    # Both sides read the same token ids: only the tokens are compared.
    require_parity("f32", found, compare_strings(strings, strings, [""] * len(strings)))
    base_equal = compare_tokens(runs, alone).equal
    figures = {
        "passed": True,
        "prompts": found.prompts,
        "tokens_equal": found.equal,
        "tokens_tied": found.ties,
        "tokens_total": found.total,
        "tokens_equal_without_adapter": base_equal,
        "logprob_gap": round(found.logprob_gap, 6),
        **written,
    }
    write_file(output.parent / "parity.json", json.dumps(figures, indent=2, sort_keys=True).encode() + b"\n")
    text = f"Adapter at run time: {found.equal} of {found.total} greedy tokens equal to the merged model"
    workspace.emit(Note(text=f"{text}; the base alone gives {base_equal}."))
    _step(workspace, "done", 1.0)
    return figures | {"gguf_bytes": output.stat().st_size}


def _greedy(workspace: Workspace, reference: TransformersModel, parameters: Parameters) -> list[GreedyRun]:
    questions = [*corpus.QUESTIONS, *heldout_questions(workspace)[: parameters.parity_prompts]]
    encoded = [reference.encode_prompt(reference.question(text)) for text in questions]
    tokens = parameters.parity_tokens
    prompts = [ids for ids in encoded if 0 < len(ids) <= reference.context_length - tokens]
    runs: list[GreedyRun] = []
    for one in reference.greedy_runs(prompts, tokens=tokens):
        runs.append(one)
        _step(workspace, "comparing", 0.3 + 0.3 * len(runs) / len(prompts))
    return runs


def _follow(
    workspace: Workspace, base: Path, adapter: Path | None, runs: Sequence[GreedyRun], context: int, fraction: float
) -> list[FollowedRun]:
    with LlamaModel(base, context=context, threads=workspace.spec.environment.threads) as model:
        if adapter is not None:
            model.apply_adapter(adapter)
        followed = []
        for one in runs:
            followed.append(model.follow(one.prompt, one.tokens))
            _step(workspace, "comparing", fraction + 0.2 * len(followed) / len(runs))
        return followed


def _step(workspace: Workspace, phase: str, fraction: float) -> None:
    if workspace.stop_requested():
        raise Interrupted
    workspace.emit(Progress(phase=phase, fraction=min(fraction, 1.0)))
