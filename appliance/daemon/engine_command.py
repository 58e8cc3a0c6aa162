"""Which program serves a revision, and with which arguments."""

from __future__ import annotations

from appliance.api.types import ServingOptions
from appliance.kernel.settings import Settings
from appliance.services.machine import physical_cores


def engine_module(kind: str) -> str:
    """Return the worker of a kind."""
    return "appliance.engine.llama_worker" if kind == "generate" else "appliance.engine.encoder_worker"


def engine_arguments(settings: Settings, options: ServingOptions) -> tuple[str, ...]:
    """Return what settings and options decide."""
    threads = options.threads or settings.engine_threads or physical_cores()
    arguments = ["--threads", str(threads)]
    if options.memory_limit:
        arguments += ["--memory", str(max(1, options.memory_limit >> 20))]
    if options.kind == "generate":
        arguments += [
            "--slots",
            str(settings.engine_slots),
            "--context",
            str(options.context or settings.engine_context),
        ]
    else:
        arguments += ["--kind", options.kind, "--context", str(options.context or settings.encoder_context)]
    return tuple(arguments)
