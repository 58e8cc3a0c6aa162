from __future__ import annotations

from typing import Any

from installer import handover
from installer.answers import check_answers

_ANSWERS: dict[str, Any] = {
    "hostname": "box",
    "admin": {
        "user": "ada",
        "authorized_keys": ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"],
    },
    "network": {"admin": ["192.0.2.0/24"]},
    "tls": {"names": ["models.example", "192.0.2.7"]},
}


def test_people_are_told_where_to_connect() -> None:
    told = dict(handover.facts(check_answers(_ANSWERS, name="answers.toml")))
    assert told["address"] == "https://models.example:8443/v1"
    assert told["login"] == "ssh ada@box"
    moved = check_answers({**_ANSWERS, "ssh": {"port": 2222}}, name="answers.toml")
    assert dict(handover.facts(moved))["login"] == "ssh -p 2222 ada@box"
    address = check_answers({**_ANSWERS, "tls": {"names": ["2001:db8::7"]}}, name="answers.toml")
    assert dict(handover.facts(address))["address"] == "https://[2001:db8::7]:8443/v1"


def test_people_are_told_what_no_backup_holds() -> None:
    place = "/srv/intramuros/secrets/backup.password"
    assert any(place in step for step in handover.steps(check_answers(_ANSWERS, name="answers.toml")))
    without = check_answers({**_ANSWERS, "backup": {"enabled": False}}, name="answers.toml")
    assert not any(place in step for step in handover.steps(without))


def test_a_box_that_is_only_hardened_has_no_address_and_no_key_to_hand_over() -> None:
    answers = check_answers({**_ANSWERS, "app": {"enabled": False}}, name="answers.toml")
    assert "address" not in dict(handover.facts(answers))
    assert not any("key" in step for step in handover.steps(answers))


def test_a_first_key_is_handed_over_where_a_first_model_makes_one() -> None:
    for model, told in (("", False), ("seed", True)):
        answers = check_answers({**_ANSWERS, "app": {"seed_model": model}}, name="answers.toml")
        assert any("first key" in step for step in handover.steps(answers)) is told


def test_clients_that_need_certificates_get_them_next() -> None:
    answers = check_answers(
        {**_ANSWERS, "tls": {**_ANSWERS["tls"], "client_certificates": "required"}}, name="answers.toml"
    )
    assert any("intramuros tls client" in step for step in handover.steps(answers))
