"""The TPM2 slot: sealed to PCR 7 (the state of Secure Boot) by systemd-cryptenroll, one slot at the most.

Wiping and enrolling are two calls. In one call, systemd-cryptenroll 252 finds that "this PCR set is already enrolled",
does nothing and returns 0, also when the TPM is another one by now.
"""

from __future__ import annotations

from pathlib import Path

from appliance.kernel.errors import Unavailable
from appliance.kernel.process import run
from installer.storage import cryptsetup

_TOKEN = "systemd-tpm2"  # noqa: S105 - a token's type
_TIMEOUT = 300.0


def enrol(device: Path, *, unlock: Path) -> None:
    """Seal a new random key in the TPM and put it into an empty slot. Raises Unavailable."""
    arguments = [f"--unlock-key-file={unlock}", "--tpm2-device=auto", "--tpm2-pcrs=7"]
    outcome = run(["systemd-cryptenroll", *arguments, str(device)], timeout=_TIMEOUT)
    if outcome.status != 0:
        said = outcome.stderr.strip().splitlines()
        raise Unavailable(
            "storage.tpm",
            f"The TPM took no key: {said[-1] if said else f'status {outcome.status}'}",
            hint="Check in the firmware's set-up that the TPM is on; `ls /dev/tpmrm0` shows whether the kernel has it.",
        )


def opens(device: Path) -> bool:
    """Tell whether this box's TPM, as it is now, opens the volume without any other key."""
    return cryptsetup.token_opens(device, _TOKEN)
