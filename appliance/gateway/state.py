"""What `/state` on the gateway's private socket says; the daemon decides by it when an engine has drained.

An old engine may stop when `table` is the digest of the table that no longer names it (`sha256_hex(encode_table(…))`)
and its revision is absent from `revisions` or has `active` 0.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec


class RevisionState(msgspec.Struct, frozen=True, kw_only=True):
    """One deployment revision as the gateway sees it."""

    active: int
    """requests under way"""
    connected: bool
    retired: bool
    """no longer in the table: only finishes what it has"""
    waiting: int = 0
    """requests that wait until it is in memory"""
    used: float = 0.0
    """when a request last began or ended on it, epoch seconds; 0 is never"""


class GatewayState(msgspec.Struct, frozen=True, kw_only=True):
    """The gateway now. That it answers at all means that the TLS port is open."""

    pid: int
    memory_bytes: int = 0
    """resident; told by the gateway itself, because on a box the daemon cannot look at other users' processes"""
    since: str = ""
    """when it started"""
    host: str
    port: int
    table: str
    """SHA-256 of the routing table in force"""
    table_problem: str
    """why the newest document was not adopted, or empty"""
    draining: bool
    requests: int
    """requests under way, all revisions"""
    revisions: dict[str, RevisionState]


def resident_bytes() -> int:
    """Return this process's resident set size (proc(5), statm: pages)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
