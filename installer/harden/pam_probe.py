"""Proves the PAM stacks that stand between an administrator and root: a right password is taken, a wrong one is not.

A login by key and `sudo` without a password never touch the password stacks, and those are what has locked people out.
So a throw-away account is made, its password set through PAM, and asked of the `sudo` stack (`pam_client`).
"""

from __future__ import annotations

import secrets
import string
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from appliance.kernel import process
from appliance.kernel.durable import write_file
from appliance.kernel.errors import Conflict, storage_errors

ACCOUNT = "intramuros-probe"
OLD_PASSWORDS = Path("/etc/security/opasswd")
_CLIENT = Path(__file__).with_name("pam_client.py")

Run = Callable[[Sequence[str]], process.Outcome]


def prove_passwords(run: Run) -> None:
    """Set a password and use it, and try a wrong one. Raises Conflict that says which part failed."""
    with ExitStack() as undo:
        folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="intramuros-pam.", dir="/run")))
        right, wrong = folder / "right", folder / "wrong"
        undo.callback(_remove_account, run)
        _remove_account(run)
        made = run(["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", ACCOUNT])
        if made.status != 0:
            raise _failed("an account cannot be made", made)
        password = _password()
        with storage_errors("writing the proof's password"):
            write_file(right, password.encode(), mode=0o600)
            write_file(wrong, _password().encode(), mode=0o600)
            write_file(folder / "pair", f"{ACCOUNT}:{password}\n".encode(), mode=0o600)
        changed = run(["sh", "-c", 'exec chpasswd < "$1"', "sh", str(folder / "pair")])
        if changed.status != 0:
            raise _failed("a password cannot be set", changed)
        refused = run([sys.executable, str(_CLIENT), ACCOUNT, str(wrong)])
        if refused.status == 0:
            raise _failed("a wrong password is taken", refused)
        taken = run([sys.executable, str(_CLIENT), ACCOUNT, str(right)])
        if taken.status != 0:
            raise _failed("a right password is refused", taken)


def _password() -> str:
    """Return a random password that our own rules take: 32 characters of four classes."""
    return "".join(
        secrets.choice(kind)
        for _ in range(8)
        for kind in (string.ascii_lowercase, string.digits, string.ascii_uppercase, "+-_%")
    )


def _remove_account(run: Run) -> None:
    run(["userdel", ACCOUNT])
    for leftover in (Path("/run/faillock") / ACCOUNT, Path("/var/run/faillock") / ACCOUNT):
        leftover.unlink(missing_ok=True)
    if OLD_PASSWORDS.exists():
        kept = [line for line in OLD_PASSWORDS.read_bytes().splitlines(keepends=True) if ACCOUNT.encode() not in line]
        if b"".join(kept) != OLD_PASSWORDS.read_bytes():
            with storage_errors("forgetting the proof's password"):
                write_file(OLD_PASSWORDS, b"".join(kept), mode=0o600)


def _failed(what: str, said: process.Outcome) -> Conflict:
    lines = [line.strip().rstrip(".") for line in (said.stderr or said.stdout).splitlines() if line.strip()]
    tail = f": {lines[-1]}" if lines else ""
    return Conflict(
        "lifeline.not_proven",
        f"The password stacks of PAM are broken, {what}{tail}.",
        hint="The old state is brought back.",
    )
