"""Fixtures of the test boxes. Everything here needs root and the rig's programs; without them the tests are skipped."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.boxes.rig import images
from tests.boxes.rig.commands import run
from tests.boxes.rig.installation import MEDIUM, Bundle, Wishes, install
from tests.boxes.rig.network import CLIENTS, NETWORK, Network, make_network, remove_network
from tests.boxes.rig.nspawn import Container, NspawnBox
from tests.boxes.rig.qemu import Machine, QemuBox
from tests.boxes.rig.run_folder import run_folder
from tests.boxes.rig.second_machine import ask, hand_over, install_client
from tools.bootstrap.cache import cache_directory, exclusive

if TYPE_CHECKING:
    from tests.boxes.encrypted_box import InstalledMachine

_PROGRAMS = ("debootstrap", "systemd-nspawn", "nsenter", "ip", "tcpdump", "ssh", "ssh-keygen", "mkfs.ext4")


@dataclass(slots=True, kw_only=True)
class Rig:
    """One network and the boxes on it."""

    folder: Path
    cache: Path
    network: Network
    key: Path
    boxes: list[NspawnBox | QemuBox] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=count, init=False)

    @property
    def public_key(self) -> str:
        return self.key.with_suffix(".pub").read_text()

    def tree(self, recipe: images.Recipe) -> Path:
        """Return a Debian tree; skips where it was never made and there is no network to make it from."""
        if not images.is_made(self.cache, recipe) and not _has_network():
            pytest.skip(f"the Debian tree {recipe.name!r} was never made here, and this run has no network")
        return images.tree(self.cache, recipe)

    def box(
        self,
        name: str = "box",
        *,
        octet: int = 20,
        layers: tuple[Path, ...] = (),
        disk_bytes: int | None = None,
        memory_bytes: int | None = None,
        cpus: int | None = None,
        shared: tuple[tuple[Path, str], ...] = (),
        tunnels: bool = False,
    ) -> NspawnBox:
        """Make and start a bare Debian box, or one in the state that `layers` hold."""
        return self._start(
            Container(
                name=name,
                address=NETWORK[octet],
                layers=layers or (self.tree(images.BOX),),
                disk_bytes=disk_bytes,
                memory_bytes=memory_bytes,
                cpus=cpus,
                shared=shared,
                tunnels=tunnels,
            )
        )

    def outsider(self, *, layers: tuple[Path, ...] = (), shared: tuple[tuple[Path, str], ...] = ()) -> NspawnBox:
        """Make and start the second machine: with the addresses of a client, an administrator and a stranger."""
        return self._start(
            Container(
                name="outsider",
                address=CLIENT,  # where its programs ask from when nothing else is said
                more_addresses=(STRANGER, ADMINISTRATOR),
                layers=layers or (self.tree(images.OUTSIDER),),
                shared=shared,
            )
        )

    def machine(
        self,
        name: str = "box",
        *,
        octet: int = 20,
        memory_mib: int = 2048,
        cpus: int = 2,
        disks: tuple[tuple[str, Path, bool], ...] = (),
        tpm: bool = False,
        tpm_from: Path | None = None,
        clock: str | None = None,
        system: Path | None = None,
        settled: bool = True,
    ) -> QemuBox:
        """Make and start a bare Debian virtual machine, or one in the state of the disk `system`."""
        if missing := [program for program in ("qemu-system-x86_64", "qemu-img", "swtpm") if not shutil.which(program)]:
            pytest.skip(f"virtual machines need {', '.join(missing)}: make test-boxes installs them")
        made = Machine(
            name=name,
            address=NETWORK[octet],
            base=images.disk(self.cache, images.MACHINE),
            memory_mib=memory_mib,
            cpus=cpus,
            disks=disks,
            tpm=tpm,
            tpm_from=tpm_from,
            clock=clock,
            system=system,
        )
        box = QemuBox(made_from=made, folder=self._folder(name), network=self.network, public_key=self.public_key)
        self.boxes.append(box)
        box.make(settled=settled)
        return box

    def discard(self, box: NspawnBox | QemuBox) -> None:
        """Remove a box before the test's end."""
        self.boxes.remove(box)
        box.discard()

    def remove(self) -> None:
        """Remove the boxes, the network and the folder."""
        for box in reversed(self.boxes):
            box.discard()
        remove_network(self.network)
        shutil.rmtree(self.folder)

    def ssh(self, box_address: IPv4Address, user: str = "root", port: int = 22) -> list[str]:
        """Return the words of an SSH client in the rig's network, which is the administrators' one."""
        return self.network.inside(ssh_words(self.key, f"{user}@{box_address}", port))

    def _start(self, container: Container) -> NspawnBox:
        box = NspawnBox(made_from=container, folder=self._folder(container.name), network=self.network)
        self.boxes.append(box)
        box.make(public_key=self.public_key)
        box.start()
        return box

    def _folder(self, name: str) -> Path:
        return self.folder / f"box-{next(self._numbers)}-{name}"


def make_key(run_directory: Path) -> Path:
    """Make the administrator's SSH key of a run."""
    key = run_directory / "key"
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "rig", "-f", key])
    return key


def new_rig(run_directory: Path, number: int, *, cache: Path, key: Path) -> Rig:
    """Make one of a run's networks, without boxes."""
    name = f"{run_directory.name}n{number}"
    folder = run_directory / name
    folder.mkdir()
    return Rig(folder=folder, cache=cache, network=make_network(name, folder), key=key)


STRANGER = NETWORK[200]
CLIENT = CLIENTS[1]
ADMINISTRATOR = NETWORK[5]


def ssh_words(key: Path | str, target: str, port: int = 22) -> list[str]:
    """Return the words of an SSH client that asks nobody and keeps nothing, each connection a new one."""
    options = [
        *("BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"),
        *("ControlPath=none", "ConnectTimeout=5", "IdentitiesOnly=yes"),
    ]
    return ["ssh", "-i", str(key), "-p", str(port), *(word for one in options for word in ("-o", one)), target]


def _has_network() -> bool:
    return any(name != "lo" for _, name in socket.if_nameindex())


@pytest.fixture(scope="session")
def box_cache() -> Path:
    """The folder of cached trees, disks and images; skips where boxes cannot be made."""
    if os.geteuid() != 0:
        pytest.skip("test boxes need root")
    if missing := [program for program in _PROGRAMS if shutil.which(program) is None]:
        pytest.skip(f"test boxes need {', '.join(missing)}: make setup, as root, installs them")
    return cache_directory()


@pytest.fixture(scope="session")
def run_directory(box_cache: Path) -> Iterator[Path]:
    """The folder of this run; leftovers of killed runs are removed first."""
    with run_folder(box_cache) as folder:
        yield folder


@pytest.fixture(scope="session")
def ssh_key(run_directory: Path) -> Path:
    """The administrator's SSH key of this run."""
    return make_key(run_directory)


@pytest.fixture(scope="session")
def make_rig(run_directory: Path, box_cache: Path, ssh_key: Path) -> Callable[[], Rig]:
    """Make a rig that lives as long as the run, for fixtures that several tests share."""
    numbers = iter(range(1000))

    def make() -> Rig:
        return new_rig(run_directory, next(numbers), cache=box_cache, key=ssh_key)

    return make


@pytest.fixture
def rig(make_rig: Callable[[], Rig]) -> Iterator[Rig]:
    """A network of this test's own, and the boxes it makes; all of it is gone afterwards."""
    made = make_rig()
    try:
        yield made
    finally:
        made.remove()


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """A box that was installed once, frozen, and what was seen while it was."""

    layers: tuple[Path, ...]
    client_layers: tuple[Path, ...]
    wishes: Wishes
    seconds: float
    """From the medium's script to the first answer, with the reading of key and authority between."""
    answer: dict[str, Any]
    said: str
    left: list[str]
    """Packets that wanted to leave meanwhile."""
    listeners: str
    """`ss -tulpnH` right after the installation."""


@pytest.fixture(scope="session")
def bundle(run_directory: Path) -> Bundle:
    """The developer's bundle, as it was when the run began: a build meanwhile does not pull it away."""
    built = Path(__file__).resolve().parents[2] / "build" / "bundle"
    if not (built / "medium").is_dir():
        pytest.skip("there is no bundle in build/bundle: make bundle")
    copy = run_directory / "bundle"
    with exclusive(built, waiting_for="a build of the bundle"):
        run(["cp", "--archive", "--link", built, copy])
    return Bundle.read(copy)


@pytest.fixture(scope="session")
def installed(make_rig: Callable[[], Rig], bundle: Bundle) -> Installed:
    """Install a bare box of the smallest size and ask it from outside; tests start from the frozen result."""
    rig = make_rig()
    stick = ((bundle.medium, MEDIUM),)
    outsider = rig.outsider(shared=stick)
    install_client(outsider)
    box = rig.box(shared=stick, memory_bytes=4 << 30, cpus=2)
    wishes = Wishes(address=box.address, public_key=rig.public_key)
    capture = rig.network.capture("install")
    begun = time.monotonic()
    said, _ = install(box, bundle, wishes)
    hand_over(box, outsider)
    answer = ask(outsider, box.address, wishes.model)
    seconds = time.monotonic() - begun
    listeners = box.sh("ss -tulpnH").out
    left = capture.stop()
    layers, client_layers = box.freeze(), outsider.freeze()
    return Installed(
        layers=layers,
        client_layers=client_layers,
        wishes=wishes,
        seconds=seconds,
        answer=answer,
        said=said.out + said.err,
        left=left,
        listeners=listeners,
    )


@pytest.fixture(scope="session")
def machine_installed(make_rig: Callable[[], Rig], bundle: Bundle, box_cache: Path) -> InstalledMachine:
    """The virtual machine that was installed with an encrypted data volume; it is off."""
    from tests.boxes.encrypted_box import installed_machine  # it stands on Rig

    return installed_machine(make_rig, bundle, box_cache)
