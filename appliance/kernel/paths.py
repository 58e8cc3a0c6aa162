"""Where everything lies below one state directory, and with which mode. Nothing else builds such a path."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

BOX_FILE: Final = Path("/etc/intramuros/state")
"""Where an installed box names its state directory; its appliance is run by systemd."""


def default_state(environment: Mapping[str, str] | None = None, *, box_file: Path = BOX_FILE) -> Path:
    """Return the state directory that is meant when nobody names one: $INTRAMUROS_STATE, the box's, or ./var."""
    named = (os.environ if environment is None else environment).get("INTRAMUROS_STATE", "")
    return Path(named) if named else box_state(box_file) or Path("var")


def box_state(box_file: Path = BOX_FILE) -> Path | None:
    """Return the state directory of this box, or None on a machine that was not installed as one."""
    try:
        text = box_file.read_text().strip()
    except OSError:
        return None
    return Path(text) if text.startswith("/") else None


@dataclass(frozen=True, slots=True)
class StatePaths:
    """The layout of one appliance's state. `root` is absolute."""

    root: Path

    @property
    def database(self) -> Path:
        """SQLite database, written by the daemon alone."""
        return self.root / "intramuros.sqlite3"

    @property
    def settings(self) -> Path:
        """Optional settings file (TOML)."""
        return self.root / "intramuros.toml"

    @property
    def box_tls(self) -> Path:
        """How the certificates of a box are made (TOML), written by the installer, root's; no box without it."""
        return self.root / "tls.toml"

    @property
    def gates(self) -> Path:
        """Quality gates (TOML); written with defaults when the state is created."""
        return self.root / "gates.toml"

    @property
    def blobs(self) -> Path:
        """Content-addressed store: sha256/ab/cdef…"""
        return self.root / "blobs"

    @property
    def jobs(self) -> Path:
        """One work directory per job."""
        return self.root / "jobs"

    @property
    def secrets(self) -> Path:
        """Private keys, mode 0700; each file 0600."""
        return self.root / "secrets"

    @property
    def tls(self) -> Path:
        """Certificates: the authority's public part and the gateway's leaf."""
        return self.root / "tls"

    @property
    def authority_certificate(self) -> Path:
        """What clients must trust."""
        return self.tls / "ca.crt"

    @property
    def authority_key(self) -> Path:
        return self.secrets / "ca.key"

    @property
    def leaf_certificate(self) -> Path:
        return self.tls / "gateway.crt"

    @property
    def leaf_key(self) -> Path:
        return self.secrets / "gateway.key"

    @property
    def audit_key(self) -> Path:
        """Ed25519 private key that signs audit checkpoints."""
        return self.secrets / "audit.key"

    @property
    def backup_password(self) -> Path:
        """Password file of the restic repository."""
        return self.secrets / "backup.password"

    @property
    def backups(self) -> Path:
        """Default restic repository."""
        return self.root / "backups"

    @property
    def run(self) -> Path:
        """Sockets and process records, mode 0700."""
        return self.root / "run"

    @property
    def control_socket(self) -> Path:
        return self.run / "control.sock"

    @property
    def gateway_socket(self) -> Path:
        """The gateway's private side: reload and metrics."""
        return self.run / "gateway.sock"

    @property
    def gateway_table(self) -> Path:
        """Routing table and key hashes, written by the daemon, read by the gateway."""
        return self.run / "gateway.json"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    def worker_socket(self, revision: int) -> Path:
        """Socket of the engine process that serves one deployment revision."""
        return self.run / f"engine-{revision}.sock"

    def worker_model(self, revision: int) -> Path:
        """Folder of links that an engine loads, where its model is not one file."""
        return self.run / f"engine-{revision}.model"

    def worker_cache(self, revision: int) -> Path:
        """Folder of an engine's saved prefixes, where the settings allow them disk."""
        return self.root / "cache" / f"engine-{revision}"

    def job(self, job_id: str) -> Path:
        return self.jobs / job_id

    def blob(self, digest: str) -> Path:
        return self.blobs / "sha256" / digest[:2] / digest[2:]
