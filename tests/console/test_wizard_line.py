"""The wizard's line mode: the same questions through print and input."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from appliance.kernel.errors import IntegrityFailure
from tests.console.fake_data import NOW
from tests.console.fake_installer import BROKEN, DISK, FINE, KEY, SSH_KEY, FakeInstaller
from tests.console.wizard import SECRET, groups
from tui.install.answer_file import asked_fields
from tui.install.backend import Unfinished
from tui.install.fields import Kind, sections
from tui.install.line import FAILED, LEFT, run_line
from tui.install.visit import Visit

KEEP = ""
TO_ADMIN = [KEEP, KEEP, KEEP]
"""host name, time zone, profile"""
ADMIN = ["pat", KEEP, KEEP, KEEP, KEEP]
"""account, the offered key, no second key, sudo, no hash file"""
NETWORK = [KEEP] * 6
NO_DISK = [KEEP, KEEP]
APP = [KEEP] * 7
TLS = [KEEP] * 3
ACCESS = [KEEP] * 6
EVERYTHING = [*TO_ADMIN, *ADMIN, *NETWORK, *NO_DISK, *APP, *TLS, *ACCESS]


def talk(fake: FakeInstaller, draft: Path, *typed: str, secrets: tuple[str, ...] = (SECRET, SECRET)) -> tuple[int, str]:
    """What line mode prints for these lines, and its exit code; the end of the input follows them."""
    out, given, hidden = io.StringIO(), io.StringIO("".join(f"{line}\n" for line in typed)), iter(secrets)

    def read_secret(prompt: str) -> str:
        out.write(f"{prompt}\n")
        try:
            return next(hidden)
        except StopIteration:
            raise EOFError from None

    visit = Visit(fake, draft)
    code = run_line(visit, out=out, read=given.readline, read_secret=read_secret, clock=lambda: NOW, choose=groups)
    return code, out.getvalue()


@pytest.fixture
def draft(tmp_path: Path) -> Path:
    """Where the answers are kept."""
    return tmp_path / "draft.toml"


def test_whole_way(draft: Path) -> None:
    fake = FakeInstaller()
    code, text = talk(fake, draft, *EVERYTHING, "yes")
    assert code == 0
    assert text.isascii()
    assert not [character for character in text if ord(character) < 32 and character != "\n"]
    assert "Lifeline armed: unless a new login works, the old state comes back in 142 s." in text
    assert "Lifeline no longer armed" in text
    assert "https://box-7:8443/v1" in text
    answers, file = fake.begun[0]
    assert answers.admin.user == "pat"
    assert answers.admin.authorized_keys == (SSH_KEY,)
    assert SECRET not in text + file + draft.read_text()
    assert fake.secrets == {"admin_password_hash": SECRET}


def test_every_question_of_the_table_is_asked(draft: Path) -> None:
    """What is asked here is what the screens ask: both read the one table."""
    disk = ["luks", "1", KEEP, KEEP, "1, 3", KEEP, "192.0.2.9", "http://192.0.2.9:7500 " + "a" * 43, KEEP]
    network = [KEEP, "192.0.2.0/24", KEEP, KEEP, KEEP, "192.0.2.8", KEEP]
    tls = ["provided", KEEP, "/c.pem", "/k.pem", KEEP, KEEP]
    fake = FakeInstaller()
    typed = [*TO_ADMIN, *ADMIN, *network, *disk, *APP, *tls, *ACCESS]
    code, text = talk(fake, draft, *typed, "nothing", secrets=(SECRET,) * 4)
    assert code == LEFT
    visit = Visit(fake, draft)
    visit.look()
    assert visit.verdict.faults == {}
    asked = asked_fields(visit.texts)
    assert {field.key for field in asked} == {field.key for section in sections() for field in section.fields}
    for field in asked:
        assert f"  {field.label}" in text, field.key
        assert field.help
        assert field.kind in Kind


def test_encrypted_disk_wants_its_name_and_the_key_typed_back(draft: Path) -> None:
    fake = FakeInstaller()
    disk = ["2", "1", KEEP, KEEP, "passphrase", KEEP]
    typed = [*TO_ADMIN, *ADMIN, *NETWORK, *disk, *APP, *TLS, *ACCESS]
    third, seventh = KEY.split("-")[2], KEY.split("-")[6]
    code, text = talk(fake, draft, *typed, DISK, "wrong", seventh, third, seventh, secrets=(SECRET,) * 4)
    assert code == 0
    assert f"Everything on {DISK} will be destroyed." in text
    assert "FAIL: that is not what the key says" in text
    assert fake.laid == KEY
    assert KEY not in draft.read_text()
    code, text = talk(FakeInstaller(), draft, *[KEEP] * 40, "yes")
    assert code == LEFT


def test_wrong_answer_is_asked_again_with_the_reason(draft: Path) -> None:
    code, text = talk(FakeInstaller(), draft, "a b", "box-9", KEEP, "nonsense", "strict", "", "pat")
    assert code == LEFT
    assert "FAIL Host name: must be letters, digits and dashes" in text
    assert "FAIL Profile: " in text
    assert "FAIL Account: is needed" in text
    assert 'hostname = "box-9"' in draft.read_text()


def test_back_explain_and_empty(draft: Path) -> None:
    _, text = talk(FakeInstaller(), draft, "?", "box-8", "<", KEEP, KEEP, "<", "<", "<", "box-1", KEEP, KEEP, "<", "2")
    assert "Name of the box, with or without a domain." in text
    assert text.count("  Host name") == 5
    assert "Host name [box-8]" in text
    written = draft.read_text()
    assert 'hostname = "box-1"' in written
    assert 'profile = "strict"' in written
    _, text = talk(FakeInstaller(), draft, KEEP, KEEP, KEEP, "pat", KEEP, KEEP, KEEP, KEEP, KEEP, KEEP, KEEP, "-")
    assert "dns = " not in draft.read_text()


def test_rows_can_be_replaced_and_removed(draft: Path) -> None:
    talk(FakeInstaller(), draft, *TO_ADMIN, "pat", KEEP, f"{SSH_KEY}2", KEEP)
    assert f"{SSH_KEY}2" in draft.read_text()
    talk(FakeInstaller(), draft, *TO_ADMIN, KEEP, "-", KEEP, KEEP)
    assert f'"{SSH_KEY}"' not in draft.read_text()
    assert f"{SSH_KEY}2" in draft.read_text()


def test_end_of_input_keeps_the_answers_and_changes_nothing(draft: Path) -> None:
    for count in range(0, len(EVERYTHING) + 1, 5):
        fake = FakeInstaller()
        code, text = talk(fake, draft, *EVERYTHING[:count])
        assert code == LEFT
        assert "Nothing was changed on the box" in text
        assert draft.exists()
        assert not fake.begun
    assert "Answers of an earlier visit are kept" in talk(FakeInstaller(), draft)[1]


def test_box_that_is_not_fit_is_not_installed(draft: Path) -> None:
    fake = FakeInstaller()
    fake.findings = (*FINE, BROKEN)
    code, text = talk(fake, draft, "no", *EVERYTHING, "no")
    assert code == LEFT
    assert "Free 10 GiB and check again." in text
    assert "It cannot be applied: the box is not ready: disk." in text
    assert not fake.begun


def test_failed_run_is_told(draft: Path) -> None:
    fake = FakeInstaller(stop_after=1)
    code, text = talk(fake, draft, *EVERYTHING, "yes")
    assert code == FAILED
    assert "run.failed: Phase ground failed: no." in text


def test_living_run_is_followed(draft: Path) -> None:
    fake = FakeInstaller()
    fake.before = Unfinished(run="0001", since="2026-07-01T12:00:00Z", phase="access", alive=True)
    code, text = talk(fake, draft)
    assert code == 0
    assert "is still going on (at: access)" in text
    assert not fake.begun


def test_dead_run_goes_on_without_the_questions(draft: Path) -> None:
    talk(FakeInstaller(), draft, *EVERYTHING)
    fake = FakeInstaller()
    fake.before = Unfinished(run="0001", since="2026-07-01T12:00:00Z", phase="access", alive=False)
    code, text = talk(fake, draft, "yes")
    assert code == 0
    assert "Host name [" not in text
    assert len(fake.begun) == 1


def test_bundle_that_fails_to_verify_ends_it(draft: Path) -> None:
    fake = FakeInstaller()
    fake.failures["machine"] = IntegrityFailure(
        "bundle.altered", "models/seed is not what was signed.", hint="Copy it."
    )
    code, text = talk(fake, draft)
    assert code == IntegrityFailure.exit_code
    assert "FAIL bundle.altered: models/seed is not what was signed.\n  Copy it.\n" in text


def test_hostile_input_is_cleaned(draft: Path) -> None:
    _, text = talk(FakeInstaller(), draft, "\x1b[31mbox\u202e\x00", KEEP)
    assert "\x1b" not in text
    assert "\x1b" not in draft.read_text()
