"""Puts torch into the state that a run's identity promises: threads, determinism, device.

Same box, same packages, same threads: same bits. The number of threads decides how sums are split, so it comes
from the specification and never from the machine. Must be called before any tensor work.
"""

from __future__ import annotations

import ctypes
import hashlib
from pathlib import Path

import torch

from appliance.kernel.errors import BadInput

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def prepare(*, threads: int, device: str) -> None:
    """Set threads and deterministic algorithms. Raises BadInput when the device is not the CPU."""
    if device != "cpu":
        raise BadInput(
            "training.device_unsupported",
            f"Training on the device {device} is not supported.",
            hint="Bit-exact resumption is proved for cpu only; use that.",
        )
    _keep_freed_memory()
    torch.set_num_threads(threads)
    if torch.get_num_interop_threads() != 1:
        torch.set_num_interop_threads(1)
    torch.use_deterministic_algorithms(True)
    # Filling fresh memory would only hide a read of uninitialised values; no kernel used here does one.
    setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)  # noqa: B010 - not in torch's type stubs


def _keep_freed_memory() -> None:
    """Keep what a step frees for the next one (mallopt(3)): given back, the kernel clears it anew every step."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # not in every C library
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, -1)


def derive_seed(seed: int, *parts: int | str) -> int:
    """Return a 63-bit seed that is a pure function of its arguments and differs for different ones."""
    text = "/".join(str(part) for part in (seed, *parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def peak_memory(process: int | str = "self") -> int:
    """Return the largest resident size of a process since `forget_peak_memory`, in bytes (proc(5), VmHWM)."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def forget_peak_memory() -> None:
    """Let the peak begin anew: pages of mapped files that loading has touched are the kernel's to take back."""
    Path("/proc/self/clear_refs").write_text("5")
