"""Real restic on small directories. Each run of restic costs half a second (its key derivation), so they are few."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance.backups.repository import Snapshot, create, find_snapshot, initialise, list_snapshots, restore, verify
from appliance.backups.restic_errors import failure
from appliance.kernel.errors import BadInput, Conflict, IntegrityFailure, IntramurosError, NotFound, Unavailable
from appliance.kernel.process import Outcome, identify

REPOSITORY_ROOT = Path(__file__).parents[3]


class Box:
    """A repository with one snapshot, its password and what it was made from."""

    def __init__(self, base: Path) -> None:
        self.repo = base / "backups"
        self.password = base / "secrets" / "backup.password"
        self.source = base / "source"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Box, Snapshot]:
    made = Box(tmp_path_factory.mktemp("template"))
    (made.source / "sub").mkdir(parents=True)
    (made.source / "a.txt").write_text("alpha")
    (made.source / "sub" / "b.bin").write_bytes(os.urandom(200_000))
    initialise(made.repo, made.password)
    return made, create(made.repo, made.password, made.source, tags=["manual"])


@pytest.fixture
def first(template: tuple[Box, Snapshot]) -> Snapshot:
    """The snapshot that every box begins with."""
    return template[1]


@pytest.fixture
def box(template: tuple[Box, Snapshot], tmp_path: Path) -> Box:
    made = Box(tmp_path)
    for old, new in ((template[0].repo, made.repo), (template[0].source, made.source)):
        shutil.copytree(old, new)
    made.password.parent.mkdir()
    shutil.copy2(template[0].password, made.password)
    return made


def wait_until(condition: Callable[[], bool], *, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.001)


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_create_list_verify_restore(box: Box, first: Snapshot, tmp_path: Path) -> None:
    (box.source / "a.txt").write_text("changed")
    second = create(box.repo, box.password, box.source, includes=["sub"])
    assert (first.files, first.size, first.tags) == (2, 200_005, ("manual",))
    assert (second.files, second.size, second.tags) == (1, 200_000, ())
    assert list_snapshots(box.repo, box.password) == (second, first)
    verify(box.repo, box.password)
    assert restore(box.repo, box.password, first.id[:8], tmp_path / "old") == first
    assert contents(tmp_path / "old") == {**contents(box.source), "a.txt": b"alpha"}
    (tmp_path / "new").mkdir()
    restore(box.repo, box.password, "latest", tmp_path / "new")
    assert set(contents(tmp_path / "new")) == {"sub/b.bin"}
    assert not list(tmp_path.glob(".*restoring*"))


def test_what_is_to_be_saved_must_exist(box: Box) -> None:
    with pytest.raises(NotFound) as caught:
        create(box.repo, box.password, box.source, includes=["nothing"])
    assert caught.value.code == "backup.no_source"


def test_initialise_makes_a_private_random_password_and_is_idempotent(box: Box, first: Snapshot) -> None:
    assert stat.S_IMODE(box.password.stat().st_mode) == 0o600
    password = box.password.read_text().strip()
    assert len(bytes.fromhex(password)) == 32
    initialise(box.repo, box.password)
    assert box.password.read_text().strip() == password
    assert list_snapshots(box.repo, box.password) == (first,)


def test_an_existing_repository_never_gets_a_new_password(box: Box) -> None:
    box.password.unlink()
    with pytest.raises(NotFound) as caught:
        initialise(box.repo, box.password)
    assert caught.value.code == "backup.no_password"
    assert not box.password.exists()


def test_a_password_file_open_to_others_is_refused(box: Box) -> None:
    box.password.chmod(0o640)
    with pytest.raises(BadInput) as caught:
        create(box.repo, box.password, box.source)
    assert caught.value.code == "backup.password_mode"


def test_a_wrong_password_is_named(box: Box, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("not it\n")
    wrong.chmod(0o600)
    for act in (
        lambda: initialise(box.repo, wrong),
        lambda: restore(box.repo, wrong, "latest", tmp_path / "target"),
    ):
        with pytest.raises(BadInput) as caught:
            act()
        assert caught.value.code == "backup.wrong_password"
    assert not (tmp_path / "target").exists()


def test_no_repository_and_no_snapshot_are_named(box: Box, tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        list_snapshots(tmp_path / "elsewhere", box.password)
    assert caught.value.code == "backup.no_repository"
    for wanted in ("fedcba9876543210", ""):
        with pytest.raises(NotFound) as caught:
            find_snapshot(box.repo, box.password, wanted)
        assert caught.value.code == "backup.no_snapshot"


def test_a_damaged_pack_is_found_and_a_restore_from_it_leaves_nothing(box: Box, tmp_path: Path) -> None:
    pack = max(
        (path for path in (box.repo / "data").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size
    )
    pack.chmod(0o600)
    content = bytearray(pack.read_bytes())
    content[len(content) // 2] ^= 1
    pack.write_bytes(content)
    for act in (
        lambda: verify(box.repo, box.password),
        lambda: restore(box.repo, box.password, "latest", tmp_path / "target"),
    ):
        with pytest.raises(IntegrityFailure) as caught:
            act()
        assert caught.value.code == "backup.damaged"
    assert not (tmp_path / "target").exists()
    assert not list(tmp_path.glob(".*restoring*"))


def test_a_target_with_content_is_never_touched(box: Box, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "mine").write_text("keep")
    file = tmp_path / "file"
    file.write_text("keep")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    for place in (target, file, link):
        with pytest.raises(Conflict) as caught:
            restore(box.repo, box.password, "latest", place)
        assert caught.value.code == "backup.target_not_empty"
    assert contents(target) == {"mine": b"keep"}


def test_a_mount_point_is_refused_as_target(box: Box) -> None:
    with pytest.raises(Conflict) as caught:
        restore(box.repo, box.password, "latest", Path("/proc"))
    assert caught.value.code == "backup.target_is_mount"


def test_a_refused_restore_leaves_nothing(box: Box, tmp_path: Path) -> None:
    def refuse(root: Path) -> None:
        assert contents(root) == contents(box.source)
        raise IntegrityFailure("test.refused", "no")

    with pytest.raises(IntegrityFailure):
        restore(box.repo, box.password, "latest", tmp_path / "target", accept=refuse)
    assert not (tmp_path / "target").exists()
    assert not list(tmp_path.glob(".*restoring*"))


def test_the_remains_of_a_killed_restore_do_no_harm(box: Box, tmp_path: Path) -> None:
    remains = tmp_path / ".target.restoring"
    remains.mkdir()
    (remains / "half").write_text("half")
    restore(box.repo, box.password, "latest", tmp_path / "target")
    assert contents(tmp_path / "target") == contents(box.source)
    assert not remains.exists()


def test_a_snapshot_that_lacks_a_file_is_dropped(box: Box, first: Snapshot) -> None:
    """/proc/self/mem can be opened and not read from its start: restic saves the rest and exits with 3."""
    with pytest.raises(Conflict) as caught:
        create(box.repo, box.password, Path("/proc/self"), includes=["mem", "cmdline"])
    assert caught.value.code == "backup.source_changed"
    assert list_snapshots(box.repo, box.password) == (first,)


@pytest.fixture
def running_backup(box: Box) -> Iterator[subprocess.Popen[bytes]]:
    """A restic that is in the middle of a backup of 48 MB: it holds its lock and is stopped there."""
    (box.source / "large").write_bytes(os.urandom(48 << 20))
    process = subprocess.Popen(
        ["restic", "-r", str(box.repo), "--password-file", str(box.password), "--no-cache", "-q", "backup", "."],
        cwd=box.source,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    locks = box.repo / "locks"
    wait_until(lambda: any("tmp" not in entry.name for entry in locks.iterdir()))
    process.send_signal(signal.SIGSTOP)
    yield process
    process.kill()
    process.wait()


def test_a_live_lock_is_respected_and_a_dead_one_removed(
    box: Box, first: Snapshot, running_backup: subprocess.Popen[bytes]
) -> None:
    with pytest.raises(Unavailable) as caught:
        verify(box.repo, box.password)
    assert caught.value.code == "backup.locked"
    running_backup.kill()
    running_backup.wait()
    verify(box.repo, box.password)
    assert list((box.repo / "locks").iterdir()) == []
    second = create(box.repo, box.password, box.source)
    assert list_snapshots(box.repo, box.password) == (second, first), "a killed backup leaves no snapshot"


def test_restic_dies_with_a_killed_caller(box: Box, first: Snapshot) -> None:
    (box.source / "large").write_bytes(os.urandom(64 << 20))
    program = (
        "from pathlib import Path; from appliance.backups.repository import create; import sys;"
        "create(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))"
    )
    caller = subprocess.Popen(
        [sys.executable, "-c", program, str(box.repo), str(box.password), str(box.source)], cwd=REPOSITORY_ROOT
    )
    children = Path(f"/proc/{caller.pid}/task/{caller.pid}/children")
    locks = box.repo / "locks"
    wait_until(lambda: any("tmp" not in entry.name for entry in locks.iterdir()))
    [restic] = (int(pid) for pid in children.read_text().split())
    identity = identify(restic)
    assert identity is not None
    caller.kill()
    caller.wait()
    wait_until(lambda: identify(restic) != identity)
    assert list_snapshots(box.repo, box.password) == (first,)


def test_restic_missing_is_named(box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotFound) as caught:
        list_snapshots(box.repo, box.password)
    assert caught.value.code == "backup.no_restic"
    assert "apt install restic" in caught.value.hint


@pytest.mark.parametrize(
    ("stderr", "code"),
    [
        ("Fatal: unable to save snapshot: write /r/data/c8/c8b-tmp-1: no space left on device", "backup.disk_full"),
        ("Fatal: unable to create lock in backend: write /r/locks/1: no space left on device", "backup.disk_full"),
        ("Fatal: unable to create lock in backend: open /r/locks/1: permission denied", "backup.no_access"),
        ("Fatal: unable to open config file: open /r/config: permission denied", "backup.no_access"),
        ("Fatal: config cannot be loaded: ciphertext verification failed", "backup.damaged"),
        ("unable to create lock in backend: repository is already locked exclusively by PID 3", "backup.locked"),
        ("Fatal: something new", "backup.failed"),
        ("", "backup.failed"),
    ],
)
def test_messages_of_restic_have_stable_codes(stderr: str, code: str) -> None:
    error: IntramurosError = failure(Outcome(status=1, stdout="", stderr=stderr), repo=Path("/r"), verb="backup")
    assert error.code == code


@pytest.mark.parametrize("tag", ["a,b", "files=3", ""])
def test_tags_that_would_be_taken_for_ours_are_refused(box: Box, tag: str) -> None:
    with pytest.raises(BadInput):
        create(box.repo, box.password, box.source, tags=[tag])
