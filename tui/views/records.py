"""The other lists and records: audit trail, backups, API keys, and any record as it came."""

from __future__ import annotations

from typing import Any

import msgspec

from appliance.api.types import (
    AuditEntry,
    AuditVerdict,
    BackupView,
    KeyView,
    NewKey,
    Page,
)
from tui import format as fmt
from tui.text import Column, Line, Look, Row, Span, Table, Tone, fact, heading, hint, line, state


def audit_table(page: Page, look: Look) -> Table:
    """The trail, newest first."""
    return Table(
        columns=(
            Column(title="Seq", width=7, right=True),
            Column(title="Time (UTC)", width=16),
            Column(title="Actor", width=11),
            Column(title="Action", width=18),
            Column(title="Target"),
            Column(title="Outcome", width=7),
            Column(title="Hash", width=12, wide=True),
        ),
        rows=tuple(
            Row(
                key=str(entry.seq),
                cells=(
                    Span(str(entry.seq)),
                    Span(fmt.moment(entry.at)),
                    Span(entry.actor),
                    Span(entry.action, Tone.STRONG),
                    Span(entry.target),
                    Span(entry.phase, {"failed": Tone.BAD, "refused": Tone.WARN}.get(entry.phase, Tone.PLAIN)),
                    Span(fmt.short(entry.hash)),
                ),
            )
            for entry in page.entries
        ),
    )


def audit_lines(entry: AuditEntry, look: Look) -> list[Line]:
    """One event of the chain, whole."""
    return [
        fact("sequence", str(entry.seq)),
        fact("time", f"{entry.at}"),
        fact("actor", fmt.clean(entry.actor)),
        fact("action", Span(fmt.clean(entry.action), Tone.STRONG)),
        fact("target", fmt.clean(entry.target)),
        fact("outcome", entry.phase),
        fact("hash", entry.hash),
        heading("Detail"),
        *record_lines(entry.detail, look),
        heading("Evidence"),
        hint("v verifies the whole chain. For an auditor: intramuros audit export FILE"),
    ]


def verdict_lines(verdict: AuditVerdict, look: Look) -> list[Line]:
    """The result of re-computing the whole chain."""
    if verdict.ok:
        told = line("   ", state("ok", look), "  The chain is whole: no event was changed, removed or added.")
    else:
        told = line("   ", state("failed", look), "  ", Span(fmt.clean(verdict.problem), Tone.BAD))
    return [
        told,
        fact("events", fmt.count(verdict.events)),
        fact("checkpoints", f"{fmt.count(verdict.checkpoints)} signatures checked"),
        fact("head", verdict.head),
        hint("A second opinion without this machine: intramuros audit export FILE"),
    ]


def backups_table(backups: tuple[BackupView, ...], look: Look) -> Table:
    """Snapshots, newest first."""
    return Table(
        columns=(
            Column(title="Snapshot", width=12),
            Column(title="Time (UTC)", width=16),
            Column(title="Age", width=14),
            Column(title="Size", width=9, right=True),
            Column(title="Files", width=8, right=True),
            Column(title="Host"),
        ),
        rows=tuple(
            Row(
                key=one.id,
                cells=(
                    Span(fmt.short(one.id), Tone.STRONG),
                    Span(fmt.moment(one.at)),
                    Span(fmt.ago(one.at, look.now)),
                    Span(fmt.size(one.size)),
                    Span(fmt.count(one.files)),
                    Span(one.host),
                ),
            )
            for one in backups
        ),
    )


def backup_lines(one: BackupView, look: Look) -> list[Line]:
    """One snapshot."""
    return [
        fact("snapshot", one.id),
        fact("taken", f"{fmt.moment(one.at)} UTC, {fmt.ago(one.at, look.now)}"),
        fact("content", f"{fmt.size(one.size)} in {fmt.count(one.files)} files"),
        fact("host", fmt.clean(one.host)),
        hint("Restoring replaces state, so it is done with the service stopped:"),
        hint("  intramuros backup restore --to DIRECTORY"),
    ]


def keys_table(keys: tuple[KeyView, ...], look: Look) -> Table:
    """Every API key, without secrets."""
    return Table(
        columns=(
            Column(title="State", width=6),
            Column(title="Key", width=12),
            Column(title="Name"),
            Column(title="May use", width=18),
            Column(title="Created", width=11),
            Column(title="Expires", width=11),
            Column(title="By", width=12, wide=True),
        ),
        rows=tuple(
            Row(
                key=one.id,
                cells=(
                    state(_key_state(one, look), look),
                    Span(one.id[:12]),
                    Span(one.name, Tone.STRONG),
                    Span(", ".join(one.models) or "everything"),
                    Span(fmt.brief_moment(one.created_at, look.now)),
                    Span(fmt.brief_moment(one.expires_at, look.now) if one.expires_at else "never"),
                    Span(one.created_by),
                ),
            )
            for one in keys
        ),
    )


def key_lines(one: KeyView, look: Look) -> list[Line]:
    """One API key."""
    return [
        fact("state", state(_key_state(one, look), look)),
        fact("key", one.id),
        fact("name", Span(fmt.clean(one.name), Tone.STRONG)),
        fact("may use", fmt.clean(", ".join(one.models)) or "every served name"),
        fact("priority", fmt.clean(one.priority)),
        fact("shares", f"cached prompts with the group {fmt.clean(one.share_group)}" if one.share_group else "nothing"),
        fact("created", f"{fmt.moment(one.created_at)} UTC by {fmt.clean(one.created_by)}"),
        fact("expires", fmt.moment(one.expires_at) if one.expires_at else "never"),
        fact("revoked", fmt.moment(one.revoked_at) if one.revoked_at else "no"),
    ]


def new_key_lines(new: NewKey, look: Look) -> list[Line]:
    """The only time a secret is shown."""
    return [
        heading("Copy the secret now: it is not stored and will never be shown again"),
        line("   ", Span(fmt.clean(new.secret), Tone.STRONG)),
        *key_lines(new.key, look),
    ]


def record_lines(record: dict[str, Any], look: Look) -> list[Line]:
    """Any record as indented JSON, wrapped to the screen."""
    text = msgspec.json.format(msgspec.json.encode(record), indent=2).decode()
    return [line(f"   {part}") for row in text.splitlines() for part in fmt.wrap(row, max(20, look.width - 6))]


def _key_state(one: KeyView, look: Look) -> str:
    if one.revoked_at:
        return "revoked"
    expires = fmt.instant(one.expires_at)
    return "expired" if expires and expires < look.now else "ok"
