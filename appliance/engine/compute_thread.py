"""The thread of a worker that computes: its inbox, how it begins and how it ends, whatever it computes.

Other threads talk to it through its inbox alone, which it empties between two steps. A defect in it ends the process
cleanly: who still waits is told, and `defect` says what it was.
"""

from __future__ import annotations

import threading
import traceback
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable

from appliance.engine.frames import State
from appliance.engine.outbox import Connection, Emitter
from appliance.kernel.errors import InternalError


class ComputeThread(ABC, threading.Thread):
    """Computes until it is drained, stopped or broken; then calls `on_end` from its thread."""

    def __init__(self, name: str, emitter: Emitter, on_end: Callable[[], None]) -> None:
        super().__init__(name=name, daemon=True)
        self._emitter = emitter
        self._on_end = on_end
        self._inbox: deque[Callable[[], None]] = deque()
        self._bell = threading.Event()
        self._warm = threading.Event()
        self._draining = False
        self._stopping = False
        self.defect: str | None = None

    def begin(self) -> None:
        """Start the thread and return when it is warm. Raises InternalError when the model cannot compute.

        The thread warms up itself: libgomp keeps a pool of threads for each thread that ever computed, and once all
        pools together outnumber the cores it stops spinning at barriers, which costs a fifth of the speed.
        """
        self.start()
        self._warm.wait()
        if self.defect is not None:
            raise InternalError("engine.warm_up", f"The model cannot compute: {self.defect}.")

    def report(self, connection: Connection, connections: int) -> None:
        """Send one `State`; from the reader."""
        self._tell(lambda: self._emitter.send(connection, self._state(connections)))

    def drain(self) -> None:
        """End when nothing is left to do; from the reader."""
        self._draining = True
        self._bell.set()

    def stop(self) -> None:
        """Fail what is left and end after the present step; from the reader."""
        self._stopping = True
        self._bell.set()

    def run(self) -> None:
        """The thread."""
        try:
            self._warm_up()
            self._warm.set()
            self._loop()
        except Exception as error:  # noqa: BLE001 - border: a defect here ends the process, cleanly
            frames = traceback.extract_tb(error.__traceback__)
            where = f"{frames[-1].name}:{frames[-1].lineno}"
            self.defect = str(error) if isinstance(error, InternalError) else f"{type(error).__name__} in {where}"
        try:
            self._hear()
            self._fail_all()
        finally:
            self._warm.set()
            self._on_end()

    @abstractmethod
    def _warm_up(self) -> None:
        """Touch every weight."""

    @abstractmethod
    def _loop(self) -> None:
        """Compute until there is a reason to end."""

    @abstractmethod
    def _fail_all(self) -> None:
        """Nothing more will be computed: tell everybody who still waits."""

    @abstractmethod
    def _state(self, connections: int) -> State:
        """What to report."""

    def _tell(self, act: Callable[[], None]) -> None:
        """Leave something to do between two steps; from other threads."""
        self._inbox.append(act)
        self._bell.set()

    def _hear(self) -> None:
        """Do what was left in the inbox."""
        while self._inbox:
            self._inbox.popleft()()
