from __future__ import annotations

import hashlib
import os
import signal
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import msgspec
import pytest

from appliance.catalog import import_task
from appliance.catalog.description import ModelDescription
from appliance.catalog.model_folder import SourceFile, inspect_model
from appliance.jobs.spec import Environment, JobKind, JobSpec
from appliance.jobs.workspace import Interrupted, Workspace
from appliance.kernel.errors import BadInput, Conflict, Forbidden, IntramurosError, NotFound, StorageFailure
from tests.unit.catalog.model_files import write_folder, write_gguf


class Opener(Protocol):
    def __call__(self, source: object, **parameters: Any) -> Workspace: ...


@pytest.fixture
def workspace_for(tmp_path: Path) -> Iterator[Opener]:
    """Make job 1 of a state directory; its event log is closed at the end."""
    opened: list[Workspace] = []

    def open_workspace(source: object, **parameters: Any) -> Workspace:
        opened.append(_workspace(tmp_path / "state", source, **parameters))
        return opened[-1]

    yield open_workspace
    for workspace in opened:
        workspace.close()


def _workspace(state: Path, source: object, **parameters: Any) -> Workspace:
    directory = state / "jobs" / "1"
    directory.mkdir(parents=True)
    spec = JobSpec(
        kind=JobKind.IMPORT_MODEL,
        inputs={},
        parameters={"source": source, "name": "tiny"} | parameters,
        seed=0,
        environment=Environment(code="", packages={}, threads=1, device="cpu", cpu=""),
    )
    (directory / "spec.json").write_bytes(msgspec.json.encode(spec))
    return Workspace(directory)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_is_copied_and_described(tmp_path: Path, workspace_for: Opener) -> None:
    source = write_gguf(tmp_path / "tiny.gguf")
    workspace = workspace_for(str(source))
    summary = import_task.run(workspace)
    assert digest(workspace.output / "model.gguf") == digest(source)
    assert [path.name for path in workspace.output.iterdir()] == ["model.gguf"]
    assert msgspec.convert(summary, ModelDescription).architecture == "llama"
    assert msgspec.json.encode(summary)
    events = (workspace.directory / "events.jsonl").read_text()
    assert '"fraction":1.0' in events


def test_a_folder_is_copied_without_what_is_left_out(tmp_path: Path, workspace_for: Opener) -> None:
    source = write_folder(tmp_path / "tiny", shards=2)
    (source / "pytorch_model.bin").write_bytes(b"pickle")
    workspace = workspace_for(str(source), licence="mit")
    summary = import_task.run(workspace)
    assert summary["left_out"] == ["pytorch_model.bin"]
    assert summary["licence"] == "mit"
    copied = {path.name: digest(path) for path in workspace.output.iterdir()}
    assert copied == {path.name: digest(path) for path in source.iterdir() if path.suffix != ".bin"}


def test_a_stopped_import_starts_again(tmp_path: Path, workspace_for: Opener) -> None:
    source = write_gguf(tmp_path / "tiny.gguf")
    workspace = workspace_for(str(source))
    before = signal.getsignal(signal.SIGTERM)
    workspace.listen_for_stop()
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Interrupted):
            import_task.run(workspace)
    finally:
        signal.signal(signal.SIGTERM, before)
    resumed = Workspace(workspace.directory)
    assert import_task.run(resumed)["format"] == "gguf"
    resumed.close()


def test_a_model_larger_than_the_disk_is_refused_before_copying(tmp_path: Path, workspace_for: Opener) -> None:
    size = 6 << 40
    header = b"GGUF" + struct.pack("<IQQ", 3, 1, 1)
    header += struct.pack("<Q", 20) + b"general.architecture" + struct.pack("<IQ", 8, 1) + b"x"
    header += struct.pack("<Q", 1) + b"w" + struct.pack("<IQIQ", 1, size // 4, 0, 0)
    source = tmp_path / "huge.gguf"
    source.write_bytes(header)
    try:
        os.truncate(source, len(header) + -len(header) % 32 + size)
    except OSError:
        pytest.skip("this file system has no files of 6 TiB")
    workspace = workspace_for(str(source))
    with pytest.raises(StorageFailure) as raised:
        import_task.run(workspace)
    assert raised.value.code == "storage.full"
    assert list(workspace.output.iterdir()) == []


def test_space_needs_a_margin() -> None:
    import_task.require_space(1000, free=1 << 30)
    with pytest.raises(StorageFailure):
        import_task.require_space(1 << 30, free=(1 << 30) + 1000)


def test_a_source_that_changes_is_noticed(tmp_path: Path) -> None:
    source = write_gguf(tmp_path / "tiny.gguf")
    (file,) = inspect_model(source).files

    def grow(_count: int) -> None:
        with source.open("ab") as stream:
            stream.write(b"more")

    with pytest.raises(Conflict) as raised:
        import_task.copy_file(file, tmp_path / "copy", on_bytes=grow)
    assert raised.value.code == "model.source_changed"


def test_a_source_swapped_after_inspection_is_noticed(tmp_path: Path) -> None:
    source = write_gguf(tmp_path / "tiny.gguf")
    (file,) = inspect_model(source).files
    other = write_gguf(tmp_path / "other.gguf", name="Evil")
    other.replace(source)
    with pytest.raises(Conflict):
        import_task.copy_file(file, tmp_path / "copy", on_bytes=lambda _count: None)
    assert (tmp_path / "copy").read_bytes() == b""


def test_a_full_disk_has_its_code(tmp_path: Path) -> None:
    source = write_gguf(tmp_path / "tiny.gguf")
    (file,) = inspect_model(source).files
    assert isinstance(file, SourceFile)

    class FullDisk(type(tmp_path)):  # type: ignore[misc]
        """A path whose files are /dev/full: every write is ENOSPC, from the kernel itself."""

        def open(self, *_arguments: Any, **_options: Any) -> Any:
            return Path("/dev/full").open("wb")

    with pytest.raises(StorageFailure) as raised:
        import_task.copy_file(file, FullDisk(tmp_path / "copy"), on_bytes=lambda _count: None)
    assert raised.value.code == "storage.full"


@pytest.mark.parametrize(
    ("source", "kind", "code"),
    [
        (None, BadInput, "source.missing"),
        ("relative/x.gguf", BadInput, "source.relative"),
        ("/absent/x.gguf", NotFound, "source.missing"),
        ("/dev/zero", BadInput, "source.not_a_file"),
    ],
)
def test_bad_sources_are_refused(source: object, kind: type[IntramurosError], code: str, workspace_for: Opener) -> None:
    with pytest.raises(kind) as raised:
        import_task.run(workspace_for(source))
    assert raised.value.code == code


def test_a_link_into_the_appliances_secrets_is_forbidden(tmp_path: Path, workspace_for: Opener) -> None:
    secrets = tmp_path / "state" / "secrets"
    secrets.mkdir(parents=True)
    (secrets / "ca.key").write_text("key")
    link = tmp_path / "model.gguf"
    link.symlink_to(secrets / "ca.key")
    with pytest.raises(Forbidden) as raised:
        import_task.run(workspace_for(str(link)))
    assert raised.value.code == "source.forbidden"
