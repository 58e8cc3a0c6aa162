"""`intramurosd --state DIR`: opens the state and serves. A refusal leaves run/refused.json for whoever started it."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path

import msgspec

from appliance.backups.snapshot import remove_leftovers
from appliance.daemon.runtime import Daemon
from appliance.daemon.state import lock_state, open_appliance
from appliance.kernel.durable import write_file
from appliance.kernel.errors import IntramurosError, storage_failure
from appliance.kernel.paths import StatePaths
from appliance.kernel.problem import problem_of
from appliance.kernel.settings import load_settings
from appliance.kernel.standard_error import report_without_failing
from appliance.services.context import Appliance


def main(argv: list[str] | None = None) -> int:
    """Run the daemon; returns its exit status: 0 after an orderly stop, the error's own when it refuses."""
    parser = argparse.ArgumentParser(prog="intramurosd", description="The appliance's daemon.")
    parser.add_argument("--state", required=True, type=Path, help="state directory")
    parser.add_argument("--host", help="address of the gateway")
    parser.add_argument("--port", type=int, help="port of the gateway")
    parser.add_argument("--embedded", action="store_true", help="the invoking user is administrator")
    parser.add_argument("--gateway-socket", type=Path, help="on a box: systemd runs the gateway, which listens there")
    options = parser.parse_args(argv)
    paths = StatePaths(options.state.absolute())
    os.umask(0o077)
    try:
        lock = lock_state(paths)
        settings = load_settings(paths.settings, flags={"host": options.host, "port": options.port})
        remove_leftovers(paths)
        appliance = open_appliance(paths, settings)
        owner_uid = os.getuid() if options.embedded else None
        asyncio.run(_serve(appliance, owner_uid=owner_uid, gateway_socket=options.gateway_socket))
        os.close(lock)
    except IntramurosError as error:
        return _refuse(paths, error)
    except OSError as error:
        return _refuse(paths, storage_failure(error, doing="running the daemon"))
    return 0


async def _serve(appliance: Appliance, *, owner_uid: int | None, gateway_socket: Path | None) -> None:
    await Daemon(appliance, owner_uid=owner_uid, gateway_socket=gateway_socket).serve()


def _refuse(paths: StatePaths, error: IntramurosError) -> int:
    print(error, file=sys.stderr)
    if paths.run.is_dir() and error.code != "state.in_use":
        try:
            write_file(paths.run / "refused.json", msgspec.json.encode(problem_of(error)))
        except OSError as failed:
            print(f"run/refused.json could not be written: {failed}", file=sys.stderr)
    return error.exit_code


if __name__ == "__main__":
    report_without_failing()
    sys.exit(main())
