from __future__ import annotations

import threading
from typing import Any, cast

from appliance.engine.grammar import Constraint
from appliance.engine.grammar_desk import GrammarDesk
from appliance.kernel.errors import BadInput, InternalError


class Compiler:
    """Compiles what it is told to, once it is let go; a name that begins with a mark fails."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go = threading.Event()
        self.compiled: list[str] = []
        self.closed = False

    def constraint(self, grammar: str) -> Constraint:
        self.begun.set()
        assert self.go.wait(10)
        self.compiled.append(grammar)
        if grammar.startswith("!"):
            raise BadInput("engine.grammar", grammar)
        if grammar.startswith("?"):
            raise RuntimeError(grammar)
        return cast(Constraint, grammar)

    def close(self) -> None:
        self.closed = True


def test_tenants_take_turns_and_each_is_told_what_came_of_it() -> None:
    compiler, told, all_told = Compiler(), dict[str, Any](), threading.Event()
    desk = GrammarDesk(compiler)
    desk.start()

    def ask(tenant: str, grammar: str) -> None:
        def tell(made: object) -> None:
            told[grammar] = made
            if len(told) == 5:
                all_told.set()

        desk.compile(tenant, grammar, tell)

    ask("a", "a1")
    assert compiler.begun.wait(10)
    for tenant, grammar in (("a", "!a2"), ("a", "a3"), ("b", "?b1"), ("c", "c1")):
        ask(tenant, grammar)
    compiler.go.set()
    assert all_told.wait(10)
    assert compiler.compiled == ["a1", "!a2", "?b1", "c1", "a3"]
    assert [told[name] for name in ("a1", "a3", "c1")] == ["a1", "a3", "c1"]
    assert isinstance(told["!a2"], BadInput)
    assert isinstance(told["?b1"], InternalError)
    desk.close()
    assert compiler.closed


def test_what_nobody_began_with_is_forgotten_at_the_end() -> None:
    compiler, told = Compiler(), list[object]()
    desk = GrammarDesk(compiler)
    desk.start()
    desk.compile("a", "first", told.append)
    assert compiler.begun.wait(10)
    desk.compile("a", "second", told.append)
    closing = threading.Thread(target=desk.close)
    closing.start()
    compiler.go.set()
    closing.join(10)
    assert told == ["first"]
