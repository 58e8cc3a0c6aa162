from __future__ import annotations

from pathlib import Path

import pytest

from appliance.kernel.errors import BadInput
from appliance.kernel.settings import Settings, load_settings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "intramuros.toml"


def test_without_anything_the_defaults_hold(file: Path) -> None:
    assert load_settings(file, environment={}) == Settings()


def test_flags_win_over_the_environment_and_that_over_the_file(file: Path) -> None:
    file.write_text("port = 1111\nhost = 'a'\nbody_limit = 5000\n")
    environment = {"INTRAMUROS_PORT": "2222", "INTRAMUROS_HOST": "b", "PORT": "4444"}
    found = load_settings(file, environment=environment, flags={"port": 3333, "host": None})
    assert (found.port, found.host, found.body_limit) == (3333, "b", 5000)


def test_other_variables_of_the_product_are_no_settings(file: Path) -> None:
    assert load_settings(file, environment={"INTRAMUROS_STATE": "/x", "INTRAMUROS_UNIT": "y"}) == Settings()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("colour = 'blue'", "settings.invalid"),
        ("port = 'eighty'", "settings.invalid"),
        ("port = '8443'", "settings.invalid"),
        ("port = 70000", "settings.invalid"),
        ("drain_timeout = nan", "settings.invalid"),
        ("port = ", "settings.syntax"),
    ],
)
def test_a_wrong_file_is_refused_by_its_name(file: Path, text: str, code: str) -> None:
    file.write_text(text)
    with pytest.raises(BadInput) as raised:
        load_settings(file, environment={})
    assert raised.value.code == code
    assert str(file) in raised.value.message


def test_bytes_that_are_no_text_are_refused(file: Path) -> None:
    file.write_bytes(b"host = '\xff'")
    with pytest.raises(BadInput):
        load_settings(file, environment={})


def test_a_wrong_variable_or_flag_is_refused_by_its_name(file: Path) -> None:
    with pytest.raises(BadInput, match="INTRAMUROS_PORT"):
        load_settings(file, environment={"INTRAMUROS_PORT": "many"})
    with pytest.raises(BadInput, match="flags"):
        load_settings(file, environment={}, flags={"port": 0})
