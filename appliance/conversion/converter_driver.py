"""Runs llama.cpp's converter with an explicit vocabulary section. A program of its own; it imports nothing of ours.

    python -I converter_driver.py --converter DIR --model DIR --output FILE --dtype f32 --pre gpt-2 --name NAME

The converter's own gguf library is loaded, not the one in site-packages, which has drifted from it. Everything the
converter would guess about the tokenizer is written explicitly here: pre-tokenizer, begin, end, end-of-turn and
padding tokens, whether a begin token is added, and the chat template as transformers resolves it.

Exit status 0; 3 and one JSON line {"refused": …} on stdout when the model cannot be expressed; else the
converter's own failure, on stderr.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any

EXIT_REFUSED = 3
_BYTE = re.compile("<0x[0-9A-F]{2}>")


class Refused(Exception):
    """The model has something that a GGUF file cannot say."""


def main(argv: list[str]) -> int:
    """Convert one folder."""
    options = _parse(argv)
    sys.path[:0] = [str(options.converter), str(options.converter / "gguf-py")]
    gguf = importlib.import_module("gguf")
    if options.converter.resolve() not in Path(str(gguf.__file__)).resolve().parents:
        sys.stderr.write(f"the gguf library of another version was loaded: {gguf.__file__}\n")
        return 1
    base = importlib.import_module("conversion.base")
    scores = json.loads(options.scores.read_bytes()) if options.scores else []
    _fix_vocabulary(base.TextModel, gguf, pre=options.pre, scores=scores, notes=options.note)
    program = importlib.import_module("convert_hf_to_gguf")
    sys.argv = [
        "convert_hf_to_gguf.py",
        str(options.model),
        "--outfile",
        str(options.output),
        "--outtype",
        options.dtype,
        "--model-name",
        options.name,
    ]
    try:
        program.main()
    except Refused as reason:
        sys.stdout.write(json.dumps({"refused": str(reason)}) + "\n")
        return EXIT_REFUSED
    return 0


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    for name in ("converter", "model", "output"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    for name in ("dtype", "pre", "name"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--scores", type=Path, help="JSON list: the score of each of SentencePiece's pieces")
    parser.add_argument("--note", action="append", default=[], help="a text that llama.cpp does not read: KEY=VALUE")
    return parser.parse_args(argv)


def _fix_vocabulary(text_model: Any, gguf: Any, *, pre: str, scores: list[float], notes: list[str]) -> None:
    """Make every architecture of the converter write a vocabulary of one kind, and nothing guessed.

    SentencePiece's where there are scores, else byte-level BPE.
    """

    def no_such_file(_model: Any, *_args: Any, **_options: Any) -> None:
        raise FileNotFoundError("the tokenizer is tokenizer.json alone")

    def known_pre(_model: Any, _tokenizer: Any) -> str:
        return pre

    def write_vocabulary(model: Any) -> None:
        tokens, kinds, name = model.get_vocab_base()
        writer = model.gguf_writer
        writer.add_tokenizer_model("llama" if scores else "gpt2")
        writer.add_tokenizer_pre(name)
        writer.add_token_list(tokens)
        if scores:
            writer.add_token_scores(scores + [0.0] * (len(tokens) - len(scores)))
            kinds = [
                gguf.TokenType.BYTE if _BYTE.fullmatch(token) else kind
                for token, kind in zip(tokens, kinds, strict=True)
            ]
            writer.add_add_space_prefix(False)
            writer.add_add_space_prefix = lambda _said: None  # some architectures say it again, by another file
        else:
            writer.add_token_merges(gguf.SpecialVocab(model.dir_model, load_merges=True).merges)
        writer.add_token_types(kinds)
        write_special_tokens(model.dir_model, writer)
        for note in notes:
            writer.add_string(*note.split("=", 1))

    text_model._set_vocab_sentencepiece = no_such_file
    text_model._set_vocab_llama_hf = no_such_file
    text_model.get_vocab_base_pre = known_pre
    text_model._set_vocab_gpt2 = write_vocabulary


def write_special_tokens(folder: Path, writer: Any) -> None:
    """Write begin, end and padding tokens and the chat template of a folder to a GGUF writer. Raises Refused."""
    transformers = importlib.import_module("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    ends = _end_tokens(folder, tokenizer)
    if not ends:
        raise Refused("neither tokenizer_config.json nor generation_config.json names an end token")
    eos = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else ends[0]
    others = [token for token in ends if token != eos]
    if len(others) > 2:
        raise Refused(f"it has {len(ends)} end tokens; a GGUF file can name three")
    begins = tokenizer.bos_token_id
    add_begin, add_end = _added_tokens(tokenizer, begin=begins, end=eos)
    writer.add_eos_token_id(eos)
    writer.add_eot_token_id(others[0] if others else eos)
    if len(others) > 1:
        writer.add_eom_token_id(others[1])
    # llama.cpp takes token 11 for the begin token when none is named; the end token is GPT-2's convention.
    writer.add_bos_token_id(begins if begins is not None else eos)
    if tokenizer.pad_token_id is not None:
        writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_add_bos_token(add_begin)
    writer.add_add_eos_token(add_end)
    if tokenizer.chat_template is not None:
        if not isinstance(tokenizer.chat_template, str):
            raise Refused("it has several chat templates; keep one")
        writer.add_chat_template(tokenizer.chat_template)


def _end_tokens(folder: Path, tokenizer: Any) -> list[int]:
    """Return the tokens at which transformers stops, without repetition, in order."""
    found = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    settings = folder / "generation_config.json"
    if settings.is_file():
        named = json.loads(settings.read_bytes()).get("eos_token_id")
        found += named if isinstance(named, list) else [] if named is None else [named]
    return list(dict.fromkeys(found))


def _added_tokens(tokenizer: Any, *, begin: int | None, end: int) -> tuple[bool, bool]:
    """Tell whether the tokenizer puts a begin token before, and an end token after, a text. Raises Refused."""
    bare, full = tokenizer.encode("a", add_special_tokens=False), tokenizer.encode("a")
    for add_begin in (False, True):
        for add_end in (False, True):
            if full == [begin] * add_begin + bare + [end] * add_end:
                return add_begin, add_end
    raise Refused("its post-processor adds tokens other than begin and end of text")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
