"""Which program serves a revision, and with which arguments."""

from __future__ import annotations

from pathlib import Path

from appliance.api.types import ServingOptions
from appliance.kernel.settings import Settings
from appliance.services.machine import physical_cores
from appliance.services.profiles import Profile


def engine_module(kind: str) -> str:
    """Return the worker of a kind."""
    return "appliance.engine.llama_worker" if kind == "generate" else "appliance.engine.encoder_worker"


def engine_arguments(
    settings: Settings, options: ServingOptions, profile: Profile | None, *, cache: Path
) -> tuple[str, ...]:
    """Return what options, settings and the profile of the file decide, in this order. `cache` holds saved prefixes."""
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
        if settings.prefix_cache_disk >> 20:
            arguments += ["--cache-folder", str(cache), "--cache-disk", str(settings.prefix_cache_disk >> 20)]
    else:
        arguments += ["--kind", options.kind, "--context", str(options.context or settings.encoder_context)]
    return tuple(arguments)
