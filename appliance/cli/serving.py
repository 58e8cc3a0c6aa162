"""`intramuros serving`: who is in memory and why, what a deployment would need, and who may leave."""

from __future__ import annotations

import time

import click

from appliance.api import calls
from appliance.api import types as t
from appliance.cli.quantities import parse_duration, parse_layers, parse_size
from appliance.cli.session import Session, verb
from appliance.kernel.terminal import size_text, table, when


@click.group()
def serving() -> None:
    """See and steer which models are in memory."""


@serving.command("show")
@verb
def show(session: Session) -> None:
    """Show memory, models and the newest decisions."""
    view = session.send(calls.serving())
    session.show(view, lambda: serving_text(view, now=time.time()))


@serving.command("plan")
@click.argument("ref")
@click.option("--as", "name", required=True, help="Name it would be served as.")
@click.option("--kind", metavar="KIND", help="generate, embed, rerank or classify; default: as the model was made.")
@click.option("--context", type=int, help="Tokens it would hold at once.")
@click.option("--memory-limit", metavar="SIZE", help="Most memory of its own, such as 4G.")
@click.option("--draft", metavar="REF", help="Smaller version that would guess tokens for it.")
@click.option("--gpu-layers", metavar="auto|N", help="Layers on a GPU: as many as fit, a number, or 0 for none.")
@verb
def plan(
    session: Session,
    ref: str,
    name: str,
    kind: str | None,
    context: int | None,
    memory_limit: str | None,
    draft: str | None,
    gpu_layers: str | None,
) -> None:
    """Say what deploying a version would need and do. Nothing is changed."""
    limit = None if memory_limit is None else parse_size(memory_limit)
    layers = None if gpu_layers is None else parse_layers(gpu_layers)
    options = t.OptionsChange(kind=kind, context=context, memory_limit=limit, draft=draft, gpu_layers=layers)
    view = session.send(calls.plan_deploy(name, t.PlanDeploy(model=ref, options=options)))
    session.show(view, lambda: _plan_text(view))


@serving.command("pin")
@click.argument("name")
@verb
def pin(session: Session, name: str) -> None:
    """Keep a deployment in memory whatever else is asked for."""
    _change(session, name, t.PolicyChange(pinned=True), f"{name} stays in memory")


@serving.command("unpin")
@click.argument("name")
@verb
def unpin(session: Session, name: str) -> None:
    """Let a deployment leave memory when others need the room."""
    _change(session, name, t.PolicyChange(pinned=False), f"{name} may leave memory")


@serving.command("idle")
@click.argument("name")
@click.argument("duration")
@verb
def idle(session: Session, name: str, duration: str) -> None:
    """Unload a deployment after so long without a request, such as 30m; 0: as the setting says."""
    seconds = parse_duration(duration)
    _change(session, name, t.PolicyChange(idle_timeout=seconds), f"{name}: time to idle {duration}")


def _change(session: Session, name: str, change: t.PolicyChange, said: str) -> None:
    view = session.send(calls.set_policy(name, change))
    session.show(view, lambda: said)


def serving_text(view: t.ServingView, *, now: float) -> str:
    """The whole of it for a person."""
    head = (
        f"memory for serving {size_text(view.budget)}, used {size_text(view.used)}; "
        f"the system has {size_text(max(0, view.available))} available"
    )
    head += "".join(f"\n{_gpu(one)}" for one in view.gpus)
    if view.gpu_problem:
        head += f"\nGPU: {view.gpu_problem}"
    models = table(
        ("DEPLOYMENT", "MODEL", "KIND", "PLACE", "PREDICTED", "MEASURED", "OFF BY", "ACTIVE", "WAITING", "LAST USED"),
        [
            (
                f"{one.deployment}{' (pinned)' if one.pinned else ''}",
                one.model,
                one.kind,
                one.state,
                size_text(one.predicted.total),
                size_text(one.measured) if one.measured else "-",
                "-" if one.error is None else f"{one.error:+.0%}",
                str(one.active),
                str(one.waiting),
                f"{now - one.used:.0f} s ago" if one.used else "-",
            )
            for one in view.models
        ],
        empty="nothing is deployed",
    )
    decisions = table(
        ("AT", "DECISION", "DEPLOYMENT", "WHY"),
        [(when(one.at), one.action, one.deployment, one.why) for one in view.decisions[:20]],
        empty="no decision since the daemon started",
    )
    layers = "\n".join(f"{one.deployment}: {one.placement}{_on_gpu(one)}" for one in view.models if one.placement)
    return "\n\n".join(part for part in (head, models, layers, decisions) if part)


def _gpu(one: t.GpuView) -> str:
    return (
        f"{one.name}, {one.description}: {size_text(one.total)}, {size_text(one.free)} free; "
        f"serving may use {size_text(one.budget)}, used {size_text(one.used)}"
    )


def _on_gpu(one: t.ResidentView) -> str:
    if not one.gpu_measured:
        return ""
    off = "" if one.gpu_error is None else f", {one.gpu_error:+.0%} off"
    return f"; the engine took {size_text(one.gpu_measured)} itself{off}"


def _plan_text(view: t.PlanView) -> str:
    part = view.predicted
    lines = [
        f"{view.model} as {view.kind} needs {size_text(part.total)}: weights {size_text(part.weights)}, "
        f"cache {size_text(part.cache)}, compute {size_text(part.compute)}, process {size_text(part.process)}"
        + (f", draft model {size_text(part.draft)}" if part.draft else ""),
        *([f"and up to {size_text(part.saved)} for prefixes that leave the cache"] if part.saved else []),
        f"serving may use {size_text(view.budget)} and uses {size_text(view.used)} now",
        *([f"layers {view.placement}"] if view.placement else []),
    ]
    return "\n".join([*lines, *(f"{one.action} {one.deployment}: {one.why}" for one in view.decisions)])
