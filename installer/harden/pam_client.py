"""`pam_client.py ACCOUNT FILE`: asks PAM's sudo stack whether the password in FILE is the account's.

A program of its own that needs nothing but the standard library: a module of PAM that crashes or hangs takes only this
process down. Exit 0 when the password was taken and the account may be used, otherwise 1 and PAM's code on stderr.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import sys
from pathlib import Path

SERVICE = "sudo"
_PAM_SUCCESS = 0
_PROMPT_WITHOUT_ECHO = 1
_PROMPT_WITH_ECHO = 2


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


if __name__ == "__main__":
    code = authenticate(sys.argv[1], Path(sys.argv[2]).read_text())
    if code != _PAM_SUCCESS:
        print(f"PAM said {code}", file=sys.stderr)
    sys.exit(1 if code else 0)
