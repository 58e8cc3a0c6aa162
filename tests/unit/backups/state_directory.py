"""A small state directory, with a database in WAL mode whose table `model` names blobs."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from appliance.kernel.paths import StatePaths


class StateDirectory:
    """What a daemon would have written, and the two orders in which it writes and removes."""

    def __init__(self, root: Path) -> None:
        self.paths = StatePaths(root)
        for folder in (root, self.paths.tls, self.paths.secrets, self.paths.run, self.paths.logs, self.paths.jobs):
            folder.mkdir(mode=0o700)
        self.paths.gates.write_text('[quality]\nmetric = "exact_match"\n')
        self.paths.authority_certificate.write_text("certificate")
        for secret in (self.paths.authority_key, self.paths.audit_key, self.paths.backup_password):
            secret.touch(mode=0o600)
            secret.write_text(f"secret of {secret.name}\n")
        self.paths.gateway_table.write_text("{}")
        with closing(sqlite3.connect(self.paths.database)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("CREATE TABLE model (digest TEXT PRIMARY KEY)")

    def connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.paths.database, isolation_level=None, timeout=30)

    def add_blob(self, content: bytes) -> str:
        digest = hashlib.sha256(content).hexdigest()
        path = self.paths.blob(digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_bytes(content)
        temporary.chmod(0o444)
        temporary.rename(path)
        return digest

    def register(self, connection: sqlite3.Connection, content: bytes) -> str:
        digest = self.add_blob(content)
        connection.execute("INSERT OR IGNORE INTO model VALUES (?)", (digest,))
        return digest

    def remove(self, connection: sqlite3.Connection, digest: str) -> None:
        connection.execute("DELETE FROM model WHERE digest = ?", (digest,))
        self.paths.blob(digest).unlink()


def named_blobs(connection: sqlite3.Connection) -> Iterable[str]:
    return [row[0] for row in connection.execute("SELECT digest FROM model")]
