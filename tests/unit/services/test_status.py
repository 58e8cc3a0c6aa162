from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from appliance.access.tls import LOOPBACK, certificate_names, ensure_authority, ensure_leaf, public_part
from appliance.api import types as t
from appliance.jobs.spec import JobKind
from appliance.kernel.paths import StatePaths
from appliance.kernel.problem import Problem
from appliance.kernel.settings import Settings
from appliance.services import outcomes, status
from appliance.services.context import Appliance, Context
from tests.factories.appliance import (
    WEIGHTS,
    context,
    finish_job,
    imported_dataset,
    imported_model,
    open_test_appliance,
    queue_run,
)


def attention(ctx: Context, *units: t.UnitView, isolated: bool = True) -> list[str]:
    return [item.text for item in status.status(ctx, units, isolated=isolated).attention]


def test_a_deployment_that_memory_has_no_room_for_is_told(ctx: Context) -> None:
    found = status.status(ctx, (), isolated=True, hindered={"chat": "needs 9 GiB"}).attention
    assert ("WARN", "chat is not in memory: needs 9 GiB") in [(item.level, item.text) for item in found]


def test_the_figures_are_counted(ctx: Context) -> None:
    imported_model(ctx, "tiny", WEIGHTS)
    queue_run(ctx, JobKind.TRAIN_SEED, {"corpus": imported_dataset(ctx)})
    view = status.status(ctx, (), isolated=True)
    assert (view.models, view.datasets, view.jobs_queued, view.jobs_running, view.deployments) == (1, 1, 1, 0, 0)
    assert view.audit_events > 0
    assert msgspec.json.decode(msgspec.json.encode(view), type=t.StatusView) == view


def test_only_a_failure_that_nothing_followed_needs_attention(ctx: Context) -> None:
    data = imported_dataset(ctx)
    failed = queue_run(ctx, JobKind.TRAIN_SEED, {"corpus": data})
    outcomes.fail(ctx, failed.id, Problem(code="job.crashed", message="It crashed."))
    assert any(failed.id in text for text in attention(ctx))
    later = queue_run(ctx, JobKind.TRAIN_SEED, {"corpus": data}, seed=1)
    finish_job(ctx, later.id, WEIGHTS, {})
    assert not any(failed.id in text for text in attention(ctx))


def test_what_is_not_ready_isolated_or_backed_up_is_named(ctx: Context) -> None:
    assert attention(ctx, t.UnitView(name="gateway", state="ready")) == []
    imported_model(ctx, "tiny", WEIGHTS)
    found = attention(ctx, t.UnitView(name="gateway", state="backing-off", detail="exit status 3"), isolated=False)
    assert found[0] == "gateway is backing-off (exit status 3)"
    assert found[1:] == [
        "no backup was ever taken",
        "engines and jobs keep the network: this system allows no network namespace",
    ]


@pytest.mark.parametrize(("host", "address"), [("127.0.0.1", "https://127.0.0.1:8443"), ("::1", "https://[::1]:8443")])
def test_the_address_is_as_clients_type_it(tmp_path_factory: pytest.TempPathFactory, host: str, address: str) -> None:
    opened: Appliance = open_test_appliance(tmp_path_factory.mktemp("state"), settings=Settings(host=host))
    assert status.address(context(opened)) == address
    opened.database.close()


def test_the_address_of_a_box_is_its_certificates_first_name(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    paths = StatePaths(tmp_path)
    ensure_authority(paths)
    ensure_leaf(paths, ("box.example", "192.0.2.7"))
    settings = Settings(host="0.0.0.0", tls_file=str(paths.leaf_certificate.with_suffix(".pem")))
    public_part(Path(settings.tls_file)).write_bytes(paths.leaf_certificate.read_bytes())
    opened = open_test_appliance(tmp_path_factory.mktemp("state"), settings=settings)
    names = [name for name in certificate_names(paths.leaf_certificate) if name not in LOOPBACK]
    assert names[-2:] == ["box.example", "192.0.2.7"]
    assert status.address(context(opened)) == f"https://{names[0]}:8443"
    opened.database.close()
