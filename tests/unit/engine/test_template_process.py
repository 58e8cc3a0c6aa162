from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from appliance.engine.template_process import TemplateProcess
from appliance.kernel.errors import BadInput, IntegrityFailure

MESSAGES = [{"role": "user", "content": "hi"}]


@contextmanager
def _process(source: str) -> Iterator[TemplateProcess]:
    process = TemplateProcess(source, bos="", eos="")
    try:
        yield process
    finally:
        process.close()


HOSTILE = {
    "nested loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "huge string": "{{ 'a' * 10**10 }}",
    "huge padding": "{{ '%2000000000d' % 1 }}",
    "huge centre": "{{ 'a' | center(2000000000) }}",
    "doubling": "{% set n = namespace(x='aaaaaaaa') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "power": "{{ (8 + messages | length) ** (9 ** 9) }}",
}


@pytest.mark.parametrize("only_when_asked", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_template_is_stopped_and_the_next_request_is_served(only_when_asked: str) -> None:
    source = "{% if messages[0].content == 'now' %}" + only_when_asked + "{% endif %}fine"
    with _process(source) as process:
        started = time.monotonic()
        with pytest.raises(BadInput) as caught:
            process.render([{"role": "user", "content": "now"}])
        assert caught.value.code == "engine.template"
        assert time.monotonic() - started < 30
        assert process.render(MESSAGES) == "fine"


def test_a_template_that_does_not_compile_is_refused_at_the_start() -> None:
    with pytest.raises(IntegrityFailure):
        TemplateProcess("{% if %}", bos="", eos="")


def test_refusals_keep_their_code() -> None:
    with _process("{{ raise_exception('no') }}") as process, pytest.raises(BadInput) as caught:
        process.render(MESSAGES)
    assert caught.value.code == "engine.messages"
