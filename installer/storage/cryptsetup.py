"""The thin door to cryptsetup: one function per call, its exit status turned into an error that says what to do.

Every passphrase goes in as a file. `--disable-external-tokens` keeps a TPM or another token from answering in place
of the key that was given; see proof.py for why that matters.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from appliance.kernel.errors import Conflict, Forbidden, IntramurosError, NotFound, StorageFailure
from appliance.kernel.process import Outcome, run
from installer.storage.volume import BOOTSTRAP_SLOT, Volume

_SHORT = 300.0
_LONG = 14 * 24 * 3600.0
_HALF, _NO_KEY, _NO_DEVICE, _BUSY = 1, 2, 4, 5
"""cryptsetup(8), RETURN CODES"""


def format_volume(volume: Volume, *, uuid: str, key_file: Path) -> None:
    """Write a fresh LUKS2 header; the only key that opens it sits in the bootstrap slot."""
    arguments = ["--batch-mode", "--type", "luks2", "--cipher", "aes-xts-plain64", "--key-size", "512"]
    arguments += ["--sector-size", "4096", "--label", volume.name, "--uuid", uuid]
    arguments += ["--key-slot", str(BOOTSTRAP_SLOT), "--key-file", str(key_file), *volume.cost.random]
    _must(_cryptsetup("luksFormat", *arguments, str(volume.device)), f"formatting {volume.device}")


def open_volume(volume: Volume, key_file: Path) -> None:
    """Map the decrypted volume. Raises Forbidden when the key opens no slot."""
    arguments = ["--disable-external-tokens", "--key-file", str(key_file), str(volume.device), volume.name]
    _must(_cryptsetup("open", *arguments), f"opening {volume.device}")


def close_volume(volume: Volume) -> None:
    """Unmap the decrypted volume."""
    _must(_cryptsetup("close", volume.name), f"closing {volume.name}")


def slot_opens(device: Path, slot: int, key_file: Path) -> bool:
    """Tell whether this very key opens this very slot.

    While the volume key changes, a slot holds one of two keys and is not enough by itself: cryptsetup 2.6 then says
    nothing and returns 1 for the right key, 2 for a wrong one. The right key must then open the volume as a whole.
    """
    arguments = ["--test-passphrase", "--disable-external-tokens", "--key-file", str(key_file), str(device)]
    outcome = _cryptsetup("open", "--key-slot", str(slot), *arguments)
    if outcome.status == _HALF and not outcome.stderr.strip():
        outcome = _cryptsetup("open", *arguments)
    if outcome.status == _NO_KEY:
        return False
    _must(outcome, f"testing slot {slot} of {device}")
    return True


def token_opens(device: Path, kind: str) -> bool:
    """Tell whether a token of this kind, alone and with no key given, opens the volume."""
    arguments = ["--test-passphrase", "--token-only", "--token-type", kind]
    return _cryptsetup("open", *arguments, str(device)).status == 0


def add_key(volume: Volume, *, slot: int, unlock: Path, new: Path, cost: Sequence[str]) -> None:
    """Fill an empty slot with a new key."""
    arguments = ["--batch-mode", "--disable-external-tokens", "--key-file", str(unlock)]
    arguments += ["--key-slot", str(slot), *cost, str(volume.device), str(new)]
    _must(_cryptsetup("luksAddKey", *arguments), f"filling slot {slot} of {volume.device}")


def import_token(volume: Volume, document: bytes) -> None:
    """Attach a token (its JSON) to its slots."""
    outcome = _cryptsetup("token", "import", "--json-file", "-", str(volume.device), given=document)
    _must(outcome, f"describing a slot of {volume.device}")


def metadata(device: Path) -> str:
    """Return the header's JSON area of a device or of a header's backup. Raises NotFound when there is no header."""
    outcome = _cryptsetup("luksDump", "--dump-json-metadata", str(device))
    if outcome.status != 0:
        raise NotFound(
            "storage.no_header",
            f"{device} has no readable LUKS2 header.",
            hint="If the data volume was there before: intramuros storage restore-header",
        )
    return outcome.stdout


def uuid_of(device: Path) -> str:
    """Return the header's UUID."""
    outcome = _cryptsetup("luksUUID", str(device))
    _must(outcome, f"reading the UUID of {device}")
    return outcome.stdout.strip()


def back_up_header(device: Path, target: Path) -> None:
    """Copy the header into `target`, which must not exist."""
    _must(
        _cryptsetup("luksHeaderBackup", str(device), "--header-backup-file", str(target)), f"saving {device}'s header"
    )


def restore_header(device: Path, source: Path) -> None:
    """Put a saved header back over what the device has."""
    arguments = ["--batch-mode", str(device), "--header-backup-file", str(source)]
    _must(_cryptsetup("luksHeaderRestore", *arguments), f"restoring the header of {device}")


def begin_reencryption(volume: Volume, keys_by_slot: Sequence[bytes]) -> None:
    """Prepare a new volume key. The keys of all slots, in the order of their numbers, go in one a line: cryptsetup
    asks for each, and every slot then opens the old and the new volume key until all data has moved."""
    outcome = _cryptsetup(
        "reencrypt",
        "--batch-mode",
        "--init-only",
        str(volume.device),
        given=b"".join(key + b"\n" for key in keys_by_slot),
    )
    _must(outcome, f"preparing a new volume key for {volume.device}")


def continue_reencryption(volume: Volume, key_file: Path, *, image: bool) -> None:
    """Move the data to the new volume key, from where it stopped. `image`: a file that nobody has open."""
    arguments = ["--batch-mode", "--resume-only", "--key-file", str(key_file)]
    arguments += ["--force-offline-reencrypt"] if image else []
    _must(_cryptsetup("reencrypt", *arguments, str(volume.device), timeout=_LONG), f"encrypting {volume.device} anew")


def _cryptsetup(action: str, *arguments: str, given: bytes = b"", timeout: float = _SHORT) -> Outcome:
    return run(["cryptsetup", action, *arguments], timeout=timeout, given=given)


def _must(outcome: Outcome, doing: str) -> None:
    if outcome.status != 0:
        raise _failure(outcome, doing)


def _failure(outcome: Outcome, doing: str) -> IntramurosError:
    said = outcome.stderr.strip().splitlines()
    detail = said[-1] if said else f"cryptsetup ended with status {outcome.status}"
    match outcome.status:
        case status if status == _NO_KEY:
            return Forbidden(
                "storage.wrong_key",
                f"The given key opens no slot (while {doing}).",
                hint="Check the key; upper and lower case matter in a passphrase.",
            )
        case status if status == _NO_DEVICE:
            return NotFound("storage.no_device", f"No such device while {doing}: {detail}")
        case status if status == _BUSY:
            return Conflict("storage.busy", f"The device is in use while {doing}: {detail}")
        case _:
            return StorageFailure("storage.cryptsetup", f"cryptsetup failed while {doing}: {detail}")
