"""`intramuros deploy`, `rollback`, `deployments`, `undeploy`, `ask`."""

from __future__ import annotations

import click

from appliance.api import calls
from appliance.api import types as t
from appliance.cli.quantities import parse_duration, parse_layers, parse_size
from appliance.cli.session import Session, confirmed, verb
from appliance.kernel.clock import new_id
from appliance.kernel.errors import BadInput, Conflict, Unavailable
from appliance.kernel.terminal import table, when

_HOLD = 25.0


@click.command()
@click.argument("ref")
@click.option("--as", "name", required=True, help="Name that clients use as `model`.")
@click.option("--override", default="", metavar="REASON", help="Serve it although its gate refuses; audited.")
@click.option("--kind", metavar="KIND", help="generate, embed, rerank or classify; default: as the model was made.")
@click.option("--threads", type=int, help="Compute threads; 0: every physical core.")
@click.option("--context", type=int, help="Tokens it holds at once; of an encoder, the longest text.")
@click.option("--memory-limit", metavar="SIZE", help="Most memory of its own, such as 4G; 0: none.")
@click.option("--category", "categories", multiple=True, metavar="LABEL=CATEGORY", help="Moderate by this label.")
@click.option("--shortens/--no-shortens", default=None, help="Clients may ask for shorter vectors.")
@click.option(
    "--adapter", "adapters", multiple=True, metavar="LABEL=REF", help="Serve this LoRA adapter as NAME:LABEL."
)
@click.option("--no-adapters", is_flag=True, help="Take all adapters away.")
@click.option("--draft", metavar="REF", help="Smaller version with the same vocabulary that guesses tokens for it.")
@click.option("--no-draft", is_flag=True, help="Take the draft model away.")
@click.option("--gpu-layers", metavar="auto|N", help="Layers on a GPU: as many as fit, a number, or 0 for none.")
@click.option("--pin/--no-pin", default=None, help="Never unload it.")
@click.option("--idle-timeout", metavar="DURATION", help="Unload it after so long without a request, such as 30m.")
@verb
def deploy(
    session: Session,
    ref: str,
    name: str,
    override: str,
    kind: str | None,
    threads: int | None,
    context: int | None,
    memory_limit: str | None,
    categories: tuple[str, ...],
    shortens: bool | None,
    adapters: tuple[str, ...],
    no_adapters: bool,
    draft: str | None,
    no_draft: bool,
    gpu_layers: str | None,
    pin: bool | None,
    idle_timeout: str | None,
) -> None:
    """Serve a version at stage prod. Traffic moves when its engine answers; streams in flight finish.

    What is not named stays as it is for the version that is live.
    """
    if draft and no_draft:
        raise BadInput("deploy.options", "--draft and --no-draft were both given.", hint="Name one of them.")
    options = t.OptionsChange(
        kind=kind,
        threads=threads,
        context=context,
        memory_limit=None if memory_limit is None else parse_size(memory_limit),
        categories=_pairs(categories, "LABEL=CATEGORY", "toxic=harassment") if categories else None,
        shortens=shortens,
        adapters=_pairs(adapters, "LABEL=REF", "law=assistant-law@2") if adapters or no_adapters else None,
        draft="" if no_draft else draft,
        gpu_layers=None if gpu_layers is None else parse_layers(gpu_layers),
    )
    policy = t.PolicyChange(pinned=pin, idle_timeout=None if idle_timeout is None else parse_duration(idle_timeout))
    body = t.Deploy(model=ref, override=override, request_id=new_id(), options=options, policy=policy)
    _follow(session, name, session.send(calls.deploy(name, body)))


@click.command()
@click.argument("name")
@verb
def rollback(session: Session, name: str) -> None:
    """Bring the previous version back. Streams in flight finish."""
    _follow(session, name, session.send(calls.roll_back(name, t.RollBack(request_id=new_id()))))


@click.command()
@verb
def deployments(session: Session) -> None:
    """List what is served, with its revisions."""
    found = session.send(calls.deployments())
    session.show(found, lambda: "\n\n".join(_text(view) for view in found) or _EMPTY)


@click.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@verb
def undeploy(session: Session, name: str, yes: bool) -> None:
    """Stop serving a name."""
    if not confirmed(f"Stop serving {name}? Clients will get an error.", yes=yes):
        raise BadInput("deploy.not_confirmed", f"{name} is still served.", hint="Confirm it, or add --yes.")
    view = session.send(calls.remove_deployment(name))
    session.show(view, lambda: f"{name} is no longer served")


@click.command()
@click.argument("name")
@click.argument("prompt")
@click.option("--max-tokens", default=128, show_default=True)
@verb
def ask(session: Session, name: str, prompt: str, max_tokens: int) -> None:
    """Ask a deployment, or one of its adapters as NAME:LABEL, one question, from this box."""
    answer = session.send(calls.try_prompt(name, t.TryPrompt(prompt=prompt, max_tokens=max_tokens)))
    session.show(answer, lambda: answer.text)


_EMPTY = "Nothing is deployed. Serve a version with `intramuros deploy NAME@VERSION --as NAME`."


def _pairs(given: tuple[str, ...], form: str, example: str) -> dict[str, str]:
    pairs = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise BadInput("deploy.options", f"{text!r} is not {form}.", hint=f"For example {example}.")
        pairs[name] = value
    return pairs


def _follow(session: Session, name: str, view: t.DeploymentView) -> None:
    """Wait until the newest revision is live or has failed."""
    number = view.revision
    while (mine := _revision(view, number)).state == "starting":
        view = session.send(calls.deployment(name, revision=number, wait=_HOLD))
    if mine.state == "failed":
        raise Unavailable(
            "deploy.failed",
            f"{mine.model} could not be served as {name}: {mine.reason.rstrip('.')}.",
            hint="What was live before is still live.",
        )
    session.show(view, lambda: _text(view))


def _revision(view: t.DeploymentView, number: int) -> t.RevisionView:
    for entry in view.revisions:
        if entry.number == number:
            return entry
    raise Conflict("deploy.gone", f"Revision {number} of {view.name} is no longer known.")


def _text(view: t.DeploymentView) -> str:
    head = f"{view.name}  {view.state}  {view.model or '-'}  previous {view.previous or '-'}"
    serving = view.options
    head += "".join(f"\n  {view.name}:{label}  {entry.ref}" for label, entry in sorted(serving.adapters.items()))
    if serving.draft is not None:
        head += f"\n  draft model  {serving.draft.ref}"
    if view.resident is not None and view.resident.placement:
        head += f"\n  layers  {view.resident.placement}"
    return f"{head}\n" + table(
        ("REVISION", "MODEL", "KIND", "STATE", "BY", "AT", "REASON"),
        [
            (str(item.number), item.model, item.options.kind, item.state, item.by, when(item.at), item.reason)
            for item in view.revisions
        ],
        empty="no revisions",
    )
