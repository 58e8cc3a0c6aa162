"""What locks people out of boxes: each is tried, and afterwards a new SSH login works as it did before.

One box is brought to the phase that hardens access, and there a wrong network of administrators is taken back. The
other scenarios start from it, so each of them is a run that goes on.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.boxes.conftest import Rig
from tests.boxes.rig.box import write
from tests.boxes.rig.commands import Outcome, run
from tests.boxes.rig.installation import ANSWERS, MEDIUM, Bundle, Wishes, answers, install_script, prepare
from tests.boxes.rig.nspawn import NspawnBox

pytestmark = pytest.mark.timeout(3600)
_LATER = 120.0
"""Seconds after which the old state has to be back."""
_ARMED = 240
"""Seconds the lifeline has in the scenarios that wait for it; after a power cut they count from the boot."""
_RULES = "nft list ruleset 2>/dev/null || true"
_DENY = """Name: A site's own rule
Default: yes
Priority: 1000
Account-Type: Primary
Account:
	requisite	pam_deny.so
"""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TakenBack:
    """A box whose hardened access was taken back by the lifeline, frozen, and what was seen before and after."""

    layers: tuple[Path, ...]
    rules_before: str
    rules_after: str


@pytest.fixture(scope="module")
def taken_back(make_rig: Callable[[], Rig], bundle: Bundle) -> TakenBack:
    """Install with a network of administrators that nobody is in, in spite of the warning."""
    rig = make_rig()
    box = rig.box(shared=((bundle.medium, MEDIUM),))
    before = box.sh(_RULES).out
    wishes = _wishes(rig, box, admin=("10.99.99.0/24",))
    said = _install_over_ssh(rig, bundle, box, wishes, "--force-admin")
    assert not said.ok, said.out + said.err
    _wait_for_login(rig, box)
    after = box.sh(_RULES).out
    return TakenBack(layers=box.freeze(), rules_before=before, rules_after=after)


@pytest.fixture
def bare(rig: Rig, bundle: Bundle) -> NspawnBox:
    """A bare box that can see the medium."""
    return rig.box(shared=((bundle.medium, MEDIUM),))


@pytest.fixture
def box(rig: Rig, bundle: Bundle, taken_back: TakenBack) -> NspawnBox:
    """A box on which everything but access is hardened."""
    return rig.box(layers=taken_back.layers, shared=((bundle.medium, MEDIUM),))


def test_wrong_admin_network_is_refused_before_anything_is_changed(rig: Rig, bundle: Bundle, bare: NspawnBox) -> None:
    said = _install_over_ssh(rig, bundle, bare, _wishes(rig, bare, admin=("10.99.99.0/24",)))
    assert not said.ok
    assert "admin" in said.err
    assert not bare.sh("getent passwd ada", check=False).ok
    assert run([*rig.ssh(bare.address), "true"], timeout=30).ok


def test_hardening_alone_refuses_it_too(rig: Rig, bundle: Bundle, bare: NspawnBox) -> None:
    prepare(bare, bundle)
    wishes = _wishes(rig, bare, admin=("10.99.99.0/24",))
    write(bare, ANSWERS, answers(wishes), mode="0600")
    command = f"intramuros harden --bundle {MEDIUM} --answers {ANSWERS}"
    said = run([*rig.ssh(bare.address), command], check=False, timeout=600)
    assert said.status == 4, said.out + said.err
    assert "your address" in said.err
    assert not bare.sh("getent passwd ada", check=False).ok


@pytest.mark.boxes
def test_pam_profile_that_waits_to_deny_everybody_is_refused(rig: Rig, bundle: Bundle, bare: NspawnBox) -> None:
    write(bare, "/usr/share/pam-configs/site", _DENY)
    said = _install_over_ssh(rig, bundle, bare, _wishes(rig, bare))
    assert not said.ok, said.out + said.err
    assert "pam-auth-update" in said.out + said.err
    assert not bare.sh("getent passwd ada", check=False).ok
    assert run([*rig.ssh(bare.address), "true"], timeout=30).ok


@pytest.mark.boxes
def test_wrong_admin_network_is_undone_by_the_lifeline(
    rig: Rig, bundle: Bundle, taken_back: TakenBack, box: NspawnBox
) -> None:
    assert taken_back.rules_after == taken_back.rules_before
    right = _install_over_ssh(rig, bundle, box, _wishes(rig, box))
    assert right.ok, right.out + right.err
    assert run([*rig.ssh(box.address, "ada"), "sudo", "-n", "true"], timeout=30).ok


@pytest.mark.boxes
def test_sshd_that_lets_nobody_in_is_undone(rig: Rig, bundle: Bundle, box: NspawnBox) -> None:
    write(box, "/etc/ssh/sshd_config.d/05-site.conf", "AllowUsers root\n")
    said = _install_over_ssh(rig, bundle, box, _wishes(rig, box))
    assert not said.ok, said.out + said.err
    _wait_for_login(rig, box)
    assert box.sh("sshd -T | grep -i '^permitrootlogin'").out.split()[1] != "no"


@pytest.mark.boxes
def test_pam_that_lets_only_root_in_is_undone(rig: Rig, bundle: Bundle, box: NspawnBox) -> None:
    box.sh("echo 'account requisite pam_succeed_if.so quiet user = root' >> /etc/pam.d/sshd")
    said = _install_over_ssh(rig, bundle, box, dataclasses.replace(_wishes(rig, box), lifeline_seconds=_ARMED))
    assert not said.ok, said.out + said.err
    _until(box, "! grep -q faillock /etc/pam.d/common-auth", _ARMED + _LATER)
    _wait_for_login(rig, box)


@pytest.mark.boxes
def test_power_cut_while_armed_brings_the_old_state_back(rig: Rig, bundle: Bundle, box: NspawnBox) -> None:
    wishes = dataclasses.replace(_wishes(rig, box), lifeline_seconds=_ARMED)
    write(box, ANSWERS, answers(wishes), mode="0600")
    box.sh(f"systemd-run --unit=rig-install --collect sh -c {install_script(bundle)!r}")
    _until(box, "intramuros lifeline status 2>/dev/null | grep -q armed && nft list tables | grep -q intramuros", 1500)
    box.kill()
    box.start()
    _wait_for_login(rig, box, within=_ARMED + _LATER)


def _wishes(rig: Rig, box: NspawnBox, admin: tuple[str, ...] | None = None) -> Wishes:
    wishes = Wishes(address=box.address, public_key=rig.public_key, enabled=False)
    return (
        wishes if admin is None else Wishes(address=box.address, public_key=rig.public_key, enabled=False, admin=admin)
    )


def _install_over_ssh(rig: Rig, bundle: Bundle, box: NspawnBox, wishes: Wishes, *words: str) -> Outcome:
    """Install as an administrator does who came by SSH from the rig's address."""
    write(box, ANSWERS, answers(wishes), mode="0600")
    return run([*rig.ssh(box.address), install_script(bundle, *words)], check=False, timeout=1800)


def _wait_for_login(rig: Rig, box: NspawnBox, within: float = _LATER) -> None:
    """Wait until root can log in anew, as before the installation."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if run([*rig.ssh(box.address), "true"], check=False, timeout=30).ok:
            return
        time.sleep(1)
    raise AssertionError(box.sh("intramuros lifeline status; journalctl -n 50 --no-pager", check=False).out)


def _until(box: NspawnBox, condition: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not box.sh(condition, check=False).ok:
        if time.monotonic() > deadline:
            raise AssertionError(f"never: {condition}\n{box.sh('journalctl -n 50 --no-pager').out}")
        time.sleep(0.2)
