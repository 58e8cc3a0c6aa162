"""What every worker process needs at its edges: its socket, checked arguments, its memory limit, and how it serves.

Invariant: a socket's name appears only when requests can be served, and a worker removes no name but its own.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import socket
import sys
from pathlib import Path
from typing import Final

from appliance.engine.compute_thread import ComputeThread
from appliance.engine.outbox import Emitter
from appliance.engine.reader import Reader
from appliance.kernel.errors import BadInput, InternalError, storage_errors
from appliance.kernel.sharing import shared_mode

_LONGEST_SOCKET_PATH: Final = 107


def socket_names(name: str) -> tuple[Path, Path]:
    """Return the socket's path and the one it has until it serves. Raises BadInput when they are too long."""
    path = Path(name)
    staged = path.with_name(f"{path.name}.{os.getpid()}")
    if len(os.fsencode(staged)) > _LONGEST_SOCKET_PATH:
        raise BadInput("engine.socket_path", f"The socket's path is longer than the system allows: {path}.")
    return path, staged


def listen_at(path: Path) -> socket.socket:
    """Bind and listen, open to the folder's group where that is shared. Raises StorageFailure."""
    with storage_errors("creating the engine's socket"):
        return _listen_at(path)


def serve(reader: Reader, thread: ComputeThread, emitter: Emitter, *, path: Path, staged: Path, said: str) -> None:
    """Warm up, show the socket under its name, say so on stderr, and serve until SIGTERM or SIGINT has drained all.

    Raises InternalError `engine.warm_up` or `engine.defect`.
    """
    identity = staged.stat()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: reader.terminate())
    gc.collect()
    gc.freeze()
    emitter.start()
    thread.begin()
    staged.rename(path)
    print(said, file=sys.stderr)
    try:
        reader.run()
    finally:
        unlink_own(path, identity)
        emitter.finish()
    if thread.defect is not None:
        raise InternalError("engine.defect", f"The engine thread failed: {thread.defect}.")


def _listen_at(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.setblocking(False)
    before = os.umask(0o777 & ~shared_mode(path.parent, private=0o600, shared=0o660))
    try:
        listener.bind(os.fsencode(path))
    finally:
        os.umask(before)
    listener.listen(64)
    return listener


def unlink_own(path: Path, identity: os.stat_result) -> None:
    """Remove the socket's name unless a later worker has taken it."""
    try:
        if path.stat().st_ino == identity.st_ino:
            path.unlink()
    except FileNotFoundError:
        return


def positive(text: str) -> int:
    """Argument type: a whole number from 1 on."""
    value = int(text)
    if not 1 <= value < 2**31:
        raise ValueError(text)
    return value


def digest_name(text: str) -> str:
    """Argument type: a SHA-256 in lower-case hexadecimal."""
    if len(text) != 64 or not set(text) <= set("0123456789abcdef"):
        raise ValueError(text)
    return text


def limit_memory(mebibytes: int | None) -> None:
    """Bound what this process may allocate (RLIMIT_DATA, getrlimit(2)); the mapped model file does not count.

    Raises BadInput `engine.memory_limit` where the system does not allow that: a limit that nothing enforces is none.
    """
    if mebibytes is None:
        return
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (mebibytes << 20, mebibytes << 20))
    except (OSError, ValueError) as error:
        raise BadInput(
            "engine.memory_limit",
            f"This system does not let an engine bound its memory to {mebibytes} MiB: {error}.",
            hint="Deploy it without --memory-limit.",
        ) from error
