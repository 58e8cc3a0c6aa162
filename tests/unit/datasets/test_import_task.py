from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import msgspec
import pytest

from appliance.datasets import import_task
from appliance.jobs.spec import Environment, JobKind, JobSpec
from appliance.jobs.workspace import Interrupted, Workspace
from appliance.kernel.errors import BadInput, Forbidden, IntramurosError, StorageFailure


class Import(Protocol):
    def __call__(self, source: Path, **parameters: Any) -> tuple[Workspace, dict[str, Any]]: ...


class Opener(Protocol):
    def __call__(self, source: object, **parameters: Any) -> Workspace: ...


@pytest.fixture
def open_workspace(tmp_path: Path) -> Iterator[Opener]:
    """Make the next job of a state directory; event logs are closed at the end."""
    opened: list[Workspace] = []

    def make(source: object, *, seed: int = 0, **parameters: Any) -> Workspace:
        directory = tmp_path / "state" / "jobs" / str(len(opened))
        directory.mkdir(parents=True)
        spec = JobSpec(
            kind=JobKind.IMPORT_DATASET,
            inputs={},
            parameters={"source": source, "name": "set"} | parameters,
            seed=seed,
            environment=Environment(code="", packages={}, threads=1, device="cpu", cpu=""),
        )
        (directory / "spec.json").write_bytes(msgspec.json.encode(spec))
        opened.append(Workspace(directory))
        return opened[-1]

    yield make
    for workspace in opened:
        workspace.close()


def notes_of(workspace: Workspace) -> list[str]:
    """Return what a job told on the way."""
    lines = map(json.loads, (workspace.directory / "events.jsonl").read_text().splitlines())
    return [line["event"]["text"] for line in lines if line["event"].get("type") == "note"]


@pytest.fixture
def run_import(open_workspace: Opener) -> Import:
    def run(source: Path, **parameters: Any) -> tuple[Workspace, dict[str, Any]]:
        workspace = open_workspace(str(source), **parameters)
        return workspace, import_task.run(workspace)

    return run


def write_csv(path: Path, rows: int = 200) -> Path:
    lines = ["question,answer", *(f"What is {i}?,It is {i}." for i in range(rows)), "What is 1?,It is 1.", "broken"]
    path.write_text("\n".join(lines) + "\n")
    return path


def outputs(workspace: Workspace) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(workspace.output.iterdir())}


def rows_of(workspace: Workspace, part: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (workspace.output / f"{part}.jsonl").read_text().splitlines()]


def test_rows_are_split_counted_and_reported(tmp_path: Path, run_import: Import) -> None:
    workspace, summary = run_import(write_csv(tmp_path / "x.csv"))
    train, heldout = rows_of(workspace, "train"), rows_of(workspace, "heldout")
    assert (summary["train_rows"], summary["heldout_rows"]) == (len(train), len(heldout))
    assert len(train) + len(heldout) == 200
    assert 5 <= len(heldout) <= 40
    assert (summary["form"], summary["rejected_rows"], summary["duplicate_rows"]) == ("chat", 1, 1)
    assert summary["rejected"] == [{"line": 203, "code": "row.columns", "reason": "it has 1 columns and the header 2"}]
    assert train[0]["messages"][0]["role"] == "user"
    assert summary["statistics"]["train"]["rows"] == len(train)
    assert len(summary["samples"]) == 5
    report = json.loads((workspace.output / "report.json").read_text())
    assert report["rejected"] == summary["rejected"]
    assert report["statistics"] == summary["statistics"]
    assert list(workspace.scratch.iterdir()) == []


def test_equal_files_give_equal_bytes(tmp_path: Path, run_import: Import) -> None:
    first, _ = run_import(write_csv(tmp_path / "x.csv"))
    again, _ = run_import(write_csv(tmp_path / "y.csv"))
    assert sorted(outputs(first)) == ["heldout.jsonl", "rejected.jsonl", "report.json", "train.jsonl"]
    assert outputs(first) == outputs(again)
    other, _ = run_import(tmp_path / "x.csv", seed=1)
    assert outputs(first)["train.jsonl"] != outputs(other)["train.jsonl"]


def test_content_stays_out_of_events(tmp_path: Path, run_import: Import) -> None:
    source = tmp_path / "x.jsonl"
    source.write_text('{"text":"top secret"}\n{"text":"top secret \\u0000"}\ntop secret\n')
    workspace, summary = run_import(source)
    assert summary["rejected_rows"] == 2
    assert "secret" not in (workspace.directory / "events.jsonl").read_text()


def test_the_split_column_decides_and_leaks_are_set_aside(tmp_path: Path, run_import: Import) -> None:
    source = tmp_path / "x.csv"
    source.write_text("question,answer,split\na,1,train\nb,2,test\nB ,3,train\nc,4,validation\n")
    workspace, summary = run_import(source)
    assert (summary["train_rows"], summary["heldout_rows"], summary["rejected_rows"]) == (1, 2, 1)
    assert summary["rejected"] == [{"line": 4, "code": "row.leak", "reason": "a held-out row asks the same"}]
    assert summary["statistics"]["leaked_rows"] == 1
    assert [row["messages"][1]["content"] for row in rows_of(workspace, "heldout")] == ["2", "4"]


def test_unused_columns_are_named(tmp_path: Path, run_import: Import) -> None:
    source = tmp_path / "x.csv"
    source.write_text("text,note\na,1\n")
    _, summary = run_import(source)
    assert (summary["form"], summary["statistics"]["unused_fields"]) == ("text", "note")
    _, mapped = run_import(source, mapping={"prompt": "text", "answer": "note"})
    assert (mapped["form"], mapped["statistics"]["unused_fields"]) == ("chat", "")


def test_the_first_good_row_decides_the_form(tmp_path: Path, run_import: Import) -> None:
    source = tmp_path / "x.jsonl"
    source.write_text('{"text":"a"}\n{"question":"q","answer":"a"}\n')
    _, summary = run_import(source)
    assert summary["rejected"][0]["code"] == "row.form"


def test_every_rejected_row_is_written_down_and_the_first_are_shown(tmp_path: Path, run_import: Import) -> None:
    source = tmp_path / "x.jsonl"
    source.write_text('{"text":"a"}\n' + "x\n" * 1500)
    workspace, summary = run_import(source)
    assert summary["rejected_rows"] == 1500
    assert len(summary["rejected"]) == 20
    lines = (workspace.output / "rejected.jsonl").read_text().splitlines()
    assert [json.loads(line)["line"] for line in lines] == list(range(2, 1502))


def test_long_samples_are_cut(tmp_path: Path, run_import: Import) -> None:
    source = tmp_path / "x.jsonl"
    source.write_text(json.dumps({"text": "x" * 1_000_000}))
    workspace, summary = run_import(source)
    assert len(summary["samples"][0]["text"]) == 400
    assert len(rows_of(workspace, "train")[0]["text"]) == 1_000_000


def test_a_stopped_import_starts_again(tmp_path: Path, open_workspace: Opener) -> None:
    workspace = open_workspace(str(write_csv(tmp_path / "x.csv")))
    before = signal.getsignal(signal.SIGTERM)
    workspace.listen_for_stop()
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Interrupted):
            import_task.run(workspace)
    finally:
        signal.signal(signal.SIGTERM, before)
    resumed = Workspace(workspace.directory)
    assert import_task.run(resumed)["train_rows"] > 100
    resumed.close()


@pytest.mark.parametrize(
    ("name", "data", "parameters", "code"),
    [
        ("x.csv", b"question,answer\n", {}, "dataset.no_rows"),
        ("x.csv", b"question,answer\nsecret\n", {}, "dataset.no_rows"),
        ("x.csv", b"\x7fELF\x02\x01" + bytes(200), {}, "dataset.not_text"),
        ("x.json", b"secret", {}, "dataset.not_json"),
        ("x.jsonl", b"", {}, "dataset.no_rows"),
        ("x.xlsx", b"PK", {}, "dataset.unsupported"),
        ("x.jsonl", b'{"text":"secret","split":"test"}', {}, "dataset.no_train_rows"),
        ("x.jsonl", b'{"text":"a"}', {"heldout_percent": 100}, "dataset.heldout_percent"),
        ("x.jsonl", b'{"text":"a"}', {"heldout_percent": "10"}, "dataset.heldout_percent"),
        ("x.jsonl", b'{"text":"a"}', {"mapping": {"answer": "a"}}, "dataset.mapping"),
    ],
)
def test_bad_sources_have_one_clear_error(
    tmp_path: Path, run_import: Import, name: str, data: bytes, parameters: dict[str, Any], code: str
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BadInput) as raised:
        run_import(tmp_path / name, **parameters)
    assert raised.value.code == code
    assert "secret" not in str(raised.value)


def test_devices_fifos_and_folders_are_refused(tmp_path: Path, run_import: Import) -> None:
    os.mkfifo(tmp_path / "x.csv")
    for source in (tmp_path / "x.csv", Path("/dev/zero"), tmp_path):
        with pytest.raises(IntramurosError) as raised:
            run_import(source)
        assert raised.value.code == "source.not_a_file"


def test_a_link_into_the_appliances_secrets_is_forbidden(tmp_path: Path, run_import: Import) -> None:
    secrets = tmp_path / "state" / "secrets"
    secrets.mkdir(parents=True)
    (secrets / "ca.key").write_text("key")
    (tmp_path / "x.txt").symlink_to(secrets / "ca.key")
    with pytest.raises(Forbidden):
        run_import(tmp_path / "x.txt")


def test_a_source_larger_than_the_disk_is_refused_first(tmp_path: Path, run_import: Import) -> None:
    source = tmp_path / "x.jsonl"
    source.write_text('{"text":"a"}\n')
    try:
        os.truncate(source, 6 << 40)
    except OSError:
        pytest.skip("this file system has no files of 6 TiB")
    with pytest.raises(StorageFailure) as raised:
        run_import(source)
    assert raised.value.code == "storage.full"


def test_several_files_are_one_data_set_whose_names_say_the_part(tmp_path: Path, run_import: Import) -> None:
    (tmp_path / "train.csv").write_text("text,label\na,x\nb,y\nTEST,y\nbad\n")
    (tmp_path / "test.jsonl").write_text('{"text":"test","label":"x"}\n{"text":""}\n')
    workspace, summary = run_import(tmp_path / "train.csv", more=[str(tmp_path / "test.jsonl")])
    assert (summary["train_rows"], summary["heldout_rows"]) == (2, 1)
    assert [(row["file"], row["line"], row["code"]) for row in summary["rejected"]] == [
        ("train.csv", 5, "row.columns"),
        ("test.jsonl", 2, "row.empty"),
        ("train.csv", 4, "row.leak"),
    ]
    lines = (workspace.output / "rejected.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == summary["rejected"]
    assert summary["labels"] == [{"label": "x", "train": 1, "heldout": 1}, {"label": "y", "train": 1, "heldout": 0}]


def test_a_row_that_says_its_part_is_believed_before_the_name_of_its_file(tmp_path: Path, run_import: Import) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "train.jsonl").write_text('{"text":"a"}\n{"text":"b","split":"test"}\n')
    (tmp_path / "d" / "test.jsonl").write_text('{"text":"c"}\n')
    workspace, summary = run_import(tmp_path / "d")
    assert [row["text"] for row in rows_of(workspace, "heldout")] == ["c", "b"]
    assert summary["train_rows"] == 1


def test_personal_data_are_counted_and_replaced_when_that_is_asked(tmp_path: Path, run_import: Import) -> None:
    source = tmp_path / "x.jsonl"
    row = '{"question":"who is a@b.org?","answer":"call +49 30 901820"}\n'
    source.write_text(row * 2 + '{"question":"q","answer":"a"}\n')
    _, summary = run_import(source)
    assert (summary["personal"], summary["redacted"]) == ({"email": 1, "phone": 1}, {})
    workspace, redacted = run_import(source, redact=True)
    assert (redacted["personal"], redacted["redacted"]) == ({}, {"email": 2, "phone": 2})
    assert rows_of(workspace, "train")[0]["messages"] == [
        {"role": "user", "content": "who is <EMAIL>?"},
        {"role": "assistant", "content": "call <PHONE>"},
    ]


def test_labels_outside_the_declared_ones_are_set_aside(tmp_path: Path, run_import: Import) -> None:
    source = tmp_path / "x.csv"
    source.write_text("text,label\na,x\nb,y\nc,secret\n")
    _, summary = run_import(source, labels=["x", "y"], heldout_percent=0)
    assert summary["rejected"] == [
        {"line": 4, "code": "row.label", "reason": "its label 'secret' is none of the 2 that were declared"}
    ]


def test_a_label_that_is_a_text_is_not_quoted(tmp_path: Path, run_import: Import) -> None:
    source = tmp_path / "x.csv"
    source.write_text(f"text,label\na,x\nb,y\nc,{'a private letter ' * 5}\n")
    _, summary = run_import(source, labels=["x", "y"], heldout_percent=0)
    (rejected,) = summary["rejected"]
    assert rejected["reason"] == "its label, of 84 characters, is none of the 2 that were declared"


def test_kept_columns_do_not_make_a_row_another_one(tmp_path: Path, run_import: Import) -> None:
    source = tmp_path / "x.csv"
    source.write_text("text,day\na,1\na,2\nb,3\n")
    workspace, summary = run_import(source, keep=["day"], heldout_percent=0)
    assert summary["duplicate_rows"] == 1
    assert rows_of(workspace, "train") == [{"meta": {"day": "1"}, "text": "a"}, {"meta": {"day": "3"}, "text": "b"}]
    assert summary["statistics"]["unused_fields"] == ""


@pytest.mark.parametrize(
    ("data", "parameters", "code"),
    [
        ("text,label\na,x\nb,x\n", {}, "dataset.one_label"),
        ("text,label\na,x\n", {"form": "chat"}, "dataset.columns"),
        ("text,label\na,x\n", {"form": "novel"}, "dataset.form"),
        ("text,label\na,x\n", {"keep": ["day"]}, "dataset.mapping"),
        ("", {}, "dataset.columns"),
    ],
)
def test_what_cannot_be_trained_on_has_one_clear_error(
    tmp_path: Path, run_import: Import, data: str, parameters: dict[str, Any], code: str
) -> None:
    (tmp_path / "x.csv").write_text(data)
    with pytest.raises(BadInput) as raised:
        run_import(tmp_path / "x.csv", **parameters)
    assert raised.value.code == code


def test_a_file_of_another_encoding_is_refused_as_a_whole(tmp_path: Path, run_import: Import) -> None:
    rows = [f"für {i},größe\n" for i in range(20)]
    (tmp_path / "x.csv").write_bytes(("text,label\n" + "".join(rows) + "plain,x\n").encode("latin-1"))
    with pytest.raises(BadInput, match="20 rows cannot be read and 1 can") as raised:
        run_import(tmp_path / "x.csv")
    assert raised.value.code == "dataset.encoding"
    assert "(line 2, byte 2: 0xfc is not UTF-8)" in raised.value.message


def test_a_file_that_is_wholly_of_another_encoding_is_told_as_one(tmp_path: Path, run_import: Import) -> None:
    rows = [f"für {i},größe\n" for i in range(20)]
    (tmp_path / "x.csv").write_bytes(("text,label\n" + "".join(rows)).encode("latin-1"))
    with pytest.raises(BadInput) as raised:
        run_import(tmp_path / "x.csv")
    assert raised.value.code == "dataset.encoding"
    assert "line 2, byte 2: 0xfc is not UTF-8" in raised.value.message
    assert "line 2: line 2" not in raised.value.message
    assert "save it as UTF-8" in raised.value.hint


@pytest.mark.parametrize(
    ("header", "parameters", "told"),
    [
        (
            "text,intent,label",
            {},
            "label is read from the column label; intent could be meant too: --map text=text --map label=intent.",
        ),
        ("text,category,topic", {}, "label is read from the column category; topic could be meant too"),
        ("sentence,text,label", {}, "text is read from the column text; sentence could be meant too"),
        ("text,intent,label", {"mapping": {"text": "text", "label": "intent"}}, ""),
        ("text,day,label", {}, ""),
    ],
)
def test_of_two_columns_that_could_be_meant_the_one_taken_is_named(
    tmp_path: Path, run_import: Import, header: str, parameters: dict[str, Any], told: str
) -> None:
    (tmp_path / "x.csv").write_text(header + "".join(f"\na{n},b{n % 2},c{n % 2}" for n in range(9)) + "\n")
    workspace, _summary = run_import(tmp_path / "x.csv", heldout_percent=0, **parameters)
    found = [note for note in notes_of(workspace) if "could be meant" in note]
    assert len(found) == bool(told)
    assert all(told in note for note in found)


def test_a_mapped_column_that_is_not_there_names_the_nearest(tmp_path: Path, run_import: Import) -> None:
    (tmp_path / "x.csv").write_text("text,category\na,x\nb,y\n")
    with pytest.raises(BadInput) as raised:
        run_import(tmp_path / "x.csv", mapping={"text": "text", "label": "categorie"})
    assert raised.value.message == "x.csv has no column categorie; its columns are text, category."
    assert raised.value.hint == "Did you mean category? Write the name as it stands in the file."


def test_tagged_text_is_not_redacted(tmp_path: Path, run_import: Import) -> None:
    (tmp_path / "x.jsonl").write_text('{"text":"a@b.org","spans":[]}\n')
    with pytest.raises(BadInput) as raised:
        run_import(tmp_path / "x.jsonl", redact=True)
    assert raised.value.code == "dataset.redact_tags"


def test_more_labels_than_a_classifier_can_have_are_refused(tmp_path: Path, run_import: Import) -> None:
    source = tmp_path / "x.csv"
    source.write_text("text,label\n" + "".join(f"t{i},l{i}\n" for i in range(10_002)))
    with pytest.raises(BadInput) as raised:
        run_import(source, heldout_percent=0)
    assert raised.value.code == "dataset.too_many_labels"


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (
            [f"text {number},{'ab'[number % 2]}" for number in range(40)] + ["rare,c"],
            "3 labels; 1 of them has a single",
        ),
        ([f"text {number},{'ab'[number % 2]}" for number in range(40)], "2 labels; none of them has a single"),
        (
            [f"label {number % 2},text {number}" for number in range(40)],
            "40 labels; 40 of them have a single training row. Are text and label swapped?",
        ),
    ],
)
def test_an_import_tells_how_many_labels_there_are(
    run_import: Import, tmp_path: Path, rows: list[str], told: str
) -> None:
    file = tmp_path / "x.csv"
    file.write_text("\n".join(["text,label", *rows, ""]))
    workspace, _summary = run_import(file, heldout_percent=0)
    assert any(told in note for note in notes_of(workspace))
