"""When a control says nothing: conditions that hold, that do not, and that cannot be told."""

from __future__ import annotations

import pytest

from installer.evidence.applicability import DAEMON, reason_against
from installer.evidence.machine import CannotTell
from tests.factories.evidence import RecordedMachine, owned

_FORWARDS = {"/etc/rsyslog.d/00-intramuros.conf": 'action(type="omfwd" target="192.0.2.9")\n'}


def answers(syslog: str) -> dict[str, str]:
    return {"/etc/intramuros/answers.toml": f'profile = "baseline"\n[network]\nadmin = ["192.0.2.0/24"]\n{syslog}\n'}


@pytest.mark.parametrize(
    ("condition", "path"),
    [
        ("no-appliance", f"/etc/systemd/system/{DAEMON}"),
        ("no-encrypted-storage", "/etc/intramuros/luks.json"),
        ("no-grub", "/boot/grub/grub.cfg"),
    ],
)
def test_a_file_decides(condition: str, path: str) -> None:
    assert reason_against((condition,), RecordedMachine())
    assert not reason_against((condition,), RecordedMachine(files={path: owned(0o644)}))


@pytest.mark.parametrize(
    ("texts", "applies"),
    [
        (answers('syslog = ["192.0.2.9"]'), True),
        (answers('syslog = ["192.0.2.9"]') | _FORWARDS, True),
        (answers(""), False),
        (answers("syslog = []") | _FORWARDS, True),
        (_FORWARDS, True),
        ({}, False),
    ],
    ids=["asked-and-deleted", "asked-and-set", "not-asked", "set-by-harden", "no-answers-and-set", "nothing"],
)
def test_the_answers_say_whether_there_is_a_log_server(texts: dict[str, str], applies: bool) -> None:
    assert (not reason_against(("no-log-server",), RecordedMachine(texts=texts))) is applies


@pytest.mark.parametrize("text", ["this is no TOML", "profile = 'baseline'\n", "network = 3\n"])
def test_answers_that_cannot_be_read_are_no_excuse(text: str) -> None:
    machine = RecordedMachine(texts={"/etc/intramuros/answers.toml": text} | _FORWARDS)
    with pytest.raises(CannotTell, match="log servers"):
        reason_against(("no-log-server",), machine)
