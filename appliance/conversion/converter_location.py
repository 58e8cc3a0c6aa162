"""Where llama.cpp's converter lies: `<site-packages>/llama_cpp_converter/`, put there by set-up, never committed.

It must come from the sdist of the very llama-cpp-python that is installed: writer and reader of a GGUF file belong
together.
"""

from __future__ import annotations

import sysconfig
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from appliance.kernel.errors import NotFound

_DIRECTORY_NAME = "llama_cpp_converter"


def converter_path(site_packages: Path | None = None) -> Path:
    """Return the converter's directory. Raises NotFound when it is absent or belongs to another llama-cpp-python."""
    directory = (site_packages or Path(sysconfig.get_path("purelib"))) / _DIRECTORY_NAME
    stamp = directory / "VERSION"
    if not stamp.is_file() or not (directory / "convert_hf_to_gguf.py").is_file():
        raise NotFound(
            "conversion.no_converter",
            "The converter of llama.cpp is not installed beside llama-cpp-python.",
            hint="Run make setup.",
        )
    found, wanted = stamp.read_text().strip(), _installed_version()
    if found != wanted:
        raise NotFound(
            "conversion.no_converter",
            f"The converter belongs to llama-cpp-python {found}, but {wanted} is installed.",
            hint="Run make setup.",
        )
    return directory


def _installed_version() -> str:
    try:
        return version("llama-cpp-python")
    except PackageNotFoundError:
        return "no version"
