"""The conversion job: a Hugging Face folder becomes `out/model.gguf`, and `out/parity.json` says it may be trusted.

Inputs: "model", and optionally "dataset", whose held-out questions join the built-in ones. Parameters, all optional:
`dtype` (f32, f16, bf16, q8_0), `name` (general.name), `parity_prompts` (held-out questions to take),
`parity_tokens` (greedy steps for each prompt). A file that does not pass is never left in `out/`.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any

import msgspec

from appliance.conversion.convert import convert
from appliance.conversion.parity import require_parity
from appliance.conversion.parity_gate import OnStep, compare_engines
from appliance.jobs.workspace import Interrupted, Workspace
from appliance.kernel.durable import write_file
from appliance.kernel.errors import BadInput, IntegrityFailure
from appliance.kernel.events import Note, Progress

_CONVERTED = 0.2
"""Share of the work that is done when the file is written."""


class Parameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person may choose about a conversion."""

    dtype: str = "f32"
    name: str = ""
    parity_prompts: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 16
    parity_tokens: Annotated[int, msgspec.Meta(ge=1, le=512)] = 32


class _Message(msgspec.Struct, frozen=True):
    role: str
    content: str


class _Row(msgspec.Struct, frozen=True):
    messages: tuple[_Message, ...] = ()


def run(workspace: Workspace) -> dict[str, Any]:
    """Convert, compare, and return the parity figures and what the file says of itself.

    Raises BadInput (not convertible), IntegrityFailure ("conversion.parity" and ruined files), Interrupted.
    """
    parameters = parameters_of(workspace.spec.parameters)
    threads = workspace.spec.environment.threads
    folder, output = workspace.input("model"), workspace.output / "model.gguf"
    workspace.emit(Progress(phase="converting"))
    questions = heldout_questions(workspace)[: parameters.parity_prompts]
    name = parameters.name or workspace.spec.inputs["model"].ref
    try:
        convert(folder, output, dtype=parameters.dtype, name=name, scratch=workspace.scratch, threads=threads)
        findings = compare_engines(
            folder,
            output,
            questions=questions,
            tokens=parameters.parity_tokens,
            threads=threads,
            on_step=_report_steps(workspace),
        )
        require_parity(parameters.dtype, findings.tokens, findings.texts)
    except BaseException:
        output.unlink(missing_ok=True)
        raise
    figures = {
        "passed": True,
        "prompts": findings.tokens.prompts,
        "tokens_equal": findings.tokens.equal,
        "tokens_tied": findings.tokens.ties,
        "tokens_total": findings.tokens.total,
        "perplexity_ratio": round(findings.tokens.perplexity_ratio, 6),
        "logprob_gap": round(findings.tokens.logprob_gap, 6),
        "strings": findings.texts.total,
        "strings_equal": findings.texts.equal,
    }
    write_file(workspace.output / "parity.json", json.dumps(figures, indent=2, sort_keys=True).encode() + b"\n")
    workspace.emit(
        Note(
            text=f"Parity: {findings.tokens.equal} of {findings.tokens.total} greedy tokens and "
            f"{findings.texts.equal} of {findings.texts.total} tokenised strings are equal."
        )
    )
    facts = asdict(findings.facts)
    del facts["chat_template"]
    return {"parity": figures, **facts, "gguf_bytes": output.stat().st_size}


def _report_steps(workspace: Workspace) -> OnStep:
    """Return a callback that reports progress and raises Interrupted when the job is asked to stop."""

    def report(done: int, of: int) -> None:
        if workspace.stop_requested():
            raise Interrupted
        fraction = _CONVERTED + (1 - _CONVERTED) * done / of
        workspace.emit(Progress(phase="comparing", fraction=fraction, step=done, steps=of))

    return report


def parameters_of(values: dict[str, Any]) -> Parameters:
    try:
        return msgspec.convert(values, Parameters)
    except msgspec.ValidationError as error:
        raise BadInput("conversion.parameters", f"The conversion's parameters are not valid: {error}.") from error


def heldout_questions(workspace: Workspace) -> list[str]:
    """Return the last user message of each held-out row, where a data set is given and has the chat form."""
    if "dataset" not in workspace.spec.inputs:
        return []
    heldout = workspace.input("dataset") / "heldout.jsonl"
    lines = heldout.read_bytes().splitlines() if heldout.is_file() else []
    questions = []
    for number, line in enumerate(lines, start=1):
        try:
            row = msgspec.json.decode(line, type=_Row)
        except msgspec.MsgspecError as error:
            raise IntegrityFailure(
                "conversion.dataset_unreadable", f"Line {number} of heldout.jsonl is not a row: {error}."
            ) from error
        questions += [message.content for message in row.messages if message.role == "user"][-1:]
    return questions
