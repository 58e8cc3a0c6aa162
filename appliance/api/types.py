"""Wire types of the control API. The CLI and the console know the appliance only through these.

Times are RFC 3339 text in UTC, sizes are bytes, digests are SHA-256 in hexadecimal. `ref` is `name@version`.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from appliance.jobs.spec import FileEntry
from appliance.kernel.events import Event, Progress
from appliance.kernel.problem import Problem as Problem

PRIORITIES: Final = ("interactive", "normal", "batch")
"""Classes of an API key's requests, the most urgent first."""
SIZES: Final = frozenset({"memory_predicted", "memory_measured", "gguf_bytes"})
"""Figures of a run that count bytes."""


class View(msgspec.Struct, frozen=True, kw_only=True):
    """Base of what the server tells."""


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what a client asks. Unknown fields are refused."""


class WhoAmI(View, frozen=True, kw_only=True):
    """Who the server takes the caller for."""

    user: str
    uid: int
    roles: tuple[str, ...]


class UnitView(View, frozen=True, kw_only=True):
    """A supervised process: gateway or engine."""

    name: str
    state: str
    """starting | ready | unresponsive | draining | backing-off | stopped"""
    pid: int | None = None
    since: str = ""
    restarts: int = 0
    memory_bytes: int = 0
    detail: str = ""


class Attention(View, frozen=True, kw_only=True):
    """Something a person should look at. `level` is WARN or FAIL."""

    level: str
    text: str
    hint: str = ""


class StatusView(View, frozen=True, kw_only=True):
    """The whole appliance at a glance."""

    version: str
    instance: str = ""
    """identifier of this appliance; it keys the audit chain and approvals"""
    state_directory: str
    started_at: str
    address: str
    """https://host:port of the gateway"""
    units: tuple[UnitView, ...]
    jobs_running: int
    jobs_queued: int
    models: int
    datasets: int
    deployments: int
    disk_free: int
    disk_total: int
    memory_available: int
    audit_events: int
    audit_checkpoint: str
    """time of the newest signed checkpoint, or empty"""
    last_backup: str
    """time of the newest backup, or empty"""
    attention: tuple[Attention, ...] = ()


class JobPart(View, frozen=True, kw_only=True):
    """What a job is in its campaign, whose kind is search | kfold | pipeline | rerun: `trial 3`, `fold 2 of 3`."""

    kind: str
    name: str
    values: dict[str, Any] = {}
    """a trial's own values"""
    pruned: bool = False
    """true for a trial that its search stopped because others were better"""


class JobView(View, frozen=True, kw_only=True):
    """One job: queued | running | succeeded | failed | cancelled | interrupted."""

    id: str
    kind: str
    title: str
    run_id: str
    state: str
    created_by: str
    created_at: str
    started_at: str = ""
    finished_at: str = ""
    attempt: int = 0
    progress: Progress | None = None
    problem: Problem | None = None
    summary: dict[str, Any] = {}
    output_digest: str = ""
    cached: bool = False
    """true when an equal run had already succeeded and its result is returned"""
    parent: str = ""
    """the campaign that it is a part of, or empty"""
    repeats: str = ""
    """the job whose run it does again to compare the bytes, or empty"""
    part: JobPart | None = None
    """which part of its campaign it is; null for a question that a search asks, and in the answer to a change"""

    @property
    def what(self) -> str:
        """Say what it works on, and as which part of something: `trial 3: seed@1 + faq@2`."""
        return f"{self.part.name}: {self.title}" if self.part else self.title

    @property
    def told_state(self) -> str:
        """Say its state to a person: a trial that was stopped by its search is pruned, not cancelled by somebody."""
        return "pruned" if self.state == "cancelled" and self.part and self.part.pruned else self.state


class JobDetail(View, frozen=True, kw_only=True):
    """A job with its specification and output files."""

    job: JobView
    spec: dict[str, Any]
    files: tuple[FileEntry, ...] = ()


class JobOutput(View, frozen=True, kw_only=True):
    """One output file of a job, as text."""

    job: str
    path: str
    digest: str
    text: str


class JobEvent(View, frozen=True, kw_only=True):
    """One line of a job's log, numbered from 1 without gaps."""

    seq: int
    at: str
    event: Event


class JobEvents(View, frozen=True, kw_only=True):
    """A page of a job's log; ask again with `after=next`."""

    events: tuple[JobEvent, ...]
    next: int
    state: str


class CampaignView(View, frozen=True, kw_only=True):
    """A run that consists of runs: search | kfold | pipeline | rerun.

    running | waiting (for an approval) | succeeded | failed | cancelled
    """

    id: str
    kind: str
    title: str
    state: str
    created_by: str
    created_at: str
    finished_at: str = ""
    done: int = 0
    steps: int = 0
    summary: dict[str, Any] = {}
    problem: Problem | None = None


class CampaignStepView(View, frozen=True, kw_only=True):
    """One trial, fold or step, and how it and its job stand.

    pending | queued | running | interrupted | stopping | waiting | succeeded | failed | pruned | cancelled
    """

    number: int
    name: str
    state: str
    spec: dict[str, Any] = {}
    job: str = ""
    outcome: dict[str, Any] = {}
    problem: Problem | None = None
    progress: Progress | None = None


class CampaignDetail(View, frozen=True, kw_only=True):
    """A campaign with its steps. `mark` changes whenever a state does: ask again with `seen=mark` to wait for that."""

    campaign: CampaignView
    spec: dict[str, Any]
    steps: tuple[CampaignStepView, ...]
    mark: str


class VerificationView(View, frozen=True, kw_only=True):
    """A run that was done again, and whether every output file had the same bytes."""

    campaign: str
    run: str
    by: str
    at: str
    identical: bool
    files: int
    differing: tuple[str, ...] = ()


class RunInput(View, frozen=True, kw_only=True):
    """What went into a run: its name there, what a person called it, the digest of its files."""

    name: str
    ref: str
    digest: str
    files: int
    size: int


class RunEvents(View, frozen=True, kw_only=True):
    """A run's log in figures, and the notes in it."""

    events: int
    first: str
    last: str
    checkpoints: int
    skipped_checkpoints: int
    notes: tuple[str, ...]


class RunDetail(View, frozen=True, kw_only=True):
    """Everything about one run."""

    job: JobView
    inputs: tuple[RunInput, ...]
    parameters: dict[str, Any]
    """every field, defaults included"""
    recipe_file: str
    """the file that makes this run again with `intramuros train run`; empty for what is no training"""
    seed: int
    fold: dict[str, Any]
    environment: dict[str, Any]
    lock: str
    """digest of the lock of installed packages; empty for a run older than locks"""
    requirements: str
    """that lock as a requirements file"""
    metrics: dict[str, float]
    outputs: tuple[FileEntry, ...]
    events: RunEvents
    versions: tuple[str, ...]
    """registered versions made from it"""
    parents: tuple[str, ...]
    """runs whose outputs it took in"""
    children: tuple[str, ...]
    """runs that took in its outputs"""
    verifications: tuple[VerificationView, ...]
    differences: tuple[str, ...]
    """what keeps it from being repeated to the bit here and now"""


class RecipeInput(View, frozen=True, kw_only=True):
    """An input of a recipe: the word for it (`--data`), the name that the job knows it by, and whether it is needed.

    A data set must have one of the `forms`; a model has none. `does` is what a model must do: generate, encode, or
    either (empty).
    """

    word: str
    name: str
    required: bool = True
    forms: tuple[str, ...] = ()
    does: str = ""


class RecipeField(View, frozen=True, kw_only=True):
    """One field of a recipe: what may be chosen about a run.

    `type` is int | float | bool | text | choice | list | any. `above` and `below` are bounds that are themselves left
    out.
    """

    name: str
    type: str
    default: Any
    meaning: str
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def limits(self) -> str:
        """Say the range in ASCII, such as `>= 1, <= 256`; empty where there is none."""
        bounds = ((">=", self.minimum), (">", self.above), ("<=", self.maximum), ("<", self.below))
        return ", ".join(f"{sign} {value:.10g}" for sign, value in bounds if value is not None)

    @property
    def range_text(self) -> str:
        """Say what it takes beside its type: `one of cosine, linear`, `>= 1`; empty where that says it all."""
        return f"one of {', '.join(self.choices)}" if self.choices else self.limits


class RecipeView(View, frozen=True, kw_only=True):
    """One kind of training: its inputs and the fields of its recipe."""

    name: str
    kind: str
    purpose: str
    inputs: tuple[RecipeInput, ...]
    fields: tuple[RecipeField, ...]


class TrainingInput(View, frozen=True, kw_only=True):
    """An input of a planned run, resolved: the word for it, what it is, its digest; rows where it is a data set."""

    word: str
    ref: str
    digest: str
    form: str = ""
    train_rows: int = 0
    heldout_rows: int = 0


class TrainingMemory(View, frozen=True, kw_only=True):
    """Predicted memory at the peak by part, in bytes, and what is available."""

    weights: int
    training_state: int
    activations: int
    data: int
    process: int
    merging: int = 0
    """what merging adapters takes beyond the training"""
    total: int
    available: int
    fits: bool


class TrainingPlanView(View, frozen=True, kw_only=True):
    """A training run before it is queued: everything it would be, and what it would need."""

    kind: str
    run_id: str
    inputs: tuple[TrainingInput, ...]
    recipe: dict[str, Any]
    """every field, defaults included"""
    given: tuple[str, ...]
    """fields that were not left to their defaults"""
    seed: int
    threads: int
    steps: int | None
    """optimiser steps; null where only the tokens will tell"""
    tokens: int | None
    """most tokens that are read in all; null where the steps are not known"""
    memory: TrainingMemory
    proposals: tuple[str, ...]
    """what would fit, where it does not"""
    equal_job: str = ""
    """the job whose result this run would be given instead of being run, or that it would join"""
    file: str = ""
    """the recipe file that says all of it"""


class ModelView(View, frozen=True, kw_only=True):
    """One registered, immutable model version."""

    ref: str
    name: str
    version: int
    digest: str
    kind: str
    """imported | seed | tuned"""
    stage: str
    """none | dev | test | prod"""
    formats: tuple[str, ...]
    architecture: str
    parameters: int
    context_length: int
    size: int
    licence: str
    created_by: str
    created_at: str
    purpose: str = ""
    """generate | embed | rerank | classify | tag"""


class EvaluationView(View, frozen=True, kw_only=True):
    """Measured figures of one model on one data set's held-out part."""

    id: str
    subject: str
    dataset: str
    metrics: dict[str, float]
    examples: int
    at: str
    job: str
    suite: str = ""
    """the suite's version, or empty for an evaluation on a data set"""
    intervals: dict[str, tuple[float, float]] = {}
    """95 % intervals by metric"""
    informative: dict[str, float] = {}
    """speeds of this machine at that time"""


class SuiteTaskView(View, frozen=True, kw_only=True):
    """One task of a suite. `rows` counts its own rows; 0 where they come from `data`."""

    name: str
    type: str
    data: str
    rows: int
    limit: int
    """0: every row"""


class SuiteView(View, frozen=True, kw_only=True):
    """One immutable version of an evaluation suite."""

    ref: str
    name: str
    version: int
    digest: str
    description: str
    data: tuple[str, ...]
    """the data sets whose held-out parts it asks"""
    tasks: tuple[SuiteTaskView, ...]
    created_by: str
    created_at: str


class DifferenceView(View, frozen=True, kw_only=True):
    """One metric of two models on the same rows: second less first, with its 95 % interval."""

    metric: str
    first: float
    second: float
    difference: float
    low: float
    high: float
    p: float | None
    """McNemar's exact test, for yes/no metrics"""
    rows: int
    left_out: int
    lower_is_better: bool
    verdict: str
    """better | worse | no difference: the second against the first"""


class ComparisonView(View, frozen=True, kw_only=True):
    """Two models on one suite or data set."""

    first: str
    second: str
    on: str
    differences: tuple[DifferenceView, ...]


class ApprovalView(View, frozen=True, kw_only=True):
    """Somebody's signed or authenticated consent to a promotion."""

    stage: str
    approver: str
    method: str
    """group (Unix group on the box) | key (Ed25519 signature of an enrolled approver)"""
    at: str


class StageView(View, frozen=True, kw_only=True):
    """One promotion, with the verdict of its gate."""

    stage: str
    by: str
    at: str
    verdict: str


class CheckView(View, frozen=True, kw_only=True):
    """One thing that a gate asked for."""

    name: str
    passed: bool
    measured: str
    wanted: str


class VerdictView(View, frozen=True, kw_only=True):
    """What a stage's gate said of a version when somebody asked for the stage."""

    stage: str
    passed: bool
    by: str
    at: str
    checks: tuple[CheckView, ...]


class ExportFile(View, frozen=True, kw_only=True):
    """One file of an exported layout: a stored blob by digest, or a text that was written for it."""

    path: str
    digest: str = ""
    size: int = 0
    text: str = ""


class ExportPlan(View, frozen=True, kw_only=True):
    """Everything that an exported folder holds. The client copies it, so that it belongs to who asked."""

    model: str
    layout: str
    files: tuple[ExportFile, ...]


class ModelDetail(View, frozen=True, kw_only=True):
    """A version with its whole lineage."""

    model: ModelView
    description: dict[str, Any]
    files: tuple[FileEntry, ...]
    lineage: dict[str, Any]
    evaluations: tuple[EvaluationView, ...]
    approvals: tuple[ApprovalView, ...]
    stages: tuple[StageView, ...]
    used_by: tuple[str, ...]
    verifications: tuple[VerificationView, ...] = ()
    """its runs that were done again"""
    verdicts: tuple[VerdictView, ...] = ()
    """what the gates said, newest first"""


class DatasetView(View, frozen=True, kw_only=True):
    """One immutable data set version."""

    ref: str
    name: str
    version: int
    digest: str
    form: str
    """chat | text | preference | classification | tags | completion"""
    train_rows: int
    heldout_rows: int
    rejected_rows: int
    duplicate_rows: int
    size: int
    created_by: str
    created_at: str
    labels: int = 0
    """how many different labels the rows have"""
    personal: int = 0
    """how many pieces of personal data were found"""
    synthetic: bool = False
    """true when a model wrote it, or what it was made from"""


class DatasetDetail(View, frozen=True, kw_only=True):
    """A data set with statistics, samples, the rows that were refused, and what is known of where it comes from."""

    dataset: DatasetView
    statistics: dict[str, Any]
    samples: tuple[dict[str, Any], ...]
    rejected: tuple[dict[str, Any], ...]
    files: tuple[FileEntry, ...]
    labels: tuple[dict[str, Any], ...] = ()
    """label, train, heldout: the rows of each, the most frequent first, 200 at most"""
    personal: dict[str, int] = {}
    """kind of personal data -> how often it was found"""
    redacted: dict[str, int] = {}
    """kind -> how often it was replaced by a mark"""
    origin: dict[str, Any] = {}
    """how it was made, when not by an import: kind (split | generate), from, and the choices"""
    synthetic: dict[str, Any] = {}
    """which model wrote it, empty for what people wrote"""
    check: dict[str, Any] = {}
    """the newest check's report, empty before one ran"""
    check_job: str = ""
    used_by: tuple[str, ...] = ()
    """what would lose it: models trained on it, jobs that wait for it"""


class DatasetRows(View, frozen=True, kw_only=True):
    """Rows of one part as they are stored; ask again with `after=next`; `next` is 0 at the end."""

    part: str
    rows: tuple[dict[str, Any], ...]
    next: int = 0


class DatasetDiff(View, frozen=True, kw_only=True):
    """What differs between two versions. Columns that were only kept do not count."""

    before: DatasetDetail
    after: DatasetDetail
    added: dict[str, int]
    """part -> rows that only the second has"""
    removed: dict[str, int]
    """part -> rows that only the first has"""
    moved: dict[str, int]
    """part -> rows that stand there in the second, and in the other part in the first"""
    kept: dict[str, int]
    """part -> rows that both have there"""
    columns: dict[str, tuple[str, ...]]
    """added, removed: parts of a row that only one of them has"""


class ServedAdapter(View, frozen=True, kw_only=True):
    """A LoRA adapter that is served with a model: the version it belongs to, and its GGUF file."""

    ref: str
    digest: str
    size: int


class ServedDraft(View, frozen=True, kw_only=True):
    """A smaller model that guesses tokens for a served one: its version, and its GGUF file."""

    ref: str
    digest: str
    size: int


class ServingOptions(View, frozen=True, kw_only=True):
    """How one revision is served. Zero means the appliance's setting or the model's own limit."""

    kind: str = "generate"
    """generate | embed | rerank | classify"""
    threads: int = 0
    context: int = 0
    """KV cells of an engine that generates; the longest text, in tokens, of one that encodes"""
    memory_limit: int = 0
    """bytes that its process may allocate beside the mapped model file"""
    categories: dict[str, str] = {}
    """label -> category, which makes a classifier answer /v1/moderations"""
    shortens: bool = False
    """whether clients may ask for shorter vectors (models trained for it)"""
    adapters: dict[str, ServedAdapter] = {}
    """label -> LoRA adapter; clients name it `DEPLOYMENT:LABEL`"""
    draft: ServedDraft | None = None
    """what guesses its next tokens; answers are the same without"""
    gpu_layers: int = -1
    """layers on a GPU, the output counted as one; -1: as many as fit, 0: none"""


class Policy(View, frozen=True, kw_only=True):
    """How a deployment is kept in memory. After `idle_timeout` seconds without a request it leaves; 0: as set."""

    pinned: bool = False
    idle_timeout: float = 0.0


class RevisionView(View, frozen=True, kw_only=True):
    """One deployment revision: starting | live | superseded | failed."""

    number: int
    model: str
    digest: str
    state: str
    by: str
    at: str
    reason: str = ""
    """why the gate was overridden, or why it failed"""
    options: ServingOptions = ServingOptions()


class DeploymentView(View, frozen=True, kw_only=True):
    """A served name and what answers behind it."""

    name: str
    state: str
    """starting | live | failed | stopped"""
    model: str
    previous: str
    """what `rollback` would bring back, or empty"""
    revision: int
    since: str
    worker: UnitView | None = None
    revisions: tuple[RevisionView, ...] = ()
    policy: Policy = Policy()
    resident: ResidentView | None = None
    """its live revision's place in memory, and what its engine does now"""
    decisions: tuple[DecisionView, ...] = ()
    """what was decided about it, newest first"""

    @property
    def live(self) -> RevisionView | None:
        """The revision that answers, also while a newer one starts."""
        return next((revision for revision in self.revisions if revision.state == "live"), None)

    @property
    def options(self) -> ServingOptions:
        """How its live revision is served; the defaults while none is live."""
        return self.live.options if self.live is not None else ServingOptions()


class FootprintView(View, frozen=True, kw_only=True):
    """Predicted memory of one engine, in bytes: main memory, and `device` of the GPU that has some of its layers."""

    weights: int
    cache: int
    compute: int
    process: int
    total: int
    """what a fresh engine takes"""
    saved: int = 0
    """kept besides for prefixes that leave its KV cache"""
    draft: int = 0
    """the draft model with its cells, in all"""
    device: int = 0


class EngineLoad(View, frozen=True, kw_only=True):
    """What an engine says of itself now. Cells are tokens; totals count since it started."""

    streams: int
    queue: int
    cells: int
    free_cells: int
    cached_cells: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    steps: int
    step_seconds: float
    preempted: int
    drafted_tokens: int = 0
    """guessed, by prompt lookup and the draft model"""
    accepted_tokens: int = 0
    """guessed tokens that were right"""
    draft_model_drafted: int = 0
    draft_model_accepted: int = 0


class ResidentView(View, frozen=True, kw_only=True):
    """One served revision and its place in memory: absent | loading | resident | leaving."""

    deployment: str
    revision: int
    model: str
    kind: str
    state: str
    pinned: bool
    idle_timeout: float
    used: float
    """when a request last began or ended, epoch seconds; 0 is not since the daemon or the gateway started"""
    active: int
    waiting: int
    predicted: FootprintView
    measured: int
    """bytes, proportional set size; 0 before it was measured"""
    error: float | None
    """measured over predicted, less 1; null before it was measured"""
    note: str
    """the newest decision about it"""
    tuned: str = ""
    """the tuning run whose threads and batch its engine is started with"""
    engine: EngineLoad | None = None
    placement: str = ""
    """where its layers are or would go, and why; empty on a box whose engine has no GPU to talk to"""
    gpu: str = ""
    gpu_layers: int = 0
    gpu_measured: int = 0
    """bytes that the engine itself took of the GPU; 0 before it said so"""
    gpu_error: float | None = None
    """measured over what it was predicted to take itself, less 1"""


class DecisionView(View, frozen=True, kw_only=True):
    """What the planner decided about one revision: load | unload | wait | refuse."""

    at: str
    action: str
    deployment: str
    revision: int
    why: str


class GpuView(View, frozen=True, kw_only=True):
    """A GPU that engines can use. Sizes are bytes; `budget` is what serving may use of it, `used` what it does."""

    name: str
    description: str
    total: int
    free: int
    budget: int
    used: int


class ServingView(View, frozen=True, kw_only=True):
    """Memory for serving, who is in it, and why. Sizes are bytes; decisions newest first."""

    budget: int
    used: int
    available: int
    models: tuple[ResidentView, ...]
    decisions: tuple[DecisionView, ...]
    gpus: tuple[GpuView, ...] = ()
    gpu_problem: str = ""
    """why the engine's list of GPUs could not be had, when there is a plug-in for them"""


class PlanView(View, frozen=True, kw_only=True):
    """What deploying a version would need and do."""

    model: str
    kind: str
    predicted: FootprintView
    budget: int
    used: int
    decisions: tuple[DecisionView, ...]
    placement: str = ""


class KeyView(View, frozen=True, kw_only=True):
    """An API key, without its secret."""

    id: str
    name: str
    created_by: str
    created_at: str
    expires_at: str
    """empty when it never expires"""
    revoked_at: str = ""
    models: tuple[str, ...] = ()
    """deployments it may use; empty means all"""
    priority: str = "interactive"
    """interactive | normal | batch"""
    share_group: str = ""
    """keys of one group use each other's cached prefixes; empty: nobody else's"""


class NewKey(View, frozen=True, kw_only=True):
    """A fresh API key; `secret` is shown this once and never again."""

    key: KeyView
    secret: str


class FleetBox(View, frozen=True, kw_only=True):
    """A box that trains together with this one, and what its rank host says. Sizes in bytes."""

    name: str
    address: str
    """inside the fleet's private network"""
    own: bool = False
    reachable: bool = False
    problem: str = ""
    same_version: bool = False
    """whether it would compute the same as this box"""
    version: str = ""
    cpu: str = ""
    threads: int = 0
    memory: int = 0
    memory_available: int = 0
    running: int = 0
    """runs that it trains for now, of whichever box"""


class ApproverView(View, frozen=True, kw_only=True):
    """An enrolled approver: a person and the public key that signs for them."""

    name: str
    public_key: str
    added_by: str
    added_at: str


class AuditEntry(View, frozen=True, kw_only=True):
    """One event of the hash chain."""

    seq: int
    at: str
    actor: str
    action: str
    target: str
    phase: str
    """intent | done | failed | refused"""
    detail: dict[str, Any]
    hash: str


class AuditVerdict(View, frozen=True, kw_only=True):
    """Result of re-computing the whole chain."""

    ok: bool
    events: int
    checkpoints: int
    head: str
    problem: str = ""


class BackupView(View, frozen=True, kw_only=True):
    """One backup snapshot."""

    id: str
    at: str
    size: int
    files: int
    host: str


class Page(View, frozen=True, kw_only=True):
    """Newest first; ask for more with `before=<next>`; `next` is 0 at the end."""

    entries: tuple[AuditEntry, ...]
    next: int = 0


class ImportModel(Request, frozen=True, kw_only=True):
    """Bring a GGUF file or a Hugging Face folder into the catalogue."""

    source: str
    name: str
    licence: str = ""


class ImportDataset(Request, frozen=True, kw_only=True):
    """Bring a file, several, or a folder in. `mapping` names columns, e.g. {"text": "body", "label": "category"}."""

    source: str
    name: str
    mapping: dict[str, str] = {}
    heldout_percent: int = 10
    more: tuple[str, ...] = ()
    """further files of the same data set"""
    form: str = ""
    """chat | text | preference | classification | tags | completion; empty: found from the columns"""
    labels: tuple[str, ...] = ()
    """the labels that are allowed; empty allows every one"""
    keep: tuple[str, ...] = ()
    """columns that stay with each row, for splits by group or time"""
    redact: bool = False
    """replace personal data by marks such as <EMAIL>"""


class CheckDataset(Request, frozen=True, kw_only=True):
    """Examine a stored data set. `model` gives the tokenizer that lengths are counted with."""

    model: str = ""
    near: float = 0.85
    """likeness (Jaccard index of pieces of five characters) from which two texts are nearly the same"""


class SplitDataset(Request, frozen=True, kw_only=True):
    """Divide a data set anew, into a new version. Shares are per cent of the rows."""

    by: str = "hash"
    """hash | stratified | group:COLUMN | time:COLUMN"""
    train: int = 80
    heldout: int = 20
    seed: int = 0
    name: str = ""
    """name of the new version; empty means the same name"""
    drop_near: float = 0.0
    """likeness from which training rows that nearly repeat others, or a held-out one, are set aside; 0 keeps them"""


class GenerateDataset(Request, frozen=True, kw_only=True):
    """Have a local model write instruction rows, from a data set's questions or from prompts."""

    name: str
    model: str
    data: str = ""
    prompts: tuple[str, ...] = ()
    count: int = 100
    seed: int = 0
    temperature: float = 0.8
    top_p: float = 0.95
    max_tokens: int = 128
    vary: bool = False
    """first write a question like those that are there, then answer it; else theirs are answered"""
    heldout_percent: int = 0


class ImportSuite(Request, frozen=True, kw_only=True):
    """Take in an evaluation suite, or a task of lm-evaluation-harness whose data lie beside it (YAML)."""

    source: str
    name: str


class Compare(Request, frozen=True, kw_only=True):
    """Compare two models' newest evaluations on `suite` or on the data set `dataset`."""

    first: str
    second: str
    suite: str = ""
    dataset: str = ""


class ExportModel(Request, frozen=True, kw_only=True):
    """Ask for a version in the layout huggingface, gguf or mlflow."""

    layout: str


class SubmitJob(Request, frozen=True, kw_only=True):
    """Train, evaluate or convert. `inputs` maps names to refs (`name@version` or `run:<id>`)."""

    kind: str
    inputs: dict[str, str]
    parameters: dict[str, Any] = {}
    seed: int = 0
    folded: bool = False
    """planned as a part of a cross-validation, whose held-out rows come from the training rows; only a plan asks"""


class SubmitSearch(Request, frozen=True, kw_only=True):
    """Look for the best values of some recipe fields. `text` is a search file, `name` what it is called.

    An empty name is that of a search which was told without a file: a refusal then names no line.
    """

    text: str
    name: str = "search file"


class SubmitKfold(Request, frozen=True, kw_only=True):
    """Train a recipe file once for each of `folds` parts of the training rows."""

    text: str
    name: str = "recipe file"
    folds: int = 5
    metric: str = ""


class SubmitPipeline(Request, frozen=True, kw_only=True):
    """Carry out a pipeline file; relative sources in it lie in `folder`."""

    text: str
    name: str = "pipeline file"
    folder: str = ""


class RegisterModel(Request, frozen=True, kw_only=True):
    """Register the outputs of a finished run as the next version of `name`."""

    name: str
    run: str
    licence: str = ""
    rung: str = ""
    """which rung of a ladder, such as Q4_K_M"""


class Promote(Request, frozen=True, kw_only=True):
    """Move a version to the next stage: dev, test or prod."""

    stage: str


class Approve(Request, frozen=True, kw_only=True):
    """Consent to a promotion. `approver` and `signature` (base64) for an enrolled key, else the caller's group."""

    stage: str
    approver: str = ""
    signature: str = ""


class EnrolApprover(Request, frozen=True, kw_only=True):
    """Make a person's public key (base64, Ed25519) count for approvals."""

    name: str
    public_key: str


class OptionsChange(Request, frozen=True, kw_only=True):
    """What to serve otherwise than the live revision; what is null stays as it is there. See ServingOptions."""

    kind: str | None = None
    threads: int | None = None
    context: int | None = None
    memory_limit: int | None = None
    categories: dict[str, str] | None = None
    shortens: bool | None = None
    adapters: dict[str, str] | None = None
    """label -> reference of a version with an adapter; an empty table takes all away"""
    draft: str | None = None
    """reference of the version that guesses for it; an empty one takes it away"""
    gpu_layers: int | None = None


class PolicyChange(Request, frozen=True, kw_only=True):
    """What to change about how a deployment is kept in memory; what is null stays. See Policy."""

    pinned: bool | None = None
    idle_timeout: float | None = None


class Deploy(Request, frozen=True, kw_only=True):
    """Serve `model` as `name`. `override` is the reason for going past the gate; it is audited."""

    model: str
    override: str = ""
    request_id: str = ""
    options: OptionsChange = OptionsChange()
    policy: PolicyChange = PolicyChange()


class PlanDeploy(Request, frozen=True, kw_only=True):
    """Ask what a deployment would need and do, without doing it."""

    model: str
    options: OptionsChange = OptionsChange()


class RollBack(Request, frozen=True, kw_only=True):
    """Bring the previous revision back."""

    request_id: str = ""


class CreateKey(Request, frozen=True, kw_only=True):
    """`days` until it expires; 0 means never. `priority` is one of `PRIORITIES`; without `share_group` it is alone."""

    name: str
    days: int = 90
    models: tuple[str, ...] = ()
    priority: str = PRIORITIES[0]
    share_group: str = ""


class TryPrompt(Request, frozen=True, kw_only=True):
    """Ask a deployment one question from the console."""

    prompt: str
    max_tokens: int = 128


class TryAnswer(View, frozen=True, kw_only=True):
    """What it answered, with timings in seconds."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    ttft: float
    total: float
