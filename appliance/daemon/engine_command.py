"""Which program serves a revision, and with which arguments; and what those of a running one were."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from appliance.api.types import ServingOptions
from appliance.kernel.settings import Settings
from appliance.residency.offload import ON_PROCESSOR, Placement
from appliance.services.machine import physical_cores
from appliance.services.profiles import Profile


def engine_module(kind: str) -> str:
    """Return the worker of a kind."""
    return "appliance.engine.llama_worker" if kind == "generate" else "appliance.engine.encoder_worker"


def engine_arguments(
    settings: Settings,
    options: ServingOptions,
    profile: Profile | None,
    *,
    cache: Path,
    placement: Placement = ON_PROCESSOR,
) -> tuple[str, ...]:
    """Return what options, settings and the profile of the file decide, in this order. `cache` holds saved prefixes.

    `placement` is what was decided about the GPU.
    """
    tuned = profile.threads if profile is not None else 0
    threads = options.threads or settings.engine_threads or tuned or physical_cores()
    arguments = ["--threads", str(threads)]
    if options.memory_limit:
        arguments += ["--memory", str(max(1, options.memory_limit >> 20))]
    if options.kind == "generate":
        if profile is not None:
            arguments += ["--ubatch", str(profile.ubatch)]
        arguments += [
            "--slots",
            str(settings.engine_slots),
            "--context",
            str(options.context or settings.engine_context),
            "--cache-ram",
            str(settings.prefix_cache_memory >> 20),
        ]
        if placement.layers:
            arguments += ["--gpu-layers", str(placement.layers), "--gpu", placement.gpu]
        if settings.prefix_cache_disk >> 20:
            arguments += ["--cache-folder", str(cache), "--cache-disk", str(settings.prefix_cache_disk >> 20)]
    else:
        arguments += ["--kind", options.kind, "--context", str(options.context or settings.encoder_context)]
    return tuple(arguments)


def command_of(pid: int) -> list[str]:
    """Return the arguments a process was started with (proc_pid_cmdline(5)); nothing when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return []


def layers_given(argv: Sequence[str]) -> tuple[int, str]:
    """Return the layers and the GPU that an engine was started with."""
    given = dict(pairwise(argv))
    layers = given.get("--gpu-layers", "")
    return (int(layers), given.get("--gpu", "")) if layers.isdigit() else (0, "")
