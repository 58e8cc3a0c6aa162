from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.catalog.blobs import BlobStore
from appliance.jobs.spec import FileEntry
from appliance.kernel.canonical import sha256_hex
from appliance.kernel.errors import BadInput, IntegrityFailure, NotFound, StorageFailure
from appliance.kernel.paths import StatePaths

DATA = b"weights" * 1000
DIGEST = sha256_hex(DATA)


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


@pytest.fixture
def output(tmp_path: Path) -> Path:
    path = tmp_path / "out" / "model.gguf"
    path.parent.mkdir()
    path.write_bytes(DATA)
    return path


def test_adopted_file_lies_under_its_digest_and_is_read_only(store: BlobStore, output: Path, tmp_path: Path) -> None:
    store.adopt(output, DIGEST, len(DATA))
    place = store.path(DIGEST)
    assert place == StatePaths(tmp_path).blob(DIGEST)
    assert place.read_bytes() == DATA
    assert place.stat().st_mode & 0o777 == 0o444
    assert place.stat().st_nlink == 1
    assert not output.exists()
    assert store.usage() == (1, len(DATA))
    assert store.clean() == 0


def test_adopting_again_is_right_with_and_without_the_source(store: BlobStore, output: Path) -> None:
    store.adopt(output, DIGEST, len(DATA))
    store.adopt(output, DIGEST, len(DATA))
    output.write_bytes(DATA)
    store.adopt(output, DIGEST, len(DATA))
    assert store.usage() == (1, len(DATA))


@pytest.mark.parametrize(("digest", "size"), [(sha256_hex(b"other"), len(DATA)), (DIGEST, len(DATA) - 1)])
def test_mismatch_leaves_the_source_untouched(store: BlobStore, output: Path, digest: str, size: int) -> None:
    mode = output.stat().st_mode
    with pytest.raises(IntegrityFailure) as raised:
        store.adopt(output, digest, size)
    assert raised.value.code == "blob.mismatch"
    assert output.read_bytes() == DATA
    assert output.stat().st_mode == mode
    assert output.stat().st_nlink == 1
    assert store.usage() == (0, 0)


def test_adopting_nothing_is_not_found(store: BlobStore, tmp_path: Path) -> None:
    with pytest.raises(NotFound) as raised:
        store.adopt(tmp_path / "absent", DIGEST, len(DATA))
    assert raised.value.code == "blob.missing"


def test_links_and_fifos_left_by_a_job_are_not_adopted(store: BlobStore, output: Path) -> None:
    link = output.with_name("link")
    link.symlink_to(output)
    fifo = output.with_name("fifo")
    os.mkfifo(fifo)
    for path in (link, fifo):
        with pytest.raises(BadInput) as raised:
            store.adopt(path, DIGEST, len(DATA))
        assert raised.value.code == "blob.not_a_file"


def test_a_file_with_a_second_name_is_copied(store: BlobStore, output: Path) -> None:
    second = output.with_name("second")
    second.hardlink_to(output)
    store.adopt(output, DIGEST, len(DATA))
    second.write_bytes(b"changed")
    store.verify(DIGEST)


def test_rot_is_found_and_a_good_copy_heals_it(store: BlobStore, output: Path) -> None:
    store.add_bytes(DATA)
    place = store.path(DIGEST)
    place.chmod(0o644)
    place.write_bytes(b"x" + DATA[1:])
    with pytest.raises(IntegrityFailure) as raised:
        store.verify(DIGEST)
    assert raised.value.code == "blob.corrupt"
    store.adopt(output, DIGEST, len(DATA))
    store.verify(DIGEST)


def test_add_bytes_twice_is_one_blob_and_remove_tells(store: BlobStore) -> None:
    assert store.add_bytes(DATA) == store.add_bytes(DATA) == DIGEST
    assert store.usage() == (1, len(DATA))
    with store.open(DIGEST) as stream:
        assert stream.read() == DATA
    assert store.remove(DIGEST)
    assert not store.remove(DIGEST)
    with pytest.raises(NotFound):
        store.path(DIGEST)


@pytest.mark.parametrize("digest", ["", "../../../etc/passwd", "A" * 64, DIGEST + "\n"])
def test_only_digests_name_blobs(store: BlobStore, digest: str) -> None:
    with pytest.raises(BadInput) as raised:
        store.path(digest)
    assert raised.value.code == "blob.bad_digest"


def test_linked_folder_survives_a_move_of_the_state(store: BlobStore, tmp_path: Path) -> None:
    store.add_bytes(DATA)
    entry = FileEntry(path="deep/model.gguf", digest=DIGEST, size=len(DATA))
    folder = tmp_path / "jobs" / "1" / "in" / "base"
    store.link_folder([entry], folder)
    store.link_folder([entry], folder)
    assert (folder / "deep" / "model.gguf").is_symlink()
    moved = tmp_path.with_name(tmp_path.name + "-moved")
    tmp_path.rename(moved)
    assert (moved / "jobs/1/in/base/deep/model.gguf").read_bytes() == DATA
    moved.rename(tmp_path)


def test_removing_a_job_folder_spares_the_blobs(store: BlobStore, tmp_path: Path) -> None:
    store.add_bytes(DATA)
    folder = tmp_path / "in"
    store.link_folder([FileEntry(path="a", digest=DIGEST, size=len(DATA))], folder)
    (folder / "a").unlink()
    (folder / "a").write_bytes(b"job's own")
    store.verify(DIGEST)


@pytest.mark.parametrize("path", ["../x", "/etc/x", "", "a/../../x"])
def test_linked_names_stay_in_the_folder(store: BlobStore, tmp_path: Path, path: str) -> None:
    store.add_bytes(DATA)
    with pytest.raises(BadInput) as raised:
        store.link_folder([FileEntry(path=path, digest=DIGEST, size=len(DATA))], tmp_path / "in")
    assert raised.value.code == "blob.path"


def test_a_blob_of_another_size_is_not_linked(store: BlobStore, tmp_path: Path) -> None:
    store.add_bytes(DATA)
    with pytest.raises(IntegrityFailure):
        store.link_folder([FileEntry(path="a", digest=DIGEST, size=1)], tmp_path / "in")


def test_disk_errors_have_a_code(tmp_path: Path) -> None:
    (tmp_path / "blobs").write_text("a file where the folder should be")
    with pytest.raises(StorageFailure):
        BlobStore(tmp_path / "blobs").add_bytes(DATA)


_CHILD = """
import sys
from pathlib import Path
from appliance.catalog.blobs import BlobStore
from appliance.kernel.canonical import sha256_hex
store, out = BlobStore(Path(sys.argv[1])), Path(sys.argv[2])
for path in sorted(out.iterdir()):
    data = path.read_bytes()
    store.adopt(path, sha256_hex(data), len(data))
    print(path.name, flush=True)
"""


def test_killed_in_the_midst_nothing_is_lost_or_half(store: BlobStore, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    contents = {f"{i:03}": os.urandom(50_000) for i in range(200)}
    for name, data in contents.items():
        (out / name).write_bytes(data)
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(store.root), str(out)], stdout=subprocess.PIPE, cwd=Path.cwd()
    )
    assert child.stdout is not None
    for _ in range(5):
        child.stdout.readline()
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    store.clean()
    done = store.usage()[0]
    assert 5 <= done < 200
    for name, data in contents.items():
        store.adopt(out / name, sha256_hex(data), len(data))
        store.verify(sha256_hex(data))
    assert store.usage()[0] == 200
