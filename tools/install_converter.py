"""Copy llama.cpp's Hugging Face converter out of the llama-cpp-python sdist into this environment.

    python tools/install_converter.py SDIST_DIR

The converter, the package it is made of and the very gguf library it was written against (the one on the package
index has drifted from it) go to `<site-packages>/llama_cpp_converter/`, with the sdist's version beside them.
Standard library only. A second run changes nothing but the file times.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
import sysconfig
from pathlib import Path

DIRECTORY_NAME = "llama_cpp_converter"
_TREES = ("conversion", "gguf-py/gguf")
_FILES = ("convert_hf_to_gguf.py", "LICENSE")


def install(sdist: Path, site_packages: Path, *, wanted: str) -> Path:
    """Copy the converter of `sdist` below `site_packages`, replacing an older one, and return its directory.

    Raises ValueError when the sdist is another version than `wanted` or is not whole.
    """
    version = sdist_version(sdist)
    if version != wanted:
        raise ValueError(f"{sdist} is llama-cpp-python {version}, but {wanted} is installed.")
    source = sdist / "vendor" / "llama.cpp"
    missing = [name for name in (*_FILES, *_TREES) if not (source / name).exists()]
    if missing:
        raise ValueError(f"{source} lacks {', '.join(missing)}; unpack the sdist with its vendor directory.")
    final = site_packages / DIRECTORY_NAME
    temporary = site_packages / f".{DIRECTORY_NAME}.new"
    shutil.rmtree(temporary, ignore_errors=True)
    for name in _TREES:
        shutil.copytree(source / name, temporary / name, ignore=shutil.ignore_patterns("__pycache__", "scripts"))
    for name in _FILES:
        shutil.copyfile(source / name, temporary / name)
    (temporary / "VERSION").write_text(version + "\n")
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)
    return final


def sdist_version(sdist: Path) -> str:
    """Read the version from the sdist's PKG-INFO. Raises ValueError."""
    metadata = sdist / "PKG-INFO"
    if metadata.is_file():
        for line in metadata.read_text(encoding="utf-8").splitlines():
            if line.startswith("Version:"):
                return line.partition(":")[2].strip()
    raise ValueError(f"{sdist} is not an unpacked sdist: it has no PKG-INFO with a version.")


def main(argv: list[str]) -> int:
    """Install into the environment of the running interpreter."""
    if len(argv) != 1:
        sys.stderr.write("usage: install_converter.py SDIST_DIR\n")
        return 2
    try:
        wanted = importlib.metadata.version("llama-cpp-python")
        final = install(Path(argv[0]), Path(sysconfig.get_path("purelib")), wanted=wanted)
    except (ValueError, importlib.metadata.PackageNotFoundError) as error:
        sys.stderr.write(f"install_converter: {error}\n")
        return 2
    sys.stdout.write(f"{final}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
