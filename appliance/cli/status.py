"""`intramuros status`."""

from __future__ import annotations

import click

from appliance.api import calls
from appliance.api import types as t
from appliance.cli.session import Session, verb
from appliance.kernel.terminal import counted, size_text, table, when


@click.command()
@verb
def status(session: Session) -> None:
    """Show the whole appliance at a glance."""
    view = session.send(calls.status())
    session.show(view, lambda: _text(view))


def _text(view: t.StatusView) -> str:
    lines = [
        f"Intramuros {view.version} at {view.address}, up since {when(view.started_at)} UTC",
        f"  state    {view.state_directory}  ({size_text(view.disk_free)} free of {size_text(view.disk_total)})",
        f"  content  {counted(view.models, 'model')}, {counted(view.datasets, 'data set')},"
        f" {counted(view.deployments, 'deployment')}",
        f"  jobs     {view.jobs_running} running, {view.jobs_queued} queued",
        f"  audit    {counted(view.audit_events, 'event')}, last signed {when(view.audit_checkpoint)}",
        f"  backup   {when(view.last_backup)}",
        "",
        table(
            ("PROCESS", "STATE", "PID", "MEMORY", "RESTARTS", "SINCE"),
            [
                (
                    unit.name,
                    unit.state,
                    str(unit.pid or "-"),
                    size_text(unit.memory_bytes),
                    str(unit.restarts),
                    when(unit.since),
                )
                for unit in view.units
            ],
            empty="no processes",
        ),
    ]
    if view.attention:
        lines.append("")
        lines += [f"{item.level}  {item.text}\n      {item.hint}" for item in view.attention]
    return "\n".join(lines)
