"""The gateway as the daemon sees it, where systemd runs it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec

from appliance.daemon.gateway_unit import build_table, gateway_view, link_gateway_socket
from appliance.kernel.paths import StatePaths
from appliance.services.context import Appliance
from tests.factories.appliance import context


def test_the_states_name_leads_to_the_gateways_own_socket(tmp_path: Path) -> None:
    paths = StatePaths(tmp_path)
    paths.run.mkdir()
    link_gateway_socket(paths, Path("/run/one/http.sock"))
    link_gateway_socket(paths, Path("/run/two/http.sock"))
    before = paths.gateway_socket.lstat().st_ino
    link_gateway_socket(paths, Path("/run/two/http.sock"))
    assert paths.gateway_socket.readlink() == Path("/run/two/http.sock")
    assert paths.gateway_socket.lstat().st_ino == before
    assert [entry.name for entry in paths.run.iterdir()] == ["gateway.sock"]


def test_a_silent_gateway_is_down(tmp_path: Path) -> None:
    paths = StatePaths(tmp_path)
    paths.run.mkdir()
    view = gateway_view(paths)
    assert (view.name, view.state, view.pid) == ("gateway", "down", None)
    assert view.detail


def test_a_given_file_is_both_certificate_and_key(appliance: Appliance) -> None:
    own = build_table(context(appliance)).listen
    assert own.certificate != own.key
    settings = msgspec.structs.replace(
        appliance.settings, tls_file="/given.pem", client_authorities="/ca.pem", client_revocations="/crl.pem"
    )
    given = build_table(context(dataclasses.replace(appliance, settings=settings))).listen
    assert (given.certificate, given.key) == ("/given.pem", "/given.pem")
    assert (given.client_authorities, given.client_revocations) == ("/ca.pem", "/crl.pem")
