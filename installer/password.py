"""What a person types in secret: the administrator's password with the hash that /etc/shadow holds, and a passphrase.

The password must be what the installed box wants of every later one (role `base`, pwquality.conf), except for the
dictionary, which a bare Debian has not. The hash is the system's own crypt(3): yescrypt with the library's default
cost, as Debian 12's `passwd` makes them (crypt(5), libcrypt 4.4.33).
"""

from __future__ import annotations

import ctypes
import re
from itertools import groupby, pairwise

from appliance.kernel.errors import BadInput, InternalError

LEAST = 18
"""Characters; `minlen`: ANSSI-BP-028 2.0 R31 (CIS Debian 12 1.1.0, 5.3.3.2.2, is content with 14)."""
KINDS = "upper and lower case, digits and others"
"""`minclass`, `ucredit`, `lcredit`, `dcredit`, `ocredit`: of each at least one."""
LONGEST_RUN = 3
"""`maxrepeat`, `maxsequence`: characters that are the same, or count up or down."""
PASSPHRASE_LEAST = 14
"""Characters: what opens a stolen disk must outlast whoever took it; words and spaces make it easy."""
_METHOD = b"$y$"
_HASH = re.compile(r"\$(y|gy|7|2b|6|5)\$[^:\s]+")
"""The methods that Debian 12's crypt(5) calls strong enough for new hashes, and the two SHA-2 ones of older systems."""


def weakness(password: str) -> str:
    """Return why the box would refuse a password, to be read after its name; empty when it would not."""
    if len(password) < LEAST:
        return f"is shorter than {LEAST} characters"
    kinds = {"upper": str.isupper, "lower": str.islower, "digit": str.isdigit}
    found = {next((kind for kind, is_one in kinds.items() if is_one(character)), "other") for character in password}
    if len(found) < len(kinds) + 1:
        return f"has not all of {KINDS}"
    steps = [ord(after) - ord(before) for before, after in pairwise(password)]
    if any(abs(step) <= 1 and len(list(same)) >= LONGEST_RUN for step, same in groupby(steps)):
        return f"repeats a character or counts on for more than {LONGEST_RUN} characters"
    return ""


def passphrase_weakness(passphrase: str) -> str:
    """Return why a passphrase is no good, to be read after its name; empty when it is."""
    if len(passphrase) < PASSPHRASE_LEAST:
        return f"is shorter than {PASSPHRASE_LEAST} characters"
    if not passphrase.isprintable():
        return "is not one line of what a keyboard at the boot prompt has"
    return ""


def require_passphrase(passphrase: str) -> None:
    """Refuse a weak passphrase. Raises BadInput."""
    if fault := passphrase_weakness(passphrase):
        raise BadInput("storage.passphrase_weak", f"The passphrase {fault}.", hint="Five words are good.")


def is_hash(text: str) -> bool:
    """Tell whether a text can be the password field of /etc/shadow: what else stands there lets nobody in."""
    return _HASH.fullmatch(text) is not None


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
