from __future__ import annotations

import json
import resource
from collections.abc import Iterator

import pytest

from appliance.engine.grammar_process import CPU_SECONDS, GrammarProcess
from appliance.kernel.errors import BadInput
from tests.factories.costly_schema import ENDLESS


@pytest.fixture
def process() -> Iterator[GrammarProcess]:
    made = GrammarProcess(512)
    yield made
    made.close()


def test_a_grammar_that_costs_too_much_is_stopped_at_its_time_and_the_next_is_tried(process: GrammarProcess) -> None:
    assert process.fault_of('start: "a"') == ""
    before = _children_cpu()
    with pytest.raises(BadInput, match="takes more than") as caught:
        process.fault_of("start: %json " + json.dumps(ENDLESS))
    assert caught.value.code == "engine.grammar"
    assert _children_cpu() - before < CPU_SECONDS + 1.5  # the child's start is in it
    assert process.fault_of('start: "a"') == ""


def _children_cpu() -> float:
    """Seconds of CPU of the children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_what_is_wrong_with_a_grammar_is_said(process: GrammarProcess) -> None:
    assert "missing" in process.fault_of("start: missing")
