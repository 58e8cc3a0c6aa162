"""Debian's own apt in a folder of its own: its state, lists and cache say nothing of this machine and leave it alone.

The dpkg status is empty, so that what apt wants to install is the whole closure: nothing that this machine happens to
have is taken for granted on another. Where the packages come from is this machine's own business (its apt sources).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from debian.deb822 import Deb822

from appliance.kernel.errors import BadInput, IntegrityFailure, Unavailable
from appliance.kernel.process import Outcome, run

RELEASE = "bookworm"
_SECONDS = 3600.0
_LIST = re.compile(r"_dists_(.+)_([^_]+)_binary-amd64_Packages$")
_FIELD = re.compile(r"^(Package|Version): (.*)$", re.MULTILINE)
_INSTALLS = re.compile(r"^Inst (\S+) ", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A downloaded package and where it stood: suite and component."""

    file: Path
    suite: str


class PrivateApt:
    """apt-get with `folder` as its whole world and these sources (deb822)."""

    def __init__(self, folder: Path, sources: str) -> None:
        self._folder = folder.absolute()
        for name in ("state/lists/partial", "cache/archives/partial", "sources", "nothing"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        self._status = self._folder / "status"
        self._status.write_bytes(b"")
        (self._folder / "sources" / "chosen.sources").write_text(sources)
        self._config = self._folder / "apt.conf"
        self._config.write_text(_configuration(self._folder))

    @property
    def archives(self) -> Path:
        """Where downloaded packages lie."""
        return self._folder / "cache" / "archives"

    def update(self) -> None:
        """Fetch the lists; apt verifies their signatures."""
        self._apt("update", "--error-on=any", failure="apt cannot read the lists of packages")

    def closure(self, names: Sequence[str]) -> list[str]:
        """Return the packages that an empty machine would install for these names. Raises Unavailable."""
        outcome = self._apt("install", "--simulate", *names, failure="apt finds no set of packages that fits together")
        return sorted(set(_INSTALLS.findall(outcome.stdout)))

    def fetch_closure(self, names: Sequence[str]) -> list[Found]:
        """Download the packages and everything they need; what is there already is not fetched again."""
        self._apt("install", "--download-only", "--yes", *names, failure="apt could not download the packages")
        listing = self._apt(
            "install", "--print-uris", "--yes", "-qq", *names, failure="apt could not list the packages"
        )
        # What is complete in the archives is not printed: everything wanted is there, and nothing else may be.
        if listing.stdout.strip():
            raise Unavailable(
                "bundle.apt", "apt left packages out of its download.", hint="Run the same command again."
            )
        chosen = self._planned(names)
        return self._found(chosen)

    def fetch_exactly(self, names: Iterable[str]) -> list[Found]:
        """Download single packages, `name=version`, without what they need."""
        wanted = list(names)
        run_in = self.archives
        self._apt("download", *wanted, failure=f"apt has no {', '.join(wanted)}", directory=run_in)
        return self._found({(name, version) for name, _, version in (one.partition("=") for one in wanted)})

    def _planned(self, names: Sequence[str]) -> set[tuple[str, str]]:
        outcome = self._apt("install", "--simulate", *names, failure="apt finds no set of packages that fits together")
        return set(re.findall(r"^Inst (\S+) \((\S+) ", outcome.stdout, re.MULTILINE))

    def _found(self, chosen: set[tuple[str, str]]) -> list[Found]:
        suites = self._suites(chosen)
        by_name: dict[tuple[str, str], Path] = {}
        for file in self.archives.glob("*.deb"):
            name, version, _ = file.name.split("_", 2)
            by_name[name, version.replace("%3a", ":")] = file
        missing = sorted(f"{name} {version}" for name, version in chosen if (name, version) not in by_name)
        if missing:
            raise IntegrityFailure("bundle.apt", f"apt downloaded no {', '.join(missing)}.")
        return [Found(file=by_name[one], suite=suites.get(one, "")) for one in sorted(chosen)]

    def _suites(self, chosen: set[tuple[str, str]]) -> dict[tuple[str, str], str]:
        """Say in which list each package stands: the name of the list is that of its suite and component."""
        found: dict[tuple[str, str], str] = {}
        for file in sorted((self._folder / "state" / "lists").glob("*_Packages")):
            name = _LIST.search(file.name)
            if name is None:
                continue
            for stanza in file.read_text(encoding="utf-8").split("\n\n"):
                fields = dict(_FIELD.findall(stanza))
                key = (fields.get("Package", ""), fields.get("Version", ""))
                if key in chosen:
                    found.setdefault(key, f"{name[1]}/{name[2]}")
        return found

    def _apt(self, *words: str, failure: str, directory: Path | None = None) -> Outcome:
        outcome = run(
            ["apt-get", "--no-install-recommends", *words],
            timeout=_SECONDS,
            extra_environment={"APT_CONFIG": str(self._config), "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"},
            directory=directory,
        )
        if outcome.status != 0:
            said = [line for line in outcome.stderr.splitlines() if line.startswith(("E:", "W:"))]
            raise Unavailable("bundle.apt", f"{failure}: {' '.join(said[:5]) or outcome.stdout.strip()[-300:]}")
        return outcome


def own_sources(folder: Path = Path("/etc/apt")) -> str:
    """Return this machine's sources of Debian 12 as deb822. Raises BadInput when it has none."""
    kept: list[str] = []
    for file in sorted((folder / "sources.list.d").glob("*.sources")):
        for paragraph in Deb822.iter_paragraphs(file.read_text(), use_apt_pkg=False):
            suites = [suite for suite in paragraph.get("Suites", "").split() if suite.split("-")[0] == RELEASE]
            if suites and paragraph.get("Enabled", "yes") != "no" and "/debian" in paragraph.get("URIs", ""):
                kept.append(_stanza(paragraph.get("URIs", ""), " ".join(suites), paragraph.get("Signed-By", "")))
    for file in [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*.list"))]:
        for line in file.read_text().splitlines() if file.is_file() else ():
            found = re.match(r"^deb\s+(?:\[[^]]*\]\s+)?(\S+/debian\S*)\s+(\S+)\s", line)
            if found and found[2].split("-")[0] == RELEASE:
                kept.append(_stanza(found[1], found[2], ""))
    if not kept:
        raise BadInput(
            "bundle.apt_sources",
            f"{folder} names no source of Debian 12 ({RELEASE}).",
            hint="Collect on a Debian 12 machine, or give --apt-sources FILE in deb822 form.",
        )
    return "\n".join(kept)


def sources_of_suite(sources: str, suite: str) -> str:
    """Return the same archive's source of another suite."""
    for paragraph in Deb822.iter_paragraphs(sources, use_apt_pkg=False):
        if RELEASE in paragraph["Suites"].split():
            return _stanza(paragraph["URIs"], suite, paragraph.get("Signed-By", ""))
    raise BadInput("bundle.apt_sources", f"No source has the suite {RELEASE} itself.")


def flat_source(folder: Path, key: Path) -> str:
    """Return the source of a bundle's flat archive."""
    return f"Types: deb\nURIs: file:{folder.absolute()}\nSuites: ./\nSigned-By: {key.absolute()}\n"


def _stanza(uris: str, suites: str, key: str) -> str:
    signed = f"Signed-By: {key}\n" if key else ""
    return f"Types: deb\nURIs: {uris}\nSuites: {suites}\nComponents: main\n{signed}"


def _configuration(folder: Path) -> str:
    return f"""Dir::State "{folder}/state";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}/cache";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "{folder}/sources";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "{folder}/nothing";
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "root";
APT::Keep-Downloaded-Packages "true";
Acquire::GzipIndexes "false";
Acquire::Languages "none";
Debug::NoLocking "true";
"""
