"""Proves the PAM stacks that stand between an administrator and root: a right password is taken, a wrong one is not.

A login by key and `sudo` without a password never touch the password stacks, and those are what has locked people out.
So a throw-away account is made, its password set through PAM, and asked of the `sudo` stack. libpam is called in a
child process of its own: a module that crashes or hangs takes only that down.
"""

from __future__ import annotations

import ctypes
import ctypes.util
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
SERVICE = "sudo"
OLD_PASSWORDS = Path("/etc/security/opasswd")
_PAM_SUCCESS = 0
_PROMPT_WITHOUT_ECHO = 1
_PROMPT_WITH_ECHO = 2

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
        refused = run([sys.executable, "-m", "installer.harden.pam_probe", str(wrong)])
        if refused.status == 0:
            raise _failed("a wrong password is taken", refused)
        taken = run([sys.executable, "-m", "installer.harden.pam_probe", str(right)])
        if taken.status != 0:
            raise _failed("a right password is refused", taken)


def authenticate(account: str, password: str, *, service: str = SERVICE) -> int:
    """Ask libpam; return its code, 0 for success of authentication and of the account's state."""
    library = ctypes.CDLL(ctypes.util.find_library("pam") or "libpam.so.0")
    libc = ctypes.CDLL(None)
    libc.calloc.restype = ctypes.c_void_p
    libc.strdup.restype = ctypes.c_void_p

    def answer(count: int, messages: object, responses: object, _data: object) -> int:
        # libpam frees the array and its texts, so both come from its own allocator.
        array = libc.calloc(count, ctypes.sizeof(_Response))
        shown = ctypes.cast(ctypes.c_void_p(messages), ctypes.POINTER(ctypes.POINTER(_Message)))  # type: ignore[arg-type]
        filled = ctypes.cast(array, ctypes.POINTER(_Response))
        for index in range(count):
            if shown[index].contents.style in {_PROMPT_WITHOUT_ECHO, _PROMPT_WITH_ECHO}:
                filled[index].text = libc.strdup(password.encode())
        target = ctypes.cast(ctypes.c_void_p(responses), ctypes.POINTER(ctypes.c_void_p))  # type: ignore[arg-type]
        target[0] = array
        return _PAM_SUCCESS

    conversation = _Conversation(_ANSWER(answer), None)
    handle = ctypes.c_void_p()
    status = library.pam_start(service.encode(), account.encode(), ctypes.byref(conversation), ctypes.byref(handle))
    if status == _PAM_SUCCESS:
        status = library.pam_authenticate(handle, 0)
        if status == _PAM_SUCCESS:
            status = library.pam_acct_mgmt(handle, 0)
        library.pam_end(handle, status)
    return int(status)


class _Message(ctypes.Structure):
    _fields_ = (("style", ctypes.c_int), ("text", ctypes.c_char_p))


class _Response(ctypes.Structure):
    _fields_ = (("text", ctypes.c_void_p), ("code", ctypes.c_int))


_ANSWER = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)


class _Conversation(ctypes.Structure):
    _fields_ = (("answer", _ANSWER), ("data", ctypes.c_void_p))


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


if __name__ == "__main__":
    code = authenticate(ACCOUNT, Path(sys.argv[1]).read_text())
    if code != _PAM_SUCCESS:
        print(f"PAM said {code}", file=sys.stderr)
    sys.exit(1 if code else 0)
