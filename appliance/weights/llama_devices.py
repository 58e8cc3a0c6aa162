"""ggml's list of devices in this process, read through llama.cpp's library, and one of them as a loading parameter."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Iterator
from typing import Any, Final

from appliance.kernel.errors import Unavailable
from appliance.weights.gpu import GpuDevice, Properties, gpus
from appliance.weights.llama_loading import function, start_llama

_ROOM_FOR_MORE: Final = 64


class _Properties(ctypes.Structure):
    """`struct ggml_backend_dev_props`; its capabilities are not read."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("description", ctypes.c_char_p),
        ("free", ctypes.c_size_t),
        ("total", ctypes.c_size_t),
        ("kind", ctypes.c_int),
        ("device_id", ctypes.c_char_p),
        ("rest", ctypes.c_char * _ROOM_FOR_MORE),
    )


class Ggml:
    """The registry of this process. See `appliance.weights.gpu.Registry`."""

    def properties(self) -> Iterator[Properties]:
        """Every device; the free memory is that of now."""
        start_llama()
        count = function("ggml_backend_dev_count", ctypes.c_size_t)
        handle = function("ggml_backend_dev_get", ctypes.c_void_p, ctypes.c_size_t)
        fill = function("ggml_backend_dev_get_props", None, ctypes.c_void_p, ctypes.POINTER(_Properties))
        registry = function("ggml_backend_dev_backend_reg", ctypes.c_void_p, ctypes.c_void_p)
        name_of = function("ggml_backend_reg_name", ctypes.c_char_p, ctypes.c_void_p)
        for index in range(count()):
            device = handle(index)
            found = _Properties()
            fill(device, ctypes.byref(found))
            yield Properties(
                name=_text(found.name),
                backend=_text(name_of(registry(device))),
                description=_text(found.description),
                free=found.free,
                total=found.total,
                kind=found.kind,
                card=_text(found.device_id),
            )


def free_bytes(name: str) -> int:
    """Return the free memory of a device now; 0 when there is none of this name."""
    return next((device.free for device in gpus(Ggml()) if device.name == name), 0)


def require_gpu(name: str) -> GpuDevice:
    """Return the device of this name, or the first for an empty one. Raises Unavailable `engine.no_gpu`."""
    found = gpus(Ggml())
    for device in found:
        if name in ("", device.name):
            return device
    there = ", ".join(device.name for device in found) or "none"
    raise Unavailable(
        "engine.no_gpu",
        f"Layers were to go to the GPU {name or 'of this box'}; the engine sees {there}.",
        hint="See `intramuros doctor`, and the guide for a box's GPU.",
    )


@functools.cache
def device_list(name: str) -> Any:
    """Return what `llama_model_params.devices` points to for one device: it must live as long as the parameters."""
    by_name = function("ggml_backend_dev_by_name", ctypes.c_void_p, ctypes.c_char_p)
    return (ctypes.c_void_p * 2)(by_name(name.encode()), None)


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode(errors="replace")
