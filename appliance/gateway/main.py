"""The gateway process: `python -I -m appliance.gateway.main --state DIR`. On a box a user of its own runs it.

Reads the routing table, opens its sockets, adopts new tables (SIGHUP, or a change of the file) and new certificates,
and drains on SIGTERM. Runs without privileges and needs nothing of the daemon but the table on the disk.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Final

import uvloop

from appliance.gateway import engine_metrics
from appliance.gateway.app import PublicSide
from appliance.gateway.connection import Guards
from appliance.gateway.gate import Turnstile
from appliance.gateway.listener import GatewayServer, bind_public, load_certificate, server_context
from appliance.gateway.observe import Observer
from appliance.gateway.private_side import PrivateSide
from appliance.gateway.state import GatewayState, resident_bytes
from appliance.gateway.switchboard import Switchboard
from appliance.gateway.table import decode_table, read_document, stamp
from appliance.kernel.clock import to_text, utc_now
from appliance.kernel.errors import IntramurosError, storage_errors
from appliance.kernel.notify import notify
from appliance.kernel.paths import StatePaths
from appliance.kernel.standard_error import report_without_failing

WATCH_SECONDS: Final = 1.0

log = logging.getLogger("appliance.gateway")


def main(argv: list[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT. Returns 0, or the exit code of the error that prevented the start."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the daemon may send it before the handler stands
    parser = argparse.ArgumentParser(prog="intramuros-gateway", description="HTTPS edge of one appliance.")
    parser.add_argument("--state", type=Path, required=True, help="state directory of the appliance")
    parser.add_argument("--socket", type=Path, help="private socket, where the state's run directory is not ours")
    parser.add_argument("--logs", type=Path, help="folder of the access log, where the state's is not ours")
    arguments = parser.parse_args(argv)
    os.umask(0o077)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    # a port scanner must not fill the log; what uvicorn logs as an error is logged by `app` with a request id
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
    try:
        paths = StatePaths(arguments.state.resolve())
        gateway = Gateway(paths, socket=arguments.socket, logs=arguments.logs)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(gateway.serve())
    except IntramurosError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


class Gateway:
    """The parts of the process and what happens to them over time. The port is bound when this is made."""

    def __init__(self, paths: StatePaths, *, socket: Path | None = None, logs: Path | None = None) -> None:
        self._paths = paths
        self._private_socket = socket or paths.gateway_socket
        logs = logs or paths.logs
        self._table_stamp = stamp(paths.gateway_table)
        self._table_problem = ""
        document = read_document(paths.gateway_table)
        table = decode_table(document, source=str(paths.gateway_table))
        self._listen = table.listen
        self._certificate_stamp = self._stamp_certificate()
        self._tls = server_context(table.listen)
        self._socket = bind_public(table.listen.host, table.listen.port)
        with storage_errors("opening the gateway's logs"):
            logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._observer = Observer(logs)
        self._turnstile = Turnstile()
        self._since = to_text(utc_now())
        self._board = Switchboard(table, document)
        self._server = GatewayServer(
            public=PublicSide(self._board, self._turnstile, self._observer),
            private=PrivateSide(metrics=self.metrics, state=self.state),
            sockets=(self._socket, self._private_socket),
            tls=self._tls,
            guards=Guards(
                slow_client_timeout=lambda: self._board.limits.slow_client_timeout,
                on_open=self._observer.handshakes.inc,
                on_slow_client=self._observer.slow_clients.inc,
            ),
            on_ready=lambda: notify("READY=1"),
        )
        host, port = self._socket.getsockname()[:2]
        self._address: tuple[str, int] = host, port

    async def serve(self) -> None:
        """Serve until told to stop, then drain."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self._look)
        watch = asyncio.create_task(self._watch())
        log.info("listening on %s port %d", *self._address)
        gc.collect()
        gc.freeze()  # what is loaded by now stays; later collections need not visit it
        try:
            await self._server.serve()
        finally:
            watch.cancel()
            self._private_socket.unlink(missing_ok=True)
            self._observer.close()
            log.info("stopped")

    async def metrics(self) -> bytes:
        """Return what `/metrics` says: the gateway's own figures and those of the engines it sends requests to."""
        routes = self._board.table.routes
        engines = await engine_metrics.states({name: Path(route.socket) for name, route in routes.items()})
        return self._observer.exposition() + engine_metrics.exposition(engines)

    def state(self) -> GatewayState:
        """Return what `/state` says, of the table that is on the disk now."""
        self._look()
        host, port = self._address
        return GatewayState(
            pid=os.getpid(),
            memory_bytes=resident_bytes(),
            since=self._since,
            host=host,
            port=port,
            table=self._board.digest,
            table_problem=self._table_problem,
            draining=self._server.should_exit,
            requests=self._turnstile.inside,
            revisions=self._board.revisions(),
        )

    def _stop(self) -> None:
        if not self._server.should_exit:
            log.info("draining %d requests", self._turnstile.inside)
            notify("STOPPING=1")
            self._server.stop(within=self._board.limits.drain_timeout)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            self._look()
            notify("WATCHDOG=1")

    def _look(self) -> None:
        """Adopt what changed on the disk since the last look."""
        now = stamp(self._paths.gateway_table)
        if now is not None and now != self._table_stamp:
            self._table_stamp = now
            self._adopt_table()
        certificate = self._stamp_certificate()
        if certificate != self._certificate_stamp:
            self._adopt_certificate()
            self._certificate_stamp = certificate

    def _adopt_table(self) -> None:
        path = self._paths.gateway_table
        try:
            document = read_document(path)
            table = decode_table(document, source=str(path))
        except (IntramurosError, OSError) as error:
            self._table_problem = str(error)
            log.error("keeping the old routing table: %s", error)
            return
        self._table_problem = ""
        self._board.adopt(table, document)
        if (table.listen.host, table.listen.port) != (self._listen.host, self._listen.port):
            log.warning("the listening address changed; it takes effect when the gateway is started again")
        self._listen = table.listen
        log.info("adopted a routing table of %d routes and %d keys", len(table.routes), len(table.keys))

    def _stamp_certificate(self) -> tuple[object, ...]:
        listen = self._listen
        files = (listen.certificate, listen.key, listen.client_authorities, listen.client_revocations)
        return (*files, *(stamp(Path(name)) for name in files if name))

    def _adopt_certificate(self) -> None:
        try:
            load_certificate(self._tls, self._listen)
        except IntramurosError as error:
            log.error("keeping the old certificate: %s", error)
        else:
            log.info("using the new certificate for new connections")


if __name__ == "__main__":
    report_without_failing()
    sys.exit(main())
