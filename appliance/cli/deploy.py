"""`intramuros deploy`, `rollback`, `deployments`, `undeploy`, `ask`."""

from __future__ import annotations

import click

from appliance.api import calls
from appliance.api import types as t
from appliance.cli.session import Session, confirmed, verb
from appliance.kernel.clock import new_id
from appliance.kernel.errors import BadInput, Conflict, Unavailable
from appliance.kernel.terminal import table, when

_HOLD = 25.0


@click.command()
@click.argument("ref")
@click.option("--as", "name", required=True, help="Name that clients use as `model`.")
@click.option("--override", default="", metavar="REASON", help="Serve it although its gate refuses; audited.")
@verb
def deploy(session: Session, ref: str, name: str, override: str) -> None:
    """Serve a version at stage prod. Traffic moves when its engine answers; streams in flight finish."""
    body = t.Deploy(model=ref, override=override, request_id=new_id())
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
    """Ask a deployment one question, from this box."""
    answer = session.send(calls.try_prompt(name, t.TryPrompt(prompt=prompt, max_tokens=max_tokens)))
    session.show(answer, lambda: answer.text)


_EMPTY = "Nothing is deployed. Serve a version with `intramuros deploy NAME@VERSION --as NAME`."


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
    return f"{head}\n" + table(
        ("REVISION", "MODEL", "STATE", "BY", "AT", "REASON"),
        [(str(item.number), item.model, item.state, item.by, when(item.at), item.reason) for item in view.revisions],
        empty="no revisions",
    )
