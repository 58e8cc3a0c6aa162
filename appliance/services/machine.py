"""The facts of this machine and this installation that belong to a run's identity. Imports none of the libraries."""

from __future__ import annotations

import re
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import psutil

from appliance.jobs.spec import Environment
from appliance.kernel.canonical import sha256_hex

_PACKAGES = (
    *("torch", "transformers", "tokenizers", "peft", "safetensors", "numpy", "gguf", "llama-cpp-python"),
    *("scikit-learn", "scipy", "threadpoolctl", "datasketch"),
)
_DECIDING_CODE = (
    "kernel",
    "jobs",
    "catalog",
    "datasets",
    "weights",
    "training",
    "evaluation",
    "conversion",
    "campaigns",
)


def environment(threads: int, code_digest: str) -> Environment:
    """Return the machine part of a specification; `threads` 0 means every physical core."""
    return Environment(
        code=code_digest,
        packages={name: version(name) for name in _PACKAGES},
        threads=threads or physical_cores(),
        device="cpu",
        cpu=processor(),
    )


def physical_cores() -> int:
    """Return the number of physical cores this process may use, at least 1."""
    usable = len(psutil.Process().cpu_affinity() or [0])
    return max(1, min(psutil.cpu_count(logical=False) or 1, usable))


@lru_cache(maxsize=1)
def processor() -> str:
    """Return the processor's name and a digest of its instruction-set flags: both decide floating-point bits."""
    text = Path("/proc/cpuinfo").read_text()
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    listed = " ".join(sorted(flags.group(1).split())) if flags else ""
    return f"{name.group(1).strip() if name else 'unknown'} {sha256_hex(listed.encode())[:12]}"


def code_digest() -> str:
    """Return a digest over the product's own source that decides a run's bytes."""
    root = Path(__file__).parent.parent
    parts = []
    for package in _DECIDING_CODE:
        for path in sorted((root / package).rglob("*.py")):
            parts.append(f"{path.relative_to(root)} {sha256_hex(path.read_bytes())}")
    return sha256_hex("\n".join(parts).encode())
