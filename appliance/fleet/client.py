"""Asks the rank host of one box, over its Unix socket on this one; the socket of another box leads there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import httpx2
import msgspec

from appliance.fleet.wire import BoxFacts, Order, RunView, Start
from appliance.jobs.spec import FileEntry
from appliance.kernel.errors import Conflict, IntegrityFailure, Unavailable, storage_errors
from appliance.kernel.problem import Problem, error_of

T = TypeVar("T")

_PIECE = 1 << 20
_PAUSE = 0.2


class RankHostClient:
    """One box's rank host; use as a context manager.

    Every call raises the box's own error, Unavailable, or Conflict where the box has another version. It is
    repeated for `patience` seconds while nobody answers: each may be repeated without harm.
    """

    def __init__(self, box: str, socket: Path, *, patience: float = 5.0, timeout: float = 30.0) -> None:
        self.box = box
        self.patience = patience
        self._socket = socket
        self._http = httpx2.Client(
            transport=httpx2.HTTPTransport(uds=str(socket)), base_url="http://rank-host", timeout=timeout
        )

    def __enter__(self) -> RankHostClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside, a call to a box that does not answer is not repeated."""
        patience, self.patience = self.patience, 0.0
        try:
            yield
        finally:
            self.patience = patience

    def facts(self) -> BoxFacts:
        """Return what the box has to give."""
        return self._send("GET", "/", BoxFacts)

    def lay_out(self, key: str, order: Order) -> RunView:
        """Have a job laid out; the answer says which files it needs."""
        return self._send("PUT", f"/runs/{key}", RunView, body=order)

    def give(self, key: str, digest: str, file: Path) -> None:
        """Hand over a file."""
        self._answer(self._ask("PUT", f"/runs/{key}/given/{digest}", file=file))

    def start(self, key: str, placement: dict[str, Any]) -> RunView:
        """Start it."""
        return self._send("POST", f"/runs/{key}/start", RunView, body=Start(placement=placement))

    def view(self, key: str, *, after: int = 0, hold: float = 0.0) -> RunView:
        """Return how it fares, waiting up to `hold` seconds for news."""
        return self._send("GET", f"/runs/{key}?after={after}&hold={hold}", RunView)

    def stop(self, key: str) -> None:
        """Ask it to save a checkpoint and stop."""
        self._answer(self._ask("POST", f"/runs/{key}/stop"))

    def forget(self, key: str) -> None:
        """Have it removed, with its checkpoints."""
        self._answer(self._ask("DELETE", f"/runs/{key}"))

    def fetch(self, key: str, entry: FileEntry, target: Path) -> None:
        """Bring one of the files that it made here. Raises IntegrityFailure when it is not what was sealed."""
        found, size = sha256(), 0
        with storage_errors(f"bringing {entry.path} from box {self.box}"):
            target.parent.mkdir(parents=True, exist_ok=True)
            with (
                self._reached(),
                target.open("wb") as stream,
                self._http.stream("GET", f"/runs/{key}/out/{quote(entry.path)}") as response,
            ):
                if not response.is_success:
                    response.read()
                    self._answer(response)
                for piece in response.iter_bytes(_PIECE):
                    size += len(piece)
                    if size > entry.size:
                        break
                    found.update(piece)
                    stream.write(piece)
        if found.hexdigest() != entry.digest or size != entry.size:
            raise IntegrityFailure(
                "fleet.corrupt", f"{entry.path} arrived from box {self.box} with other bytes than it was made with."
            )

    def _send(self, method: str, path: str, form: type[T], *, body: msgspec.Struct | None = None) -> T:
        content = msgspec.json.encode(body) if body is not None else None
        answer = self._answer(self._ask(method, path, content=content))
        try:
            return msgspec.json.decode(answer, type=form)
        except msgspec.DecodeError as error:
            raise Conflict(
                "fleet.other_form",
                f"Box {self.box} answers in another form than this one understands.",
                hint="It has another version; install the same bundle on both.",
            ) from error

    def _ask(
        self, method: str, path: str, *, content: bytes | None = None, file: Path | None = None
    ) -> httpx2.Response:
        deadline = time.monotonic() + self.patience
        while True:
            try:
                with self._reached():
                    return self._http.request(
                        method,
                        path,
                        content=content if file is None else _pieces(file),
                        headers={} if file is None else {"content-length": str(file.stat().st_size)},
                    )
            except Unavailable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_PAUSE)

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Turn what happens where nobody answers into Unavailable."""
        try:
            if not _exists(self._socket):  # the library would leave its own end open, once for each try
                raise self._nobody()
            yield
        except httpx2.TransportError as error:
            raise self._nobody() from error

    def _answer(self, response: httpx2.Response) -> bytes:
        if response.is_success:
            return response.content
        try:
            problem = msgspec.json.decode(response.content, type=Problem)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise self._nobody() from error
        raise error_of(self.located(problem))

    def located(self, problem: Problem) -> Problem:
        """Return a problem with the box's name in front."""
        return msgspec.structs.replace(problem, message=f"Box {self.box}: {problem.message}")

    def _nobody(self) -> Unavailable:
        return Unavailable(
            "fleet.unreachable",
            f"The rank host of box {self.box} does not answer.",
            hint=f"See `intramuros fleet`; on {self.box}: systemctl status intramuros-ranks.",
        )


def _exists(socket: Path) -> bool:
    try:
        return socket.exists()
    except OSError:  # in a folder that this user may not enter
        return False


def _pieces(file: Path) -> Iterator[bytes]:
    with file.open("rb") as stream:
        while piece := stream.read(_PIECE):
            yield piece
