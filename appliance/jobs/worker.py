"""The job process: `python -I -m appliance.jobs.worker DIRECTORY`. Runs one task and seals its result.

Whatever happens, the directory says so: result.json (done), error.json (failed), neither (killed: run it again
and it goes on from the newest valid checkpoint). Exit status: 0 done, 75 interrupted, else the error's own.
"""

from __future__ import annotations

import os
import shutil
import sys
import traceback
from pathlib import Path

import msgspec

from appliance.jobs.folds import view_fold
from appliance.jobs.spec import FileEntry, TaskResult, file_entry
from appliance.jobs.tasks import load_task
from appliance.jobs.workspace import EXIT_INTERRUPTED, PLACEMENT, Interrupted, Workspace
from appliance.kernel.canonical import sha256_file
from appliance.kernel.courtesy import NICENESS_VARIABLE, give_way
from appliance.kernel.durable import fsync_directory, fsync_file, write_file
from appliance.kernel.errors import (
    IntegrityFailure,
    InternalError,
    IntramurosError,
    StorageFailure,
    Unavailable,
    storage_failure,
)
from appliance.kernel.problem import problem_of
from appliance.kernel.process import die_with_parent
from appliance.kernel.standard_error import report_without_failing


def main(argv: list[str]) -> int:
    """Run the job in `argv[0]` to its end and return the exit status."""
    directory = Path(argv[0])
    if (directory / PLACEMENT).exists():
        die_with_parent()  # a rank host's; the daemon's outlive it
    _mend_event_log(directory / "events.jsonl")
    try:
        workspace = Workspace(directory)
        workspace.listen_for_stop()
        with workspace.interruptible():
            _prepare(workspace)
            summary = load_task(workspace.spec.kind)(workspace)
        result = TaskResult(summary=summary, files=_seal(workspace.output))
        write_file(directory / "result.json", msgspec.json.encode(result))
        for action in workspace.when_sealed:
            action()
    except Interrupted:
        return EXIT_INTERRUPTED
    except IntramurosError as error:
        return _report(directory, error)
    except OSError as error:
        return _report(directory, storage_failure(error, doing="running the job"))
    except MemoryError:
        return _report(
            directory,
            Unavailable(
                "job.out_of_memory",
                "The job ran out of memory.",
                hint="Use a smaller batch or a shorter sequence, or stop other jobs.",
            ),
        )
    except Exception as error:  # noqa: BLE001 - the border of the job process
        traceback.print_exc()
        return _report(
            directory,
            InternalError(
                "job.defect",
                f"The job stopped on an unexpected {type(error).__name__}: {str(error)[:300]}",
                hint="The job's log has the details.",
            ),
        )
    return 0


def _prepare(workspace: Workspace) -> None:
    for name, source in workspace.spec.inputs.items():
        for entry in source.files:
            path = workspace.input(name) / entry.path
            if sha256_file(path) != entry.digest:
                raise IntegrityFailure(
                    "blob.corrupt",
                    f"{entry.path} of {source.ref} does not match its digest {entry.digest[:12]}….",
                    hint="Restore the file from a backup; the disk may be failing.",
                )
    if (fold := workspace.spec.fold) is not None:
        view_fold(workspace.input(fold.input), fold)
    shutil.rmtree(workspace.output, ignore_errors=True)
    shutil.rmtree(workspace.scratch, ignore_errors=True)
    for folder in (workspace.output, workspace.checkpoints, workspace.shared, workspace.scratch):
        folder.mkdir(exist_ok=True)


def _seal(output: Path) -> tuple[FileEntry, ...]:
    entries = []
    for folder, _, names in os.walk(output):
        for name in names:
            path = Path(folder) / name
            fsync_file(path)
            entries.append(file_entry(output, path.relative_to(output).as_posix()))
        fsync_directory(Path(folder))
    return tuple(sorted(entries, key=lambda entry: entry.path))


def _mend_event_log(log: Path) -> None:
    """Cut off the half line that a killed predecessor may have left."""
    if not log.exists():
        return
    data = log.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole != len(data):
        os.truncate(log, whole)


def _report(directory: Path, error: IntramurosError) -> int:
    try:
        write_file(directory / "error.json", msgspec.json.encode(problem_of(error)))
    except OSError as failure:
        # Not even that fits on the disk: the exit status tells the daemon what it was.
        print(f"{error} (and it cannot be written down: {failure})", file=sys.stderr)
        return StorageFailure.exit_code
    return error.exit_code


if __name__ == "__main__":
    report_without_failing()
    give_way(int(os.environ.get(NICENESS_VARIABLE, "0")))
    sys.exit(main(sys.argv[1:]))
