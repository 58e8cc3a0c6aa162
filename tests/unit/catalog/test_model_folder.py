from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from appliance.catalog.model_folder import inspect_model
from appliance.catalog.purpose import kind_of
from appliance.kernel.errors import IntramurosError
from appliance.weights.head import Head, HeadConfig, write_head
from tests.factories.tiny_encoder import HIDDEN, make_tiny_bert
from tests.unit.catalog.model_files import CONFIG, write_folder, write_gguf


def code_of(source: Path) -> str:
    with pytest.raises(IntramurosError) as raised:
        inspect_model(source)
    return raised.value.code


def test_describes_a_folder(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "tiny")
    inspected = inspect_model(folder)
    description = inspected.description
    assert (description.format, description.architecture, description.name) == ("safetensors", "llama", "tiny")
    assert (description.parameters, description.vocabulary, description.context_length) == (128, 16, 128)
    assert (description.layers, description.hidden, description.heads, description.kv_heads) == (2, 8, 4, 2)
    assert (description.quantisation, description.licence) == ("F16", "apache-2.0")
    assert description.has_chat_template
    assert description.size == sum(path.stat().st_size for path in folder.iterdir())
    assert {file.name for file in inspected.files} == {path.name for path in folder.iterdir()}


def test_describes_a_gguf_file(tmp_path: Path) -> None:
    inspected = inspect_model(write_gguf(tmp_path / "any name.gguf"))
    assert inspected.description.format == "gguf"
    assert inspected.description.quantisation == "Q8_0"
    assert [file.name for file in inspected.files] == ["model.gguf"]


def test_describes_shards_as_one_model(tmp_path: Path) -> None:
    inspected = inspect_model(write_folder(tmp_path / "tiny", shards=3))
    assert inspected.description.parameters == 3 * 128
    assert sum(file.name.endswith(".safetensors") for file in inspected.files) == 3


def test_only_allowed_names_are_taken(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "tiny")
    for name in ("pytorch_model.bin", "modeling_evil.py", "adapter_model.safetensors", ".hidden"):
        (folder / name).write_bytes(b"x")
    inspected = inspect_model(folder)
    assert inspected.left_out == (".hidden", "adapter_model.safetensors", "modeling_evil.py", "pytorch_model.bin")
    assert not {file.name for file in inspected.files} & set(inspected.left_out)


def _remove(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def _replace(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def _fifo(name: str) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return make


def _link(name: str, target: str) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(target)

    return make


def _pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (_remove("config.json"), "model.not_a_model"),
    "no weights": (_remove("model.safetensors"), "model.not_a_model"),
    "no tokenizer": (_remove("tokenizer.json"), "model.unsupported"),
    "pickle": (_pickled, "model.pickle_weights"),
    "truncated": (lambda folder: os.truncate(folder / "model.safetensors", 100), "model.truncated"),
    "zeros": (lambda folder: os.truncate(folder / "model.safetensors", 10 << 30), "model.lying_header"),
    "config not JSON": (_replace("config.json", b"not json"), "model.lying_header"),
    "config a list": (_replace("config.json", b"[]"), "model.lying_header"),
    "config bad bytes": (_replace("config.json", b'{"model_type":"\xff"}'), "model.lying_header"),
    "config deep": (
        _replace("config.json", b'{"model_type":"a","x":' + b"[" * 40 + b"]" * 40 + b"}"),
        "model.lying_header",
    ),
    "config endless": (_replace("config.json", b'{"a":' * 100_000), "model.lying_header"),
    "config long": (_replace("config.json", b" " * (2 << 20)), "model.lying_header"),
    "config number": (
        _replace("config.json", json.dumps(CONFIG | {"vocab_size": -1}).encode()),
        "model.lying_header",
    ),
    "config model type": (
        _replace("config.json", json.dumps(CONFIG | {"model_type": "../x"}).encode()),
        "model.lying_header",
    ),
    "tokenizer": (_replace("tokenizer.json", b'{"model": 1}'), "model.lying_header"),
    "fifo": (_fifo("tokenizer.json"), "source.not_a_file"),
    "device": (_link("tokenizer.json", "/dev/zero"), "source.not_a_file"),
    "link out": (_link("README.md", "/etc/hostname"), "model.symlink_escapes"),
    "dangling link": (_link("README.md", "nowhere"), "source.missing"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_folders_are_refused_by_name(tmp_path: Path, name: str) -> None:
    folder = write_folder(tmp_path / "tiny")
    breaking, expected = BROKEN[name]
    breaking(folder)
    code = code_of(folder)
    assert code in ({expected, "model.symlink_escapes"} if name == "device" else {expected})


def test_links_inside_the_folder_are_followed(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "tiny")
    (folder / "blob").mkdir()
    (folder / "model.safetensors").rename(folder / "blob" / "1")
    (folder / "model.safetensors").symlink_to("blob/1")
    assert inspect_model(folder).description.parameters == 128


def test_missing_and_foreign_shards_are_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "tiny", shards=2)
    second = folder / "model-00002-of-00002.safetensors"
    data = second.read_bytes()
    second.unlink()
    assert code_of(folder) == "model.missing_shard"
    second.write_bytes((folder / "model-00001-of-00002.safetensors").read_bytes())
    assert code_of(folder) == "model.lying_header"
    second.write_bytes(data)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"weight.1": "../../etc/passwd"}}))
    assert code_of(folder) == "model.lying_header"
    index.unlink()
    assert code_of(folder) == "model.missing_shard"


def test_a_folder_of_gguf_files_says_which_to_name(tmp_path: Path) -> None:
    write_gguf(tmp_path / "b.gguf")
    with pytest.raises(IntramurosError) as raised:
        inspect_model(tmp_path)
    assert "b.gguf" in raised.value.hint


def test_lone_files_of_other_kinds_are_explained(tmp_path: Path) -> None:
    for name, expected in {"a.pt": "model.pickle_weights", "a.safetensors": "model.not_a_model"}.items():
        (tmp_path / name).write_bytes(b"x")
        assert code_of(tmp_path / name) == expected
    assert code_of(Path("/dev/zero")) == "source.not_a_file"


def test_licence_file_is_read_where_the_card_is_silent(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "tiny")
    (folder / "README.md").write_text("# no front matter\nlicense: fake\n")
    (folder / "LICENSE").write_text("\n   MIT License\n\nCopyright\n")
    assert inspect_model(folder).description.licence == "MIT License"


def test_a_classifier_of_our_own_comes_back_with_its_labels(tmp_path: Path) -> None:
    folder = make_tiny_bert(tmp_path / "model")
    weight = np.zeros((2, HIDDEN), np.float32)
    write_head(folder, Head(config=HeadConfig(labels=("no", "yes"), max_length=32), weight=weight, bias=weight[:, 0]))
    inspected = inspect_model(folder)
    assert inspected.description.labels == ("no", "yes")
    assert kind_of(msgspec.to_builtins(inspected.description)) == "classify"
    assert {"intramuros_head.json", "intramuros_head.safetensors"} <= {file.name for file in inspected.files}
    (folder / "intramuros_head.safetensors").unlink()
    assert code_of(folder) == "model.missing_shard"
