"""The rank host: `python -I -m appliance.rankhost.main --fleet FILE --state DIR --sockets DIR`.

Listens on the box's address inside the fleet's private network, for the jobs of other boxes, and on a Unix socket for
those of this one. systemd runs it in a network namespace of its own, under a user of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import os
import signal
import socket
import sys
from pathlib import Path

import uvicorn

from appliance.api.border import server_config
from appliance.fleet.inventory import Inventory, read_inventory, socket_of
from appliance.kernel.errors import BadInput, Conflict, IntramurosError, storage_errors, storage_failure
from appliance.kernel.notify import notify
from appliance.kernel.sharing import shared_mode
from appliance.kernel.standard_error import report_without_failing
from appliance.rankhost.app import build_app
from appliance.rankhost.relay import relay
from appliance.rankhost.runs import Runs


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT. Returns 0, or the exit code of the error that prevented the start."""
    parser = argparse.ArgumentParser(prog="intramuros-ranks", description="Trains for jobs of this box and of others.")
    parser.add_argument("--fleet", type=Path, required=True, help="inventory of the fleet (TOML)")
    parser.add_argument("--state", type=Path, required=True, help="folder of the runs that this box trains for")
    parser.add_argument("--sockets", type=Path, required=True, help="folder of a socket for each box")
    parser.add_argument("--niceness", type=int, default=19, help="how far runs stand back behind serving, 0 to 19")
    options = parser.parse_args(argv)
    os.umask(0o077)
    try:
        inventory = read_inventory(options.fleet)
        with storage_errors("opening the folder of runs"):
            options.state.mkdir(parents=True, exist_ok=True)
            lock = _lock(options.state)
        asyncio.run(_serve(inventory, options.state.absolute(), options.sockets, options.niceness))
        os.close(lock)
    except IntramurosError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except OSError as error:
        failure = storage_failure(error, doing="running the rank host")
        print(failure, file=sys.stderr)
        return failure.exit_code
    return 0


async def _serve(inventory: Inventory, state: Path, sockets: Path, niceness: int) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    own = inventory.box(inventory.own)
    runs = Runs(state / "runs", address=own.address, interface=inventory.interface, niceness=niceness)
    listeners = [_listen_here(socket_of(sockets, own.name)), _listen_in_fleet(own.address, inventory.port)]
    server = uvicorn.Server(server_config(build_app(runs, name=own.name)))
    serving = asyncio.create_task(server.serve(sockets=listeners), name="http")
    relays = [
        await relay(socket_of(sockets, box.name), box, inventory.port) for box in inventory.boxes if box is not own
    ]
    looking = asyncio.create_task(runs.look_after(), name="look after runs")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    notify("READY=1")
    try:
        done, _ = await asyncio.wait({serving, looking, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for task in done - {stopping}:
            task.result()
    finally:
        notify("STOPPING=1")
        looking.cancel()
        stopping.cancel()
        await runs.shut_down()
        for listener in relays:
            listener.close()
        server.should_exit = True
        await asyncio.gather(serving, looking, return_exceptions=True)


def _lock(folder: Path) -> int:
    """Return a lock of the folder that nobody else has. Raises Conflict."""
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise Conflict("rankhost.in_use", f"Another rank host has {folder}.") from error
    return lock


def _listen_here(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    path.chmod(shared_mode(path.parent, private=0o600, shared=0o660))
    listener.listen(128)
    return listener


def _listen_in_fleet(address: str, port: int) -> socket.socket:
    """Listen on the fleet's address alone. Raises BadInput when this box does not have it, Conflict when taken."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address, port))
    except OSError as error:
        listener.close()
        raise BadInput(
            "rankhost.address",
            f"{address} port {port} cannot be used: {error.strerror}.",
            hint="The address must be this box's own inside the fleet's network; see docs/it-staff/fleet.md.",
        ) from error
    listener.listen(128)
    return listener


if __name__ == "__main__":
    report_without_failing()
    sys.exit(main())
