"""The job in which a local model writes a data set: seeded, resumable, sieved, and marked as what it is.

in/model/ (Hugging Face folder), in/data/ (or the parameter `prompts`)  ->  out/train.jsonl, heldout.jsonl,
rejected.jsonl, report.json. Parameters: `count`, `temperature`, `top_p`, `max_tokens`, `vary`, `heldout_percent`.
Only training rows are looked at; with `vary` the model first writes a question like them, else it answers theirs.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from appliance.datasets.aside import REJECTED
from appliance.datasets.attempts import AttemptLog
from appliance.datasets.forms import Form
from appliance.datasets.local_model import LocalModel, Sampling
from appliance.datasets.parts import Parts, write_report
from appliance.datasets.prepare import HELDOUT, TRAIN, hashed_side, prompt_digest
from appliance.datasets.rows import form_of, prompt_of
from appliance.datasets.stored import read_part
from appliance.datasets.synthesis import Sieve, chosen_question, request_for_a_question, row_of, seed_of
from appliance.jobs.workspace import Interrupted, Workspace
from appliance.kernel.canonical import canonical_json
from appliance.kernel.errors import BadInput, storage_errors
from appliance.kernel.events import CheckpointSaved, Note, Progress

_ATTEMPTS_PER_ROW = 5
_SEAL_SECONDS = 10.0


class _Wish(msgspec.Struct, frozen=True, kw_only=True):
    count: int
    temperature: float
    top_p: float
    max_tokens: int
    name: str = ""
    prompts: tuple[str, ...] = ()
    heldout_percent: int = 0
    vary: bool = False


def run(workspace: Workspace) -> dict[str, Any]:
    """Write the rows and return the summary. Raises BadInput, IntegrityFailure, StorageFailure or Interrupted."""
    wish = msgspec.convert(workspace.spec.parameters, _Wish)
    questions, forbidden = _questions(workspace, wish)
    log = AttemptLog(workspace.checkpoints / "attempts.jsonl", run=workspace.spec.run_id)
    writer = _Writer(workspace, wish, questions, log, Sieve(forbidden=forbidden))
    with storage_errors("generating a data set"):
        try:
            rows = writer.write()
        finally:
            log.close()
        return _publish(workspace, wish, rows, writer)


class _Writer:
    def __init__(
        self, workspace: Workspace, wish: _Wish, questions: Sequence[str], log: AttemptLog, sieve: Sieve
    ) -> None:
        self._workspace = workspace
        self._wish = wish
        self._questions = questions
        self._log = log
        self.sieve = sieve
        self.attempts = 0

    def write(self) -> list[dict[str, Any]]:
        """Return the kept rows: those of an earlier life of this job, then new ones."""
        rows: list[dict[str, Any]] = []
        for entry in self._log.read():
            self.attempts += 1
            self._settle(rows, entry)
        most = self._wish.count * _ATTEMPTS_PER_ROW
        if len(rows) >= self._wish.count or self.attempts >= most:
            return rows
        model = LocalModel(self._workspace.input("model"), threads=self._workspace.spec.environment.threads)
        sealed = time.monotonic()
        while len(rows) < self._wish.count and self.attempts < most:
            if self._workspace.stop_requested():
                self._seal()
                raise Interrupted
            entry = {"attempt": self.attempts} | self._attempt(model, self.attempts)
            self._log.append(entry)
            self.attempts += 1
            self._settle(rows, entry)
            if time.monotonic() - sealed >= _SEAL_SECONDS:
                self._seal()
                sealed = time.monotonic()
            self._workspace.emit(
                Progress(
                    phase="write", fraction=0.99 * len(rows) / self._wish.count, step=len(rows), steps=self._wish.count
                )
            )
        return rows

    def _attempt(self, model: LocalModel, number: int) -> dict[str, Any]:
        """Return question, answer and whether it ended, or a code: a pure function of the attempt's number."""
        wish, seed = self._wish, self._workspace.spec.seed
        sampling = Sampling(temperature=wish.temperature, top_p=wish.top_p, max_tokens=wish.max_tokens)
        question = chosen_question(self._questions, seed, number)
        if wish.vary:
            asked = request_for_a_question(self._questions, seed, number)
            written = model.say(asked, sampling, seed=seed_of(seed, "question", number))
            if written is None or not written.ended:
                return {"code": "no_question"}
            question = written.text.lstrip("-• ").strip()
        answer = model.say(question, sampling, seed=seed_of(seed, "answer", number))
        if answer is None:
            return {"code": "too_long"}
        return {"question": question, "answer": answer.text, "ended": answer.ended}

    def _settle(self, rows: list[dict[str, Any]], entry: dict[str, Any]) -> None:
        if "code" in entry:
            self.sieve.refuse(entry["code"])
        elif not self.sieve.fault(entry["question"], entry["answer"], ended=entry["ended"]):
            rows.append(row_of(entry["question"], entry["answer"]))

    def _seal(self) -> None:
        step, digest = self._log.seal()
        self._workspace.emit(CheckpointSaved(step=step, digest=digest))


def _questions(workspace: Workspace, wish: _Wish) -> tuple[list[str], frozenset[bytes]]:
    """Return the questions to begin with, and the digests of those that are held out."""
    if "data" not in workspace.spec.inputs:
        found = list(dict.fromkeys(prompt.strip() for prompt in wish.prompts if prompt.strip()))
        return _required(found), frozenset()
    folder: Path = workspace.input("data")
    heldout = frozenset(prompt_digest(content) for _, _, content in read_part(folder, HELDOUT))
    asked: dict[str, None] = {}
    for _, _, content in read_part(folder, TRAIN):
        if form_of(content) in (Form.TEXT, Form.TAGS):
            raise BadInput(
                "dataset.generate_form",
                "Plain and tagged text asks nothing that could be answered.",
                hint="Give a chat, completion, preference or classification data set, or --prompts FILE.",
            )
        asked[prompt_of(content)] = None
    return _required(list(asked)), heldout


def _required(questions: list[str]) -> list[str]:
    if not questions:
        raise BadInput("dataset.no_rows", "There is no question to begin with.", hint="Give --data or --prompts.")
    return questions


def _publish(workspace: Workspace, wish: _Wish, rows: list[dict[str, Any]], writer: _Writer) -> dict[str, Any]:
    refused = dict(sorted(writer.sieve.refused.items()))
    if not rows:
        raise BadInput(
            "dataset.nothing_generated",
            f"None of {writer.attempts} answers of the model is usable: {refused}.",
            hint="Use a better model, a lower temperature, or more tokens.",
        )
    (workspace.output / REJECTED).touch()
    with Parts(workspace.output, Form.CHAT) as parts:
        for row in rows:
            side = hashed_side(workspace.spec.seed, prompt_digest(row), heldout_percent=wish.heldout_percent)
            parts.add(side, canonical_json(row), row)
        parts.flush()
    parts.require_usable(name="what the model wrote", why="all of it is held out")
    model, data = workspace.spec.inputs["model"], workspace.spec.inputs.get("data")
    source = data.ref if data else f"{len(wish.prompts)} prompts"
    summary = parts.summary() | {
        "origin": {"kind": "generate", "from": source, "attempts": writer.attempts, "refused": refused},
        "synthetic": {
            "model": model.ref,
            "model_digest": model.digest,
            "from": source,
            "seed": workspace.spec.seed,
            "temperature": wish.temperature,
            "top_p": wish.top_p,
            "varied": wish.vary,
        },
    }
    summary["statistics"]["refused_by_code"] = refused
    if len(rows) < wish.count:
        workspace.emit(
            Note(text=f"Only {len(rows)} of {wish.count} rows: {writer.attempts} attempts, refused {refused}.")
        )
    summary = write_report(workspace.output, summary)
    workspace.emit(Progress(phase="write", fraction=1.0, step=len(rows), steps=wish.count))
    return summary
