"""`make seed-model`: make the small model that a bundle carries, and print the path of its GGUF file.

The tour's own way, without serving: train the seed model on the shipped handbook, tune it on the shipped questions,
convert it, and prove that both engines agree. About two minutes on two cores, once: the file is kept in the cache
under a digest of everything that decides its bytes, with `model.json` (name, licence, digest) and the licence beside.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tempfile
from pathlib import Path

from appliance.kernel.durable import write_file
from appliance.kernel.errors import IntramurosError
from appliance.tour.walk import Walk
from tools.bootstrap.cache import cache_directory, entry

ROOT = Path(__file__).resolve().parent.parent
NAME = "seed"
LICENCE = "Apache-2.0"
_DECIDES = ("appliance/examples", "appliance/training", "appliance/conversion", "appliance/datasets")
_PORT = 8447


def main() -> int:
    """Print the path of the model; exit status as the verb that failed."""
    try:
        sys.stdout.write(f"{provide()}\n")
    except IntramurosError as error:
        sys.stderr.write(f"build_seed_model: {error}\n")
        return error.exit_code
    return 0


def provide() -> Path:
    """Return the GGUF file, made now unless the cache has it. Raises what the verbs raise."""
    return entry(cache_directory(), f"models/{NAME}-{inputs_digest(ROOT)[:20]}", _make) / f"{NAME}.gguf"


def inputs_digest(root: Path) -> str:
    """Return the digest of everything that decides the model's bytes: examples, training, conversion, versions."""
    found = hashlib.sha256()
    files = [path for name in _DECIDES for path in sorted((root / name).rglob("*")) if path.is_file()]
    files = [path for path in files if "__pycache__" not in path.parts]
    for path in (*files, root / "requirements" / "base.lock", root / "requirements" / "llama-cpp-python.lock"):
        found.update(f"{path.relative_to(root)}\0{_digest(path)}\n".encode())
    return found.hexdigest()


def _make(folder: Path) -> None:
    model = folder / f"{NAME}.gguf"
    with tempfile.TemporaryDirectory(prefix="intramuros-seed-") as scratch:
        walk = Walk(Path(scratch) / "s")
        with walk.step("Make the seed model"):
            walk.verb("up", "--port", str(_PORT))
            try:
                converted = _train(walk)
                detail = walk.verb("model", "register", f"run:{converted['id']}", "--name", NAME)
                blob = next(file for file in detail["files"] if file["path"].endswith(".gguf"))["digest"]
                write_file(model, (walk.state / "blobs" / "sha256" / blob[:2] / blob[2:]).read_bytes())
            finally:
                walk.verb("down")
    document = {
        "schema": 1,
        "name": NAME,
        "file": model.name,
        "licence": LICENCE,
        "size": model.stat().st_size,
        "sha256": _digest(model),
        "origin": "trained from the examples that this product ships",
    }
    shutil.copyfile(ROOT / "LICENSE", folder / "LICENSE")
    write_file(folder / "model.json", json.dumps(document, indent=2, sort_keys=True).encode() + b"\n")


def _train(walk: Walk) -> dict[str, str]:
    handbook = walk.verb("dataset", "import", "example:handbook", "--name", "handbook")["dataset"]["ref"]
    questions = walk.verb("dataset", "import", "example:faq", "--name", "faq")["dataset"]["ref"]
    run = walk.verb("train", "seed", "--corpus", handbook)
    base = walk.verb("model", "register", f"run:{run['id']}", "--name", "base", "--licence", LICENCE)["model"]["ref"]
    tuned = walk.verb("train", "lora", "--base", base, "--data", questions)
    converted: dict[str, str] = walk.verb("model", "convert", f"run:{tuned['id']}", "--prompts", questions)
    return converted


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


if __name__ == "__main__":
    sys.exit(main())
