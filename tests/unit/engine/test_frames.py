from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.engine.frames import (
    MAX_FRAME,
    Ask,
    Cancel,
    Candidate,
    Failed,
    Finished,
    FrameError,
    FromWorker,
    Hello,
    Message,
    Piece,
    Sampling,
    Step,
    Submit,
    TokenLogprob,
    ToWorker,
    client_stream,
    encode,
    worker_stream,
)

CLIENT_FRAMES: list[ToWorker] = [
    Hello(),
    Submit(
        id=7,
        tenant="t",
        messages=(Message(role="user", content="hé"),),
        params=Sampling(stop=("a", "b"), logit_bias={3: -1.5}, logprobs=0),
    ),
    Submit(id=8, tenant="t", prompt="x"),
    Cancel(id=7),
    Ask(),
]
CANDIDATE = Candidate(token=1, text="a", data=b"a", logprob=-0.5)
WORKER_FRAMES: list[FromWorker] = [
    Step(items=(Piece(id=1, text="a", tokens=1, logprobs=(TokenLogprob(chosen=CANDIDATE, top=(CANDIDATE,)),)),)),
    Failed(id=2, code="engine.context_length", message="too long"),
    Finished(
        id=1,
        reason="stop",
        prompt_tokens=3,
        completion_tokens=1,
        cached_tokens=0,
        queue_seconds=0.0,
        prompt_seconds=0.1,
        generation_seconds=0.2,
    ),
]


@given(st.lists(st.integers(min_value=1, max_value=40), max_size=60))
def test_frames_survive_any_chunking(sizes: list[int]) -> None:
    data = b"".join(encode(frame) for frame in CLIENT_FRAMES)
    stream, read = client_stream(), []
    for size in sizes:
        read += stream.feed(data[:size])
        data = data[size:]
    read += stream.feed(data)
    assert read == CLIENT_FRAMES
    assert not stream.partial


def test_worker_frames_round_trip() -> None:
    assert worker_stream().feed(b"".join(map(encode, WORKER_FRAMES))) == WORKER_FRAMES


def test_half_a_frame_is_partial() -> None:
    stream = client_stream()
    assert stream.feed(encode(Ask())[:-1]) == []
    assert stream.partial


def test_announced_size_is_refused_before_its_bytes_arrive() -> None:
    with pytest.raises(FrameError) as caught:
        client_stream().feed(struct.pack(">I", MAX_FRAME + 1))
    assert caught.value.code == "engine.frame_too_large"


def test_too_large_a_frame_is_not_sent() -> None:
    with pytest.raises(FrameError):
        encode(Submit(id=1, tenant="t", prompt="x" * (MAX_FRAME + 1)))


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x91\xa4nope", b"\x93\xa6submit\xa1x\xa1t", b"\x91" * 5000])
def test_foreign_bytes_are_a_protocol_error(body: bytes) -> None:
    with pytest.raises(FrameError):
        client_stream().feed(struct.pack(">I", len(body)) + body)


def test_directions_do_not_mix() -> None:
    with pytest.raises(FrameError):
        client_stream().feed(encode(Failed(id=1, code="c", message="m")))
