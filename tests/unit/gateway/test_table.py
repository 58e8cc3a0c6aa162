"""The routing table document."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from appliance.gateway.table import (
    KeyEntry,
    Limits,
    Listen,
    Route,
    RoutingTable,
    decode_table,
    encode_table,
    read_table,
    stamp,
    write_table,
)
from appliance.kernel.errors import BadInput, NotFound

KEY = KeyEntry(id="abcdefgh", hash="0" * 64, name="desk", expires_at=1.5, models=("desk",))
TABLE = RoutingTable(
    listen=Listen(certificate="/c", key="/k"),
    limits=Limits(concurrency=3),
    routes={"desk": Route(revision=4, socket="/s", model_ref="m@1", digest="d", created=7)},
    keys=(KEY,),
)


def test_a_table_survives_the_disk_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "gateway.json"
    write_table(path, TABLE)
    assert read_table(path) == TABLE
    assert path.stat().st_mode & 0o777 == 0o600


def test_equal_tables_are_equal_bytes() -> None:
    routes = dict.fromkeys(("b", "a"), TABLE.routes["desk"])
    swapped = dict.fromkeys(("a", "b"), TABLE.routes["desk"])
    first = RoutingTable(listen=TABLE.listen, routes=routes)
    assert encode_table(first) == encode_table(RoutingTable(listen=TABLE.listen, routes=swapped))


def test_every_replacement_changes_the_stamp(tmp_path: Path) -> None:
    path = tmp_path / "gateway.json"
    assert stamp(path) is None
    write_table(path, TABLE)
    first = stamp(path)
    write_table(path, TABLE)
    assert first is not None
    assert stamp(path) != first


def _without(field: str) -> bytes:
    document = json.loads(encode_table(TABLE))
    del document[field]
    return json.dumps(document).encode()


def _with(**more: object) -> bytes:
    return json.dumps(json.loads(encode_table(TABLE)) | more).encode()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "truncated"),
        (b"{", "truncated"),
        (b'"text"', "object"),
        (_without("listen"), "listen"),
        (_with(surprise=1), "surprise"),
        (_with(limits={"concurrency": 0}), "concurrency"),
        (_with(routes={"x": {"revision": 0}}), "revision"),
        (_with(keys=[json.loads(encode_table(TABLE))["keys"][0]] * 2), "twice"),
    ],
)
def test_a_broken_document_is_refused_with_its_name_and_field(data: bytes, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        decode_table(data, source="gateway.json")
    assert caught.value.code == "gateway.table"
    assert "gateway.json" in caught.value.message
    assert said in caught.value.message


def test_an_absent_document_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        read_table(tmp_path / "nothing.json")
    assert caught.value.code == "gateway.table_missing"
