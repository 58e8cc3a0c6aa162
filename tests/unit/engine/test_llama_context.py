from __future__ import annotations

import json
import random
import threading
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from appliance.conversion.convert import convert
from appliance.engine.llama_context import Interrupted, LlamaContext, LlamaModel, NoRoom
from appliance.engine.long_runs import LONGEST_RUN
from appliance.engine.sampling import Row
from appliance.engine.scheduler import Chunk, Sequence
from appliance.kernel.errors import IntegrityFailure
from tests.factories.tiny_llama import make_tiny_gguf, make_tiny_llama

NOISE = 0.02  # cells are 16-bit floats, and the batch decides the order of the sums
TOKENS = [int(token) for token in np.random.default_rng(0).integers(0, 380, 60)]


@pytest.fixture(scope="module")
def context(model: LlamaModel) -> LlamaContext:
    return LlamaContext(model, cells=512, batch=512, ubatch=512, sequences=4, threads=1)


def _sequence(slot: int, tokens: list[int] = TOKENS) -> Sequence:
    return Sequence(tenant="t", tokens=tokens, prompt=len(tokens), limit=200, slot=slot)


def _whole(context: LlamaContext, tokens: list[int]) -> Row:
    context.clear()
    assert context.decode([Chunk(_sequence(0, tokens), 0, len(tokens), last=True)]) == [len(tokens) - 1]
    row: Row = context.logits(1)[0].copy()
    return row


def test_chunks_and_batches_compute_the_same(context: LlamaContext) -> None:
    expected = _whole(context, TOKENS)
    context.clear()
    assert context.decode([Chunk(_sequence(1), 0, 25, last=False)]) == []
    other = _sequence(2, TOKENS[::-1])
    assert context.decode([Chunk(other, 0, 60, last=True), Chunk(_sequence(1), 25, 35, last=True)]) == [59, 94]
    np.testing.assert_allclose(context.logits(2)[1], expected, atol=NOISE)


def test_padding_changes_no_result_and_leaves_nothing_behind(context: LlamaContext) -> None:
    expected = _whole(context, TOKENS)
    context.clear()
    for _ in range(20):  # what stayed would soon fill the cells
        context.cut(1, 0)
        context.decode([Chunk(_sequence(1), 0, 25, last=False)], padding=39)
    assert context.decode([Chunk(_sequence(1), 25, 35, last=True)], padding=29) == [34]
    np.testing.assert_allclose(context.logits(1)[0], expected, atol=NOISE)


def test_a_copied_prefix_computes_the_same_and_survives_its_source(context: LlamaContext) -> None:
    fork = [*TOKENS[:40], 7, 8, 9]
    expected = _whole(context, fork)
    context.clear()
    context.decode([Chunk(_sequence(0), 0, 60, last=False)])
    context.share(0, 3, 40)
    context.cut(0, 0)
    assert context.decode([Chunk(_sequence(3, fork), 40, 3, last=True)]) == [2]
    np.testing.assert_allclose(context.logits(1)[0], expected, atol=NOISE)


def test_no_room_is_told_and_nothing_breaks(context: LlamaContext) -> None:
    context.clear()
    long = _sequence(0, TOKENS * 9)
    assert context.decode([Chunk(long, 0, 500, last=False)]) == []
    with pytest.raises(NoRoom):
        context.decode([Chunk(_sequence(1), 0, 60, last=True)])
    context.cut(0, 0)
    assert context.decode([Chunk(_sequence(1), 0, 60, last=True)]) == [59]


def test_saved_cells_compute_the_same_under_another_sequence(context: LlamaContext) -> None:
    expected = _whole(context, TOKENS)
    context.clear()
    context.decode([Chunk(_sequence(0), 0, 60, last=False)])
    states = [context.save(0, start, start + 20) for start in (0, 20, 40)]
    context.decode([Chunk(_sequence(1, TOKENS[::-1]), 0, 60, last=False)])
    context.cut(0, 0)
    assert context.load(2, 0, 20, states[0])
    assert context.load(2, 20, 40, states[1])
    assert context.load(2, 40, 59, states[2])
    assert context.decode([Chunk(_sequence(2), 59, 1, last=True)]) == [0]
    np.testing.assert_allclose(context.logits(1)[0], expected, atol=NOISE)


def test_a_state_that_is_none_is_refused_and_changes_nothing(context: LlamaContext) -> None:
    expected = _whole(context, TOKENS)
    context.clear()
    context.decode([Chunk(_sequence(0), 0, 59, last=False)])
    state = context.save(0, 0, 20)
    assert not context.load(2, 0, 20, state[:100])
    assert not context.load(2, 0, 20, b"")
    context.decode([Chunk(_sequence(0), 59, 1, last=True)])
    np.testing.assert_allclose(context.logits(1)[0], expected, atol=NOISE)


def test_an_interrupted_batch_leaves_the_cells_as_they_were(model: LlamaModel) -> None:
    context = LlamaContext(model, cells=4096, batch=4096, ubatch=32, sequences=2, threads=1)
    tokens = TOKENS * 60
    context.decode([Chunk(_sequence(0, tokens), 0, 100, last=False)])
    with pytest.raises(Interrupted):
        _decode_interrupted(context, [Chunk(_sequence(0, tokens), 100, 3000, last=True)])
    with pytest.raises(Interrupted):  # also when it was asked for before
        context.decode([Chunk(_sequence(0, tokens), 100, 20, last=True)])
    context.allow()
    assert context.decode([Chunk(_sequence(0, tokens), 100, 20, last=True)]) == [19]
    row = context.logits(1)[0].copy()
    context.clear()
    context.decode([Chunk(_sequence(1, tokens), 0, 120, last=True)])
    np.testing.assert_allclose(row, context.logits(1)[0], atol=NOISE)


def _decode_interrupted(context: LlamaContext, chunks: list[Chunk]) -> None:
    """Decode while another thread calls `interrupt` until it is done."""
    done = threading.Event()

    def nag() -> None:
        while not done.wait(0.001):
            context.interrupt()

    thread = threading.Thread(target=nag)
    thread.start()
    try:
        context.decode(chunks)
    finally:
        done.set()
        thread.join()


def test_a_file_that_is_no_model_is_refused_with_the_reason(tmp_path: Path, model: LlamaModel) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(60))
    with pytest.raises(IntegrityFailure, match="refuses this model") as caught:
        LlamaModel(broken)
    assert caught.value.code == "engine.model_refused"
    assert "\n" not in str(caught.value)


def test_pieces_join_to_the_text(model: LlamaModel) -> None:
    text = "Größe, naïve café 123"
    tokens = model.tokenise(text, special=False, begin=False)
    assert b"".join(model.pieces[token] for token in tokens).decode() == text


def test_a_megabyte_without_a_space_is_tokenised_by_a_recursive_splitter_too(tmp_path: Path) -> None:
    """llama.cpp splits for `bloom` by std::regex; a stack that overflows ends this process, and so is seen."""
    file = make_tiny_gguf(tmp_path)
    own, recursive = (bytes([5, 0, 0, 0, 0, 0, 0, 0]) + name for name in (b"gpt-2", b"bloom"))
    assert file.read_bytes().count(own) == 1
    file.write_bytes(file.read_bytes().replace(own, recursive))
    model = LlamaModel(file)
    for text in ("a" * 1_000_000, "é-" * 500_000, " " * 1_000_000):
        tokens = model.tokenise(text, special=False, begin=True)
        assert b"".join(model.pieces[token] for token in tokens).decode() == text
    (end,) = model.tokenise("<|end|>", special=True, begin=False)
    for before in range(LONGEST_RUN - 8, LONGEST_RUN + 1):
        tokens = model.tokenise("a" * before + "<|end|>" + "a" * LONGEST_RUN, special=True, begin=False)
        assert tokens.count(end) == 1


def test_a_quantised_model_computes_a_prompt(tmp_path: Path) -> None:
    """Kernels for quantised weights differ by processor; one that crashes ends this process, and so is seen."""
    folder = make_tiny_llama(tmp_path / "hf")
    convert(folder, tmp_path / "m.gguf", dtype="q8_0", name="tiny", scratch=tmp_path / "scratch", threads=1)
    context = LlamaContext(LlamaModel(tmp_path / "m.gguf"), cells=256, batch=64, ubatch=64, sequences=1, threads=1)
    sequence = Sequence(tenant="", tokens=list(range(40)), prompt=40, limit=256, slot=0)
    assert context.decode([Chunk(sequence, 0, 40, last=True)]) == [39]
    assert np.isfinite(context.logits(1)).all()


@pytest.mark.parametrize("legacy", [False, True])
def test_sentence_pieces_are_put_together_as_the_files_tokenizer_did(tmp_path: Path, legacy: bool) -> None:
    folder = make_tiny_llama(tmp_path / "hf", family="llama2")
    config = folder / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"legacy": legacy}))
    convert(folder, tmp_path / "m.gguf", dtype="f32", name="tiny", scratch=tmp_path / "scratch", threads=1)
    model, tokenizer = LlamaModel(tmp_path / "m.gguf"), AutoTokenizer.from_pretrained(folder)
    dice = random.Random(1)
    parts = ["the", " ", "  ", "dog", "\n", "<|end|>", "<|user|>", "ß", "🙂", "▁", "<0x0A>", ".", "jumps over"]
    for _ in range(300):
        text = "".join(dice.choices(parts, k=dice.randrange(1, 12)))
        for special in (True, False):
            expected = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=not special)
            assert model.tokenise(text, special=special, begin=False) == expected, text
    begun, goes_on = (model.tokenise("the dog", special=False, begin=False, start=start) for start in (True, False))
    assert [b"".join(model.pieces[token] for token in tokens) for tokens in (begun, goes_on)] == [
        b" the dog",
        b"the dog",
    ]


def test_texts_are_composed_where_the_files_tokenizer_did(tmp_path: Path) -> None:
    model = LlamaModel(make_tiny_gguf(tmp_path, family="qwen2"))
    tokenizer = Tokenizer.from_file(str(tmp_path / "hf" / "tokenizer.json"))
    for text in ("cafe\u0301", "<|end|>\u0338 a", "a\u0301<|user|>u\u0308", "\u1100\u1161", "plain"):
        assert model.tokenise(text, special=True, begin=False) == tokenizer.encode(text).ids, text
    written = model.tokenise("<|end|>\u0338", special=False, begin=False)
    assert b"".join(model.pieces[token] for token in written).decode() == "<|end|\u226f"
