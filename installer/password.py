"""Turns a typed password into the hash that /etc/shadow holds, by the system's own crypt(3): nothing is invented here.

yescrypt with the library's default cost, as Debian 12's `passwd` makes them (crypt(5), libcrypt 4.4.33).
"""

from __future__ import annotations

import ctypes

from appliance.kernel.errors import InternalError

LEAST = 14
"""Characters: CIS Debian 12 1.1.0, 5.3.3.2.2; the passphrase of a stolen disk deserves no less."""
_METHOD = b"$y$"


def hash_password(password: str) -> str:
    """Return the hash. Raises InternalError when the system's library cannot make one."""
    try:
        library = ctypes.CDLL("libcrypt.so.1")
        library.crypt_gensalt.restype = library.crypt.restype = ctypes.c_char_p
        # No random bytes are given: the library then takes its own from the kernel (crypt_gensalt(3)).
        salt = library.crypt_gensalt(ctypes.c_char_p(_METHOD), ctypes.c_ulong(0), None, ctypes.c_int(0))
        made = library.crypt(ctypes.c_char_p(password.encode()), ctypes.c_char_p(salt)) if salt else None
    except (OSError, AttributeError) as error:
        raise _cannot() from error
    if not made or not made.startswith(_METHOD):
        raise _cannot()
    return str(made.decode("ascii"))


def has_password(shadow: str, user: str) -> bool:
    """Tell from the text of /etc/shadow whether an account has a password (shadow(5))."""
    for entry in shadow.splitlines():
        name, _, rest = entry.partition(":")
        if name == user:
            return rest.startswith("$")
    return False


def _cannot() -> InternalError:
    return InternalError(
        "password.hash",
        "The system's libcrypt cannot hash a password.",
        hint="Make the hash on another machine (openssl passwd -6), and give its file: admin.password_hash_file",
    )
