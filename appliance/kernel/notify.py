"""Tells the service manager how a process fares, by datagram to $NOTIFY_SOCKET (sd_notify(3)). Silent without one."""

from __future__ import annotations

import os
import socket


def notify(message: str) -> bool:
    """Send `READY=1`, `STOPPING=1`, `WATCHDOG=1` or the like; False when nobody listens.

    Raises OSError when the manager's socket cannot be reached: a start that nobody hears of would be undone.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    name = b"\0" + os.fsencode(address[1:]) if address.startswith("@") else os.fsencode(address)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.sendto(message.encode(), name)
    return True
