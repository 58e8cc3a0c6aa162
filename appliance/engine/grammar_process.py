"""The process in which a client's grammar is compiled first, and the handle its owner holds.

llguidance's own budgets miss some grammars (intersections of many patterns compile for minutes), and a compilation
cannot be stopped where it runs. Here the kernel stops it: what this process could not compile within its CPU time and
memory, the engine never sees. Invariant: the owner never waits longer than the limits allow.

Wire: as in `template_process`, one msgpack string each way: the grammar, and what is wrong with it.
"""

from __future__ import annotations

import contextlib
import resource
import signal
import subprocess
import sys
from typing import IO, Final

import llguidance
import msgspec

from appliance.engine.template_process import CpuLimit, read_frame, write_frame
from appliance.kernel.errors import BadInput
from appliance.kernel.process import child_environment

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
        self._vocabulary = vocabulary
        self._child: subprocess.Popen[bytes] | None = None

    def fault_of(self, grammar: str) -> str:
        """What is wrong with a grammar; empty for nothing. BadInput `engine.grammar` if it costs too much."""
        child = self._child or self._start()
        assert child.stdin is not None
        assert child.stdout is not None
        body = None
        with contextlib.suppress(BrokenPipeError):
            write_frame(child.stdin, msgspec.msgpack.encode(grammar))
            body = read_frame(child.stdout)
        if body is None:
            self.close()
            raise BadInput(
                "engine.grammar", f"The schema takes more than {CPU_SECONDS:g} s to prepare; make it simpler."
            )
        return msgspec.msgpack.decode(body, type=str)

    def close(self) -> None:
        """End the child; safe to repeat."""
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        child.wait()
        for stream in (child.stdin, child.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def _start(self) -> subprocess.Popen[bytes]:
        flags = ["-I"] if sys.flags.isolated else []
        self._child = subprocess.Popen(
            [sys.executable, *flags, "-m", "appliance.engine.grammar_process", str(self._vocabulary)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=child_environment(),
            start_new_session=True,
        )
        return self._child


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
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    serve(sys.stdin.buffer, sys.stdout.buffer, int(sys.argv[1]))


if __name__ == "__main__":
    main()
