"""Who gets in beside the answers: accounts that may become root, and keys that nobody named."""

from __future__ import annotations

from pathlib import Path

import pytest

from installer.harden.other_access import other_administrators, other_keys

_OLD = "ssh-ed25519 AAAAold eve@laptop"
_NEW = "ssh-ed25519 AAAAnew ada@desk"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sudo:x:27:eve\nintramuros-admin:x:990:ada\n", ()),
        ("intramuros-admin:x:990:\n", ()),
        ("sudo:x:27:eve\n", ()),
        ("root:x:0:\n\n+\nintramuros-admin:x:990:eve\n", ("eve",)),
        ("intramuros-admin:x:990:eve,ada,bob\n", ("bob", "eve")),
    ],
)
def test_accounts_beside_the_administrator_s(tmp_path: Path, text: str, expected: tuple[str, ...]) -> None:
    groups = tmp_path / "group"
    groups.write_text(text)
    assert other_administrators("ada", groups=groups) == expected
    assert other_administrators("ada", groups=tmp_path / "none") == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        (f"# keys\n\n{_NEW}\n", ()),
        ("ssh-ed25519 AAAAnew another comment\n", ()),
        (f'from="10.0.0.0/8" {_NEW}\n', ()),
        (f"{_OLD}\n{_NEW}\n", ("eve@laptop",)),
        ("ssh-ed25519 AAAAold\n", ("without a comment",)),
    ],
)
def test_keys_that_the_answers_do_not_name(tmp_path: Path, text: str, expected: tuple[str, ...]) -> None:
    file = tmp_path / "authorized_keys"
    file.write_text(text)
    assert other_keys("ada", [_NEW], file=file) == expected
    assert other_keys("ada", [_NEW], file=tmp_path / "none") == ()


def test_an_account_that_is_not_there_has_no_keys() -> None:
    assert other_keys("nobody-has-this-name", [_NEW]) == ()
