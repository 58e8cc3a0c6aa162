"""What the shipped waivers cover of our own controls, and what they must not hide."""

from __future__ import annotations

import pytest

from installer.evidence.catalogue import load_catalogue
from installer.evidence.control import Profile
from installer.evidence.judge import judge
from installer.evidence.waivers import Waivers, shipped_waivers
from tests.factories.evidence import NOW, RecordedMachine, said

_SHIPPED = Waivers(valid=tuple(shipped_waivers(today=NOW.date(), owner="Ada")), expired=())


def status(control: str, machine: RecordedMachine) -> str:
    return str(judge(load_catalogue().by_id()[control], machine, profile=Profile.BASELINE, waivers=_SHIPPED).status)


@pytest.mark.parametrize(
    ("action", "expected"),
    [("ROTATE", "pass"), ("SYSLOG", "pass"), ("HALT", "fail"), ("SINGLE", "fail"), ("SUSPEND", "fail")],
)
def test_a_full_disk_that_stops_the_box_is_never_waived(action: str, expected: str) -> None:
    machine = RecordedMachine(texts={"/etc/audit/auditd.conf": f"disk_full_action = {action}\n"})
    assert status("IM-AUD-07", machine) == expected


def test_the_waiver_of_roots_password_covers_nobody_else() -> None:
    machine = RecordedMachine(
        texts={
            "/etc/passwd": "root:x:0:0::/root:/bin/bash\nbob:x:1000:1000::/home/bob:/bin/bash\n",
            "/etc/shadow": "root:!$y$j9T$x:19000:0:99999:7:::\nbob:$y$j9T$x:19000:0:99999:7:45::\n",
            "/etc/group": "root:x:0:\nbob:x:1000:\n",
        }
    )
    assert status("IM-ACC-29", machine) == "fail"
    machine.texts["/etc/shadow"] = machine.texts["/etc/shadow"].replace("bob:$y$j9T$x:19000:0:99999", "bob:*:19000:0:")
    assert status("IM-ACC-29", machine) == "pass"


def test_a_clock_that_follows_nobody_is_not_waived() -> None:
    machine = RecordedMachine(texts={"/etc/chrony/chrony.conf": "user _chrony\n"})
    assert status("IM-TIME-03", machine) == "fail"


def test_a_control_of_waived_rules_alone_is_waived() -> None:
    machine = RecordedMachine(
        programs={("systemd-detect-virt", "--container"): said("none\n", status=1)},
        texts={"/proc/1/mountinfo": "25 30 0:23 / / rw - ext4 /dev/vda rw\n"},
    )
    assert status("IM-MNT-14", machine) == "waived"
