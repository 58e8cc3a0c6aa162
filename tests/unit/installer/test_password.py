"""The administrator's password: what is refused, that the role wants the same, and the hash."""

from __future__ import annotations

import re

import pytest

from installer.password import LEAST, LONGEST_RUN, has_password, hash_password, weakness
from tests.factories.passwords import JUDGED
from tests.quality.sources import ROOT


@pytest.mark.parametrize(("password", "taken"), JUDGED.items())
def test_password_is_judged_as_a_hardened_box_will_judge_later_ones(password: str, taken: bool) -> None:
    assert (weakness(password) == "") is taken


@pytest.mark.parametrize(
    ("password", "told"),
    [
        ("", "shorter than 18"),
        ("correct horse battery", "not all of upper and lower case"),
        ("Correct-Horse-1234-Battery", "counts on for more than 3"),
    ],
)
def test_what_is_wrong_is_told(password: str, told: str) -> None:
    assert told in weakness(password)


def test_role_wants_the_same_of_every_later_password() -> None:
    text = (ROOT / "playbooks" / "roles" / "base" / "tasks" / "pam.yml").read_text()
    wanted = dict(re.findall(r"^      (\w+) = (-?\d+)$", text, flags=re.MULTILINE))
    kinds = dict.fromkeys(("dcredit", "ucredit", "lcredit", "ocredit"), "-1")
    ours = {"minlen": str(LEAST), "maxrepeat": str(LONGEST_RUN), "maxsequence": str(LONGEST_RUN), "minclass": "4"}
    assert {name: wanted[name] for name in (*ours, *kinds)} == ours | kinds


def test_password_becomes_a_hash_of_the_systems_own() -> None:
    made = hash_password("correct horse battery")
    assert made.startswith("$y$")
    assert "horse" not in made
    assert made != hash_password("correct horse battery")
    assert has_password(f"root:*:1::\npat:{made}:19000::\n", "pat")
    assert not has_password("pat:!:1::\n", "pat")
    assert not has_password("", "pat")
