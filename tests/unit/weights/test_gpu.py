from __future__ import annotations

from collections.abc import Iterator

from appliance.weights.gpu import Kind, Properties, gpus


def device(name: str, kind: Kind = Kind.GPU, *, card: str = "", free: int = 4, total: int = 8) -> Properties:
    backend = name.rstrip("0123456789")
    return Properties(
        name=name, backend=backend, description=f"{name} card", free=free, total=total, kind=kind, card=card
    )


class FakeRegistry:
    def __init__(self, *found: Properties) -> None:
        self._found = found

    def properties(self) -> Iterator[Properties]:
        yield from self._found


def names(*found: Properties) -> list[str]:
    return [one.name for one in gpus(FakeRegistry(*found))]


def test_processors_and_accelerators_are_no_gpus() -> None:
    assert names(device("CPU", Kind.CPU), device("BLAS", Kind.ACCELERATOR)) == []


def test_a_card_that_two_backends_see_counts_for_the_first() -> None:
    both = (device("CUDA0", card="0000:c1:00.0"), device("Vulkan0", card="0000:c1:00.0"))
    assert names(*both, device("CPU", Kind.CPU)) == ["CUDA0"]
    assert names(device("Vulkan0"), device("Vulkan1")) == ["Vulkan0", "Vulkan1"]


def test_the_processors_gpu_counts_where_there_is_no_other() -> None:
    integrated = device("Vulkan0", Kind.INTEGRATED)
    assert names(integrated, device("Vulkan1")) == ["Vulkan1"]
    [alone] = gpus(FakeRegistry(integrated))
    assert alone.shared


def test_free_is_never_more_than_there_is() -> None:
    found = gpus(FakeRegistry(device("A0", free=5), device("A1", free=99), device("A2", free=8)))
    assert [one.free for one in found] == [5, 8, 8]
