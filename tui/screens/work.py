"""How screens start asynchronous work: one per group, cancelled with its screen, never ending the console."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from textual.screen import Screen
from textual.worker import Worker


def start(screen: Screen[Any], group: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run `work`, ending what the same group was doing on this screen.

    The coroutine is made by the worker itself, so that one cancelled before its first step leaves nothing behind.
    """
    worker: Worker[None] = screen.run_worker(work, group=group, exclusive=True, exit_on_error=False)
    del worker
