"""Waivers: reason, owner, end; what lacks one is refused by name."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.kernel.errors import BadInput, NotFound
from installer.evidence.waivers import (
    LONGEST_DAYS,
    Waiver,
    Waivers,
    add_waiver,
    load_waivers,
    remove_waiver,
    shipped_waivers,
    write_shipped,
)

TODAY = date(2026, 11, 25)
KNOWN = frozenset({"IM-SSH-01", "IM-SSH-02", "partition_for_home"})


def waiver(control: str = "IM-SSH-01", **changes: object) -> Waiver:
    fields = {"reason": "The site decided so.", "owner": "Ada", "expiry": TODAY + timedelta(days=30)} | changes
    return Waiver(control=control, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[[waiver]]\ncontrol = "IM-SSH-01"\nreason = "The site decided so."\nexpiry = 2027-01-01\n', "owner"),
        ('[[waiver]]\ncontrol = "IM-SSH-01"\nowner = "Ada"\nexpiry = 2027-01-01\n', "reason"),
        ('[[waiver]]\ncontrol = "IM-SSH-01"\nreason = "The site decided so."\nowner = "Ada"\n', "expiry"),
        (
            '[[waiver]]\ncontrol = "IM-SSH-01"\nreason = "why"\nowner = "Ada"\nexpiry = 2027-01-01\n',
            "no reason that explains",
        ),
        (
            '[[waiver]]\ncontrol = "IM-SSH-01"\nreason = "The site decided so."\nowner = " "\nexpiry = 2027-01-01\n',
            "has no owner",
        ),
        (
            '[[waiver]]\ncontrol = "IM-XX-01"\nreason = "The site decided so."\nowner = "Ada"\nexpiry = 2027-01-01\n',
            "IM-XX-01 is neither",
        ),
        (
            '[[waiver]]\ncontrol = "IM-SSH-01"\nreason = "The site decided so."\nowner = "Ada"\nexpiry = 2999-01-01\n',
            "expires only in more than",
        ),
        ("[[waiver]]\nsurprise = 1\n", "surprise"),
        ("waiver = 3\n", "array"),
        ("this is no TOML", "cannot be accepted"),
    ],
)
def test_what_is_wrong_is_refused_by_name(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "waivers.toml"
    path.write_text(text)
    with pytest.raises(BadInput, match=problem):
        load_waivers(path, today=TODAY, known=KNOWN)


def test_a_missing_file_waives_nothing(tmp_path: Path) -> None:
    assert load_waivers(tmp_path / "none", today=TODAY, known=KNOWN).valid == ()


def test_add_replace_remove(tmp_path: Path) -> None:
    path = tmp_path / "waivers.toml"
    add_waiver(path, waiver(), today=TODAY, known=KNOWN)
    add_waiver(path, waiver("partition_for_home"), today=TODAY, known=KNOWN)
    add_waiver(path, waiver(owner="Grace"), today=TODAY, known=KNOWN)
    found = load_waivers(path, today=TODAY, known=KNOWN)
    assert [(each.control, each.owner) for each in found.valid] == [
        ("IM-SSH-01", "Grace"),
        ("partition_for_home", "Ada"),
    ]
    assert found.of("partition_for_home") is not None
    remove_waiver(path, "IM-SSH-01")
    with pytest.raises(NotFound):
        remove_waiver(path, "IM-SSH-01")


@pytest.mark.parametrize(
    ("waived", "covered"),
    [
        ({"rule_a"}, False),
        ({"rule_b"}, False),
        ({"rule_a", "rule_b"}, True),
        ({"IM-SSH-01"}, True),
        (set(), False),
    ],
    ids=["one-rule", "other-rule", "every-rule", "itself", "none"],
)
def test_a_control_is_waived_by_its_name_or_by_all_of_its_rules(waived: set[str], covered: bool) -> None:
    found = Waivers(valid=tuple(waiver(name) for name in waived), expired=())
    assert (found.covering("IM-SSH-01", ("rule_a", "rule_b")) is not None) is covered
    assert found.covering("IM-SSH-02", ()) is None


def test_it_ends_after_its_last_day(tmp_path: Path) -> None:
    path = tmp_path / "waivers.toml"
    last = TODAY + timedelta(days=3)
    add_waiver(path, waiver(expiry=last), today=TODAY, known=KNOWN)
    assert load_waivers(path, today=last, known=KNOWN).of("IM-SSH-01") is not None
    after = load_waivers(path, today=last + timedelta(days=1), known=KNOWN)
    assert after.of("IM-SSH-01") is None
    assert [each.control for each in after.expired] == ["IM-SSH-01"]


@pytest.mark.parametrize("days", [-1, LONGEST_DAYS + 1])
def test_an_end_that_is_past_or_too_far_is_refused(tmp_path: Path, days: int) -> None:
    with pytest.raises(BadInput):
        add_waiver(tmp_path / "w", waiver(expiry=TODAY + timedelta(days=days)), today=TODAY, known=KNOWN)


@given(
    st.text(min_size=12).filter(
        lambda text: len(text.strip()) >= 12 and not any("\ud800" <= c <= "\udfff" for c in text)
    )
)
def test_any_reason_is_read_back_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, reason: str) -> None:
    path = tmp_path_factory.mktemp("waivers") / "waivers.toml"
    try:
        add_waiver(path, waiver(reason=reason), today=TODAY, known=KNOWN)
    except BadInput:
        return
    assert load_waivers(path, today=TODAY, known=KNOWN).valid[0].reason == " ".join(reason.split())


def test_shipped_waivers_are_written_once(tmp_path: Path) -> None:
    path = tmp_path / "waivers.toml"
    assert write_shipped(path, today=TODAY, owner="Ada", holds=set().__contains__)
    assert not write_shipped(path, today=TODAY, owner="Grace", holds=set().__contains__)
    known = frozenset(each.control for each in shipped_waivers(today=TODAY, owner="Ada"))
    found = load_waivers(path, today=TODAY, known=known)
    assert {each.owner for each in found.valid} == {"Ada"}
    assert {each.expiry for each in found.valid} == {date(2027, 11, 25)}


def test_a_waiver_for_some_machines_is_written_on_those_alone() -> None:
    with_grub = {each.control for each in shipped_waivers(today=TODAY, owner="Ada", holds=set().__contains__)}
    without = {each.control for each in shipped_waivers(today=TODAY, owner="Ada", holds={"no-grub"}.__contains__)}
    assert with_grub - without == {"grub2_password", "grub2_uefi_password"}
    assert without - with_grub == {"grub2_enable_apparmor"}
