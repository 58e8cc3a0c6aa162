"""Opening a locked volume at the console, and starting what waited for it.

At boot systemd asks for the passphrase for a while and then gives up; by that time the box has SSH and a login. A key
given here opens the volume directly, so it works whether systemd still asks or not.
"""

from __future__ import annotations

from pathlib import Path

from appliance.kernel.errors import Conflict, Forbidden, NotFound, StorageFailure
from appliance.kernel.process import run
from installer.storage import cryptsetup
from installer.storage.header import Purpose
from installer.storage.keyfiles import KeyFiles
from installer.storage.proof import prove_passphrase, prove_recovery
from installer.storage.recovery_key import normalise
from installer.storage.volume import Places, Volume

_WAITED = ("multi-user.target", "intramuros.target", "timers.target", "sockets.target")
"""Started anew for what they want and could not have: a target that is active already does not pass the wish on to
others, so each is named."""


def unlock(volume: Volume, places: Places, secret: str, keys: KeyFiles) -> Purpose:
    """Open the volume by a typed passphrase or recovery key, and return which it was. Raises Forbidden or Conflict."""
    if volume.mapping(places).exists():
        raise Conflict("storage.open", f"{volume.device} is open already, as {volume.mapping(places)}.")
    file, purpose = recognise(volume.device, secret, keys)
    stop_asking(volume)
    cryptsetup.open_volume(volume, file)
    return purpose


def recognise(device: Path, secret: str, keys: KeyFiles) -> tuple[Path, Purpose]:
    """Return the key file and what the typed text is: a passphrase or the recovery key. Raises Forbidden."""
    typed = keys.put("typed", secret)
    try:
        prove_passphrase(device, typed)
    except (Forbidden, NotFound):
        letters = secret.replace("-", "").replace(" ", "")
        if len(letters) < 48:  # nobody's attempt at 64 letters
            raise Forbidden(
                "storage.passphrase_wrong",
                f"This passphrase does not open {device}.",
                hint="Upper and lower case matter. The recovery key opens it too: eight groups of eight letters.",
            ) from None
        typed = keys.put("typed", normalise(secret))
        prove_recovery(device, typed)
        return typed, Purpose.RECOVERY
    return typed, Purpose.PASSPHRASE


def stop_asking(volume: Volume) -> None:
    """End systemd's own attempt, which may still wait for a passphrase."""
    _systemctl("stop", _cryptsetup_unit(volume))


def start_waiting(volume: Volume) -> None:
    """Tell systemd that the volume is open, mount it, and start everything that waited. Raises StorageFailure."""
    unit = _mount_unit(volume)
    _systemctl("reset-failed", _cryptsetup_unit(volume), unit)
    _systemctl("start", _cryptsetup_unit(volume))
    outcome = _systemctl("start", unit)
    if outcome != 0:
        raise StorageFailure(
            "storage.mount",
            f"The volume is open, but {volume.mount} could not be mounted.",
            hint=f"See: journalctl -b -u {unit}",
        )
    for target in _WAITED:
        _systemctl("start", "--no-block", target)


def _cryptsetup_unit(volume: Volume) -> str:
    return _escape("--template=systemd-cryptsetup@.service", volume.name)


def _mount_unit(volume: Volume) -> str:
    return _escape("--path", "--suffix=mount", str(volume.mount))


def _escape(*arguments: str) -> str:
    return run(["systemd-escape", *arguments], timeout=10).stdout.strip()


def _systemctl(*arguments: str) -> int:
    return run(["systemctl", *arguments], timeout=300).status
