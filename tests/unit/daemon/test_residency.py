"""The deployer's books: what is parked, what blocks, what is told once, and how predictions follow the options."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import msgspec
import pytest

from appliance.api import types as t
from appliance.daemon.gpus import Sighting
from appliance.daemon.residency import (
    Residency,
    Wanted,
    budget_of,
    footprint_view,
    predict,
    proportional_bytes,
)
from appliance.engine.frames import Info
from appliance.gateway.state import GatewayState, RevisionState
from appliance.jobs.spec import FileEntry
from appliance.kernel.settings import Settings
from appliance.residency.plan import Place
from appliance.services.serving_options import Artifact
from appliance.weights.gpu import GpuDevice

DESCRIBED = {"parameters": 10**6, "layers": 2, "hidden": 64, "heads": 4, "vocabulary": 1000, "context_length": 512}
MIB = 1 << 20


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def wanted(number: int, *, starting: bool = False, size: int = 10 * MIB, **policy: Any) -> Wanted:
    return Wanted(
        number=number,
        deployment=f"m{number}",
        ref=f"m{number}@1",
        starting=starting,
        artifact=Artifact(digest="d", size=size),
        options=t.ServingOptions(kind="embed"),
        policy=t.Policy(**policy),
        description=DESCRIBED,
    )


def gateway(**revisions: RevisionState) -> GatewayState:
    named = {name.removeprefix("r"): state for name, state in revisions.items()}
    return GatewayState(
        pid=1, host="h", port=1, table="", table_problem="", draining=False, requests=0, revisions=named
    )


def seen(*, waiting: int = 0, used: float = 0.0, active: int = 0) -> RevisionState:
    return RevisionState(active=active, connected=True, retired=False, waiting=waiting, used=used)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def books(clock: Clock, memory: int) -> Residency:
    return Residency(Settings(serving_memory=memory * MIB), clock=clock)


def test_a_model_that_was_never_in_comes_by_itself_and_is_not_parked(clock: Clock) -> None:
    residency = books(clock, 200)
    assert [one.action for one in residency.decide([wanted(1)])] == ["load"]
    assert residency.parked([wanted(1)]) == {}


def test_one_that_had_to_wait_is_parked_and_loads_only_when_asked_for(clock: Clock) -> None:
    residency = books(clock, 100)
    residency.place(1, Place.RESIDENT)
    assert [one.action for one in residency.decide([wanted(1), wanted(2)])] == ["wait"]
    assert residency.parked([wanted(1), wanted(2)]) == {2: ""}
    assert residency.decide([wanted(1), wanted(2)]) == []
    residency.observe(gateway(r2=seen(waiting=1)))
    assert [(one.action, one.revision) for one in residency.decide([wanted(1), wanted(2)])] == [
        ("unload", 1),
        ("wait", 2),
    ]


def test_a_question_of_the_daemons_own_brings_a_model_in_and_keeps_it(clock: Clock) -> None:
    residency = books(clock, 100)
    member = wanted(1, idle_timeout=60)
    residency.place(1, Place.RESIDENT)
    clock.now += 120
    told = residency.decide([member])
    assert [(one.action, one.why) for one in told] == [("unload", "no request for 2 min, its limit is 1 min")]
    residency.place(1, Place.ABSENT)
    with residency.guest(1):
        residency.observe(gateway())
        assert [one.action for one in residency.decide([member])] == ["load"]
        residency.place(1, Place.RESIDENT)
        clock.now += 90
        assert residency.decide([member]) == []
    residency.observe(gateway())
    assert residency.decide([member]) == []
    clock.now += 61
    assert [one.action for one in residency.decide([member])] == ["unload"]


def test_a_refusal_is_told_to_clients_for_a_while_and_then_tried_again(clock: Clock) -> None:
    residency = books(clock, 100)
    residency.place(1, Place.RESIDENT)
    members = [wanted(1, pinned=True), wanted(2)]
    residency.decide(members)
    residency.observe(gateway(r2=seen(waiting=1)))
    assert [one.action for one in residency.decide(members)] == ["refuse"]
    assert "pinned" in residency.parked(members)[2]
    clock.now += 11
    assert residency.parked(members) == {2: ""}


def test_a_decision_is_told_once_while_its_reason_stands(clock: Clock) -> None:
    residency = books(clock, 100)
    residency.place(1, Place.RESIDENT)
    newcomer = wanted(2, starting=True, size=500 * MIB)
    for _ in range(3):
        residency.decide([wanted(1), newcomer])
    assert [(one.action, one.deployment) for one in residency.decisions] == [("refuse", "m2")]


def test_engines_that_only_end_their_streams_still_count(clock: Clock) -> None:
    residency = books(clock, 100)
    assert [one.action for one in residency.decide([wanted(1)], {7: 60 * MIB})] == ["wait"]
    assert [one.action for one in residency.decide([wanted(1)], {})] == []
    residency = books(clock, 100)
    assert [one.action for one in residency.decide([wanted(1)], {})] == ["load"]


def test_a_memory_limit_is_about_what_the_process_allocates_itself(clock: Clock) -> None:
    residency = books(clock, 100)
    limited = msgspec.structs.replace(wanted(1).options, memory_limit=64 * MIB)
    assert residency.over_limit(wanted(1)) == ""
    assert residency.over_limit(dataclasses.replace(wanted(1, size=10**12), options=limited)) == ""
    tight = msgspec.structs.replace(limited, memory_limit=16 * MIB)
    assert "its memory limit is 16 MiB" in residency.over_limit(dataclasses.replace(wanted(1), options=tight))


def test_a_preview_leaves_no_trace(clock: Clock) -> None:
    residency = books(clock, 100)
    residency.place(1, Place.RESIDENT)
    footprint, decisions, placement = residency.preview([wanted(1)], wanted(0, starting=True))
    assert placement == ""
    assert footprint.total > 10 * MIB
    assert [one.action for one in decisions] == ["unload", "wait"]
    assert not residency.decisions
    assert residency.parked([wanted(1)]) == {}


def test_what_is_measured_counts_when_it_is_more_than_predicted(clock: Clock) -> None:
    residency = books(clock, 10**6)
    residency.place(1, Place.RESIDENT)
    assert residency.member(wanted(1)).needs == predict(wanted(1), Settings()).total
    residency.measure({1: os.getpid()})
    view = residency.view(wanted(1))
    assert view.measured > 0
    assert view.error == pytest.approx(view.measured / view.predicted.total - 1)
    assert residency.member(wanted(1)).needs == max(view.measured, view.predicted.total)
    residency.place(1, Place.ABSENT)
    assert residency.view(wanted(1)).measured == 0


def test_the_kind_and_the_artifact_decide_how_memory_is_predicted() -> None:
    settings = Settings(engine_context=4096)
    llama = wanted(1)
    folder = Artifact(digest="d", size=MIB, files=(FileEntry(path="config.json", digest="d", size=1),))

    def total(artifact: Artifact, **options: Any) -> int:
        entry = Wanted(
            number=1,
            deployment="m",
            ref="m@1",
            starting=False,
            artifact=artifact,
            options=t.ServingOptions(**options),
            policy=t.Policy(),
            description=DESCRIBED,
        )
        return predict(entry, settings).total

    assert total(folder, kind="embed") > total(llama.artifact, kind="embed")
    assert total(llama.artifact, kind="generate", context=8192) > total(llama.artifact, kind="generate")


def test_a_draft_model_counts_and_is_told() -> None:
    settings = Settings(engine_context=4096)
    generates = dataclasses.replace(wanted(1), options=t.ServingOptions())
    served = t.ServedDraft(ref="small@1", digest="d", size=5 * MIB)
    drafting = dataclasses.replace(generates, options=t.ServingOptions(draft=served), draft=DESCRIBED)
    alone, both = predict(generates, settings), predict(drafting, settings)
    assert both.total == alone.total + both.draft > alone.total + 5 * MIB
    assert footprint_view(both).draft == both.draft
    assert footprint_view(alone).draft == 0


def test_the_box_keeps_memory_for_itself() -> None:
    gib = 1 << 30
    assert (budget_of(2 * gib), budget_of(100 * gib), budget_of(gib // 2)) == (gib, 80 * gib, 0)


def test_a_process_that_is_gone_takes_nothing() -> None:
    assert proportional_bytes(os.getpid()) > MIB
    assert proportional_bytes(2**22 - 3) == 0


GIB = 1 << 30
BIG = {
    **{"parameters": 7_000_000_000, "layers": 32, "hidden": 4096, "heads": 32, "kv_heads": 8, "key_width": 256},
    **{"feed_forward": 14336, "vocabulary": 32000, "quantisation": "Q8_0"},
}


def generates(number: int, *, layers: int = -1, starting: bool = False) -> Wanted:
    plain = wanted(number, starting=starting, size=7 * GIB)
    return dataclasses.replace(plain, options=t.ServingOptions(gpu_layers=layers), description=BIG)


def card(free: int, *, total: int = 16, name: str = "CUDA0", shared: bool = False) -> Sighting:
    device = GpuDevice(
        name=name, backend="CUDA", description="a card", total=total * GIB, free=free * GIB, shared=shared
    )
    return Sighting(plugged=True, devices=(device,))


def roomy(clock: Clock, sighting: Sighting) -> Residency:
    residency = books(clock, 10**6)
    residency.see(sighting)
    return residency


def test_layers_go_to_the_gpu_and_the_decision_says_so(clock: Clock) -> None:
    residency = roomy(clock, card(15))
    [load] = residency.decide([generates(1, starting=True)])
    assert load.action == "load"
    assert "of CUDA0, which leaves" in load.why
    assert residency.placement_of(1).layers == 33
    view = residency.view(generates(1))
    assert view.placement.startswith("all 33 layers on CUDA0 (")
    assert (view.gpu, view.gpu_layers) == ("CUDA0", 33)
    assert view.predicted.device > 7 * GIB > view.predicted.total
    assert residency.member(generates(1)).device_needs == view.predicted.device


def test_the_second_takes_what_the_first_left_and_keeps_it_while_it_is_in_memory(clock: Clock) -> None:
    residency = roomy(clock, card(12))
    both = [generates(1), generates(2)]
    assert [one.action for one in residency.decide(both)] == ["load", "load"]
    first, second = residency.placement_of(1), residency.placement_of(2)
    assert first.layers == 33
    assert 0 < second.layers < 33
    assert "as many as fit into" in second.why
    residency.place(1, Place.RESIDENT)
    residency.place(2, Place.RESIDENT)
    residency.see(card(0))
    residency.decide(both)
    assert (residency.placement_of(1), residency.placement_of(2)) == (first, second)
    assert residency.gpus()[0][0].used == sum(residency.member(one).device_needs for one in both)


def test_a_number_of_layers_is_not_cut_down_but_waits_for_room(clock: Clock) -> None:
    residency = roomy(clock, card(12))
    residency.decide([generates(1)])
    residency.place(1, Place.RESIDENT)
    asked = generates(2, layers=99, starting=True)
    assert [(one.action, one.revision) for one in residency.decide([generates(1), asked])] == [
        ("unload", 1),
        ("wait", 2),
    ]
    assert residency.placement_of(2).why.startswith("all 33 layers")


def test_without_a_gpu_every_number_of_layers_is_served_by_the_processor(clock: Clock) -> None:
    residency = roomy(clock, Sighting(plugged=True))
    for layers in (-1, 0, 20):
        needs, _, placement = residency.preview([], generates(0, layers=layers))
        assert needs == predict(generates(0), residency.settings)
        assert placement.startswith("on the processor")
    assert residency.preview([], wanted(0))[2] == "on the processor, as encoders are"


def test_what_others_take_of_a_gpu_is_not_serving_s(clock: Clock) -> None:
    residency = roomy(clock, card(15))
    residency.decide([generates(1)])
    needs = residency.member(generates(1)).device_needs
    residency.place(1, Place.RESIDENT)
    assert residency.gpus_to_look_at()
    device = GpuDevice(name="CUDA0", backend="CUDA", description="a card", total=16 * GIB, free=14 * GIB - needs)
    residency.see(Sighting(plugged=True, devices=(device,)))
    assert residency.room().devices == {"CUDA0": 14 * GIB - (128 << 20)}
    assert not residency.gpus_to_look_at(older_than=10)
    clock.now += 11
    assert residency.gpus_to_look_at(older_than=10)


def test_what_an_engine_took_of_a_gpu_is_compared_with_its_prediction(clock: Clock) -> None:
    residency = roomy(clock, card(15))
    residency.adopt(generates(1), layers=33, gpu="CUDA0")
    residency.place(1, Place.RESIDENT)
    assert residency.to_greet() == [1]
    info = Info(
        version=4,
        name="m",
        digest="d",
        context=1,
        cells=1,
        slots=1,
        vocabulary=1,
        chat=False,
        parameters=1,
        model="m",
        build="b",
        pid=1,
        gpu="CUDA0",
        gpu_layers=33,
        gpu_bytes=8 * GIB,
    )
    residency.greeted(1, info)
    assert residency.to_greet() == []
    view = residency.view(generates(1))
    assert view.gpu_measured == 8 * GIB
    assert view.gpu_error == pytest.approx(8 * GIB / (view.predicted.device - (512 << 20)) - 1)


def test_an_engine_that_fails_on_a_gpu_comes_back_on_the_processor_unless_its_layers_were_asked_for(
    clock: Clock,
) -> None:
    residency = roomy(clock, card(15))
    auto, fixed = generates(1), generates(2, layers=2)
    residency.decide([auto, fixed])
    assert not residency.falls_back(fixed, "exit status -11")
    assert residency.falls_back(auto, "exit status -11")
    assert "with layers on CUDA0 its engine failed (exit status -11)" in residency.decisions[-1].why
    residency.decide([auto, fixed])
    assert residency.placement_of(1).layers == 0
    assert (
        residency.view(auto).placement == "on the processor: with layers on CUDA0 its engine failed (exit status -11)"
    )
    assert not residency.falls_back(auto, "again")


def test_a_gpu_in_the_processor_takes_main_memory(clock: Clock) -> None:
    residency = roomy(clock, card(15, shared=True))
    residency.decide([generates(1)])
    member, predicted = residency.member(generates(1)), residency.view(generates(1)).predicted
    assert member.needs == predicted.total + predicted.saved + predicted.device
