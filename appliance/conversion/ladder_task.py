"""The ladder job: one model, once to f32 GGUF and from there to each rung, each measured against f32.

Inputs: "model" and "dataset", whose held-out part is the text that perplexity is measured on (and whose training part
is what the importance matrix is measured on). Leaves `out/RUNG/model.gguf` for every rung that was made,
`out/report.json` and `out/report.md`. The f32 file itself must pass the parity gate, or nothing is made. An attempt
that goes on after another takes the rungs that are finished and makes the rest.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors.numpy import save_file

from appliance.conversion import corpus
from appliance.conversion.convert import convert
from appliance.conversion.convert_task import heldout_questions
from appliance.conversion.finished_rungs import keep_rung, take_rung
from appliance.conversion.ladder import (
    LOSSY_RATIO,
    LOSSY_TOKENS,
    RUNGS,
    Parameters,
    Piece,
    median,
    parse,
    perplexity,
    ratio,
    report_text,
    why_not,
    windows,
)
from appliance.conversion.measured_text import load_tokenizer, token_rows
from appliance.conversion.parity import FollowedRun, require_parity
from appliance.conversion.parity_gate import compare_engines
from appliance.conversion.parity_llama import LlamaModel
from appliance.jobs.workspace import Interrupted, Workspace
from appliance.kernel import process
from appliance.kernel.durable import write_file
from appliance.kernel.errors import BadInput, IntegrityFailure
from appliance.kernel.events import Metric, Note, Progress

_CELLS_STEP = 256
_QUANTISE_SECONDS = 6 * 3600.0
_SAME_PROMPTS = 8


def run(workspace: Workspace) -> dict[str, Any]:
    """Make and measure every rung. Raises BadInput, IntegrityFailure ("conversion.parity"), Interrupted."""
    parameters = parse(workspace.spec.parameters)
    return _Ladder(workspace, parameters).climb()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unquantised:
    """What the f32 file gave: perplexity's parts, and the tokens it chooses."""

    nats: list[float]
    chosen: list[FollowedRun]
    size: int


class _Ladder:
    """One run of the job."""

    def __init__(self, workspace: Workspace, parameters: Parameters) -> None:
        self._workspace = workspace
        self._parameters = parameters
        self._threads = workspace.spec.environment.threads
        self._folder = workspace.input("model")
        self._base = workspace.scratch / "f32.gguf"
        self._tokenizer = load_tokenizer(self._folder)
        # Perplexity, speed and greedy tokens share one context: what the longest of them needs.
        self._context = -(-max(parameters.window, parameters.prompt + parameters.answer) // _CELLS_STEP) * _CELLS_STEP
        self._pieces = self._cut("heldout.jsonl", parameters.perplexity_tokens)
        self._counts = [piece.count for piece in self._pieces]

    def climb(self) -> dict[str, Any]:
        """Convert, then make and measure rung by rung; return the summary."""
        facts, same = self._unquantised()
        rows = _row_lengths(self._base)
        importance = self._importance()
        base = self._measure_base(same)
        rungs = []
        for place, name in enumerate(self._parameters.to):
            self._step(name, 0.4 + 0.6 * place / len(self._parameters.to))
            reason = why_not(name, rows)
            if reason:
                self._workspace.emit(Note(text=f"{name} is not made: {reason}."))
                rungs.append({"name": name, "made": False, "why_not": reason})
                continue
            kept = take_rung(self._workspace.checkpoints, name, self._file(name))
            if kept is None:
                kept = self._rung(name, importance, base, same)
                keep_rung(self._workspace.checkpoints, name, self._file(name), kept)
            self._workspace.emit(Metric(name=f"{name}.perplexity_ratio", value=kept["perplexity_ratio"]))
            rungs.append(kept)
        summary = facts | {
            "rungs": rungs,
            "perplexity": perplexity(base.nats, self._counts),
            "measured_tokens": sum(self._counts),
            "data": self._workspace.spec.inputs["dataset"].ref,
            "imatrix": self._parameters.imatrix,
            "gguf_bytes": base.size,
        }
        output = self._workspace.output
        write_file(output / "report.json", json.dumps(summary, indent=1, sort_keys=True).encode() + b"\n")
        write_file(output / "report.md", report_text(summary).encode())
        self._step("done", 1.0)
        return summary

    def _unquantised(self) -> tuple[dict[str, Any], list[list[int]]]:
        """Write the f32 file and hold it against transformers; return its facts and prompts with greedy answers."""
        self._step("converting", 0.0)
        spec = self._workspace.spec
        convert(
            self._folder,
            self._base,
            dtype="f32",
            name=spec.inputs["model"].ref,
            scratch=self._workspace.scratch,
            threads=self._threads,
        )
        findings = compare_engines(
            self._folder,
            self._base,
            questions=heldout_questions(self._workspace)[: self._parameters.parity_prompts],
            tokens=self._parameters.parity_tokens,
            threads=self._threads,
            on_step=lambda done, of: self._step("comparing", 0.05 + 0.25 * done / of),
        )
        require_parity("f32", findings.tokens, findings.texts)
        facts = asdict(findings.facts)
        del facts["chat_template"]
        return facts, self._prompts()

    def _prompts(self) -> list[list[int]]:
        """Return the prompts on which a rung's greedy tokens are held against the unquantised file's."""
        asked = [*corpus.QUESTIONS, *heldout_questions(self._workspace)[: self._parameters.parity_prompts]]
        texts = [self._asked(text) for text in asked][: _SAME_PROMPTS + self._parameters.parity_prompts]
        room = self._context - self._parameters.parity_tokens
        encoded = [self._tokenizer.encode(text, add_special_tokens=False) for text in texts]
        return [ids for ids in encoded if 0 < len(ids) <= room]

    def _asked(self, text: str) -> str:
        if not self._tokenizer.chat_template:
            return text
        messages = [{"role": "user", "content": text}]
        return str(self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    def _importance(self) -> Path | None:
        if not self._parameters.imatrix:
            return None
        from appliance.conversion.importance import collect

        pieces = self._cut("train.jsonl", self._parameters.calibration_tokens)
        # What is raised in llama.cpp's callbacks gets lost there and ends its computation: asked after each piece.
        with self._workspace.saving():
            found = collect(
                self._base,
                [piece.tokens for piece in pieces],
                threads=self._threads,
                context=self._context,
                on_piece=lambda done, of: self._step("importance", 0.3 + 0.05 * done / of),
            )
        if not found:
            raise IntegrityFailure("conversion.importance", "No product of a weight matrix was seen.")
        path = self._workspace.scratch / "importance.safetensors"
        save_file(found, path)
        tokens = sum(len(piece.tokens) for piece in pieces)
        self._workspace.emit(Note(text=f"Importance of {len(found)} matrices, measured on {tokens} tokens."))
        return path

    def _measure_base(self, same: list[list[int]]) -> _Unquantised:
        with self._open(self._base) as model:
            nats = self._surprise(model, "perplexity", 0.36)
            chosen = [model.greedy(prompt, tokens=self._parameters.parity_tokens) for prompt in same]
        return _Unquantised(nats=nats, chosen=chosen, size=self._base.stat().st_size)

    def _rung(self, name: str, importance: Path | None, base: _Unquantised, same: list[list[int]]) -> dict[str, Any]:
        target = self._file(name)
        target.parent.mkdir()
        self._quantise(name, target, importance)
        with self._open(target) as model:
            nats = self._surprise(model, name, None)
            followed = [model.follow(prompt, run.tokens) for prompt, run in zip(same, base.chosen, strict=True)]
            with self._open(self._base) as unquantised:
                prefill, decode = self._speeds(unquantised, model)
        cost = ratio(base.nats, nats, self._counts)
        total = sum(len(run.tokens) for run in base.chosen)
        equal = sum(
            wanted == got
            for run, other in zip(base.chosen, followed, strict=True)
            for wanted, got in zip(run.tokens, other.tokens, strict=True)
        )
        figures = {
            "name": name,
            "made": True,
            "why_not": "",
            "gguf_bytes": target.stat().st_size,
            "size_ratio": target.stat().st_size / base.size,
            "perplexity": perplexity(nats, self._counts),
            "perplexity_ratio": cost.value,
            "perplexity_ratio_interval": [cost.low, cost.high],
            "same_tokens": equal / total if total else 0.0,
            "prefill_ratio": prefill,
            "decode_ratio": decode,
        }
        figures["parity"] = {
            # The tokenizer and the template are those of the f32 file, which passed; what is lost is precision.
            "passed": cost.value <= LOSSY_RATIO and total > 0 and equal >= LOSSY_TOKENS * total,
            "rung": name,
            "tokens_equal": equal,
            "tokens_total": total,
            "perplexity_ratio": round(cost.value, 6),
        }
        return figures

    def _file(self, rung: str) -> Path:
        return self._workspace.output / rung / "model.gguf"

    def _quantise(self, name: str, target: Path, importance: Path | None) -> None:
        program = ["-I", "-m", "appliance.conversion.quantise_program"]
        given = [str(self._base), str(target), str(RUNGS[name].ftype), str(self._threads)]
        outcome = process.run(
            [sys.executable, *program, *given, *([str(importance)] if importance else [])], timeout=_QUANTISE_SECONDS
        )
        if outcome.status != 0 or not target.is_file():
            raise IntegrityFailure(
                "conversion.quantise",
                f"llama.cpp could not write the model as {name} (status {outcome.status}).",
                hint="Leave that rung out with --to.",
            )

    def _speeds(self, unquantised: LlamaModel, rung: LlamaModel) -> tuple[float, float]:
        """Return how many times faster the rung reads and generates: medians of runs taken in turn."""
        prompt = (self._pieces[0].tokens * self._parameters.prompt)[: self._parameters.prompt]
        reads, generates = [], []
        for _ in range(self._parameters.rounds):
            self._stop_if_asked()
            before = unquantised.speeds(prompt, answer=self._parameters.answer)
            after = rung.speeds(prompt, answer=self._parameters.answer)
            reads.append(after[0] / before[0])
            generates.append(after[1] / before[1])
        return median(reads), median(generates)

    def _surprise(self, model: LlamaModel, phase: str, fraction: float | None) -> list[float]:
        found = []
        for piece in self._pieces:
            self._stop_if_asked()
            found.append(model.surprise(piece.tokens, scored_from=piece.scored_from))
            if fraction is not None:
                self._step(phase, fraction)
        return found

    def _cut(self, name: str, most: int) -> list[Piece]:
        rows = token_rows(self._tokenizer, self._workspace.input("dataset") / name)
        longest = min(self._parameters.window, _positions(self._folder))
        found = windows(rows, longest=longest, most=most)
        if not found:
            raise BadInput(
                "conversion.no_text",
                f"No row of {name} fits {longest} tokens.",
                hint="Give a larger window with --set window=N, or shorter rows.",
            )
        return found

    def _open(self, path: Path) -> LlamaModel:
        return LlamaModel(path, context=self._context, threads=self._threads)

    def _stop_if_asked(self) -> None:
        if self._workspace.stop_requested():
            raise Interrupted

    def _step(self, phase: str, fraction: float) -> None:
        self._stop_if_asked()
        self._workspace.emit(Progress(phase=phase, fraction=min(fraction, 1.0)))


def _positions(folder: Path) -> int:
    config = json.loads((folder / "config.json").read_bytes())
    return max(16, int(config.get("max_position_embeddings") or 512))


def _row_lengths(gguf_file: Path) -> dict[str, int]:
    """Return the row length of every weight matrix, by the matrix's name."""
    import gguf

    reader = gguf.GGUFReader(gguf_file)
    return {
        str(tensor.name): int(tensor.shape[0])
        for tensor in reader.tensors
        if len(tensor.shape) > 1 and str(tensor.name).endswith(".weight")
    }
