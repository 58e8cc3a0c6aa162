"""The thread that compiles grammars, so that the reader of a worker never waits for one.

Tenants take turns: who asks for many costly grammars waits for them himself. Knows no requests: what becomes of a
grammar is told to whoever asked.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

from appliance.engine.grammar import Constraint
from appliance.kernel.errors import InternalError, IntramurosError

Told = Callable[[Constraint | IntramurosError], None]
"""Called from this thread with the constraint, or with the reason why there is none."""


class Compiler(Protocol):
    """What `grammar.Grammars` is to this thread, which alone uses it."""

    def constraint(self, grammar: str) -> Constraint:
        """Compile one. Raises IntramurosError."""

    def close(self) -> None:
        """End what it works with."""


class GrammarDesk(threading.Thread):
    """Compiles until it is closed."""

    def __init__(self, compiler: Compiler) -> None:
        super().__init__(name="grammars", daemon=True)
        self._compiler = compiler
        self._asked: dict[str, deque[tuple[str, Told]]] = {}  # by tenant, whose turn is next first
        self._changed = threading.Condition()
        self._closed = False

    def compile(self, tenant: str, grammar: str, told: Told) -> None:
        """Ask for a constraint; from another thread."""
        with self._changed:
            self._asked.setdefault(tenant, deque()).append((grammar, told))
            self._changed.notify()

    def close(self) -> None:
        """End the thread after the grammar in work; what else was asked for is forgotten."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self.join()
        self._compiler.close()

    def run(self) -> None:
        """The thread."""
        while (asked := self._next()) is not None:
            grammar, told = asked
            try:
                made: Constraint | IntramurosError = self._compiler.constraint(grammar)
            except IntramurosError as error:
                made = error
            except Exception as error:  # noqa: BLE001 - border: this thread must go on for the others
                made = InternalError("engine.grammar_defect", f"Compiling the schema failed: {type(error).__name__}.")
            told(made)

    def _next(self) -> tuple[str, Told] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._asked or self._closed)
            if self._closed:
                return None
            tenant = next(iter(self._asked))
            waiting = self._asked.pop(tenant)
            asked = waiting.popleft()
            if waiting:
                self._asked[tenant] = waiting  # behind the others
            return asked
