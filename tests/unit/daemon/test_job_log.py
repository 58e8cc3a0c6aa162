from __future__ import annotations

import threading
from pathlib import Path

import msgspec
import pytest

from appliance.daemon.job_log import JobLog
from appliance.kernel.events import CheckpointSaved, Event, Note, Progress


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def line(event: Event) -> bytes:
    return msgspec.json.encode({"at": "2026-01-01T00:00:00.000000Z", "event": event}) + b"\n"


def append(path: Path, *pieces: bytes) -> None:
    with path.open("ab") as stream:
        stream.writelines(pieces)


def notes(log: JobLog) -> list[tuple[int, str]]:
    return [(entry.seq, entry.event.text) for entry in log.events if isinstance(entry.event, Note)]


def test_a_log_that_is_not_there_yet_has_nothing_to_tell(path: Path) -> None:
    log = JobLog(path)
    assert not log.refresh()
    assert log.page(0) == ()


def test_only_what_was_appended_is_read(path: Path) -> None:
    log = JobLog(path)
    append(path, line(Note(text="one")))
    assert log.refresh()
    assert not log.refresh()
    append(path, line(Note(text="two")))
    assert log.refresh()
    assert notes(log) == [(1, "one"), (2, "two")]


def test_the_newest_progress_and_checkpoint_are_kept(path: Path) -> None:
    log = JobLog(path)
    progress = Progress(phase="training", fraction=0.5)
    append(path, line(Progress(phase="loading")), line(CheckpointSaved(step=7, digest="x")), line(progress))
    log.refresh()
    assert (log.progress, log.checkpoint_step) == (progress, 7)


def test_a_half_line_counts_once_it_is_whole(path: Path) -> None:
    log = JobLog(path)
    whole = line(Note(text="slow"))
    append(path, line(Note(text="first")), whole[:10])
    assert log.refresh()
    assert not log.refresh()
    append(path, whole[10:])
    assert log.refresh()
    assert notes(log) == [(1, "first"), (2, "slow")]


def test_a_half_line_that_a_restarted_job_cut_off_changes_no_number(path: Path) -> None:
    log = JobLog(path)
    kept = line(Note(text="kept"))
    append(path, kept, b'{"at": "20')
    log.refresh()
    with path.open("r+b") as stream:
        stream.truncate(len(kept))
    assert not log.refresh()
    append(path, line(Note(text="a line that is longer than what was cut off")))
    assert log.refresh()
    assert notes(log) == [(1, "kept"), (2, "a line that is longer than what was cut off")]


def test_pages_hold_a_thousand_events(path: Path) -> None:
    log = JobLog(path)
    append(path, *(line(Note(text=str(number))) for number in range(1, 1501)))
    log.refresh()
    assert [len(log.page(after)) for after in (0, 1000, 1500, 10**9)] == [1000, 500, 0, 0]
    assert log.page(1000)[0].seq == 1001


@pytest.mark.parametrize(
    "spoilt",
    [
        b"\0\0\0\n",
        b"{}\n",
        b'{"at": "", "event": {"type": "unheard of"}}\n',
        b'{"at": "\xff", "event": {"type": "note", "text": ""}}\n',
    ],
)
def test_a_spoilt_line_is_shown_as_one_and_hides_no_other(path: Path, spoilt: bytes) -> None:
    log = JobLog(path)
    append(path, line(Note(text="before")), spoilt, line(Note(text="after")))
    assert log.refresh()
    assert [text for _, text in notes(log)] == ["before", "This line of the log cannot be read.", "after"]


def test_two_readers_at_once_count_each_line_once(path: Path) -> None:
    """A list of jobs and a follower of one of them read the same log in different threads."""
    log = JobLog(path)
    append(path, *[line(Note(text="one of many"))] * 20_000)
    start = threading.Barrier(3)
    threads = [threading.Thread(target=lambda: (start.wait(), log.refresh())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [entry.seq for entry in log.events] == list(range(1, 20_001))
