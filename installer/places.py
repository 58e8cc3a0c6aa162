"""Where the installer keeps what. Nothing else builds a path of its own; a test gives another root."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """The installer's layout below a root, which is `/` on a box."""

    root: Path = Path("/")

    @property
    def config(self) -> Path:
        """Answers without secrets, trust, waivers."""
        return self.root / "etc" / "intramuros"

    @property
    def answers(self) -> Path:
        """The answers of the last installation."""
        return self.config / "answers.toml"

    @property
    def box_state(self) -> Path:
        """Names the folder of the appliance's data."""
        return self.config / "state"

    @property
    def volume_table(self) -> Path:
        """What is known of the encrypted volume."""
        return self.config / "luks.json"

    @property
    def state(self) -> Path:
        """What outlives a run: journals, lifeline, evidence."""
        return self.root / "var" / "lib" / "intramuros"

    @property
    def runs(self) -> Path:
        """One folder for each run."""
        return self.state / "runs"

    @property
    def memory(self) -> Path:
        """Gone after a boot, and never on a disk."""
        return self.root / "run" / "intramuros"

    @property
    def secrets(self) -> Path:
        """Secrets of the installation that goes on."""
        return self.memory / "secrets"

    @property
    def scratch(self) -> Path:
        """ansible's private data."""
        return self.memory / "installer"

    @property
    def lock(self) -> Path:
        """Held by the one installer that may run."""
        return self.memory / "installer.lock"
