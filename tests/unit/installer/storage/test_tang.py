from __future__ import annotations

import json

import pytest

from appliance.kernel.errors import BadInput
from installer.storage.request import parse_request
from installer.storage.tang import TangServer, check_servers, parse_server, policy

THUMBPRINT = "5w7zFrYky3UUWc5hwMqV-RK-2LcvB-aytIGZOvsjpNw"


def test_any_one_server_is_enough_and_each_key_is_pinned() -> None:
    servers = [TangServer(url=f"http://192.0.2.{n}", thumbprint=THUMBPRINT) for n in (9, 10)]
    document = json.loads(policy(servers))
    assert document["t"] == 1
    assert [pin["thp"] for pin in document["pins"]["tang"]] == [THUMBPRINT] * 2


@pytest.mark.parametrize("thumbprint", ["", "any", THUMBPRINT[:-1], THUMBPRINT[:27], THUMBPRINT + "="])
def test_a_server_without_a_sha_256_thumbprint_is_refused(thumbprint: str) -> None:
    """Without one clevis would ask whom to trust; 27 letters are SHA-1."""
    with pytest.raises(BadInput, match="thumbprint"):
        parse_server(f"http://192.0.2.9:7500={thumbprint}")


@pytest.mark.parametrize("url", ["", "192.0.2.9", "file:///etc/shadow", "http://user@192.0.2.9", "http://192.0.2.9/?x"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(BadInput, match="no address"):
        check_servers([TangServer(url=url, thumbprint=THUMBPRINT)])


def test_no_server_is_refused() -> None:
    with pytest.raises(BadInput, match="at least one"):
        check_servers([])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"unlock": []}, "at least one way"),
        ({"unlock": ["tang"]}, "at least one server"),
        ({"unlock": ["magic"]}, "not accepted"),
        ({"device": "sdb"}, "absolute path"),
        ({"mount": "/srv/with space"}, "without spaces"),
        ({"surprise": 1}, "surprise"),
        ({"filesystem": "btrfs"}, "not accepted"),
    ],
)
def test_a_wrong_request_is_refused(change: dict[str, object], said: str) -> None:
    request = {"device": "/dev/sdb", "unlock": ["passphrase"]} | change
    with pytest.raises(BadInput, match=said):
        parse_request(json.dumps(request).encode())
