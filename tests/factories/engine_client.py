"""A real engine worker process, and a small synchronous client for it."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from appliance.engine.encoder_worker import folder_digest
from appliance.engine.frames import (
    Accepted,
    Ask,
    Cancel,
    Failed,
    Finished,
    FromWorker,
    Hello,
    Info,
    Message,
    Piece,
    Sampling,
    State,
    Step,
    Submit,
    TokenLogprob,
    ToWorker,
    encode,
    worker_stream,
)

ROOT = Path(__file__).parents[2]
GREEDY = Sampling(temperature=0.0, max_tokens=16)


class Answer:
    """What came back for one request."""

    def __init__(self) -> None:
        self.accepted: Accepted | None = None
        self.pieces: list[Piece] = []
        self.end: Finished | Failed | None = None

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)

    @property
    def tokens(self) -> list[TokenLogprob]:
        return [entry for piece in self.pieces for entry in piece.logprobs]

    @property
    def finished(self) -> Finished:
        assert isinstance(self.end, Finished), self.end
        return self.end

    @property
    def failed(self) -> Failed:
        assert isinstance(self.end, Failed), self.end
        return self.end


class EngineClient:
    """Blocking, one connection, any number of requests."""

    def __init__(self, path: Path, *, timeout: float = 60.0) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout)
        self.socket.connect(str(path))
        self.answers: defaultdict[int, Answer] = defaultdict(Answer)
        self._stream = worker_stream()
        self._next = 1
        self._infos: list[Info] = []
        self._states: list[State] = []

    def close(self) -> None:
        self.socket.close()

    def send(self, frame: ToWorker) -> None:
        self.socket.sendall(encode(frame))

    def submit(
        self,
        prompt: str | None = None,
        params: Sampling = GREEDY,
        *,
        tenant: str = "tenant",
        messages: tuple[Message, ...] | None = None,
        **more: Any,
    ) -> int:
        number, self._next = self._next, self._next + 1
        self.send(Submit(id=number, tenant=tenant, prompt=prompt, messages=messages, params=params, **more))
        return number

    def cancel(self, number: int) -> None:
        self.send(Cancel(id=number))

    def hello(self) -> Info:
        self.send(Hello())
        while not self._infos:
            self.receive()
        return self._infos.pop()

    def state(self) -> State:
        self.send(Ask())
        while not self._states:
            self.receive()
        return self._states.pop()

    def receive(self) -> list[FromWorker]:
        """Wait for some frames and sort them in; ConnectionError when the worker hung up."""
        data = self.socket.recv(1 << 16)
        if not data:
            raise ConnectionError("the worker closed the connection")
        frames = self._stream.feed(data)
        for frame in frames:
            match frame:
                case Step(items=items):
                    for piece in items:
                        self.answers[piece.id].pieces.append(piece)
                case Finished(id=number) | Failed(id=number):
                    self.answers[number].end = frame
                case Accepted(id=number):
                    self.answers[number].accepted = frame
                case Info():
                    self._infos.append(frame)
                case State():
                    self._states.append(frame)
        return frames

    def wait(self, *numbers: int) -> list[Answer]:
        """The answers of these requests, once all of them ended."""
        while any(self.answers[number].end is None for number in numbers):
            self.receive()
        return [self.answers[number] for number in numbers]

    def wait_for_text(self, number: int) -> None:
        while not self.answers[number].pieces:
            self.receive()

    def ask(
        self,
        prompt: str | None = None,
        params: Sampling = GREEDY,
        *,
        tenant: str = "tenant",
        messages: tuple[Message, ...] | None = None,
        **more: Any,
    ) -> Answer:
        return self.wait(self.submit(prompt, params, tenant=tenant, messages=messages, **more))[0]


def same_until_a_tie(one: Answer, other: Answer) -> int:
    """How many tokens two greedy answers share. They may part only where the best two tokens are a tie up to noise.

    Cells are 16-bit floats and the batch decides the order of sums, so logits move by some thousandths. Both must have
    been asked for with two log-probabilities.
    """
    pairs = zip(one.tokens, other.tokens, strict=True)
    for count, (left, right) in enumerate(pairs):
        if left.chosen.token != right.chosen.token:
            assert left.top[0].logprob - left.top[1].logprob < 0.02
            return count
    return len(one.tokens)


def digest_of_file(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def start_worker(model: Path, path: Path, *more: str, digest: str | None = None) -> subprocess.Popen[bytes]:
    """Start the process; it is not ready yet. Its stderr is a pipe."""
    return subprocess.Popen(
        [
            *(sys.executable, "-I", "-m", "appliance.engine.llama_worker"),
            *("--model", str(model), "--digest", digest or digest_of_file(model), "--socket", str(path)),
            *("--threads", "1", "--slots", "9", "--context", "2048", *more),
        ],
        cwd=ROOT,
        env=os.environ | {"GOMP_SPINCOUNT": "1000", "OMP_WAIT_POLICY": "passive"},
        stderr=subprocess.PIPE,
    )


def start_encoder(model: Path, path: Path, kind: str, *more: str) -> subprocess.Popen[bytes]:
    """Start a worker that encodes, of a GGUF file or a Hugging Face folder; it is not ready yet."""
    digest = folder_digest(model) if model.is_dir() else digest_of_file(model)
    return subprocess.Popen(
        [
            *(sys.executable, "-I", "-m", "appliance.engine.encoder_worker"),
            *("--kind", kind, "--model", str(model), "--digest", digest, "--socket", str(path), "--threads", "1"),
            *more,
        ],
        cwd=ROOT,
        stderr=subprocess.PIPE,
    )


def wait_ready(process: subprocess.Popen[bytes], path: Path, *, timeout: float = 60.0) -> None:
    """Until a client can connect; fails with the worker's own words when it ended instead."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if process.poll() is not None:
            assert process.stderr is not None
            raise AssertionError(process.stderr.read().decode())
        probe = socket.socket(socket.AF_UNIX)
        try:
            probe.connect(str(path))
        except OSError:
            time.sleep(0.02)
        else:
            return
        finally:
            probe.close()
    raise AssertionError("the worker did not become ready")


def end_worker(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    if process.stderr is not None:
        process.stderr.close()


@contextmanager
def running_worker(model: Path, path: Path, *more: str) -> Iterator[subprocess.Popen[bytes]]:
    with _ready(start_worker(model, path, *more), path) as process:
        yield process


@contextmanager
def running_encoder(model: Path, path: Path, kind: str) -> Iterator[subprocess.Popen[bytes]]:
    with _ready(start_encoder(model, path, kind), path) as process:
        yield process


@contextmanager
def _ready(process: subprocess.Popen[bytes], path: Path) -> Iterator[subprocess.Popen[bytes]]:
    try:
        wait_ready(process, path)
        yield process
    finally:
        end_worker(process)


@contextmanager
def connected(path: Path) -> Iterator[EngineClient]:
    client = EngineClient(path)
    try:
        yield client
    finally:
        client.close()
