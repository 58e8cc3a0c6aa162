"""Where the converter is looked for, and how set-up puts it there."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest

from appliance.conversion.converter_location import converter_path
from appliance.kernel.errors import NotFound
from tools.install_converter import install, main


@pytest.fixture
def sdist(tmp_path: Path) -> Path:
    """An unpacked sdist with the parts that matter, and some that do not."""
    root = tmp_path / "sdist"
    source = root / "vendor" / "llama.cpp"
    for name in (
        "convert_hf_to_gguf.py",
        "LICENSE",
        "conversion/base.py",
        "gguf-py/gguf/__init__.py",
        "gguf-py/gguf/scripts/gguf_dump.py",
        "gguf-py/tests/test_quants.py",
        "src/llama.cpp",
    ):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name)
    (root / "PKG-INFO").write_text(f"Metadata-Version: 2.1\nName: x\nVersion: {version('llama-cpp-python')}\n")
    return root


def test_the_installed_converter_is_found() -> None:
    assert (converter_path() / "conversion" / "llama.py").is_file()


def test_without_it_the_hint_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"conversion\.no_converter.*make setup"):
        converter_path(tmp_path)


def test_set_up_copies_just_what_is_needed_and_may_run_again(sdist: Path, tmp_path: Path) -> None:
    for _ in range(2):
        install(sdist, tmp_path, wanted=version("llama-cpp-python"))
    found = converter_path(tmp_path)
    files = {path.relative_to(found).as_posix() for path in found.rglob("*") if path.is_file()}
    assert files == {
        "convert_hf_to_gguf.py",
        "LICENSE",
        "VERSION",
        "conversion/base.py",
        "gguf-py/gguf/__init__.py",
    }


def test_a_converter_of_another_version_is_refused(sdist: Path, tmp_path: Path) -> None:
    (install(sdist, tmp_path, wanted=version("llama-cpp-python")) / "VERSION").write_text("0.3.1\n")
    with pytest.raises(NotFound, match=r"belongs to llama-cpp-python 0\.3\.1"):
        converter_path(tmp_path)


def test_an_sdist_of_another_version_is_refused(sdist: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"9\.9\.9 is installed"):
        install(sdist, tmp_path, wanted="9.9.9")


def test_an_sdist_without_its_vendored_source_is_refused(sdist: Path, tmp_path: Path) -> None:
    (sdist / "vendor" / "llama.cpp" / "convert_hf_to_gguf.py").unlink()
    with pytest.raises(ValueError, match=r"lacks convert_hf_to_gguf\.py"):
        install(sdist, tmp_path, wanted=version("llama-cpp-python"))


def test_a_folder_that_is_no_sdist_ends_with_a_line_and_a_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)]) == 2
    assert "not an unpacked sdist" in capsys.readouterr().err
    assert main([]) == 2
