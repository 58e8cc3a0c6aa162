"""One believable appliance, frozen at NOW: what the fake client and the fake server tell the console."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from appliance.api import types as t
from appliance.jobs.spec import FileEntry
from appliance.kernel.clock import to_text
from appliance.kernel.events import CheckpointSaved, Metric, Note, Progress, StateChanged

NOW = datetime(2026, 7, 14, 9, 30, tzinfo=UTC)
ALL_ROLES = ("admin", "operator", "data_scientist", "approver", "auditor")
RUNNING = "01K03ZQ5XA0000000000000001"
FINISHED = "01K02ZQ5XB0000000000000002"
FAILED = "01K01ZQ5XC0000000000000003"


def at(**ago: float) -> str:
    """An instant before NOW."""
    return to_text(NOW - timedelta(**ago))


def digest(letter: str) -> str:
    """A digest-shaped text."""
    return (letter * 64)[:64]


UNITS = (
    t.UnitView(name="gateway", state="ready", pid=811, since=at(days=3), memory_bytes=96 << 20),
    t.UnitView(
        name="engine-assistant-4",
        state="ready",
        pid=902,
        since=at(hours=5),
        memory_bytes=1430 << 20,
        detail="faq@3, 16 slots",
    ),
)

STATUS = t.StatusView(
    version="0.1.0",
    state_directory="/var/lib/intramuros",
    started_at=at(days=3),
    address="https://box-7:8443",
    units=UNITS,
    jobs_running=1,
    jobs_queued=1,
    models=3,
    datasets=2,
    deployments=2,
    disk_free=412 << 30,
    disk_total=930 << 30,
    memory_available=21 << 30,
    audit_events=1204,
    audit_checkpoint=at(minutes=4),
    last_backup=at(hours=7),
    attention=(
        t.Attention(
            level="WARN",
            text="the gateway's certificate ends in 9 days",
            hint="A restart renews it: intramuros down, up.",
        ),
    ),
)


def job(id: str, kind: str, title: str, state: str, **more: object) -> t.JobView:
    """One job."""
    values: dict[str, object] = {"created_by": "anna", "created_at": at(hours=1), "attempt": 1} | more
    return t.JobView(id=id, kind=kind, title=title, run_id=digest("7"), state=state, **values)  # type: ignore[arg-type]


JOBS = (
    job(
        RUNNING,
        "train.lora",
        "faq-tune on faq@2",
        "running",
        started_at=at(minutes=25),
        progress=Progress(
            phase="train", fraction=0.62, step=620, steps=1000, loss=1.21, tokens_per_second=1830.0, eta_seconds=912.0
        ),
    ),
    job("01K03ZQ5XD0000000000000004", "evaluate", "faq@3 on faq@2", "queued"),
    job(
        FINISHED,
        "train.lora",
        "faq-tune on faq@1",
        "succeeded",
        created_at=at(days=1),
        started_at=at(days=1),
        finished_at=at(hours=22),
        summary={"loss": 0.934, "steps": 1000, "tokens": 1_200_345},
    ),
    job(
        FAILED,
        "dataset.import",
        "support-mails",
        "failed",
        created_at=at(days=2),
        started_at=at(days=2),
        finished_at=at(days=2),
        problem=t.Problem(
            code="dataset.encoding",
            message="mails.csv is not UTF-8 at byte 4711.",
            hint="Save it as UTF-8 and import it again.",
        ),
    ),
)

SPEC = {
    "kind": "train.lora",
    "inputs": {"base": {"ref": "seed@1", "digest": digest("a")}},
    "parameters": {"rank": 8},
    "seed": 0,
}
FILES = (FileEntry(path="adapter.safetensors", digest=digest("b"), size=2 << 20),)


def loss_events(count: int = 60) -> tuple[t.JobEvent, ...]:
    """A log with a falling loss."""
    events: list[object] = [StateChanged(state="running"), Note(text="1,240 rows, 3 epochs, 1000 steps")]
    for step in range(count):
        loss = 1.1 + 2.4 * 0.93**step + (0.06 if step % 3 else 0.0)
        rate = 3e-3 * min(1.0, step / 5) * (1 - step / 100)
        events.append(
            Progress(phase="train", fraction=step / 100, step=step * 10, steps=1000, loss=loss, learning_rate=rate)
        )
        if step and step % 20 == 0:
            events.append(CheckpointSaved(step=step * 10, digest=digest("c")))
    events.append(Metric(name="heldout_loss", value=1.2874))
    return tuple(
        t.JobEvent(seq=i + 1, at=at(minutes=25 - i * 0.3), event=event)  # type: ignore[arg-type]
        for i, event in enumerate(events)
    )


def model(name: str, version: int, letter: str, **more: object) -> t.ModelView:
    """One model version."""
    values: dict[str, object] = {
        "kind": "tuned",
        "stage": "none",
        "formats": ("safetensors", "gguf"),
        "architecture": "LlamaForCausalLM",
        "parameters": 1_100_000_000,
        "context_length": 2048,
        "size": 2_300_000_000,
        "licence": "Apache-2.0",
        "created_by": "anna",
        "created_at": at(days=version),
    } | more
    return t.ModelView(ref=f"{name}@{version}", name=name, version=version, digest=digest(letter), **values)  # type: ignore[arg-type]


MODELS = (
    model("faq", 3, "d", stage="prod", created_at=at(hours=6)),
    model("faq", 2, "e", stage="test"),
    model("seed", 1, "a", kind="seed", parameters=3_400_000, size=14_000_000, stage="dev", licence=""),
)

LINEAGE = {
    "base": {"ref": "seed@1", "digest": digest("a")},
    "datasets": [{"ref": "faq@2", "digest": digest("f")}],
    "runs": [{"job": FINISHED, "kind": "train.lora", "seed": 0, "by": "anna", "at": at(hours=22)}],
    "authors": ["anna"],
}

EVALUATIONS = (
    t.EvaluationView(
        id="e1",
        subject="faq@3",
        dataset="faq@2",
        metrics={"exact_match": 0.9132, "loss": 0.934},
        examples=230,
        at=at(hours=6),
        job=FINISHED,
    ),
)
APPROVALS = (t.ApprovalView(stage="prod", approver="bruno", method="group", at=at(hours=5)),)
STAGES = (t.StageView(stage="prod", by="anna", at=at(hours=5), verdict="passed: exact_match 0.913 >= 0.9"),)

DATASETS = (
    t.DatasetView(
        ref="faq@2",
        name="faq",
        version=2,
        digest=digest("f"),
        form="chat",
        train_rows=1240,
        heldout_rows=138,
        rejected_rows=4,
        duplicate_rows=11,
        size=1_800_000,
        created_by="anna",
        created_at=at(days=2),
    ),
    t.DatasetView(
        ref="faq@1",
        name="faq",
        version=1,
        digest=digest("9"),
        form="chat",
        train_rows=900,
        heldout_rows=100,
        rejected_rows=0,
        duplicate_rows=0,
        size=1_100_000,
        created_by="anna",
        created_at=at(days=9),
    ),
    t.DatasetView(
        ref="banking@1",
        name="banking",
        version=1,
        digest=digest("5"),
        form="classification",
        train_rows=952,
        heldout_rows=104,
        rejected_rows=0,
        duplicate_rows=2,
        size=210_000,
        created_by="anna",
        created_at=at(days=10),
        labels=4,
        personal=4,
    ),
)
STATISTICS = {
    "rows": 1378,
    "train": {"rows": 1240, "characters": {"min": 12, "p50": 61, "p95": 240, "max": 402, "mean": 80.1, "total": 99}},
    "heldout": {"rows": 138, "characters": {"min": 14, "p50": 60, "p95": 228, "max": 390, "mean": 78.4, "total": 9}},
    "rejected_by_code": {"dataset.empty": 4},
}
LABELS = tuple(
    {"label": name, "train": train, "heldout": train // 9}
    for name, train in (("declined_payment", 420), ("card_arrival", 310), ("exchange_rate", 204), ("lost_card", 18))
)
CHECK = {
    "train": {"rows": 952, "tokens": {"p50": 14, "p95": 41, "max": 88}},
    "heldout": {"rows": 104, "tokens": {"p50": 14, "p95": 40, "max": 71}},
    "exact_duplicates": {"rows": 2, "examples": []},
    "near_duplicates": {"rows": 37, "examples": []},
    "conflicts": {"rows": 0, "examples": []},
    "outliers": {"rows": 1, "examples": []},
    "leakage": {"exact": 0, "near": 6, "examples": []},
    "findings": [
        {
            "level": "WARN",
            "code": "leakage.near",
            "text": "6 training rows nearly ask what a held-out row asks; figures on the held-out part will look "
            "better than they are. `dataset split --drop-near` takes them out.",
        },
        {"level": "INFO", "code": "duplicates.exact", "text": "2 rows repeat an earlier one exactly."},
    ],
}


def recipe_field(name: str, type: str, default: object, meaning: str, **more: object) -> t.RecipeField:
    """One field of a recipe."""
    return t.RecipeField(name=name, type=type, default=default, meaning=meaning, **more)  # type: ignore[arg-type]


_DATA = (t.RecipeInput(word="base", name="base"), t.RecipeInput(word="data", name="dataset", forms=("chat",)))
RECIPES = (
    t.RecipeView(
        name="lora",
        kind="train.lora",
        purpose="Low-rank adapters on a base model, merged into it.",
        inputs=_DATA,
        fields=(
            recipe_field("rank", "int", 16, "Rank of the adapters: width of the update.", minimum=1, maximum=256),
            recipe_field("targets", "list", [], "Names of the linear layers that get an adapter; empty means all."),
            recipe_field("packing", "bool", False, "Fill each sequence with whole conversations up to max_length."),
            recipe_field("learning_rate", "float", 3e-3, "Peak of the schedule.", above=0, maximum=100),
            recipe_field(
                "schedule",
                "choice",
                "cosine",
                "How the learning rate falls after the warm-up.",
                choices=("cosine", "linear", "constant"),
            ),
        ),
    ),
    t.RecipeView(
        name="distil",
        kind="train.distil",
        purpose="A smaller model that learns to answer as its teacher does.",
        inputs=(t.RecipeInput(word="teacher", name="teacher"), t.RecipeInput(word="base", name="base", required=False)),
        fields=(recipe_field("temperature", "float", 2.0, "Softness of the teacher's answers.", above=0),),
    ),
)
PLAN = t.TrainingPlanView(
    kind="train.lora",
    run_id=digest("7"),
    inputs=(
        t.TrainingInput(word="base", ref="faq@3", digest=digest("d")),
        t.TrainingInput(word="data", ref="faq@2", digest=digest("f"), form="chat", train_rows=1240, heldout_rows=138),
    ),
    recipe={"rank": 8, "targets": [], "packing": False, "learning_rate": 3e-3, "schedule": "cosine"},
    given=("rank",),
    seed=0,
    threads=2,
    steps=1550,
    tokens=6_348_800,
    memory=t.TrainingMemory(
        weights=1 << 30,
        training_state=1 << 27,
        activations=1 << 29,
        data=3 << 20,
        process=1 << 28,
        total=2_016_411_648,
        available=21 << 30,
        fits=True,
    ),
    proposals=(),
    file="recipe: lora\nbase: faq@3\ndata: faq@2\nseed: 0\nwith: {rank: 8}\n",
)
COMPARISON = t.ComparisonView(
    first="faq@3",
    second="faq@2",
    on="faq@2",
    differences=(
        t.DifferenceView(
            metric="exact_match",
            first=0.913,
            second=0.87,
            difference=-0.043,
            low=-0.07,
            high=-0.016,
            p=0.0021,
            rows=230,
            left_out=0,
            lower_is_better=False,
            verdict="worse",
        ),
    ),
)
SAMPLES = (
    {
        "messages": [
            {"role": "user", "content": "Where is the canteen?"},
            {"role": "assistant", "content": "Building B."},
        ]
    },
)

DEPLOYMENTS = (
    t.DeploymentView(
        name="assistant",
        state="live",
        model="faq@3",
        previous="faq@2",
        revision=4,
        since=at(hours=5),
        worker=UNITS[1],
        resident=t.ResidentView(
            deployment="assistant",
            revision=4,
            model="faq@3",
            kind="generate",
            state="resident",
            pinned=True,
            idle_timeout=0,
            used=0,
            active=3,
            waiting=0,
            predicted=t.FootprintView(
                weights=1 << 30, cache=1 << 28, compute=1 << 26, process=1 << 26, total=1_677_721_600, draft=201_326_592
            ),
            measured=1_503_238_553,
            error=-0.104,
            note="",
            engine=t.EngineLoad(
                streams=3,
                queue=1,
                cells=8192,
                free_cells=6144,
                cached_cells=2048,
                prompt_tokens=120_000,
                cached_tokens=90_000,
                completion_tokens=44_000,
                steps=15_000,
                step_seconds=900.0,
                preempted=0,
                drafted_tokens=9_000,
                accepted_tokens=6_000,
                draft_model_drafted=8_000,
                draft_model_accepted=5_600,
            ),
        ),
        decisions=(
            t.DecisionView(
                at=at(hours=5), action="load", deployment="assistant", revision=4, why="needs 1.4 GiB, 12 GiB are free"
            ),
        ),
        revisions=(
            t.RevisionView(number=3, model="faq@2", digest=digest("e"), state="superseded", by="anna", at=at(days=2)),
            t.RevisionView(
                number=4,
                model="faq@3",
                digest=digest("d"),
                state="live",
                by="bruno",
                at=at(hours=5),
                options=t.ServingOptions(
                    draft=t.ServedDraft(ref="faq-small@1", digest=digest("a"), size=1 << 27),
                    adapters={"law": t.ServedAdapter(ref="faq-law@2", digest=digest("f"), size=1 << 20)},
                ),
            ),
        ),
    ),
    t.DeploymentView(name="draft", state="starting", model="seed@1", previous="", revision=1, since=at(minutes=1)),
)

KEYS = (
    t.KeyView(id="k7f3a1b2", name="intranet", created_by="anna", created_at=at(days=20), expires_at=at(days=-70)),
    t.KeyView(
        id="k1c9d8e7",
        name="old-app",
        created_by="bruno",
        created_at=at(days=200),
        expires_at="",
        revoked_at=at(days=3),
        models=("assistant",),
    ),
)

FLEET = (
    t.FleetBox(
        name="alpha",
        address="10.77.0.1",
        own=True,
        reachable=True,
        same_version=True,
        version="0.1.0",
        cpu="AMD EPYC 9654 0a1b2c3d4e5f",
        threads=16,
        memory=128 << 30,
        memory_available=90 << 30,
        running=1,
    ),
    t.FleetBox(name="beta", address="10.77.0.2", problem="The rank host of box beta does not answer."),
    t.FleetBox(
        name="gamma",
        address="10.77.0.3",
        reachable=True,
        version="0.0.9",
        cpu="Intel Xeon 6740E 5f4e3d2c1b0a",
        threads=8,
        memory=64 << 30,
        memory_available=60 << 30,
    ),
)

BACKUPS = (
    t.BackupView(id=digest("b"), at=at(hours=7), size=4_600_000_000, files=312, host="box-7"),
    t.BackupView(id=digest("8"), at=at(days=1, hours=7), size=4_500_000_000, files=300, host="box-7"),
)


def _entry(seq: int) -> t.AuditEntry:
    actions = ("deployment.deploy", "model.promote", "model.approve", "job.submit", "key.create")
    return t.AuditEntry(
        seq=seq,
        at=at(minutes=(1204 - seq) * 7),
        actor="bruno" if seq % 3 == 0 else "anna",
        action=actions[seq % 5],
        target=("assistant", "faq@3", "faq@3", "train.lora", "intranet")[seq % 5],
        phase="refused" if seq % 11 == 0 else "done",
        detail={"model": "faq@3", "revision": 4},
        hash=digest("0123456789abcdef"[seq % 16]),
    )


AUDIT = tuple(_entry(seq) for seq in range(1204, 1004, -1))


def plan_of_serving(name: str, model: str, *, draft: bool) -> t.PlanView:
    """What serving a version as this name would need, with a draft model or alone."""
    more = 200 << 20 if draft else 0
    return t.PlanView(
        model=model,
        kind="generate",
        predicted=t.FootprintView(
            weights=1 << 30,
            cache=1 << 28,
            compute=1 << 26,
            process=1 << 26,
            total=(1408 << 20) + more,
            saved=1 << 28,
            draft=more,
        ),
        budget=4 << 30,
        used=1 << 30,
        decisions=(
            t.DecisionView(at=at(), action="load", deployment=name, revision=5, why="needs 1.4 GiB, 3 GiB are free"),
        ),
    )
