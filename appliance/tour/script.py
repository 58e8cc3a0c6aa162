"""The steps of the tour, in order. Read it as the shortest complete introduction to the product."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click

from appliance.kernel.errors import InternalError, Unavailable
from appliance.tour.walk import Step, Walk

QUESTION = "How do I start the appliance?"
DEPLOYMENT = "assistant"
MARGIN = 0.30
"""Exact match on the held-out part must rise by this much (gates.toml)."""

_RUINOUS = ("--set", "learning_rate=0.05", "--set", "epochs=1")
_ASK_TIMEOUT = 120.0


def walk_the_tour(walk: Walk, *, port: int, tolerate_faults: bool) -> dict[str, Any]:
    """Do every step; returns the summary document. Raises the first error."""
    folder = walk.state / "tour"
    with walk.step("Start the appliance"):
        status = walk.verb("up", "--port", str(port))
        folder.mkdir(mode=0o700, exist_ok=True)
    user = _EndUser(walk, url=status["address"], state=walk.state, key=folder / "assistant.key")

    with walk.step("Bring in the data: questions and answers, and a handbook") as step:
        faq = walk.verb("dataset", "import", "example:faq", "--name", "faq")["dataset"]
        handbook = walk.verb("dataset", "import", "example:handbook", "--name", "handbook")["dataset"]
        step.figures = {"faq_train": faq["train_rows"], "faq_heldout": faq["heldout_rows"]}

    with walk.step("Train the seed model from nothing") as step:
        run = walk.verb("train", "seed", "--corpus", handbook["ref"])
        seed = walk.verb("model", "register", f"run:{run['id']}", "--name", "seed")["model"]
        step.figures = _training_figures(run)

    with walk.step("Measure it") as step:
        before = walk.verb("eval", seed["ref"], "--data", faq["ref"])["summary"]["metrics"]
        step.figures = before

    with walk.step("Fine-tune it by LoRA") as step:
        tuned = walk.verb("train", "lora", "--base", seed["ref"], "--data", faq["ref"])
        step.figures = _training_figures(tuned)

    with walk.step("Measure again") as step:
        after = walk.verb("eval", f"run:{tuned['id']}", "--data", faq["ref"])["summary"]["metrics"]
        step.figures = after | {"gain": round(after["exact_match"] - before["exact_match"], 4)}

    with walk.step("Convert to GGUF; both engines must give the same tokens") as step:
        converted = walk.verb("model", "convert", f"run:{tuned['id']}", "--prompts", faq["ref"])
        step.figures = converted["summary"]["parity"]

    with walk.step("Register the version with its lineage"):
        good = walk.verb("model", "register", f"run:{converted['id']}", "--name", DEPLOYMENT)["model"]["ref"]

    with walk.step("Promote it to production: gate, and approval by somebody else") as step:
        walk.verb("model", "promote", good, "--to", "dev")
        walk.verb("model", "promote", good, "--to", "test")
        key = folder / "approver.key"
        walk.verb("approver", "add", "second-pair-of-eyes", "--key", str(key))
        walk.verb("model", "approve", good, "--to", "prod", "--approver", "second-pair-of-eyes", "--key", str(key))
        detail = walk.verb("model", "promote", good, "--to", "prod")
        step.figures = {"stage": detail["model"]["stage"], "approvals": len(detail["approvals"])}

    with walk.step("Serve it"):
        walk.verb("deploy", good, "--as", DEPLOYMENT)
        if not user.key.exists():
            walk.verb("key", "create", "tour", "--out", str(user.key))

    with walk.step("Ask it over HTTPS, as an end user with the openai client") as step:
        answer = user.ask(QUESTION)
        step.figures = {"question": QUESTION, **answer}

    with walk.step(
        "A damaged version: the gate refuses it, an override serves it, one rollback brings the good one back"
    ) as step:
        step.figures = _damage_and_roll_back(walk, user, seed["ref"], faq["ref"], tolerate_faults=tolerate_faults)
        again = user.ask(QUESTION)
        _same_answer(answer, again, "after the rollback")

    with walk.step("Back up, restore into a fresh directory, ask the restored appliance") as step:
        snapshot = walk.verb("backup", "create")
        walk.verb("backup", "verify")
        restored = _fresh(folder)
        walk.verb("backup", "restore", "--to", str(restored), "--snapshot", snapshot["id"])
        twin = walk.verb("up", "--port", str(_free_port_above(port)), state=restored)
        try:
            repeated = _EndUser(walk, url=twin["address"], state=restored, key=user.key).ask(QUESTION)
        finally:
            walk.verb("down", state=restored)
        _same_answer(answer, repeated, "from the restored appliance")
        step.figures = {"snapshot": snapshot["id"][:12], "bytes": snapshot["size"], "same_answer": True}

    with walk.step("Verify the audit trail with the stand-alone verifier") as step:
        trail = folder / "audit.jsonl"
        exported = walk.verb("audit", "export", str(trail))
        text = walk.program(sys.executable, "-I", exported["verifier"], str(trail), "--json")
        step.figures = {"verdict": json.loads(text)["ok"], "lines": exported["lines"]}

    return _summary(walk.steps, before, after, answer)


def _free_port_above(port: int) -> int:
    """Return the first port above this one that nobody on the machine uses at the moment."""
    for candidate in range(port + 1, 65_536):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", candidate)):
            return candidate
    raise Unavailable("tour.no_port", f"No port above {port} is free for the restored appliance.")


class _EndUser:
    """Somebody who only has the address, the CA certificate and an API key."""

    def __init__(self, walk: Walk, *, url: str, state: Path, key: Path) -> None:
        self.key = key
        self._walk = walk
        self._options = ("--url", url, "--ca", str(state / "tls" / "ca.crt"), "--key-file", str(key))

    def ask(self, question: str) -> dict[str, Any]:
        """Stream one answer. Raises Unavailable when there is none."""
        process = self._walk.end_user("ask", question, *self._options, "--model", DEPLOYMENT)
        text, _ = process.communicate(timeout=_ASK_TIMEOUT)
        answer: dict[str, Any] = json.loads(text)
        click.echo(f"     > {answer.get('text', '')[:100]}", err=True)
        if not answer["ok"]:
            raise Unavailable("tour.no_answer", f"The deployment did not answer: {answer.get('problem')}.")
        return answer

    def begin_load(self) -> subprocess.Popen[str]:
        """Keep streams open until `end_load`."""
        return self._walk.end_user("load", *self._options, "--model", DEPLOYMENT)


def _damage_and_roll_back(walk: Walk, user: _EndUser, base: str, data: str, *, tolerate_faults: bool) -> dict[str, Any]:
    """Ruin a version with an absurd learning rate, serve it by override under load, and roll back under load."""
    ruined = walk.verb("train", "lora", "--base", base, "--data", data, *_RUINOUS)
    measured = walk.verb("eval", f"run:{ruined['id']}", "--data", data)["summary"]["metrics"]
    converted = walk.verb("model", "convert", f"run:{ruined['id']}")
    bad = walk.verb("model", "register", f"run:{converted['id']}", "--name", DEPLOYMENT)["model"]["ref"]
    walk.verb("model", "promote", bad, "--to", "dev")
    walk.refused("gate.refused", "model", "promote", bad, "--to", "test")
    walk.refused("gate.refused", "deploy", bad, "--as", DEPLOYMENT)
    load = user.begin_load()
    try:
        walk.verb("deploy", bad, "--as", DEPLOYMENT, "--override", "showing that a bad version can be taken back")
        served_bad = time.time()
        damaged = user.ask(QUESTION)
        walk.verb("rollback", DEPLOYMENT)
        rolled_back = time.time()
    finally:
        text, _ = load.communicate(timeout=_ASK_TIMEOUT)
    report = json.loads(text)
    if report["broken"] and not tolerate_faults:
        raise InternalError(
            "tour.dropped_stream", f"{report['broken']} of {report['streams']} streams broke: {report['problems'][:1]}"
        )
    crossing = [
        sum(record["began"] < moment < record["ended"] for record in report["records"])
        for moment in (served_bad, rolled_back)
    ]
    return {
        "exact_match_of_the_damaged_version": measured["exact_match"],
        "its_answer": damaged["text"][:80],
        "streams": report["streams"],
        "streams_broken": report["broken"],
        "streams_open_while_switching": crossing,
    }


def _training_figures(run: dict[str, Any]) -> dict[str, Any]:
    kept = ("parameters", "steps", "tokens", "final_loss", "seconds", "tokens_per_cpu_second")
    return {name: run["summary"][name] for name in kept if name in run["summary"]} | {"from_cache": run["cached"]}


def _same_answer(first: dict[str, Any], second: dict[str, Any], where: str) -> None:
    if first["text"] != second["text"]:
        raise InternalError("tour.other_answer", f"The answer {where} differs: {second['text']!r}.")


def _fresh(folder: Path) -> Path:
    return next(path for number in itertools.count(1) if not (path := folder / f"r{number}").exists())


def _summary(
    steps: list[Step], before: dict[str, float], after: dict[str, float], answer: dict[str, Any]
) -> dict[str, Any]:
    return {
        "ok": all(step.ok for step in steps),
        "seconds": round(sum(step.seconds for step in steps), 1),
        "exact_match_before": before["exact_match"],
        "exact_match_after": after["exact_match"],
        "required_gain": MARGIN,
        "question": QUESTION,
        "answer": answer["text"],
        "ttft_seconds": answer["ttft"],
        "steps": steps,
    }
