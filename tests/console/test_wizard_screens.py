"""Every stage of the wizard against a fake installer, at 80x24 (golden text) and at 120x40."""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.kernel.errors import IntegrityFailure, StorageFailure
from installer.findings import Finding, Level
from tests.console.fake_installer import BROKEN, DISK, FINE, KEY, SSH_KEY, FakeInstaller
from tests.console.screen_text import BASIC, GOLDEN, RICH, Driver, check_golden
from tests.console.wizard import SECRET, fill, to_review, wizard
from tui.install.answer_file import save
from tui.install.app import FAILED, LEFT, Wizard
from tui.install.backend import Unfinished
from tui.install.visit import Visit
from tui.term import Choice, Tier

MANUAL = Path(__file__).parents[2] / "docs" / "it-staff" / "install-wizard.md"
SIZES = pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=["80x24", "120x40"])


@pytest.fixture
def draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the answers are kept: a relative path, so that golden texts do not depend on the folder's name."""
    monkeypatch.chdir(tmp_path)
    return Path("wizard/draft.toml")


async def settled(driver: Driver, name: str, size: tuple[int, int], *wanted: str) -> None:
    """Wait for a stage, check that nothing sticks out, and compare with the golden text."""
    text = await driver.shows(*wanted)
    assert all(len(row) <= size[0] for row in text.splitlines())
    if size == (80, 24):
        check_golden(f"wizard_{name}", text)


@SIZES
async def test_whole_way_with_an_encrypted_disk(size: tuple[int, int], draft: Path) -> None:
    fake = FakeInstaller()
    fake.gate.clear()
    async with wizard(fake, draft, size=size) as driver:
        await settled(driver, "checks", size, "The box is ready, with 1 warning")
        await driver.press("enter")
        await settled(driver, "box", size, "Host name", "box-7", "Europe/Vienna")
        await driver.press("enter", "enter", "enter")
        await settled(driver, "admin", size, "Account", "SSH key 2", "made when it is missing")
        await driver.press(*"pat", "enter", "enter", "enter", "enter", "enter")
        await settled(driver, "network", size, "Administrators", "192.0.2.0/24")
        await driver.press("pagedown", shows="Encryption")
        await driver.press("right", "down", "f2", "down", "down", "down", "space")
        await settled(driver, "storage", size, "[x] passphrase", DISK, "Passphrase file")
        await driver.press("pagedown")
        await settled(driver, "app", size, "HTTPS port", "seed-chat")
        await driver.press("pagedown")
        await settled(driver, "tls", size, "(*) internal")
        await driver.press("pagedown")
        await settled(driver, "access", size, "Lifeline seconds", "180")
        await driver.press("pagedown")
        await settled(driver, "secrets", size, "Disk passphrase", "Password for sudo")
        for _ in range(4):
            await fill(driver, SECRET)
            await driver.press("enter")
        await settled(driver, "review", size, "Will be destroyed", DISK, "Plan")
        await driver.press("A")
        await settled(driver, "consent", size, "Type the device to agree", "The same from a shell")
        await fill(driver, DISK)
        await driver.press("enter", "right", "enter")
        await settled(driver, "key", size, KEY.split("-")[0], KEY.split("-")[7])
        await driver.press("enter")
        await settled(driver, "typed_back", size, "group 3", "group 7")
        assert not any(group in driver.text for group in KEY.split("-"))
        await driver.press(
            *KEY.split("-")[2],
            "enter",
            *KEY.split("-")[6],
            "enter",
            shows=("LIFELINE: old state returns in 142 s", "base: Install packages"),
        )
        await settled(driver, "run", size, "Firewall, SSH and PAM", "33 %")
        fake.gate.set()
        await settled(driver, "report", size, "The box is installed", "https://box-7:8443/v1", "evidence")
        await driver.press("enter")
    assert driver.app.return_value == 0
    assert fake.secrets == {"admin_password_hash": SECRET, "storage_passphrase": SECRET}
    assert fake.laid == KEY
    answers, text = fake.begun[0]
    assert answers.storage.device == DISK
    assert answers.admin.authorized_keys == (SSH_KEY,)
    for secret in (SECRET, *KEY.split("-")):
        assert secret not in text
        assert secret not in draft.read_text()


@pytest.mark.parametrize("name", ["checks", "box", "review"])
async def test_basic_look_is_ascii_only(name: str, draft: Path) -> None:
    fake = FakeInstaller()
    async with wizard(fake, draft, choice=BASIC) as driver:
        await driver.shows("The box is ready")
        if name == "box":
            await driver.press("enter", shows="Host name")
        elif name == "review":
            await to_review(driver, fake)
        assert driver.text.isascii()
        check_golden(f"wizard_{name}_basic", driver.text)


async def test_box_that_is_not_fit_is_not_installed(draft: Path) -> None:
    fake = FakeInstaller()
    fake.findings = (*FINE, BROKEN)
    async with wizard(fake, draft) as driver:
        await driver.shows("FAIL", "2.1 GiB free", "Free 10 GiB", "1 thing must be mended first")
        fake.findings = FINE
        await driver.press("r", shows="The box is ready")
        fake.findings = (*FINE, BROKEN)
        await driver.press("r", shows="1 thing must be mended first")
        app = driver.app
        assert isinstance(app, Wizard)
        app.visit.texts["admin.user"] = "pat"
        fake.secrets["admin_password_hash"] = SECRET
        app.go("review")
        await driver.shows("Plan", "(A apply)")
        await driver.press("A", shows="the box is not ready: disk")
        await driver.press("f", shows="every answer is right")
        assert not fake.begun


async def test_answer_that_the_box_is_not_ready_for_is_gone_to(draft: Path) -> None:
    fake = FakeInstaller()
    async with wizard(fake, draft) as driver:
        await to_review(driver, fake)
        told = "192.0.2.77 is not in network.admin (203.0.113.0/24)"
        fake.findings = (*FINE, Finding(level=Level.FAIL, what="your address", found=told, hint="Add your network."))
        await driver.press("r", shows="✗ FAIL  your address")
        # every line of the finding begins in the same column
        rows = driver.text.splitlines()
        where = next(number for number, row in enumerate(rows) if "your address" in row)
        assert rows[where].index("192.0.2.77") == rows[where + 1].index("(203.0.113.0/24)")
        await driver.press("f", shows="Networks of administrators: SSH is open to them alone.")


async def test_bundle_that_fails_to_verify_stops_at_the_first_screen(draft: Path) -> None:
    fake = FakeInstaller()
    fake.failures["machine"] = IntegrityFailure(
        "bundle.altered", "models/seed is not what was signed.", hint="Copy it."
    )
    async with wizard(fake, draft) as driver:
        await driver.shows("bundle.altered", "not what was signed", "(Enter go on)")
        await driver.press("enter", shows="the box could not be looked at")


async def test_what_is_wrong_is_said_below_its_question_and_blocks_the_plan(draft: Path) -> None:
    fake = FakeInstaller()
    async with wizard(fake, draft) as driver:
        await driver.shows("The box is")
        await driver.press("enter", shows="Host name")
        await driver.press(
            "end",
            " ",
            "b",
            "enter",
            "enter",
            "enter",
            shows=("must be letters, digits and dashes", "1 answer not right", "PgDn goes on"),
        )
        await driver.press("pagedown", shows="Account")
        await driver.press("enter", shows="is needed")
        for _ in range(6):
            await driver.press("pagedown")
        await driver.shows("Not right yet", "The box, Host name: must be letters", "Administrator, Account: is needed")
        await driver.press("A", shows="2 answers are not right yet, first: Host name")
        await driver.press("f", shows="box-7 b")
        await driver.press("end", "backspace", "backspace")
        await driver.until(lambda: "must be" not in driver.text)


async def test_contradiction_is_shown_at_its_field_and_ends_when_it_is_mended(draft: Path) -> None:
    async with wizard(FakeInstaller(), draft) as driver:
        await driver.shows("The box is")
        await driver.press("enter", "pagedown", "pagedown", shows="Administrators")
        await driver.press("end", *", 10.0.0.1/8", shows="entry 2: 10.0.0.1/8 has host bits set")
        await driver.press(*("backspace",) * len(", 10.0.0.1/8"))
        await driver.until(lambda: "host bits" not in driver.text)


async def test_going_back_loses_nothing_and_questions_follow_answers(draft: Path) -> None:
    async with wizard(FakeInstaller(), draft) as driver:
        await driver.shows("The box is")
        await driver.press("enter", "pagedown", "pagedown", "pagedown", shows="Encryption")
        assert "Device" not in driver.text
        await driver.press("right", shows=("Device", "Opened by"))
        await driver.press(
            "down",
            *"/dev/vdx",
            "down",
            "down",
            "down",
            "right",
            "right",
            "space",
            shows=("Tang server 1", "Tang addresses"),
        )
        await driver.press("escape", shows="Administrators")
        await driver.press("pagedown", shows=("/dev/vdx", "[x] tang"))
        await driver.press("up", "up", "up", "up", "left")
        await driver.until(lambda: "Device" not in driver.text)
        await driver.press("right", shows=("/dev/vdx", "[x] tang"))


async def test_offers_are_filled_in_one_by_one(draft: Path) -> None:
    async with wizard(FakeInstaller(), draft) as driver:
        await driver.shows("The box is")
        await driver.press("enter", "pagedown", "pagedown", "pagedown", shows="Encryption")
        await driver.press("right", "down", "f2", shows=f"Device             {DISK}")
        await driver.press("f2", shows="Device             /dev/disk/by-id/virtio-other")
        await driver.press("up", "f2", shows="The box offers nothing here")


async def test_pasted_keys_become_rows_and_garbage_is_dropped(draft: Path) -> None:
    fake = FakeInstaller()
    fake.suggestions.pop("admin.authorized_keys")
    async with wizard(fake, draft) as driver:
        await driver.shows("The box is")
        await driver.press("enter", "pagedown", shows="SSH key 1")
        await driver.press("down")
        visit = driver.app.visit  # type: ignore[attr-defined]
        await fill(driver, f"{SSH_KEY}\n\n  {SSH_KEY}2 \r\n")
        await driver.shows("SSH key 3")
        assert visit.texts["admin.authorized_keys"] == f"{SSH_KEY}\n{SSH_KEY}2"
        await driver.press("up")
        await fill(driver, "p\x1b[31ma\x00t\u202e\u200b\t" + "x" * 10_000)
        await driver.until(lambda: visit.texts["admin.user"].startswith("p[31mat x"))
        assert len(visit.texts["admin.user"]) <= 4096
        await driver.shows("must be small letters")


async def test_answers_are_kept_while_typed_and_taken_up_after_a_kill(draft: Path) -> None:
    async with wizard(FakeInstaller(), draft) as driver:
        await driver.shows("The box is")
        await driver.press("enter", "pagedown", shows="Account")
        await driver.press(*"pat")
        await driver.until(lambda: draft.exists() and 'user = "pat"' in draft.read_text())
        assert tomllib.loads(draft.read_text())["admin"]["user"] == "pat"
    async with wizard(FakeInstaller(), draft) as driver:
        await driver.shows("Your answers of an earlier visit were kept")
        await driver.press("enter", "pagedown", shows="Account            pat")


async def test_answers_that_cannot_be_kept_are_told(draft: Path) -> None:
    draft.parent.write_text("in the way")
    async with wizard(FakeInstaller(), draft) as driver:
        await driver.shows("storage.")
    assert not draft.exists()


async def test_damaged_draft_is_told(draft: Path) -> None:
    draft.parent.mkdir(parents=True)
    draft.write_bytes(b"\xff\x00 = [")
    async with wizard(FakeInstaller(), draft) as driver:
        await driver.shows("wizard.draft", "Move it away")


async def test_secrets_have_to_match_and_are_never_shown(draft: Path) -> None:
    fake = FakeInstaller()
    async with wizard(fake, draft) as driver:
        await driver.shows("The box is")
        await driver.press("enter", "pagedown", *"pat")
        for _ in range(6):
            await driver.press("pagedown")
        await driver.shows("Password for sudo", "At least 18 characters: upper")
        await driver.press(*"short", "enter", *"short", "enter", shows="is shorter than 18 characters")
        await fill(driver, SECRET)
        await driver.press("enter")
        await fill(driver, f"{SECRET}x")
        await driver.press("enter", shows="was not typed the same twice")
        assert "horse" not in driver.text
        assert not fake.secrets
        for _ in range(2):
            await fill(driver, SECRET)
            await driver.press("enter")
        await driver.shows("Plan")
        await driver.press("escape", shows="It was typed already")
        await driver.press("enter", "enter", shows="Plan")
        assert fake.secrets == {"admin_password_hash": SECRET}


async def test_secrets_may_wait_until_the_answers_are_right(draft: Path) -> None:
    fake = FakeInstaller()
    async with wizard(fake, draft) as driver:
        await to_review(driver, fake)
        fake.secrets.clear()
        await driver.press("escape", shows="At least 18 characters")
        await driver.press("pagedown", shows=("Plan", "(A apply)"))
        await driver.press("A", shows="Password for sudo was not typed yet")
        await driver.press("f", shows="At least 18 characters")
        await driver.press(*"short", "pagedown", shows="is shorter than 18 characters")
        assert not fake.secrets


async def test_apply_asks_and_back_is_chosen_first(draft: Path) -> None:
    fake = FakeInstaller()
    async with wizard(fake, draft) as driver:
        await to_review(driver, fake)
        await driver.press("A", shows=">[ Back ]<")
        await driver.press("enter", shows="Nothing was changed")
        await driver.press("A", shows=">[ Back ]<")
        await driver.press("escape", shows="Nothing was changed")
        assert not fake.begun
        await driver.press("A", shows=">[ Back ]<")
        await driver.press("tab", shows=">[ Install ]<")
        await driver.press("shift+tab", shows=">[ Back ]<")
        await driver.press("right", "enter", shows="The box is installed")
        assert len(fake.begun) == 1


async def test_device_has_to_be_named_before_it_is_wiped(draft: Path) -> None:
    fake = FakeInstaller()
    async with wizard(fake, draft) as driver:
        await to_review(driver, fake, luks=True)
        await driver.press("A", shows="Type the device")
        await driver.press(*"yes", "enter", "right", "enter", shows=f"Type {DISK} to agree")
        await driver.press("escape", shows="Nothing was changed")
        assert not fake.begun


async def test_recovery_key_is_asked_until_it_is_right(draft: Path) -> None:
    fake = FakeInstaller()
    async with wizard(fake, draft) as driver:
        await to_review(driver, fake, luks=True)
        await driver.press("A")
        await fill(driver, DISK)
        await driver.press("enter", "right", "enter", shows=KEY.split("-")[0])
        await driver.press("enter", shows="group 3")
        await driver.press(*"nonsense", "enter", *KEY.split("-")[6], "enter", shows="That is not what the key says")
        assert fake.laid is None
        await driver.press("escape", shows=KEY.split("-")[0])
        await driver.press(
            "enter", *KEY.split("-")[2], "enter", *KEY.split("-")[6].upper(), "enter", shows="The box is installed"
        )
        assert fake.laid == KEY


async def test_failed_run_is_told_and_can_be_tried_again(draft: Path) -> None:
    fake = FakeInstaller(stop_after=2)
    async with wizard(fake, draft) as driver:
        await to_review(driver, fake)
        await driver.press(
            "A", "right", "enter", shows=("It did not finish", "run.failed", "Run it again", "events.jsonl")
        )
        check_golden("wizard_failed", driver.text)
        await driver.press("r", shows="Plan")
        await driver.press("ctrl+q")
    assert driver.app.return_value == LEFT


async def test_leaving_a_failed_run_says_so_by_the_exit_code(draft: Path) -> None:
    fake = FakeInstaller(stop_after=1)
    async with wizard(fake, draft) as driver:
        await to_review(driver, fake)
        await driver.press("A", "right", "enter", shows="It did not finish")
        await driver.press("enter")
    assert driver.app.return_value == FAILED


async def test_run_can_be_stopped_and_its_log_read(draft: Path) -> None:
    fake = FakeInstaller()
    fake.gate.clear()
    async with wizard(fake, draft) as driver:
        await to_review(driver, fake)
        await driver.press("A", "right", "enter", shows=("Firewall, SSH and PAM", "base: Install packages"))
        await driver.press("l", shows="changed: base: Install packages")
        await driver.press("l", "S", shows=("Stop the installation?", ">[ Stay ]<"))
        await driver.press("enter")
        assert not fake.stopped
        await driver.press("S", shows=">[ Stay ]<")
        await driver.press("right", "enter", shows=("run.stopped", "it was cancelled"))
        assert fake.stopped


async def test_leaving_a_run_asks_and_the_run_goes_on(draft: Path) -> None:
    fake = FakeInstaller()
    fake.gate.clear()
    async with wizard(fake, draft) as driver:
        await to_review(driver, fake)
        await driver.press("A", "right", "enter", shows="base: Install packages")
        await driver.press("escape", shows="Installing")
        await driver.press("ctrl+q", shows="Leave while it installs?")
        await driver.press("right", "enter")
    assert driver.app.return_value == LEFT
    assert not fake.stopped
    fake.gate.set()


async def test_living_run_is_followed_and_a_dead_one_told(draft: Path) -> None:
    before = Unfinished(run="0001", since="2026-07-01T12:00:00Z", phase="access", alive=True)
    fake = FakeInstaller()
    fake.before = before
    fake.gate.clear()
    async with wizard(fake, draft) as driver:
        await driver.shows("Installing", "Firewall, SSH and PAM")
        assert not fake.begun
        fake.gate.set()
        await driver.shows("The box is installed")
    fake = FakeInstaller()
    fake.before = before
    fake.gate.clear()
    save(
        draft,
        {"hostname": "box-7", "admin.user": "pat", "admin.authorized_keys": SSH_KEY, "network.admin": "192.0.2.0/24"},
    )
    async with wizard(fake, draft) as driver:  # the answers are known here: so are the phases to come
        await driver.shows("Installing", "WAIT  Firewall, SSH and PAM", "OFF   Encrypted data")
        fake.gate.set()
        await driver.shows("The box is installed")
    fake = FakeInstaller()
    fake.before = replace(before, alive=False)
    async with wizard(fake, draft) as driver:
        await driver.shows("The installation of 2026-07-01 12:00 UTC did not finish (at: access)")


async def test_box_that_is_installed_says_so_when_the_wizard_is_started_again(draft: Path) -> None:
    fake = FakeInstaller()
    fake.installed = "2026-07-01T12:00:00Z"
    async with wizard(fake, draft) as driver:
        await driver.shows("The box was installed at 2026-07-01 12:00 UTC.", "The box is ready")


async def test_place_of_kept_answers_is_told_whole(tmp_path: Path) -> None:
    draft = tmp_path / "a-folder-with-a-name-that-fills-most-of-a-line-of-eighty-cells" / "draft.toml"
    save(draft, {"hostname": "box-7"})
    async with wizard(FakeInstaller(), draft) as driver:
        text = await driver.shows("Your answers of an earlier visit were kept")
        assert str(draft) in "".join(row.strip() for row in text.splitlines())


async def test_error_of_the_installer_is_told_and_the_wizard_stays(draft: Path) -> None:
    fake = FakeInstaller()
    fake.failures["plan"] = StorageFailure("storage.full", "No space left.", hint="Free some.")
    async with wizard(fake, draft) as driver:
        await driver.shows("The box is")
        app = driver.app
        assert isinstance(app, Wizard)
        app.visit.texts["admin.user"] = "pat"
        app.go("review")
        await driver.shows("storage.full", "No space left.", "Free some.")
        await driver.press("escape", shows="(A apply)")


async def test_every_stage_survives_a_tiny_terminal(draft: Path) -> None:
    fake = FakeInstaller()
    fake.gate.clear()
    async with wizard(fake, draft) as driver:
        app = driver.app
        assert isinstance(app, Wizard)
        await to_review(driver, fake, luks=True)
        for stage in app.visit.stages()[:-1]:
            app.go(stage)
            await driver.press()
            await driver.resize(20, 5)
            await driver.shows("Enlarge to 80x24")
            await driver.press("A", "x", "down", "f2", "f1")
            await driver.resize(60, 20)
            await driver.shows("Enlarge to 80x24 (now 60x20), or leave and add: --tier line")
            await driver.resize(80, 24)
            await driver.until(lambda: "Enlarge" not in driver.text and "Ctrl+Q leave" in driver.text, stage)
        fake.gate.set()
    assert not fake.begun


async def test_help_and_look(draft: Path) -> None:
    async with wizard(FakeInstaller(), draft) as driver:
        await driver.shows("✓ OK")
        await driver.press("f4", shows="+ OK")
        await driver.press("f1", shows=("Keys", "check again"))
        await driver.press("escape")
        await driver.press("ctrl+c", shows="Ctrl+Q leaves; what was typed is kept")
        await driver.press("enter", shows="Host name")
        await driver.press("f1", shows="Between questions")
        assert "Mark what Left and Right moved to." in driver.text


async def test_mono_uses_its_theme(draft: Path) -> None:
    app = Wizard(Visit(FakeInstaller(), draft), Choice(tier=Tier.MONO, ascii=False, why=""))
    assert app.theme == "mono"
    assert Wizard(Visit(FakeInstaller(), draft), RICH).theme == "dark"


def test_manual_shows_the_real_screens() -> None:
    """The manual's pictures are the golden texts; `UPDATE_GOLDEN=1` puts them in."""
    text = MANUAL.read_text(encoding="utf-8")
    screens = re.findall(r"<!-- screen: (\w+) -->", text)
    assert len(screens) >= 8
    for name in screens:
        golden = (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")
        shown = "```text\n" + re.sub(r"\n{3,}", "\n\n", golden) + "```"
        picture = re.compile(rf"(<!-- screen: {name} -->)(\n```text\n.*?\n```)?", re.DOTALL)
        if os.environ.get("UPDATE_GOLDEN") == "1":
            text = text.replace(picture.search(text)[0], f"<!-- screen: {name} -->\n{shown}")  # type: ignore[index]
            MANUAL.write_text(text, encoding="utf-8")
        assert f"<!-- screen: {name} -->\n{shown}" in text, f"{name}: UPDATE_GOLDEN=1 if that is meant"
