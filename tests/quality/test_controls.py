"""The catalogue of controls says what the datastream says, and covers what the roles claim to do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from installer.evidence.applicability import DAEMON, condition_names
from installer.evidence.catalogue import load_catalogue, load_rules
from installer.evidence.checks import accounts
from installer.evidence.checks.finding import meets
from installer.evidence.checks.network import TABLE
from installer.evidence.control import Accounts, Command, Content, Control, Profile, Sysctl, Unit
from installer.evidence.examine import examine
from installer.evidence.referees import lynis
from installer.evidence.referees.compare import explanations
from installer.evidence.waivers import shipped_waivers
from installer.places import Places
from installer.storage.volume import NAME, places_below
from tests.factories.evidence import NOW, RecordedMachine
from tools import write_controls_page

ROOT = Path(__file__).resolve().parents[2]
CATALOGUE = load_catalogue()
RULES = load_rules().rules
_CONTROL = re.compile(r"IM-[A-Z]{2,4}-\d{2}")
_ROLES = {path.name for path in (ROOT / "playbooks" / "roles").iterdir()}
_TAG = re.compile(r"\b(cis_\d[0-9_]*|anssi_r\d+|ssg_[A-Za-z0-9_\-]+)")


@pytest.mark.parametrize("control", CATALOGUE.controls, ids=lambda control: control.id)
def test_control_is_whole_and_its_numbers_are_the_datastreams(control: Control) -> None:
    assert re.fullmatch(r"IM-[A-Z]{2,4}-\d{2}", control.id)
    assert len(control.title) > 5
    assert len(control.why) > 12
    assert control.role in _ROLES
    assert set(control.unless) <= set(condition_names())
    assert not [rule for rule in control.refs.ssg if rule not in RULES]
    cis = {number for rule in control.refs.ssg for number in RULES[rule].cis}
    assert set(control.refs.cis) <= cis, "a CIS number comes with the rule that stands for it"
    assert not set(control.refs.anssi) - {number for rule in RULES.values() for number in rule.anssi}
    for check in filter(None, (control.check, control.strict)):
        if isinstance(check, Accounts):
            assert check.rule in accounts.rules()
        if isinstance(check, Command | Content):
            for pattern in (*check.has, *check.lacks):
                re.compile(pattern)


@pytest.mark.parametrize("profile", list(Profile))
def test_kernel_parameters_are_what_the_role_sets(profile: Profile) -> None:
    values = yaml.safe_load((ROOT / "playbooks" / "roles" / "kernel" / "vars" / "main.yml").read_text())
    declared = values["__kernel_baseline"] | (values["__kernel_strict"] if profile is Profile.STRICT else {})
    checks = [each.check_for(profile) for each in CATALOGUE.controls if profile in each.profiles]
    wrong = [
        f"{check.key} = {declared.get(check.key)}"
        for check in checks
        if isinstance(check, Sysctl) and not meets(declared.get(check.key), check.value)
    ]
    assert not wrong


def test_units_and_paths_are_those_that_the_roles_write() -> None:
    tasks = "".join(path.read_text() for path in sorted((ROOT / "playbooks" / "roles").glob("*/tasks/*.yml")))
    written = set(re.findall(r"/etc/systemd/system/([\w@.-]+):", tasks))
    asked = {each.check.name for each in CATALOGUE.controls if isinstance(each.check, Unit)}
    ours = {name for name in asked if name.startswith(("intramuros", "aidecheck"))}
    assert len(ours) >= 5
    assert ours | {DAEMON} <= written
    assert Places().volume_table == places_below(Path("/")).table
    firewall = (ROOT / "playbooks" / "roles" / "firewall" / "templates" / "intramuros.nft.j2").read_text()
    assert f"table {' '.join(TABLE)} {{" in firewall


def test_the_data_s_file_system_is_found_by_the_volume_s_name() -> None:
    line = "27 30 0:25 / /data rw,{} shared:9 - ext4 /dev/mapper/{} rw\n"
    check = CATALOGUE.by_id()["IM-MNT-19"].check
    for options, name, ok in (
        ("nosuid,nodev,noexec", NAME, True),
        ("nosuid,noexec", NAME, False),
        ("nodev,noexec", NAME, False),
        ("nosuid,nodev", "other", False),
    ):
        machine = RecordedMachine(texts={"/proc/1/mountinfo": line.format(options, name)})
        assert examine(check, machine).ok is ok, (options, name)


def test_every_condition_and_rule_on_accounts_is_used() -> None:
    used = {name for control in CATALOGUE.controls for name in control.unless}
    assert used == set(condition_names())
    rules = {control.check.rule for control in CATALOGUE.controls if isinstance(control.check, Accounts)}
    assert rules == set(accounts.rules())


def test_cis_level_1_is_covered() -> None:
    """What is left are desktops, ufw and iptables beside nftables, timesyncd beside chrony, journal-upload."""
    level1 = {name for name, rule in RULES.items() if "cis1" in rule.profiles}
    left = level1 - set(CATALOGUE.by_rule())
    strange = {
        name
        for name in left
        if not re.search(
            r"dconf|gnome|gdm|ufw|iptables|ip6tables|loopback_traffic|timesyncd|chronyd_disabled|journal|wireless"
            r"|cloud.init|waagent|landscape|sssd|nftables_disabled",
            name,
        )
    }
    assert not strange
    assert len(level1) - len(left) >= 350


@pytest.mark.parametrize(
    "path", sorted((ROOT / "playbooks" / "roles").glob("*/tasks/*.yml")), ids=lambda p: str(p)[-40:]
)
def test_tags_of_tasks_are_of_the_datastream_and_have_a_control(path: Path) -> None:
    references = [control.refs for control in CATALOGUE.controls]
    cis = {number.replace(".", "_") for refs in references for number in refs.cis}
    anssi = {number.lower() for refs in references for number in refs.anssi}
    rules = {rule.replace("-", "_") for refs in references for rule in refs.ssg}
    known = {f"cis_{n}" for n in cis} | {f"anssi_{n}" for n in anssi} | {f"ssg_{n}" for n in rules}
    tags = {tag.replace("-", "_") for tag in _TAG.findall(path.read_text())}
    assert not sorted(tags - known), "no control of installer/evidence/controls stands for these tags"


@pytest.mark.parametrize("holding", [set(), {"no-grub"}], ids=["with-grub", "without-grub"])
def test_shipped_waivers_are_few_and_known(holding: set[str]) -> None:
    shipped = shipped_waivers(today=NOW.date(), owner="Ada", holds=holding.__contains__)
    assert not [each.control for each in shipped if each.control not in RULES]
    assert sum("cis1" in RULES[each.control].profiles for each in shipped) <= 10


def test_waivers_page_names_each_shipped_waiver() -> None:
    page = (ROOT / "docs" / "security" / "waivers.md").read_text()
    for each in shipped_waivers(today=NOW.date(), owner="Ada"):
        assert f"| `{each.control}` | {each.reason} |" in page


def test_explanations_are_of_rules_that_exist() -> None:
    assert not [rule for rule in explanations() if rule not in RULES]


def test_answers_name_controls_that_exist() -> None:
    named = {name for text in (*lynis.answers().values(), *explanations().values()) for name in _CONTROL.findall(text)}
    assert named <= set(CATALOGUE.by_id())


def test_controls_page_is_current() -> None:
    assert write_controls_page.PAGE.is_file(), "Run: make docs"
    assert write_controls_page.PAGE.read_text() == write_controls_page.page(), "Run: make docs"
