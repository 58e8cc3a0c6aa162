"""A collection: what it says, what it signs, what it continues, and what is there when it is cut off."""

from __future__ import annotations

import json
import os
import stat
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from appliance.kernel.errors import BadInput, Conflict, Forbidden, IntegrityFailure
from installer.evidence.archive import Archive
from installer.evidence.control import Status
from installer.evidence.summary import changes, find_verdicts, headline
from tests.factories.evidence import NOW, SSHD, collected, hardened, owned, said, waiver_file


def statuses(root: Path) -> dict[str, str]:
    archive = Archive(root / "evidence")
    return {each.id: str(each.status) for each in archive.read(archive.newest()).controls}


def test_verdicts_of_a_hardened_machine(tmp_path: Path) -> None:
    found = collected(tmp_path)
    assert statuses(tmp_path) == {
        "IM-SSH-01": "pass",
        "IM-NET-21": "pass",
        "IM-FILE-05": "pass",
        "IM-FILE-18": "pass",
        "IM-KRN-01": "not-applicable",
    }
    assert found.evidence.score() == 100.0
    assert found.evidence.host.system.startswith("Debian")
    assert "0123456789abcdef" not in (found.folder / "evidence.json").read_text()
    assert headline(found.evidence) == "100.0 % of what applies passes: 4 pass, 0 fail, 1 not-applicable"


def test_exactly_the_broken_control_fails(tmp_path: Path) -> None:
    collected(tmp_path)
    machine = hardened()
    machine.files["/etc/shadow"] = owned(0o644, group="shadow")
    found = collected(tmp_path, machine, at=NOW + timedelta(days=1))
    assert found.newly_failing == ("IM-FILE-05",)
    before = Archive(tmp_path / "evidence").read(Archive(tmp_path / "evidence").ids()[0])
    changed = changes(before, found.evidence)
    assert [(each.id, each.before, each.after) for each in changed] == [("IM-FILE-05", "pass", "fail")]


def test_a_program_that_is_gone_is_an_error_not_a_pass(tmp_path: Path) -> None:
    machine = hardened()
    del machine.programs[SSHD]
    found = collected(tmp_path, machine)
    verdict = next(each for each in found.evidence.controls if each.id == "IM-SSH-01")
    assert verdict.status is Status.ERROR
    assert "sshd is not installed" in verdict.reason
    assert found.evidence.score() == 75.0


def test_a_waiver_shows_what_was_seen_and_who_answers(tmp_path: Path) -> None:
    waiver_file(tmp_path, {"sshd_disable_root_login": "2027-01-01"})
    machine = hardened()
    machine.programs[SSHD] = said("permitrootlogin yes\n")
    verdict = collected(tmp_path, machine).evidence.controls[0]
    assert verdict.status is Status.WAIVED
    assert verdict.observed == "permitrootlogin yes"
    assert verdict.waiver is not None
    assert (verdict.waiver.owner, verdict.waiver.expiry) == ("Ada", "2027-01-01")


def test_an_expired_waiver_waives_nothing_and_is_named(tmp_path: Path) -> None:
    waiver_file(tmp_path, {"IM-SSH-01": "2026-11-24"})
    machine = hardened()
    machine.programs[SSHD] = said("permitrootlogin yes\n")
    found = collected(tmp_path, machine).evidence
    assert found.controls[0].status is Status.FAIL
    assert found.expired_waivers == ("IM-SSH-01 (until 2026-11-24)",)


def test_a_wrong_waiver_file_stops_the_collection(tmp_path: Path) -> None:
    waiver_file(tmp_path, {"IM-SSH-99": "2027-01-01"})
    with pytest.raises(BadInput, match="IM-SSH-99"):
        collected(tmp_path)
    assert Archive(tmp_path / "evidence").ids() == []


def test_evidences_are_chained_and_attached(tmp_path: Path) -> None:
    first = collected(tmp_path)
    second = collected(tmp_path, at=NOW + timedelta(seconds=1))
    assert first.key_created
    assert not second.key_created
    assert second.evidence.previous is not None
    assert second.evidence.previous.sha256 == first.digest
    assert (first.evidence.sequence, second.evidence.sequence) == (1, 2)
    assert [each.name for each in first.evidence.attachments] == ["nft-ruleset.json", "sshd.txt"]
    assert Archive(tmp_path / "evidence").verify().ok


@pytest.mark.parametrize("wrong", [NOW - timedelta(days=400), NOW + timedelta(days=365 * 54)], ids=["2025", "2080"])
def test_one_wrong_clock_leaves_order_and_chain_whole(tmp_path: Path, wrong: datetime) -> None:
    times = (NOW, wrong, NOW + timedelta(days=1), NOW + timedelta(days=2))
    made = [collected(tmp_path, at=at).evidence for at in times]
    archive = Archive(tmp_path / "evidence")
    assert [each.sequence for each in made] == [1, 2, 3, 4]
    assert archive.ids() == [each.id for each in made]
    assert archive.newest() == made[-1].id
    assert archive.verify().ok


def test_evidence_that_cannot_be_read_keeps_its_place_and_is_named(tmp_path: Path) -> None:
    made = [collected(tmp_path, at=NOW + timedelta(days=number)) for number in range(3)]
    archive = Archive(tmp_path / "evidence")
    (made[1].folder / "evidence.json").write_bytes(b"")
    assert archive.ids() == [each.evidence.id for each in made]
    (made[2].folder / "evidence.json").write_bytes(b"")
    assert archive.newest() == made[2].evidence.id
    with pytest.raises(IntegrityFailure, match=made[2].evidence.id):
        collected(tmp_path, at=NOW + timedelta(days=3))


def test_the_key_is_private_and_refused_when_it_is_not(tmp_path: Path) -> None:
    collected(tmp_path)
    key = tmp_path / "etc" / "evidence.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    key.chmod(0o644)
    with pytest.raises(Forbidden):
        collected(tmp_path, at=NOW + timedelta(seconds=1))


def test_nothing_is_overwritten_and_leftovers_go(tmp_path: Path) -> None:
    collected(tmp_path)
    with pytest.raises(Conflict):
        collected(tmp_path)
    left = tmp_path / "evidence" / ".20200101T000000Z"
    left.mkdir()
    (left / "evidence.json").write_text("{}")
    collected(tmp_path, at=NOW + timedelta(seconds=1))
    assert not left.exists()
    assert len(Archive(tmp_path / "evidence").ids()) == 2


def test_two_collections_at_once_are_refused(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "evidence")
    with archive.collecting(), pytest.raises(Conflict, match="Another collection"):
        collected(tmp_path)


def test_controls_are_found_by_any_of_their_names(tmp_path: Path) -> None:
    document = collected(tmp_path).evidence
    for name in ("im-ssh-01", "sshd_disable_root_login"):
        assert [each.id for each in find_verdicts(document, [name])] == ["IM-SSH-01"]
    assert len(find_verdicts(document, ["5.1.20"])) == 5


def test_the_newest_accepted_bundle_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "receipts"
    folder.mkdir()
    for name, number in (
        ("20261101T000000Z-accepted", 1),
        ("20261102T000000Z-accepted", 2),
        ("20261103T000000Z-refused", 3),
    ):
        (folder / f"{name}.json").write_text(json.dumps({"version": "0.2.0", "sequence": number}))
    product = collected(tmp_path).evidence.product
    assert product.bundle == "0.2.0 number 2"
    assert len(product.receipt_sha256) == 64
    (folder / "20261104T000000Z-accepted.json").write_text("{")
    with pytest.raises(BadInput, match="receipt"):
        collected(tmp_path, at=NOW + timedelta(days=1))


def test_auditors_read_it_whatever_the_umask(tmp_path: Path) -> None:
    (tmp_path / "evidence").mkdir()
    (tmp_path / "evidence").chmod(0o2750)
    before = os.umask(0o077)
    try:
        folder = collected(tmp_path).folder
    finally:
        assert os.umask(before) == 0o077
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())}
    assert modes == {folder.name: 0o2750, "attachments": 0o2750, "evidence.json": 0o640, "evidence.sig": 0o640}
