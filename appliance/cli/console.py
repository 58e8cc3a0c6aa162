"""`intramuros console`: opens the terminal console, which is a client like this one."""

from __future__ import annotations

import click

from appliance.cli.session import Session, verb


@click.command()
@click.option("--rich", "tier", flag_value="rich", help="Full colours and line drawing.")
@click.option("--basic", "tier", flag_value="basic", help="16 colours, ASCII; serial lines.")
@click.option("--mono", "tier", flag_value="mono", help="No colours.")
@click.option("--line", "tier", flag_value="line", help="Numbered menu; screen readers, dumb terminals.")
@verb
def console(session: Session, tier: str | None) -> int:
    """Open the terminal console."""
    from tui.main import run_console

    return run_console(session.paths.control_socket, tier=tier, line=tier == "line")
