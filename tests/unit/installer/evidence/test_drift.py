"""Drift stays until it is put right or waived, and nothing that is deleted ends it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from installer.evidence.collect import Collected
from installer.evidence.control import Profile
from tests.factories.evidence import NOW, RecordedMachine, collected, hardened, owned, waiver_file


def loose() -> RecordedMachine:
    machine = hardened()
    machine.files["/etc/shadow"] = owned(0o644, group="shadow")
    return machine


def without_parameter() -> RecordedMachine:
    machine = hardened()
    del machine.texts["/proc/sys/net/ipv4/tcp_syncookies"]
    return machine


def days(root: Path, *machines: RecordedMachine, label: str = "daily", start: int = 1) -> list[Collected]:
    return [collected(root, each, at=NOW + timedelta(days=start + n), label=label) for n, each in enumerate(machines)]


@pytest.fixture
def box(tmp_path: Path) -> Path:
    """A box right after its installation."""
    collected(tmp_path, label="installed")
    return tmp_path


def test_it_is_told_every_day_until_it_is_put_right(box: Path) -> None:
    found = days(box, hardened(), loose(), loose(), loose(), hardened())
    assert [each.drifted for each in found] == [(), *[("IM-FILE-05",)] * 3, ()]
    assert [each.newly_failing for each in found] == [(), ("IM-FILE-05",), (), (), ()]


def test_a_run_of_the_installer_that_does_not_mend_it_ends_nothing(box: Path) -> None:
    days(box, loose(), label="installed")
    assert days(box, loose(), start=2)[0].drifted == ("IM-FILE-05",)


def test_a_waiver_ends_it_until_its_last_day(box: Path) -> None:
    waiver_file(box, {"IM-FILE-05": "2026-11-27"})
    assert [each.drifted for each in days(box, loose(), loose(), loose())] == [(), (), ("IM-FILE-05",)]


def test_what_does_not_apply_any_more_has_drifted(box: Path) -> None:
    found = days(box, without_parameter(), without_parameter())
    assert [each.drifted for each in found] == [("IM-NET-21",)] * 2
    assert [each.newly_failing for each in found] == [("IM-NET-21",), ()]


def test_what_does_not_apply_after_a_run_of_the_installer_is_what_was_asked_for(box: Path) -> None:
    assert days(box, without_parameter(), label="installed")[0].drifted == ()
    found = days(box, without_parameter(), hardened(), without_parameter(), start=2)
    assert [each.drifted for each in found] == [(), (), ("IM-NET-21",)]


def test_a_box_before_its_installation_promised_nothing(tmp_path: Path) -> None:
    collected(tmp_path, label="before")
    found = days(tmp_path, loose(), label="installed")[0]
    assert (found.drifted, found.newly_failing) == ((), ("IM-FILE-05",))
    assert days(tmp_path, loose(), start=2)[0].drifted == ()


def test_what_another_profile_saw_says_nothing(box: Path) -> None:
    (box / "etc" / "answers.toml").write_text(f'profile = "{Profile.STRICT}"\n')
    assert days(box, loose())[0].drifted == ()


def test_earlier_evidence_that_is_damaged_hides_no_drift(box: Path) -> None:
    middle, _ = days(box, hardened(), hardened())
    (middle.folder / "evidence.json").write_bytes(b"")
    assert days(box, loose(), start=3)[0].drifted == ("IM-FILE-05",)
