"""Models and data sets are brought in, measured, converted and written at the console: what is offered and sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.api import types as t
from appliance.kernel.errors import BadInput
from tests.console.fake_client import FakeAppliance
from tests.console.screen_text import running


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The console was opened in a folder with rows, a model file, a model's folder, and things that are neither."""
    (tmp_path / "tickets.csv").write_text("text,label\n", encoding="utf-8")
    (tmp_path / "notes.md").write_text("no rows\n", encoding="utf-8")
    (tmp_path / "small.gguf").write_bytes(b"GGUF")
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder" / "config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "pictures").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _sent(appliance: FakeAppliance, path: str) -> object:
    return appliance.bodies[appliance.sent.index(("POST", path))]


async def test_rows_of_the_folder_and_examples_are_offered_and_brought_in(folder: Path) -> None:
    appliance = FakeAppliance()
    async with running(appliance) as console:
        await console.shows("Health")
        await console.press("3", "n", shows="intramuros dataset import tickets.csv --name NAME")
        assert "notes.md" not in console.text
        await console.press("enter", *"tickets", "enter", "enter", *"label=intent text=query", "enter")
        await console.shows("--name tickets --map", "label=intent --map text=query")
        await console.press("enter", "enter", "enter", shows=("Job ", "Esc back"))
    assert _sent(appliance, "/v1/datasets/import") == t.ImportDataset(
        source=str(folder / "tickets.csv"), name="tickets", mapping={"label": "intent", "text": "query"}
    )


async def test_what_is_wrong_stands_below_its_field() -> None:
    appliance = FakeAppliance()
    appliance.failures["POST /v1/datasets/import"] = BadInput("name.invalid", "'T' cannot be the name of a data set.")
    async with running(appliance) as console:
        await console.shows("Health")
        await console.press("3", "n", shows="tickets.csv")
        await console.press("enter", "T", *["enter"] * 6)
        rows = (await console.shows("name.invalid: 'T' cannot be the name")).splitlines()
        field = next(at for at, row in enumerate(rows) if "Name  " in row)
        assert "name.invalid" in rows[field + 1]


async def test_a_column_without_a_part_is_refused_before_it_is_sent() -> None:
    appliance = FakeAppliance()
    async with running(appliance) as console:
        await console.shows("Health")
        await console.press("3", "n", shows="tickets.csv")
        await console.press("enter", "t", "enter", "enter", *"intent", *["enter"] * 4)
        rows = (await console.shows("Columns cannot be 'intent'. Write them like")).splitlines()
        assert "Columns (label" in rows[next(at for at, row in enumerate(rows) if "dataset.mapping" in row) - 1]
    assert ("POST", "/v1/datasets/import") not in appliance.sent


async def test_model_files_and_folders_of_models_are_offered(folder: Path) -> None:
    appliance = FakeAppliance()
    async with running(appliance) as console:
        await console.shows("Health")
        await console.press("1", "n", shows="intramuros model import encoder --name")
        await console.press("down", shows="intramuros model import small.gguf")
        assert "tickets.csv" not in console.text
        await console.press("enter", *"small", "enter", "enter", "enter", shows=("Job ", "Esc back"))
    assert _sent(appliance, "/v1/models/import") == t.ImportModel(source=str(folder / "small.gguf"), name="small")


async def test_a_model_is_measured_on_one_thing() -> None:
    appliance = FakeAppliance()
    async with running(appliance) as console:
        await console.shows("Health")
        await console.press("1", "e", shows="intramuros eval run")
        await console.press("enter", "enter", "enter", shows="Models are measured on one thing")
        await console.press("up", *"faq@2", "enter", "enter", shows=("Job ", "Esc back"))
    body = _sent(appliance, "/v1/jobs")
    assert isinstance(body, t.SubmitJob)
    assert (body.kind, body.inputs["dataset"]) == ("evaluate", "faq@2")


async def test_a_model_is_converted_and_quantised() -> None:
    appliance = FakeAppliance()
    async with running(appliance) as console:
        await console.shows("Health")
        await console.press("1", "c", shows="--dtype f32")
        await console.press("enter", "enter", "enter", shows=("Job ", "Esc back"))
        await console.press("escape", "t", shows="intramuros model quantise")
        await console.press(*"q8_0 q4_0", "enter", "enter", "enter", "enter", shows=("Job ", "Esc back"))
    jobs = [body for body in appliance.bodies if isinstance(body, t.SubmitJob)]
    assert [(job.kind, job.parameters) for job in jobs] == [
        ("convert.gguf", {"dtype": "f32"}),
        ("convert.ladder", {"imatrix": False, "to": ["Q8_0", "Q4_0"]}),
    ]


async def test_rows_are_written_by_a_model() -> None:
    appliance = FakeAppliance()
    async with running(appliance) as console:
        await console.shows("Health")
        await console.press("3", "w", shows="intramuros dataset generate --model")
        await console.press("enter", "enter", *"more", *["enter"] * 5, shows=("Job ", "Esc back"))
    body = _sent(appliance, "/v1/datasets/generate")
    assert isinstance(body, t.GenerateDataset)
    assert (body.name, body.count, body.vary) == ("more", 100, False)
    assert body.model
    assert body.data
