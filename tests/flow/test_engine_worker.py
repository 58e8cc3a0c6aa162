"""The engine worker as a process: what clients see, what ends it, what it leaves behind."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import signal
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from gguf import GGUFReader
from tokenizers import Tokenizer

from appliance.engine.frames import Asked, Failed, Hello, Message, Sampling, Submit, encode
from tests.factories.costly_schema import ENDLESS
from tests.factories.engine_client import (
    GREEDY,
    EngineClient,
    connected,
    digest_of_file,
    end_worker,
    running_worker,
    same_until_a_tie,
    start_worker,
    wait_ready,
)
from tests.factories.tiny_llama import CHAT_TEMPLATE, make_tiny_gguf

PROMPTS = [
    f"{word} over the lazy dog while the other dogs sleep in the sun, number {number}"
    for number, word in enumerate(
        ("jumps", "runs", "sleeps", "listens", "answers", "looks", "keeps", "speaks", "returns")
    )
]
LONG = Sampling(temperature=0.0, max_tokens=200, ignore_eos=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_gguf(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def shared(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The socket of one worker that the well-behaved tests share."""
    path = tmp_path_factory.mktemp("run") / "engine.sock"
    with running_worker(model, path, "--idle-cells", "2048"):
        yield path


@pytest.fixture
def client(shared: Path) -> Iterator[EngineClient]:
    with connected(shared) as client:
        yield client


_fresh = itertools.count()


def _tenant() -> str:
    """A tenant nobody used before: nothing is cached for it."""
    return f"tenant-{next(_fresh)}"


def _until(holds: Callable[[], bool], *, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"


def _read_to_the_end(client: EngineClient) -> None:
    """Returns when the worker closes the connection; a time-out fails the test."""
    with contextlib.suppress(ConnectionError):
        while True:
            client.receive()


def test_info_and_socket_mode(client: EngineClient, shared: Path, model: Path) -> None:
    info = client.hello()
    assert (info.context, info.cells, info.slots, info.chat) == (256, 2048, 9, True)
    assert info.digest == digest_of_file(model)
    assert stat.S_IMODE(shared.stat().st_mode) == 0o600


def test_greedy_is_the_same_alone_in_a_batch_and_on_a_cached_prefix(client: EngineClient) -> None:
    params = Sampling(temperature=0.0, max_tokens=60, ignore_eos=True, logprobs=2)
    alone = [client.ask(prompt, params, tenant=_tenant()) for prompt in PROMPTS]
    tenant = _tenant()
    batch = client.wait(*[client.submit(prompt, params, tenant=tenant) for prompt in PROMPTS])
    again = client.wait(*[client.submit(prompt, params, tenant=tenant) for prompt in PROMPTS])
    assert [answer.finished.cached_tokens for answer in alone] == [0] * 9
    assert all(answer.finished.cached_tokens >= 16 for answer in again)
    assert all(answer.finished.completion_tokens == 60 for answer in alone)
    assert len({answer.text for answer in alone}) > 1
    shared = sum(
        same_until_a_tie(one, other) for others in (batch, again) for one, other in zip(alone, others, strict=True)
    )
    assert shared > 0.7 * 2 * 9 * 60


def test_seeded_sampling_repeats(client: EngineClient) -> None:
    params = Sampling(temperature=1.5, seed=11, max_tokens=60, ignore_eos=True)
    first = client.ask(PROMPTS[0], params, tenant=_tenant()).text
    assert client.ask(PROMPTS[0], params, tenant=_tenant()).text == first
    assert client.ask(PROMPTS[0], Sampling(temperature=1.5, seed=12, max_tokens=60)).text != first


def test_chat_counts_and_reasons(client: EngineClient) -> None:
    messages = (Message(role="user", content="Which port does the gateway listen on?"),)
    answer = client.ask(messages=messages, params=Sampling(temperature=0.0, max_tokens=7, ignore_eos=True))
    assert answer.accepted is not None
    assert answer.finished.reason == "length"
    assert answer.finished.completion_tokens == 7 == sum(piece.tokens for piece in answer.pieces)
    assert answer.finished.prompt_tokens == answer.accepted.prompt_tokens
    (end,) = (383,)
    ended = client.ask(messages=messages, params=Sampling(temperature=0.0, logit_bias={end: 1000.0}))
    assert (ended.finished.reason, ended.text, ended.finished.completion_tokens) == ("stop", "", 1)


def test_channels_of_gpt_oss(tmp_path: Path) -> None:
    model = make_tiny_gguf(tmp_path / "channels", channels=True)
    tokenizer = Tokenizer.from_file(str(tmp_path / "channels" / "hf" / "tokenizer.json"))
    bias = {tokenizer.encode(text).ids[0]: -100.0 for text in (" ", "\n", "\t")}
    bias[tokenizer.encode("<|end|>").ids[0]] = 7.0  # which ends a message of a channel, not the answer
    asked = Asked(schema='{"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3}')
    messages = (Message(role="user", content="Which port?"),)
    with running_worker(model, tmp_path / "socket"), connected(tmp_path / "socket") as client:
        numbers = [
            client.submit(
                messages=messages,
                asked=asked,
                params=Sampling(temperature=1.2, seed=seed, max_tokens=150, logit_bias=bias, logprobs=0),
            )
            for seed in range(8)
        ]
        answers = client.wait(*numbers)
    ended = [answer for answer in answers if answer.finished.reason == "stop"]
    assert len(ended) > 3
    for answer in ended:
        assert json.loads(answer.text)
        assert b"".join(entry.chosen.data for entry in answer.tokens) == answer.text.encode()
    reasoned = [a for a in ended if any(piece.reasoning for piece in a.pieces)]
    assert reasoned
    assert all(a.finished.reasoning_tokens > 0 for a in reasoned)
    assert not any("<|" in piece.reasoning + piece.text for a in ended for piece in a.pieces)


def test_guessed_tokens_can_be_drawn_with_the_model(model: Path, tmp_path: Path) -> None:
    """llama.cpp may overwrite what one sequence drew, or biases that it still needs, once another has several rows.

    Whether it does depends on the steps in which guesses begin, thus several engines.
    """
    words = dict.fromkeys(range(2, 384), -100.0)  # what is left of the vocabulary repeats itself
    params = Sampling(temperature=1.0, max_tokens=100, ignore_eos=True, logit_bias=words)
    for number in range(4):
        path = tmp_path / f"socket{number}"
        with running_worker(model, path, "--backend-sampling", "--slots", "2") as engine, connected(path) as client:
            numbers = [client.submit("Which port is it?" + "x" * (number % 7), params) for number in range(20)]
            answers = client.wait(*numbers)  # a busy machine may find that guesses do not pay: then this shows little
            assert engine.poll() is None
        assert all(len(answer.text) == answer.finished.completion_tokens == 100 for answer in answers)


def test_stop_strings_cut_across_tokens(client: EngineClient) -> None:
    whole = client.ask(PROMPTS[0], LONG)
    text = whole.text
    stop = next(
        a.text[-1] + b.text[0]
        for a, b in itertools.pairwise(whole.pieces)
        if a.text and b.text and "\ufffd" not in a.text[-1] + b.text[0]
    )
    answer = client.ask(PROMPTS[0], Sampling(temperature=0.0, max_tokens=200, ignore_eos=True, stop=(stop,)))
    assert answer.finished.reason == "stop"
    assert answer.text == text[: text.index(stop)]


def test_logprobs_echo_and_bias(client: EngineClient, model: Path) -> None:
    params = Sampling(temperature=0.0, max_tokens=5, logprobs=3, echo=True, ignore_eos=True)
    answer = client.ask("The quick", params)
    assert answer.pieces[0].text == "The quick"
    tokens = [entry for piece in answer.pieces for entry in piece.logprobs]
    assert len(tokens) == 5
    assert all(entry.chosen == entry.top[0] and entry.chosen.logprob < 0 for entry in tokens)
    assert all(len(entry.top) == 3 for entry in tokens)
    end = GGUFReader(model).fields["tokenizer.ggml.eos_token_id"].contents()
    ended = client.ask("The quick", Sampling(logprobs=0, logit_bias={end: 100}))
    assert (ended.finished.reason, ended.finished.completion_tokens, ended.tokens) == ("stop", 1, [])


def test_cancelling_ends_running_and_waiting_requests_and_frees_cells(client: EngineClient) -> None:
    numbers = [client.submit(f"{prompt} {turn}", LONG) for turn in range(6) for prompt in PROMPTS]
    client.wait_for_text(numbers[0])
    for number in numbers:
        client.cancel(number)
    answers = client.wait(*numbers)
    assert "cancelled" in {answer.finished.reason for answer in answers}
    state = client.state()
    assert (state.active, state.waiting, state.free_cells) == (0, 0, state.cells)


def test_two_tenants_never_share(client: EngineClient) -> None:
    one, other = _tenant(), _tenant()
    client.ask(PROMPTS[0], tenant=one)
    assert client.ask(PROMPTS[0], tenant=other).finished.cached_tokens == 0
    assert client.ask(PROMPTS[0], tenant=one).finished.cached_tokens > 0
    numbers = [client.submit(PROMPTS[1], tenant=_tenant()) for _ in range(8)]
    assert {answer.finished.cached_tokens for answer in client.wait(*numbers)} == {0}


def test_what_left_the_context_is_found_by_its_own_tenant_and_share_group_alone(model: Path, tmp_path: Path) -> None:
    """The same prompts from three sides while everything is evicted into the second tier all the time."""
    path = tmp_path / "engine.sock"
    documents = [" ".join(random.Random(number).choices(PROMPTS[number].split(), k=40)) for number in range(4)]
    with running_worker(model, path, "--context", "512", "--idle-cells", "0"), connected(path) as client:
        for document in documents:
            client.ask(document, tenant="first")
            client.ask(document, tenant="third", share="group")
        state = client.state()
        assert state.evicted_cells > 512
        assert state.stored_bytes > 0
        found = {
            side: [client.ask(document, tenant=tenant, share=share).finished.cached_tokens for document in documents]
            for side, tenant, share in (
                ("another", "second", ""),
                ("named like a group", "group", ""),
                ("group named like a tenant", "second", "first"),
                ("alone though in a group", "third", ""),
                ("owner", "first", ""),
                ("group", "fourth", "group"),
            )
        }
        assert client.state().restored_cells > 0
    assert all(cached > 0 for cached in [*found.pop("owner"), *found.pop("group")])
    assert {cached for cached_by_side in found.values() for cached in cached_by_side} == {0}


def test_memory_stays_flat(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "engine.sock"
    with running_worker(model, path, "--context", "512", "--cache-ram", "1") as process, connected(path) as client:
        sizes = []
        for turn in range(6):
            numbers = [
                client.submit(f"{turn} {number} {PROMPTS[number % 9]}", tenant=f"t{number % 5}") for number in range(60)
            ]
            client.wait(*numbers)
            sizes.append(psutil.Process(process.pid).memory_info().rss)
        assert client.state().stored_bytes <= 1 << 20
    assert sizes[-1] - sizes[1] < 4 << 20, sizes


def test_followers_compute_a_common_prefix_once(client: EngineClient) -> None:
    tenant, common = _tenant(), "The quick brown fox jumps over the lazy dog. " * 3
    answers = client.wait(*[client.submit(common + str(number), tenant=tenant) for number in range(9)])
    assert sum(answer.finished.cached_tokens == 0 for answer in answers) == 1


BOMB = Asked(schema=json.dumps(ENDLESS))
TRUTH = Asked(schema='{"type": "boolean"}')


def test_for_a_costly_grammar_waits_only_who_asked_for_it(client: EngineClient) -> None:
    costly = [client.submit("Shape?", asked=BOMB, tenant="costly") for _ in range(3)]
    plain, shaped = client.submit("Which port?", tenant="other"), client.submit("Sure?", asked=TRUTH, tenant="other")
    assert all(answer.finished.completion_tokens > 0 for answer in client.wait(plain, shaped))
    assert client.answers[costly[-1]].end is None
    assert {answer.failed.code for answer in client.wait(*costly)} == {"engine.grammar"}


def test_a_request_can_be_cancelled_and_its_client_leave_while_its_grammar_is_compiled(
    client: EngineClient, shared: Path
) -> None:
    tenant = _tenant()
    with connected(shared) as leaving:
        leaving.submit("Shape?", asked=BOMB, tenant=tenant)
        leaving.submit("Sure?", asked=TRUTH, tenant=tenant)
        leaving.state()  # frames are read in order: both are in
        number = client.submit("Sure?", asked=TRUTH, tenant=tenant)
        client.cancel(number)
    assert client.wait(number)[0].finished.reason == "cancelled"
    _until(lambda: (state := client.state()).active + state.waiting == 0 and state.connections == 1)


def test_what_cannot_be_served_fails_and_the_rest_goes_on(client: EngineClient) -> None:
    too_long = client.ask("x " * 600)
    assert too_long.failed.code == "engine.context_length"
    assert " 256 tokens" in too_long.failed.message
    assert client.ask("hi", Sampling(temperature=-1.0)).failed.code == "engine.sampling"
    assert client.ask("hi").finished.completion_tokens > 0


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff\xff",
        b"\0\0\0\1\xc1",
        encode(Submit(id=1, tenant="t", prompt="a", params=LONG)) * 2,
        encode(Hello(version=9)),
    ],
)
def test_a_client_that_breaks_the_protocol_loses_its_connection_only(shared: Path, data: bytes) -> None:
    with connected(shared) as client, connected(shared) as broken:
        broken.socket.sendall(data)
        _read_to_the_end(broken)
        assert client.ask("hi").finished.completion_tokens > 0


def test_disconnecting_in_the_middle_cancels(shared: Path) -> None:
    with connected(shared) as client:
        with connected(shared) as leaver:
            for prompt in PROMPTS * 4:
                number = leaver.submit(prompt, LONG)
            leaver.wait_for_text(1)
        before = client.state().cancelled
        _until(lambda: client.state().active + client.state().waiting == 0)
        assert client.state().connections == 1
        assert number == 36
        assert client.state().cancelled >= before
        assert client.ask("hi").finished.completion_tokens > 0


def test_a_client_that_never_reads_is_cut_off_and_others_are_served(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "engine.sock"
    params = Sampling(temperature=0.0, max_tokens=240, ignore_eos=True, logprobs=20)
    with running_worker(model, path), connected(path) as client, connected(path) as silent:
        for _ in range(120):
            silent.submit("hi", params)
        _until(lambda: client.state().active > 0)
        assert client.ask("hello", tenant="another").finished.completion_tokens > 0
        _until(lambda: client.state().connections == 1)
        state = client.state()
        assert (state.active, state.waiting, state.free_cells) == (0, 0, state.cells)
        assert state.cancelled > 0


def test_a_small_cache_preempts_and_still_answers_the_same(model: Path, tmp_path: Path, client: EngineClient) -> None:
    params = Sampling(temperature=0.0, max_tokens=200, ignore_eos=True, logprobs=2)
    expected = [client.ask(prompt, params, tenant=_tenant()) for prompt in PROMPTS]
    path = tmp_path / "engine.sock"
    with running_worker(model, path, "--context", "512"), connected(path) as small:
        answers = small.wait(*[small.submit(prompt, params, tenant=_tenant()) for prompt in PROMPTS])
        assert small.state().preempted > 0
    shared = [same_until_a_tie(one, other) for one, other in zip(expected, answers, strict=True)]
    assert sum(shared) > 0.3 * 9 * 200


def test_sigterm_drains(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "engine.sock"
    with running_worker(model, path) as process, connected(path) as client:
        slow = Sampling(temperature=0.0, max_tokens=200, ignore_eos=True, logprobs=20)
        numbers = [client.submit(prompt, slow) for prompt in PROMPTS * 5]
        state = client.state()  # frames are read in order: all of them are in
        assert state.active + state.waiting > 0
        process.terminate()
        _until(lambda: client.state().draining)
        late = client.ask("too late")
        assert (late.failed.code, late.failed.retryable) == ("engine.draining", True)
        assert {answer.finished.completion_tokens for answer in client.wait(*numbers)} == {200}
        assert process.wait(30) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_request_whose_grammar_is_being_compiled_is_answered_by_a_worker_that_drains(
    model: Path, tmp_path: Path
) -> None:
    path = tmp_path / "engine.sock"
    with running_worker(model, path) as process, connected(path) as client:
        costly, number = (client.submit("Sure?", asked=asked, tenant="t") for asked in (BOMB, TRUTH))
        client.state()
        process.terminate()
        assert client.wait(costly)[0].failed.code == "engine.grammar"
        assert client.wait(number)[0].finished.completion_tokens > 0
        assert process.wait(30) == 0


def test_a_second_sigterm_ends_at_once_and_says_so(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "engine.sock"
    with running_worker(model, path) as process, connected(path) as client:
        slow = Sampling(temperature=0.0, max_tokens=200, ignore_eos=True, logprobs=20)
        numbers = [client.submit(prompt, slow) for prompt in PROMPTS * 10]
        client.wait_for_text(1)
        process.terminate()
        _until(lambda: client.state().draining)
        process.terminate()
        failed = [answer.failed for answer in client.wait(*numbers) if isinstance(answer.end, Failed)]
        assert all(end.retryable for end in failed)
        assert "engine.stopped" in {end.code for end in failed}
        assert process.wait(30) == 0


def test_draining_ends_with_its_time(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "engine.sock"
    with running_worker(model, path, "--drain-timeout", "0") as process, connected(path) as client:
        numbers = [client.submit(prompt, LONG) for prompt in PROMPTS * 10]
        client.wait_for_text(1)
        process.terminate()
        ends = [answer.end for answer in client.wait(*numbers)]
        assert "engine.stopped" in {end.code for end in ends if isinstance(end, Failed)}
        assert process.wait(30) == 0


def test_the_smallest_context_serves(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "engine.sock"
    with running_worker(model, path, "--context", "100", "--slots", "64"), connected(path) as client:
        answers = client.wait(*[client.submit(prompt, tenant=_tenant()) for prompt in PROMPTS * 4])
        assert {answer.finished.completion_tokens for answer in answers} <= set(range(1, 17))


def test_killed_worker_is_replaced_on_the_same_path(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "engine.sock"
    with running_worker(model, path) as first, connected(path) as client:
        client.submit(PROMPTS[0], LONG)
        client.wait_for_text(1)
        first.send_signal(signal.SIGKILL)
        first.wait()
        _read_to_the_end(client)
    assert path.exists()
    with running_worker(model, path), connected(path) as client:
        assert client.ask("hi").finished.completion_tokens > 0


def _refusal(model: Path, path: Path, digest: str | None = None) -> tuple[int, str]:
    process = start_worker(model, path, digest=digest)
    try:
        status = process.wait(60)
        assert process.stderr is not None
        return status, process.stderr.read().decode()
    finally:
        end_worker(process)


def test_wrong_digest_is_refused_before_loading(model: Path, tmp_path: Path) -> None:
    status, words = _refusal(model, tmp_path / "engine.sock", digest="0" * 64)
    assert status == 7
    assert words.startswith("engine.digest: ")
    assert words.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_model_is_refused(model: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "model.gguf"
    damaged.write_bytes(model.read_bytes()[:20_000])
    status, words = _refusal(damaged, tmp_path / "engine.sock")
    assert status == 7
    assert words.startswith("engine.model_refused: ")
    assert words.count("\n") == 1


def test_a_hostile_chat_template_fails_its_requests_only(model: Path, tmp_path: Path) -> None:
    hostile = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    path, changed = tmp_path / "engine.sock", tmp_path / "model.gguf"
    changed.write_bytes(model.read_bytes().replace(CHAT_TEMPLATE.encode(), hostile.ljust(len(CHAT_TEMPLATE)).encode()))
    with running_worker(changed, path) as process, connected(path) as client:
        answer = client.ask(messages=(Message(role="user", content="hi"),))
        assert answer.failed.code == "engine.template"
        assert client.ask("hi").finished.completion_tokens > 0
        assert process.poll() is None


def test_the_socket_appears_only_when_ready(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "engine.sock"
    process = start_worker(model, path)
    try:
        while not path.exists():
            assert process.poll() is None
        wait_ready(process, path)
        with connected(path) as client:
            assert client.ask("hi", GREEDY).finished.completion_tokens > 0
    finally:
        end_worker(process)
