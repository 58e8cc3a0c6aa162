"""The process in which a client's grammar is compiled first, and the handle its owner holds.

llguidance's own budgets miss some grammars (intersections of many patterns compile for minutes), and a compilation
cannot be stopped where it runs. Here the kernel stops it: what this process could not compile within its CPU time and
memory, the engine never sees. The frames (`limited_child`) are one msgpack string each way: the grammar, and what is
wrong with it.
"""

from __future__ import annotations

import sys
from typing import IO, Final

import llguidance
import msgspec

from appliance.kernel.errors import BadInput
from appliance.kernel.limited_child import CpuLimit, LimitedChild, limit_this_process, read_frame, write_frame

CPU_SECONDS: Final = 0.5
MEMORY_BYTES: Final = 1024 * 1024 * 1024
LIMITS: Final = llguidance.LLParserLimits(
    max_items_in_row=2_000,
    initial_lexer_fuel=200_000,
    step_lexer_fuel=100_000,
    step_max_items=20_000,
    max_lexer_states=50_000,
    max_grammar_size=100_000,
    precompute_large_lexemes=False,
    verbose_errors=False,
)
"""llguidance's budgets; the engine compiles with the same"""


class GrammarProcess:
    """Tries grammars. Starts with the first one. Not for use by two threads at once."""

    def __init__(self, vocabulary: int) -> None:
        """`vocabulary`: how many tokens the model has, for grammars name some by number."""
        self._child = LimitedChild("appliance.engine.grammar_process", str(vocabulary))

    def fault_of(self, grammar: str) -> str:
        """What is wrong with a grammar; empty for nothing. BadInput `engine.grammar` if it costs too much."""
        body = self._child.ask(msgspec.msgpack.encode(grammar))
        if body is None:
            raise BadInput(
                "engine.grammar", f"The schema takes more than {CPU_SECONDS:g} s to prepare; make it simpler."
            )
        return msgspec.msgpack.decode(body, type=str)

    def close(self) -> None:
        """End the child; safe to repeat."""
        self._child.close()


def serve(requests: IO[bytes], replies: IO[bytes], vocabulary: int) -> None:
    """The child's loop: one reply per grammar until the owner closes its end."""
    tokenizer = llguidance.LLTokenizer(llguidance.TokenizerWrapper(_Bytes(vocabulary)))
    while (body := read_frame(requests)) is not None:
        with CpuLimit(CPU_SECONDS):
            grammar = msgspec.msgpack.decode(body, type=str)
            matcher = llguidance.LLMatcher(tokenizer, grammar, log_level=0, limits=LIMITS)
            fault: str = matcher.get_error()
        write_frame(replies, msgspec.msgpack.encode(fault))


class _Bytes:
    """A vocabulary of bytes: what a grammar costs hardly depends on the model's."""

    eos_token_id = 256
    bos_token_id = None
    special_token_ids: Final = (256,)

    def __init__(self, size: int) -> None:
        self.tokens = [*(bytes([value]) for value in range(256)), *([b""] * max(1, size - 256))]

    def __call__(self, text: bytes | str) -> list[int]:
        return list(text.encode() if isinstance(text, str) else text)


def main() -> None:
    """Limit this process, then serve on its standard streams."""
    limit_this_process(MEMORY_BYTES)
    serve(sys.stdin.buffer, sys.stdout.buffer, int(sys.argv[1]))


if __name__ == "__main__":
    main()
