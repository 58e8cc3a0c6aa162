"""Hostile files against the running appliance: what was served before goes on, and a person sees one harmless line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.factories.box import Box, Refused, running_box
from tests.factories.tiny_llama import make_tiny_gguf


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a good GGUF file."""
    return Path(make_tiny_gguf(tmp_path_factory.mktemp("tiny"))).read_bytes()


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory, tiny: bytes) -> Iterator[Box]:
    """A running appliance that serves the good file as `tiny`."""
    with running_box(tmp_path_factory.mktemp("box")) as started:
        import_bytes(started, "tiny", tiny)
        started.verb("deploy", "tiny@1", "--as", "tiny", "--override", "a test")
        yield started


def import_bytes(box: Box, name: str, data: bytes) -> None:
    source = box.paths.root / f"{name}.gguf"
    source.write_bytes(data)
    folder = box.paths.root.parent / f"{box.paths.root.name}-{name}"
    folder.mkdir()
    box.verb("model", "import", str(source.rename(folder / source.name)), "--name", name)


def changed(tiny: bytes, old: bytes, new: bytes) -> bytes:
    """The file with one string replaced by another of the same length."""
    assert len(old) == len(new)
    assert tiny.count(old) == 1
    return tiny.replace(old, new)


def test_a_model_whose_chat_template_is_broken_does_not_take_the_place_of_a_good_one(box: Box, tiny: bytes) -> None:
    import_bytes(box, "broken", changed(tiny, b"for message in messages", b"for message im messages"))
    with pytest.raises(Refused) as refused:
        box.verb("deploy", "broken@1", "--as", "tiny", "--override", "a test")
    assert refused.value.code == "deploy.failed"
    assert "engine.template" in refused.value.message
    [view] = [item for item in box.verb("deployments") if item["name"] == "tiny"]
    assert view["model"] == "tiny@1"
    assert box.verb("ask", "tiny", "Hello")["completion_tokens"] > 0


def test_what_a_hostile_file_says_moves_no_cursor(box: Box, tiny: bytes) -> None:
    import_bytes(box, "painted", changed(tiny, b"gpt-2", b"\x1b[31m"))
    argv = (sys.executable, "-I", "-m", "appliance.cli.main")
    state = ("--state", str(box.paths.root))
    deploy = (*argv, "deploy", "painted@1", "--as", "painted", "--override", "a test", *state)
    finished = subprocess.run(deploy, capture_output=True, timeout=60, check=False)
    assert finished.returncode == 6
    assert b"unknown pre-tokenizer" in finished.stderr
    listed = subprocess.run((*argv, "deployments", *state), capture_output=True, timeout=60, check=True)
    assert b"unknown pre-tokenizer" in listed.stdout
    assert b"\x1b" not in finished.stderr + listed.stdout
