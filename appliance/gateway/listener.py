"""The sockets of the gateway: the TLS port, then the private Unix socket, both served by one uvicorn server.

Knows neither requests nor tables. The private socket opens last: that it answers means that the TLS port is open.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from uvicorn import Config, Server
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from appliance.gateway.connection import GuardedConnection, Guards
from appliance.gateway.table import Listen
from appliance.kernel.errors import BadInput, Conflict, Forbidden, IntegrityFailure
from appliance.kernel.private import check_private
from appliance.kernel.sharing import shared_mode

KEEP_ALIVE_SECONDS: Final = 30
_HANDSHAKE_SECONDS: Final = 10.0
_GOODBYE_SECONDS: Final = 2.0
"""how long a closing connection waits for the client's TLS goodbye, and for a cut client to take its last bytes"""
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""of TLS 1.2; those of TLS 1.3 are all sound"""
_BACKLOG: Final = 512


def bind_public(host: str, port: int) -> socket.socket:
    """Listen on the TLS port. Raises Conflict (taken), Forbidden (privileged port) or BadInput (no such address)."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        where = f"{host}:{port}"
        if error.errno == errno.EADDRINUSE:
            raise Conflict(
                "gateway.port_taken",
                f"Another program listens on {where} already.",
                hint="Stop it, or choose another port (setting `port`).",
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM):
            raise Forbidden(
                "gateway.port_forbidden",
                f"This user may not listen on {where}.",
                hint="Choose a port above 1023 (setting `port`).",
            ) from error
        raise BadInput(
            "gateway.address",
            f"Cannot listen on {where}: {error.strerror}.",
            hint="Give an address of this machine (setting `host`).",
        ) from error


def bind_private(path: Path) -> socket.socket:
    """Listen on the Unix socket: mode 0600, 0660 in a set-group-ID directory. Replaces what an ended gateway left."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        path.chmod(
            shared_mode(path.parent, private=0o600, shared=0o660)
        )  # before `listen`: nobody can have connected yet
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def server_context(listen: Listen) -> ssl.SSLContext:
    """Return a TLS 1.2+ server context. Raises NotFound, Forbidden (key file mode) or IntegrityFailure."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    load_certificate(context, listen)
    if listen.client_authorities:
        context.verify_mode = ssl.CERT_REQUIRED
        # A resumed session skips the check of the client's certificate, so a revoked client could stay: no tickets, and
        # no TLS 1.2, whose sessions cannot be switched off here.
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.num_tickets = 0
        if listen.client_revocations:
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    return context


def load_certificate(context: ssl.SSLContext, listen: Listen) -> None:
    """Use these files for new handshakes; established connections go on. Raises as `server_context`.

    OpenSSL takes that of an authority's revocation lists which began last: a list is replaced by loading the next one.
    Whether clients need a certificate at all is decided once, at the start.
    """
    check_private(Path(listen.key))
    using = f"{listen.certificate} with key {listen.key}"
    try:
        context.load_cert_chain(listen.certificate, listen.key)
        for using in filter(None, (listen.client_authorities, listen.client_revocations)):
            context.load_verify_locations(cafile=using)
    except (ssl.SSLError, OSError) as error:
        raise IntegrityFailure(
            "gateway.certificate",
            f"{using} cannot be used: {error.strerror or error}.",
            hint="An embedded appliance issues a new pair at its next start; on a box: `intramuros tls renew`.",
        ) from error


class GatewayServer(Server):
    """uvicorn's server with two listeners, signals left to the process, and bounded TLS handshakes."""

    def __init__(
        self,
        *,
        public: Any,
        private: Any,
        sockets: tuple[socket.socket, Path],
        tls: ssl.SSLContext,
        guards: Guards,
        on_ready: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__(_config(public, limit_concurrency=None))
        self._private = _config(private, limit_concurrency=64)
        # Of its own: uvicorn holds `limit_concurrency` against the connections of a state, and clients' do not count.
        self._private_state = ServerState()
        self._socket, self._private_path = sockets
        self._tls = tls
        self._guards = guards
        self._on_ready = on_ready

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone: uvicorn would end the process by the signal it caught instead of with status 0."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the public port, then the private socket."""
        loop = asyncio.get_running_loop()
        self._private.load()
        public = await loop.create_server(
            lambda: GuardedConnection(self.config, self.server_state, self._guards),
            sock=self._socket,
            ssl=self._tls,
            backlog=_BACKLOG,
            ssl_handshake_timeout=_HANDSHAKE_SECONDS,
            ssl_shutdown_timeout=_GOODBYE_SECONDS,
        )
        private = await loop.create_unix_server(
            lambda: HttpToolsProtocol(self._private, self._private_state, {}), sock=bind_private(self._private_path)
        )
        self.servers = [public, private]
        self.started = True
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the connections of both sides; public ones may finish what they began."""
        for connection in list(self._private_state.connections):
            connection.shutdown()
        await super().shutdown(sockets)

    def stop(self, *, within: float) -> None:
        """Accept nothing more; let requests under way go on for `within` seconds."""
        self.config.timeout_graceful_shutdown = max(1, round(within))
        self.should_exit = True


def _config(application: Any, *, limit_concurrency: int | None) -> Config:
    return Config(
        application,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        limit_concurrency=limit_concurrency,
    )
