"""Debian trees and disks that boxes start from, made once and kept in the cache by what they are made from.

A tree is what Debian's installer leaves with nothing selected but the SSH server: the packages of priority
"required" and "important". Where packages come from is the business of this machine's own apt sources.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.boxes.rig.commands import run
from tools.bootstrap.cache import entry
from tools.bootstrap.narration import say, step

RELEASE = "bookworm"
_RECIPE = 4
"""Raised when a tree is made differently from the same packages."""
_DISK_GIB = 12
_SETTLED = 3
"""Raised when a tree is settled differently."""
_DOOR = """\
[Unit]
Description=Root shell of the test rig on a virtio port
DefaultDependencies=no
StartLimitIntervalSec=0
ConditionPathExists=/dev/virtio-ports/rig

[Service]
ExecStart=/bin/bash /usr/local/lib/rig/door
Restart=always
RestartSec=1
StandardError=null
"""
_DOOR_RULE = """\
SUBSYSTEM=="virtio-ports", ATTR{name}=="rig", TAG+="systemd", ENV{SYSTEMD_WANTS}+="rig-door.service"
"""
_DOOR_PROGRAM = r"""#!/bin/bash
# One request a line: "ID BASE64-OF-A-SCRIPT". One answer a line: "ID STATUS BASE64-OF-STDOUT BASE64-OF-STDERR".
exec 3<>/dev/virtio-ports/rig
folder=$(mktemp -d /run/rig.XXXXXX)
while read -r id script <&3; do
    base64 -d <<<"$script" >"$folder/script"
    env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM=dumb \
        bash "$folder/script" >"$folder/out" 2>"$folder/err" </dev/null 3>&-
    status=$?
    echo "$id $status $(base64 -w0 "$folder/out") $(base64 -w0 "$folder/err")" >&3
done
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a tree is made from."""

    name: str
    packages: tuple[str, ...]
    release: str = RELEASE
    version: int = _RECIPE

    @property
    def digest(self) -> str:
        return _digest(asdict(self))


BOX = Recipe(name="box", packages=("dbus", "openssh-server"))
"""A bare Debian 12 with an SSH server."""
MACHINE = Recipe(name="machine", packages=(*BOX.packages, "linux-image-amd64", "initramfs-tools"))
"""The same with a kernel, for QEMU."""
SERVER = Recipe(name="server", packages=(*MACHINE.packages, "grub2-common"))
"""The same with what writes GRUB's menu, which Debian's installer leaves on every machine; QEMU boots past it."""
OUTSIDER = Recipe(
    name="outsider",
    packages=(
        *BOX.packages,
        "nmap",
        "curl",
        "openssh-client",
        "python3-venv",
        "python3-pip",
        "ca-certificates",
        "openssl",
    ),
)
"""The second machine on the bridge: what a client, an administrator and a stranger have."""


def tree(cache: Path, recipe: Recipe) -> Path:
    """Return the folder with a Debian system made from a recipe."""
    return entry(cache / "boxes", _name(recipe), lambda folder: _debootstrap(recipe, folder)) / "root"


def is_made(cache: Path, recipe: Recipe) -> bool:
    """Tell whether the tree is there already."""
    return (cache / "boxes" / _name(recipe)).is_dir()


def _name(recipe: Recipe) -> str:
    return f"{recipe.name}-{recipe.digest}"


def disk(cache: Path, recipe: Recipe) -> Path:
    """Return a folder with `disk.raw`, `vmlinuz` and `initrd.img` of a recipe with a kernel."""
    source = tree(cache, recipe)
    settling = _digest([_SETTLED, recipe.digest, _DOOR, _DOOR_RULE, _DOOR_PROGRAM, _DISK_GIB])
    return entry(cache / "boxes", f"{recipe.name}-disk-{settling}", lambda folder: _make_disk(source, folder))


def _debootstrap(recipe: Recipe, folder: Path) -> None:
    root = folder / "root"
    log = folder / "debootstrap.log"
    archives = folder.parent / "archives"
    archives.mkdir(exist_ok=True)
    with step(f"making the Debian tree {recipe.name}"):
        # A mount namespace of its own, so that debootstrap's mounts go with it.
        words = ["unshare", "--mount", "debootstrap", f"--cache-dir={archives}", "--merged-usr"]
        words += [f"--include={','.join(recipe.packages)}", recipe.release, str(root), archive(recipe.release)]
        log.write_text(run(words, timeout=1800).out)
        shutil.rmtree(root / "var" / "cache" / "apt" / "archives")
        (root / "var" / "cache" / "apt" / "archives" / "partial").mkdir(parents=True)


def settle(root: Path) -> None:
    """Give a system what debootstrap leaves out: host keys of its own, and a door for virtual machines."""
    # A box without a name for itself would ask questions at its first start.
    (root / "etc" / "machine-id").write_text(f"{secrets.token_hex(16)}\n")
    for key in (root / "etc" / "ssh").glob("ssh_host_*"):
        key.unlink()  # each box gets its own at its first start
    (root / "etc" / "systemd" / "system" / "ssh-host-keys.service").write_text(
        "[Unit]\nDescription=Host keys of a box that has none\nBefore=ssh.service\n"
        "[Service]\nType=oneshot\nExecStart=/usr/bin/ssh-keygen -A\n[Install]\nWantedBy=multi-user.target\n"
    )
    door = root / "usr" / "local" / "lib" / "rig"
    door.mkdir(parents=True, exist_ok=True)
    (door / "door").write_text(_DOOR_PROGRAM)
    (root / "etc" / "systemd" / "system" / "rig-door.service").write_text(_DOOR)
    (root / "etc" / "udev" / "rules.d" / "90-rig-door.rules").write_text(_DOOR_RULE)
    run(["systemctl", f"--root={root}", "enable", "ssh-host-keys.service", "ssh.service"])


def _make_disk(source: Path, folder: Path) -> None:
    with step(f"making the disk of {source.parent.name}"):
        write_disk(source, folder)
        mounted = folder / "mounted"
        mounted.mkdir()
        run(["mount", "-o", "loop", folder / "disk.raw", mounted])
        try:
            settle(mounted)
        finally:
            run(["umount", mounted])
        mounted.rmdir()


def write_disk(root: Path, folder: Path) -> None:
    """Write `disk.raw`, `vmlinuz` and `initrd.img` of the system below a folder, with whatever it has settled."""
    shutil.copyfile(sorted((root / "boot").glob("vmlinuz-*"))[-1], folder / "vmlinuz")
    shutil.copyfile(sorted((root / "boot").glob("initrd.img-*"))[-1], folder / "initrd.img")
    raw = folder / "disk.raw"
    run(["truncate", "--size", f"{_DISK_GIB}G", raw])
    run(["mkfs.ext4", "-q", "-L", "root", "-d", root, raw], timeout=600)


def archive(release: str) -> str:
    """Return where this machine's apt gets a release from. Raises LookupError."""
    listing = run(
        ["apt-get", "indextargets", "--format", "$(CODENAME) $(COMPONENT) $(REPO_URI)", "Created-By: Packages"]
    )
    for line in listing.out.splitlines():
        words = line.split()
        if words[:2] == [release, "main"]:
            return words[2]
    say(f"no apt source of this machine has {release}")
    raise LookupError(f"No apt source of this machine has Debian {release}; add one to make test boxes.")


def _digest(inputs: object) -> str:
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]
