"""The loop alone, over an encoder that computes ones."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from typing import cast

import numpy as np
import numpy.typing as npt

from appliance.engine.encoder import Encoder, Passage
from appliance.engine.encoder_loop import EncodeRequest, EncoderLoop
from appliance.engine.frames import Finished, FromWorker, worker_stream
from appliance.engine.outbox import Connection, Emitter


class Ones:
    batch, sequences, padded, width, context = 64, 4, False, 2, 16

    def compute(self, passages: Sequence[Passage]) -> npt.NDArray[np.float32]:
        return np.ones((len(passages), self.width), np.float32)


def test_a_cancel_that_comes_too_late_is_not_for_the_next_of_that_number() -> None:
    emitter = Emitter()
    emitter.start()
    loop = EncoderLoop(cast(Encoder, Ones()), emitter, lambda: None)
    client, accepted = socket.socketpair()
    client.settimeout(10)
    connection = Connection(accepted)

    def request() -> EncodeRequest:
        made = EncodeRequest(
            id=1, connection=connection, tenant="t", passages=[Passage((1,), 1)], submitted=time.monotonic()
        )
        connection.requests[1] = made
        return made

    request()  # which has ended when its cancellation is heard
    loop.cancel(connection, 1)
    loop.submit(request())
    loop.begin()
    frames: list[FromWorker] = []
    stream = worker_stream()
    while not any(isinstance(frame, Finished) for frame in frames):
        frames += stream.feed(client.recv(65536))
    loop.stop()
    loop.join()
    emitter.finish()
    client.close()
    accepted.close()
    assert [frame.reason for frame in frames if isinstance(frame, Finished)] == ["stop"]
