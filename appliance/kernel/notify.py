"""Tells the service manager how a process fares, by datagram to $NOTIFY_SOCKET (sd_notify(3)). Silent without one."""

from __future__ import annotations

import os
import socket


def notify(message: str) -> bool:
    """Send `READY=1`, `STOPPING=1`, `WATCHDOG=1` or the like; False when nobody listens.

    A manager that cannot be reached is no reason to stop serving: it acts by itself on what it does not hear.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    name = b"\0" + os.fsencode(address[1:]) if address.startswith("@") else os.fsencode(address)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        try:
            channel.sendto(message.encode(), name)
        except OSError:
            return False
    return True
