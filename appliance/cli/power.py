"""`intramuros up` and `down`: the embedded appliance in one directory, as the invoking user."""

from __future__ import annotations

import fcntl
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import msgspec

from appliance.api import calls
from appliance.api import types as t
from appliance.api.client import Client
from appliance.cli.session import Session, verb
from appliance.daemon.marks import find
from appliance.kernel.errors import BadInput, Conflict, StorageFailure, Unavailable, storage_errors
from appliance.kernel.paths import StatePaths, box_state
from appliance.kernel.problem import Problem, error_of
from appliance.kernel.process import is_alive, send_signal

_START_PATIENCE = 60.0
_STOP_PATIENCE = 60.0
_RESTART_PATIENCE = 5.0
_POLL = 0.05


@click.command()
@click.option("--host", help="Address the gateway listens on.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(1, 65535), help="Port of the gateway.  [default: 8443]")
@verb
def up(session: Session, host: str | None, port: int | None) -> None:
    """Start the appliance of a state directory, creating it the first time."""
    _leave_to_systemd(session, "start")
    view = start_appliance(session.paths, host=host, port=port)
    session.show(view, lambda: f"Intramuros {view.version} serves on {view.address} (state: {view.state_directory})")


@click.command()
@verb
def down(session: Session) -> None:
    """Stop the appliance: streams finish, jobs save a checkpoint and go on after the next start."""
    _leave_to_systemd(session, "stop")
    stopped = stop_appliance(session.paths)
    session.show({"stopped": stopped}, lambda: "stopped" if stopped else "it was not running")


def _leave_to_systemd(session: Session, verb_of_systemctl: str) -> None:
    """Refuse on a box, where systemd starts and stops the appliance and would undo what is done past it."""
    if session.paths.root == box_state():
        raise Conflict(
            "appliance.run_by_systemd",
            "systemd runs the appliance of this box.",
            hint=f"As root: systemctl {verb_of_systemctl} intramuros.target",
        )


def start_appliance(paths: StatePaths, *, host: str | None = None, port: int | None = None) -> t.StatusView:
    """Start keeper and daemon unless they run, and return the status once the gateway serves."""
    if (view := _answering(paths)) is not None and not _differs(view, host, port):
        return _wait_until_served(paths)
    if view is not None:
        raise BadInput(
            "up.other_address",
            f"The appliance already runs at {view.address}.",
            hint="Stop it first: `intramuros down`.",
        )
    _wait_until_released(paths)
    with storage_errors(f"preparing {paths.root}"):
        paths.root.mkdir(parents=True, exist_ok=True)
        for folder in (paths.logs, paths.run):
            folder.mkdir(mode=0o700, exist_ok=True)
        refused = paths.run / "refused.json"
        refused.unlink(missing_ok=True)
        keeper = _start_keeper(paths, host, port)
    deadline = time.monotonic() + _START_PATIENCE
    while time.monotonic() < deadline:
        if refused.exists():
            raise error_of(msgspec.json.decode(refused.read_bytes(), type=Problem))
        if _answering(paths) is not None:
            return _wait_until_served(paths)
        if keeper.poll() is not None and not refused.exists():
            if keeper.returncode == StorageFailure.exit_code:  # too full even to leave a reason
                raise StorageFailure(
                    "storage.not_writable",
                    f"Nothing can be written below {paths.root}: the disk is full, read-only or failing.",
                    hint="Free some space and run the same command again.",
                )
            break
        time.sleep(_POLL)
    raise Unavailable(
        "up.no_answer",
        "The appliance did not start.",
        hint=f"See {paths.logs}/daemon.log",
    )


def _wait_until_released(paths: StatePaths) -> None:
    """Give a daemon that is still ending the time to let go of the state directory."""
    deadline = time.monotonic() + _STOP_PATIENCE
    while (paths.run / "daemon.lock").exists() and _is_locked(paths) and time.monotonic() < deadline:
        if _answering(paths) is not None:
            return
        time.sleep(_POLL)


def stop_appliance(paths: StatePaths) -> bool:
    """Ask the daemon to stop and wait until it has; False when it was not running."""
    if _answering(paths, patience=_RESTART_PATIENCE) is None:
        return _stop_orphans(paths)
    with Client(paths.control_socket, patience=5.0) as client:
        client.send(calls.shut_down())
    deadline = time.monotonic() + _STOP_PATIENCE
    while paths.control_socket.exists() or _is_locked(paths):
        if time.monotonic() > deadline:
            raise Unavailable(
                "down.timeout", "The appliance did not stop in time.", hint=f"See {paths.logs}/daemon.log"
            )
        time.sleep(_POLL)
    return True


def _stop_orphans(paths: StatePaths) -> bool:
    """Stop what a daemon and a keeper that were both killed left behind; False when there is nothing."""
    orphans = find(paths.root)
    for orphan in orphans:
        send_signal(orphan.identity, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_PATIENCE
    while any(is_alive(orphan.identity) for orphan in orphans):
        if time.monotonic() > deadline:
            for orphan in orphans:
                send_signal(orphan.identity, signal.SIGKILL)
        time.sleep(_POLL)
    return bool(orphans)


def _is_locked(paths: StatePaths) -> bool:
    """Tell whether a daemon still holds the state directory; it lets go when its process ends."""
    with (paths.run / "daemon.lock").open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _answering(paths: StatePaths, *, patience: float = 0.0) -> t.StatusView | None:
    """Return the status, or None; a socket that is there but refuses may belong to a daemon that is coming back."""
    if not paths.control_socket.exists():
        return None
    try:
        with Client(paths.control_socket, patience=patience) as client:
            return client.send(calls.status())
    except Unavailable:
        return None


def _wait_until_served(paths: StatePaths) -> t.StatusView:
    """Return the status once the gateway and every live engine are ready, or after a while as it is."""
    deadline = time.monotonic() + _START_PATIENCE
    with Client(paths.control_socket, patience=10.0) as client:
        while True:
            view = client.send(calls.status())
            gateway = next((unit for unit in view.units if unit.name == "gateway"), None)
            settled = gateway is not None and all(unit.state == "ready" for unit in view.units)
            if settled or time.monotonic() > deadline:
                return view
            time.sleep(_POLL)


def _differs(view: t.StatusView, host: str | None, port: int | None) -> bool:
    present_host, _, present_port = view.address.removeprefix("https://").rpartition(":")
    return (port is not None and str(port) != present_port) or (host is not None and host != present_host.strip("[]"))


def _start_keeper(paths: StatePaths, host: str | None, port: int | None) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-I", "-m", "appliance.daemon.keeper", "--state", str(paths.root), "--embedded"]
    argv += ["--host", host] if host else []
    argv += ["--port", str(port)] if port else []
    with (paths.logs / "daemon.log").open("ab") as log:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=Path("/"),
            start_new_session=True,
        )
