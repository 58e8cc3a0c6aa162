from __future__ import annotations

from appliance.residency.footprint import (
    MIB,
    beside,
    draft_model,
    generator,
    llama_encoder,
    shape_of,
    torch_encoder,
)
from tests.factories.model_shapes import SEVEN_BILLION


def test_the_cache_is_two_bytes_for_each_number_of_key_and_value() -> None:
    predicted = generator(shape_of(SEVEN_BILLION), file=7 << 30, cells=8192, sequences=64, chats=True, saved=1 << 20)
    assert predicted.cache == 8192 * 32 * 8 * 256 * 2 == 1 << 30
    assert predicted.weights == 7 << 30
    assert predicted.repacked == 0
    assert predicted.total == predicted.weights + predicted.cache + predicted.compute + predicted.process
    assert predicted.most == predicted.total + (1 << 20)


def test_repacked_formats_are_there_twice() -> None:
    shape = shape_of(SEVEN_BILLION | {"quantisation": "Q4_0"})
    assert generator(shape, file=100, cells=256, sequences=1, chats=False, saved=0).repacked == 100


def test_what_is_unsaid_is_taken_as_usual() -> None:
    shape = shape_of({"hidden": 64, "heads": 4, "kv_heads": None, "layers": "two"})
    assert (shape.kv_heads, shape.key_width, shape.feed_forward, shape.layers) == (4, 32, 256, 0)
    assert shape_of({}).heads == 1


def test_a_draft_model_adds_its_weights_and_cells_but_no_process() -> None:
    alone = generator(shape_of(SEVEN_BILLION), file=7 << 30, cells=8192, sequences=64, chats=True, saved=1 << 20)
    shape = shape_of(SEVEN_BILLION | {"layers": 4, "hidden": 512, "quantisation": "Q4_0"})
    draft = draft_model(shape, file=100 * MIB, cells=8192, sequences=16)
    both = beside(alone, draft)
    assert both.draft == draft.total > 2 * 100 * MIB + 8192 * 4 * 8 * 256 * 2
    assert (both.total, both.most) == (alone.total + both.draft, alone.most + both.draft)
    assert both.own == alone.own + both.draft - 100 * MIB
    assert draft.process < alone.process


def test_encoders_grow_with_the_longest_text_they_take() -> None:
    shape = shape_of(SEVEN_BILLION)
    llama = [llama_encoder(shape, file=1, context=length).total for length in (4096, 2048)]
    torch = [torch_encoder(shape, context=length).total for length in (4096, 2048)]
    assert llama[0] > llama[1] > MIB
    assert torch[0] > torch[1] > MIB
    assert torch_encoder(shape, context=64).weights == 4 * shape.parameters
