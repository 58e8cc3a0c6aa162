"""The pre-tokenizer is read from tokenizer.json, and only known ones pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from appliance.conversion.pre_tokenizer import PreTokenizer, derive_pre, pre_tokenizer_of
from appliance.kernel.errors import BadInput, IntegrityFailure
from tests.factories.tiny_llama import make_tiny_llama

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
LLAMA3_REGEX = (
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
    "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
)


def tokenizer(pre_tokenizer: Any = BYTE_LEVEL, normalizer: Any = None, **model: Any) -> dict[str, Any]:
    return {"model": {"type": "BPE", **model}, "pre_tokenizer": pre_tokenizer, "normalizer": normalizer}


def split(regex: str) -> dict[str, Any]:
    return {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False},
            BYTE_LEVEL | {"use_regex": False},
        ],
    }


def test_plain_byte_level_is_gpt_2(tmp_path: Path) -> None:
    assert pre_tokenizer_of(make_tiny_llama(tmp_path) / "tokenizer.json") == PreTokenizer("gpt-2")


def test_the_split_of_llama_3_is_known_with_its_ignored_merges() -> None:
    assert derive_pre(tokenizer(split(LLAMA3_REGEX), ignore_merges=True)) == PreTokenizer("llama-bpe")


def test_qwen_composes_and_cuts_numbers_into_digits(tmp_path: Path) -> None:
    made = make_tiny_llama(tmp_path, family="qwen2")
    assert pre_tokenizer_of(made / "tokenizer.json") == PreTokenizer("qwen2", composes=True)


def test_digits_before_the_words_of_gpt_2_are_smollm() -> None:
    digits = {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, BYTE_LEVEL]}
    assert derive_pre(tokenizer(digits)) == PreTokenizer("smollm")


@pytest.mark.parametrize(
    ("document", "named"),
    [
        (tokenizer(None), "null"),
        (tokenizer({"type": "Metaspace", "replacement": "▁"}), "Metaspace"),
        (tokenizer(BYTE_LEVEL | {"add_prefix_space": True}), "add_prefix_space"),
        (tokenizer(BYTE_LEVEL | {"use_regex": False}), "use_regex"),
        (tokenizer(split(r"\p{N}")), r"\p{N}"),
        (tokenizer(split(LLAMA3_REGEX)), "ignore_merges"),
        (tokenizer(ignore_merges=True), "ignore_merges"),
        (tokenizer(normalizer={"type": "NFKC"}), "NFKC"),
        (tokenizer(normalizer={"type": "Lowercase"}), "Lowercase"),
        (tokenizer(byte_fallback=True), "ByteLevel"),
        (tokenizer(end_of_word_suffix="</w>"), "</w>"),
        ({"model": {"type": "Unigram"}, "pre_tokenizer": BYTE_LEVEL}, "Unigram"),
        ({}, "None"),
    ],
)
def test_anything_else_is_refused_with_what_was_found(document: dict[str, Any], named: str) -> None:
    with pytest.raises(BadInput, match=r"conversion\.tokenizer") as refusal:
        derive_pre(document)
    assert named in refusal.value.message.replace("\\\\", "\\")


BYTES = {f"<0x{byte:02X}>": byte for byte in range(256)}
METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
PIECES = {"byte_fallback": True, "vocab": BYTES | {"▁": 256, "a": 257, "▁a": 258}, "merges": [["▁", "a"]]}


@pytest.mark.parametrize("scheme", ["never", "first", "always"])
def test_sentence_pieces_have_scores_and_say_where_a_space_is_put(scheme: str) -> None:
    found = derive_pre(tokenizer(METASPACE | {"prepend_scheme": scheme}, **PIECES))
    assert (found.name, found.prefix, found.composes) == ("default", scheme, False)
    assert found.scores == (*[0.0] * 258, -1.0)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (tokenizer(METASPACE | {"split": True}, **PIECES), '"split": true'),
        (tokenizer(METASPACE | {"replacement": "_"}, **PIECES), '"replacement": "_"'),
        (tokenizer(METASPACE | {"prepend_scheme": "last"}, **PIECES), "last"),
        (tokenizer(None, **PIECES), "null"),
        (tokenizer(METASPACE, normalizer={"type": "NFC"}, **PIECES), "NFC"),
        (tokenizer(METASPACE, **PIECES | {"ignore_merges": True}), "ignore_merges"),
        (tokenizer(METASPACE, **PIECES | {"merges": []}), "'▁' and 'a' never merge"),
        (tokenizer(METASPACE, **PIECES | {"vocab": {"▁": 0}}), "no piece for the byte 0"),
    ],
)
def test_pieces_that_llama_cpp_would_put_together_differently_are_refused(changed: dict[str, Any], named: str) -> None:
    with pytest.raises(BadInput, match=r"conversion\.tokenizer") as refusal:
        derive_pre(changed)
    assert named in refusal.value.message


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_a_file_that_is_no_tokenizer_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(IntegrityFailure, match=r"conversion\.tokenizer_unreadable"):
        pre_tokenizer_of(tmp_path / "tokenizer.json")
