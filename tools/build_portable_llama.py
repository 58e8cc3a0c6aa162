"""Lay llama-cpp-python and its converter into a bundle's tree, and print the level of processor they need, as JSON.

    python -m tools.build_portable_llama TREE

`TREE/wheels/` gets the wheel, which runs on every processor of the level and not only on this one; `TREE/converter/`
gets what `tools/install_converter.py` would put beside it. Both come from the cache when they are there.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from tools.bootstrap import llama_cpp
from tools.bootstrap.cache import cache_directory
from tools.bootstrap.narration import SetupFailure, say
from tools.install_converter import install

_REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements"


def main(argv: list[str]) -> int:
    """Provide the wheel and the converter; exit status 1 when it could not be built."""
    if len(argv) != 1:
        sys.stderr.write("usage: build_portable_llama TREE\n")
        return 2
    tree = Path(argv[0])
    try:
        source = llama_cpp.read_source(_REQUIREMENTS / "llama-cpp-python.lock")
        provided = llama_cpp.provide(
            cache_directory(), source, _REQUIREMENTS / "build.lock", llama_cpp.Variant.PORTABLE
        )
    except SetupFailure as failure:
        say(f"FAILED: {failure}")
        return 1
    (tree / "wheels").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(provided.wheel, tree / "wheels" / provided.wheel.name)
    install(provided.converter, tree, wanted=source.version).rename(tree / "converter")
    sys.stdout.write(json.dumps({"level": llama_cpp.PORTABLE_LEVEL}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
