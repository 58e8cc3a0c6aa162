"""What a scrape says of engines that answer, and of one that does not."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from appliance.engine.frames import Ask, Distribution, State, Times, client_stream, encode
from appliance.gateway.engine_metrics import exposition, states

_TIME = Distribution(bounds=(0.1, 1.0), counts=(3, 1, 1), sum=4.5)
_STATE = State(
    active=2,
    waiting=1,
    draining=False,
    cells=100,
    free_cells=40,
    cached_cells=10,
    connections=1,
    steps=7,
    step_seconds=0.7,
    prompt_tokens=50,
    cached_tokens=20,
    completion_tokens=30,
    finished=3,
    failed=0,
    cancelled=1,
    preempted=2,
    times=Times(step=_TIME, queue=_TIME, first_token=_TIME, inter_token=_TIME, per_output_token=_TIME, request=_TIME),
    step_streams=21,
    prompt_seconds=1.5,
    generation_seconds=2.5,
    longest=99,
)


def _samples(text: bytes) -> dict[tuple[str, str], float]:
    return {
        (sample.name, "".join(sample.labels.get(label, "") for label in ("model", "le", "source"))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_names_of_llama_server_and_opentelemetry() -> None:
    samples = _samples(exposition({"a": _STATE, "b": None}))
    assert samples["intramuros_engine_up", "a"] == 1
    assert samples["intramuros_engine_up", "b"] == 0
    assert samples["llamacpp:requests_processing", "a"] == 2
    assert samples["llamacpp:prompt_tokens_total", "a"] == 30
    assert samples["llamacpp:prompt_tokens_cached_total", "a"] == 20
    assert samples["llamacpp:prompt_seconds_total", "a"] == 1.5
    assert samples["llamacpp:tokens_predicted_seconds_total", "a"] == 2.5
    assert samples["llamacpp:n_busy_slots_per_decode", "a"] == 3
    assert samples["llamacpp:n_tokens_max", "a"] == 99
    assert samples["gen_ai_server_request_duration_seconds_count", "a"] == 5
    assert samples["intramuros_engine_preemptions_total", "a"] == 2
    assert samples["gen_ai_server_time_to_first_token_seconds_bucket", "a1.0"] == 4
    assert samples["gen_ai_server_time_to_first_token_seconds_bucket", "a+Inf"] == 5
    assert samples["gen_ai_server_time_to_first_token_seconds_count", "a"] == 5
    assert samples["gen_ai_server_time_to_first_token_seconds_sum", "a"] == 4.5
    assert not [name for name, model in samples if model == "b" and name != "intramuros_engine_up"]


def test_an_encoder_has_no_times_of_tokens() -> None:
    samples = _samples(exposition({"a": msgspec.structs.replace(_STATE, times=Times(step=_TIME, queue=_TIME))}))
    assert samples["intramuros_engine_step_seconds_count", "a"] == 5
    assert not [name for name, _ in samples if name.startswith("gen_ai_server_time")]


def test_guesses_are_told_by_who_made_them() -> None:
    state = msgspec.structs.replace(
        _STATE,
        drafted_tokens=30,
        accepted_tokens=20,
        draft_model_drafted=10,
        draft_model_accepted=9,
        draft_model_seconds=0.5,
    )
    samples = _samples(exposition({"a": state}))
    assert samples["intramuros_engine_drafted_tokens_total", "adraft"] == 10
    assert samples["intramuros_engine_drafted_tokens_total", "alookup"] == 20
    assert samples["llamacpp:spec_decode_num_draft_tokens_total", "a"] == 30
    assert samples["llamacpp:spec_decode_num_accepted_tokens_total", "a"] == 20
    assert samples["intramuros_engine_accepted_tokens_total", "adraft"] == 9
    assert samples["intramuros_engine_accepted_tokens_total", "alookup"] == 11
    assert samples["intramuros_engine_draft_seconds_total", "a"] == 0.5


def test_an_engine_of_an_earlier_version_has_no_times() -> None:
    samples = _samples(exposition({"a": msgspec.structs.replace(_STATE, times=None)}))
    assert ("intramuros_engine_step_seconds_count", "a") not in samples
    assert samples["llamacpp:n_decode_total", "a"] == 7


async def test_engines_are_asked_over_their_sockets(tmp_path: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stream = client_stream()
        while data := await reader.read(4096):
            if any(isinstance(frame, Ask) for frame in stream.feed(data)):
                writer.write(encode(_STATE))
        writer.close()

    server = await asyncio.start_unix_server(serve, str(tmp_path / "a.sock"))
    async with server:
        found = await states({"a": tmp_path / "a.sock", "gone": tmp_path / "gone.sock"})
    assert found == {"a": _STATE, "gone": None}
