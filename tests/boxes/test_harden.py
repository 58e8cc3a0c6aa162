"""Hardening alone, on a box without our appliance: twice, in check mode, and taken back."""

from __future__ import annotations

import json
import shlex

import pytest

from installer.password import hash_password
from tests.boxes.conftest import Rig
from tests.boxes.rig.box import write
from tests.boxes.rig.commands import Outcome, run
from tests.boxes.rig.installation import (
    ADMINISTRATOR,
    ANSWERS,
    MEDIUM,
    Bundle,
    Wishes,
    answers,
    install_script,
    prepare,
)
from tests.boxes.rig.nspawn import NspawnBox
from tests.factories.passwords import JUDGED

pytestmark = [pytest.mark.boxes, pytest.mark.timeout(7200)]
_STATE = (
    "find /etc -xdev -type f ! -name 'ld.so.cache' ! -path '/etc/intramuros/*' ! -name '*-' ! -name '.pwd.lock'"
    " ! -name .updated ! -name mtab -exec sha256sum {} + | sort -k2"
)

_JUDGE = """import ctypes, json, sys
library, settings = ctypes.CDLL("libpwquality.so.1"), ctypes.c_void_p
library.pwquality_default_settings.restype = settings
told, rules = settings(), settings(library.pwquality_default_settings())
assert library.pwquality_read_config(rules, None, ctypes.byref(told)) == 0
check = lambda text: library.pwquality_check(rules, text.encode(), None, None, ctypes.byref(told))
print(json.dumps({text: check(text) >= 0 for text in json.loads(sys.argv[1])}))
"""
"""What the PAM of a box says to passwords, by the library that its module uses."""


@pytest.mark.parametrize("profile", ["baseline", "strict"])
def test_harden_alone_twice_and_back(rig: Rig, bundle: Bundle, profile: str) -> None:
    box = rig.box(shared=((bundle.medium, MEDIUM),))
    wishes = Wishes(address=box.address, public_key=rig.public_key, enabled=False, profile=profile)
    write(box, ANSWERS, answers(wishes), mode="0600")
    box.sh(install_script(bundle, "--help"), timeout=600)  # the installer alone
    before = box.sh(_STATE).out
    checked = _harden(box, "--check")
    assert box.sh(_STATE).out == before, "check mode changed files"
    assert checked.ok
    _harden(box)
    assert run([*rig.ssh(box.address, ADMINISTRATOR), "sudo", "-n", "true"], timeout=60).ok
    assert not run([*rig.ssh(box.address), "true"], check=False, timeout=60).ok
    second = _harden(box)
    assert "  changed " not in second.out + second.err, second.err
    box.reboot()
    assert run([*rig.ssh(box.address, ADMINISTRATOR), "sudo", "-n", "true"], timeout=60).ok
    after_boot = _harden(box)
    assert "  changed " not in after_boot.out + after_boot.err, after_boot.err
    runs = json.loads(box.sh("intramuros harden runs --json").out)
    assert runs
    for one in sorted((entry["run"] for entry in runs), reverse=True):
        box.sh(f"intramuros harden rollback {one} --from {rig.network.router}", timeout=1800)
    after = box.sh(_STATE).out
    assert set(after.splitlines()) ^ set(before.splitlines()) == set()
    assert run([*rig.ssh(box.address), "true"], timeout=60).ok


def test_administrator_with_a_password_breaks_no_control(rig: Rig, bundle: Bundle) -> None:
    box = rig.box(shared=((bundle.medium, MEDIUM),))
    secret, hash_file = "Correct-Horse-7-Battery", "/run/administrator.hash"
    write(box, hash_file, hash_password(secret), mode="0600")
    wishes = Wishes(address=box.address, public_key=rig.public_key, enabled=False, password_hash_file=hash_file)
    write(box, ANSWERS, answers(wishes), mode="0600")
    prepare(box, bundle)
    _harden(box)
    assert not run([*rig.ssh(box.address, ADMINISTRATOR), "sudo", "-n", "true"], check=False, timeout=60).ok
    with_password = [*rig.ssh(box.address, ADMINISTRATOR), "sudo", "-S", "-p", "''", "id", "-u"]
    assert run(with_password, stdin=f"{secret}\n".encode(), timeout=60).out == "0\n"
    box.sh("intramuros evidence collect --json")
    document = json.loads(box.sh("intramuros evidence show --json").out)
    assert not [one["id"] for one in document["controls"] if one["status"] in {"fail", "error"}]
    write(box, "/var/lib/judge.py", _JUDGE)
    judged = box.sh(f"python3 /var/lib/judge.py {shlex.quote(json.dumps(list(JUDGED)))}").out
    assert json.loads(judged) == JUDGED
    # Years later: the key still lets in, in a batch too, and sudo asks for a new password instead of refusing.
    box.sh(f"chage --lastday 2020-01-01 {ADMINISTRATOR}")
    assert run([*rig.ssh(box.address, ADMINISTRATOR), "true"], timeout=60).ok
    renewed = "Fresh-Stapler-9-Voltage"
    answers_to_sudo = f"{secret}\n{secret}\n{renewed}\n{renewed}\n".encode()
    assert run(with_password, stdin=answers_to_sudo, timeout=60).out.endswith("\n0\n")
    assert run(with_password, stdin=f"{renewed}\n".encode(), timeout=60).out == "0\n"


def _harden(box: NspawnBox, *words: str) -> Outcome:
    return box.sh(f"intramuros harden --bundle {MEDIUM} --answers {ANSWERS} {' '.join(words)}", timeout=3000)
