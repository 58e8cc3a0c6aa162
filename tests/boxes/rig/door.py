"""The root shell of a virtual machine that works without its network: one script in, status and outputs out."""

from __future__ import annotations

import base64
import socket
import time
from pathlib import Path

from tests.boxes.rig.commands import Outcome


class DoorClosed(Exception):
    """The machine did not answer in time, or ended."""


class Door:
    """One connection to the machine's virtio port. It is opened before the machine boots and waits for it."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise
        self._rest = b""
        self._number = 0

    def ask(self, script: str, *, timeout: float) -> Outcome:
        """Run a script in the machine. Raises DoorClosed."""
        self._number += 1
        number = str(self._number).encode()
        deadline = time.monotonic() + timeout
        try:
            self._socket.settimeout(timeout)
            self._socket.sendall(number + b" " + base64.b64encode(script.encode()) + b"\n")
            while True:
                words = self._line(deadline).split(b" ")
                if words[0] == number and len(words) == 4:
                    break  # anything else answers a question that was given up
        except TimeoutError as error:
            raise DoorClosed(f"No answer within {timeout:.0f} s to: {script[:200]}") from error
        except OSError as error:
            raise DoorClosed(f"The machine ended during: {script[:200]}") from error
        out, err = (base64.b64decode(word).decode(errors="replace") for word in words[2:])
        return Outcome(status=int(words[1]), out=out, err=err)

    def close(self) -> None:
        self._socket.close()

    def _line(self, deadline: float) -> bytes:
        while b"\n" not in self._rest:
            self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
            if not (more := self._socket.recv(1 << 16)):
                raise ConnectionResetError("the machine ended")
            self._rest += more
        line, self._rest = self._rest.split(b"\n", 1)
        return line
