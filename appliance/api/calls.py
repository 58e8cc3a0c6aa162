"""Every call of the control API, as data: method, path, request body and the type of the answer.

One table serves the synchronous CLI and the asynchronous console, so neither is a twin of the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar
from urllib.parse import quote, urlencode

from appliance.api import types as t
from appliance.kernel.errors import BadInput

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[T_co]):
    """One request whose answer is a `T_co`. `wait` is how long the server may hold it (long poll), in seconds."""

    method: str
    path: str
    answer: type[T_co]
    body: t.Request | None = None
    wait: float = 0.0


def _get(path: str, answer: type[T_co], *, wait: float = 0.0, **query: str | int | float) -> Call[T_co]:
    kept = {name: value for name, value in query.items() if value != ""}
    return Call(method="GET", path=f"{path}?{urlencode(kept)}" if kept else path, answer=answer, wait=wait)


def _post(path: str, answer: type[T_co], body: t.Request | None = None) -> Call[T_co]:
    return Call(method="POST", path=path, answer=answer, body=body)


def _part(text: str) -> str:
    """Quote a name for a path. Raises BadInput for what would become another path."""
    if "/" in text or text in ("", ".", ".."):
        raise BadInput(
            "name.invalid",
            f"{text!r} cannot be a name.",
            hint="Names are lower-case letters, digits, '.', '_' and '-'.",
        )
    return quote(text, safe="@:")


def whoami() -> Call[t.WhoAmI]:
    """Who the appliance takes this caller for."""
    return _get("/v1/whoami", t.WhoAmI)


def status() -> Call[t.StatusView]:
    """The whole appliance at a glance."""
    return _get("/v1/status", t.StatusView)


def shut_down() -> Call[t.StatusView]:
    """Stop everything in order: gateway drains, jobs save checkpoints."""
    return _post("/v1/shutdown", t.StatusView)


def models() -> Call[tuple[t.ModelView, ...]]:
    """Every registered version, newest first."""
    return _get("/v1/models", tuple[t.ModelView, ...])


def model(ref: str) -> Call[t.ModelDetail]:
    """One version with its lineage. `ref` is `name` (newest) or `name@version`."""
    return _get(f"/v1/models/{_part(ref)}", t.ModelDetail)


def import_model(body: t.ImportModel) -> Call[t.JobView]:
    """Start an import; follow the job."""
    return _post("/v1/models/import", t.JobView, body)


def register_model(body: t.RegisterModel) -> Call[t.ModelDetail]:
    """Register a finished run's outputs as a version."""
    return _post("/v1/models/register", t.ModelDetail, body)


def verify_model(ref: str) -> Call[t.ModelDetail]:
    """Re-hash every file of a version."""
    return _post(f"/v1/models/{_part(ref)}/verify", t.ModelDetail)


def remove_model(ref: str) -> Call[t.ModelView]:
    """Remove a version that nothing depends on."""
    return Call(method="DELETE", path=f"/v1/models/{_part(ref)}", answer=t.ModelView)


def export_model(ref: str, body: t.ExportModel) -> Call[t.ExportPlan]:
    """What an exported folder holds; recorded in the trail."""
    return _post(f"/v1/models/{_part(ref)}/export", t.ExportPlan, body)


def promote(ref: str, body: t.Promote) -> Call[t.ModelDetail]:
    """Move a version one stage on; gates and approvals are checked."""
    return _post(f"/v1/models/{_part(ref)}/promote", t.ModelDetail, body)


def approve(ref: str, body: t.Approve) -> Call[t.ModelDetail]:
    """Consent to a promotion."""
    return _post(f"/v1/models/{_part(ref)}/approve", t.ModelDetail, body)


def datasets() -> Call[tuple[t.DatasetView, ...]]:
    """Every data set version, newest first."""
    return _get("/v1/datasets", tuple[t.DatasetView, ...])


def dataset(ref: str) -> Call[t.DatasetDetail]:
    """One data set with statistics and samples."""
    return _get(f"/v1/datasets/{_part(ref)}", t.DatasetDetail)


def import_dataset(body: t.ImportDataset) -> Call[t.JobView]:
    """Start an import; follow the job."""
    return _post("/v1/datasets/import", t.JobView, body)


def dataset_rows(ref: str, part: str, *, after: int = 0, limit: int = 500) -> Call[t.DatasetRows]:
    """Rows of a part, from where the page before ended. Audited: it is how data leave the appliance."""
    return _get(f"/v1/datasets/{_part(ref)}/rows", t.DatasetRows, part=part, after=after, limit=limit)


def diff_datasets(before: str, after: str) -> Call[t.DatasetDiff]:
    """What differs between two versions."""
    return _get(f"/v1/datasets/{_part(before)}/diff/{_part(after)}", t.DatasetDiff, wait=60.0)


def check_dataset(ref: str, body: t.CheckDataset) -> Call[t.JobView]:
    """Examine a data set; the report is the job's summary."""
    return _post(f"/v1/datasets/{_part(ref)}/check", t.JobView, body)


def split_dataset(ref: str, body: t.SplitDataset) -> Call[t.JobView]:
    """Divide a data set anew; the summary names the new version."""
    return _post(f"/v1/datasets/{_part(ref)}/split", t.JobView, body)


def generate_dataset(body: t.GenerateDataset) -> Call[t.JobView]:
    """Have a local model write a data set; follow the job."""
    return _post("/v1/datasets/generate", t.JobView, body)


def remove_dataset(ref: str) -> Call[t.DatasetView]:
    """Remove a version that nothing depends on."""
    return Call(method="DELETE", path=f"/v1/datasets/{_part(ref)}", answer=t.DatasetView)


def suites() -> Call[tuple[t.SuiteView, ...]]:
    """Every version of every suite, newest first."""
    return _get("/v1/suites", tuple[t.SuiteView, ...])


def suite(ref: str) -> Call[t.SuiteView]:
    """One suite. `ref` is `name` (newest) or `name@version`."""
    return _get(f"/v1/suites/{_part(ref)}", t.SuiteView)


def import_suite(body: t.ImportSuite) -> Call[t.JobView]:
    """Take a suite in; follow the job."""
    return _post("/v1/suites/import", t.JobView, body)


def remove_suite(ref: str) -> Call[t.SuiteView]:
    """Remove a version of a suite that no unfinished job reads; what was measured with it stays."""
    return Call(method="DELETE", path=f"/v1/suites/{_part(ref)}", answer=t.SuiteView)


def compare(body: t.Compare) -> Call[t.ComparisonView]:
    """Compare two models row by row."""
    return Call(method="POST", path="/v1/evaluations/compare", answer=t.ComparisonView, body=body, wait=60.0)


def jobs() -> Call[tuple[t.JobView, ...]]:
    """Queue and history, newest first."""
    return _get("/v1/jobs", tuple[t.JobView, ...])


def job(job_id: str) -> Call[t.JobDetail]:
    """One job; an unambiguous beginning of the id is enough."""
    return _get(f"/v1/jobs/{_part(job_id)}", t.JobDetail)


def job_output(job_id: str, path: str) -> Call[t.JobOutput]:
    """One output file of a finished job, such as report/report.json."""
    return _get(f"/v1/jobs/{_part(job_id)}/output", t.JobOutput, file=path)


def job_events(job_id: str, *, after: int = 0, wait: float = 0.0) -> Call[t.JobEvents]:
    """A page of a job's log; with `wait`, held until something new happens or the job ends."""
    return _get(f"/v1/jobs/{_part(job_id)}/events", t.JobEvents, wait=wait, after=after, hold=wait)


def submit_job(body: t.SubmitJob) -> Call[t.JobView]:
    """Queue a run; an equal finished run is returned instead of repeated."""
    return _post("/v1/jobs", t.JobView, body)


def recipes() -> Call[tuple[t.RecipeView, ...]]:
    """Every kind of training, with its inputs and the fields of its recipe."""
    return _get("/v1/recipes", tuple[t.RecipeView, ...])


def plan_training(body: t.SubmitJob) -> Call[t.TrainingPlanView]:
    """What a training run would be and need, every default written out; nothing is queued."""
    return _post("/v1/jobs/plan", t.TrainingPlanView, body)


def cancel_job(job_id: str) -> Call[t.JobView]:
    """Stop a job; its checkpoints stay, so it can be resumed."""
    return _post(f"/v1/jobs/{_part(job_id)}/cancel", t.JobView)


def resume_job(job_id: str) -> Call[t.JobView]:
    """Queue a cancelled, failed or interrupted job again from its newest valid checkpoint."""
    return _post(f"/v1/jobs/{_part(job_id)}/resume", t.JobView)


def run(run_id: str) -> Call[t.RunDetail]:
    """Everything about a run."""
    return _get(f"/v1/runs/{_part(run_id)}", t.RunDetail)


def repeat_run(run_id: str) -> Call[t.JobView]:
    """Queue the same recipe, inputs and seed in the present environment."""
    return _post(f"/v1/runs/{_part(run_id)}/repeat", t.JobView)


def verify_run(run_id: str) -> Call[t.CampaignView]:
    """Do a run again and compare every output file; follow the campaign."""
    return _post(f"/v1/runs/{_part(run_id)}/verify", t.CampaignView)


def campaigns(*, kind: str = "") -> Call[tuple[t.CampaignView, ...]]:
    """Runs that consist of runs, newest first."""
    return _get("/v1/campaigns", tuple[t.CampaignView, ...], kind=kind)


def campaign(campaign_id: str, *, seen: str = "", wait: float = 0.0) -> Call[t.CampaignDetail]:
    """One campaign; with `wait`, held until its mark is no longer `seen`."""
    return _get(f"/v1/campaigns/{_part(campaign_id)}", t.CampaignDetail, wait=wait, seen=seen, hold=wait)


def submit_search(body: t.SubmitSearch) -> Call[t.CampaignView]:
    """Start a search; follow the campaign."""
    return _post("/v1/campaigns/search", t.CampaignView, body)


def submit_kfold(body: t.SubmitKfold) -> Call[t.CampaignView]:
    """Start a cross-validation; follow the campaign."""
    return _post("/v1/campaigns/kfold", t.CampaignView, body)


def submit_pipeline(body: t.SubmitPipeline) -> Call[t.CampaignView]:
    """Start a pipeline; follow the campaign."""
    return _post("/v1/campaigns/pipeline", t.CampaignView, body)


def cancel_campaign(campaign_id: str) -> Call[t.CampaignView]:
    """Stop a campaign and the jobs that it started."""
    return _post(f"/v1/campaigns/{_part(campaign_id)}/cancel", t.CampaignView)


def resume_campaign(campaign_id: str) -> Call[t.CampaignView]:
    """Go on with a failed or cancelled campaign; what has succeeded is not done again."""
    return _post(f"/v1/campaigns/{_part(campaign_id)}/resume", t.CampaignView)


def deployments() -> Call[tuple[t.DeploymentView, ...]]:
    """Every served name."""
    return _get("/v1/deployments", tuple[t.DeploymentView, ...])


def deployment(name: str, *, revision: int = 0, wait: float = 0.0) -> Call[t.DeploymentView]:
    """One served name; with `wait`, held until that revision has left `starting`."""
    return _get(f"/v1/deployments/{_part(name)}", t.DeploymentView, wait=wait, revision=revision, hold=wait)


def deploy(name: str, body: t.Deploy) -> Call[t.DeploymentView]:
    """Record the wish to serve a version; follow it with `deployment(name, revision=…, wait=…)`."""
    return _post(f"/v1/deployments/{_part(name)}/deploy", t.DeploymentView, body)


def roll_back(name: str, body: t.RollBack) -> Call[t.DeploymentView]:
    """Record the wish to bring the previous version back."""
    return _post(f"/v1/deployments/{_part(name)}/rollback", t.DeploymentView, body)


def set_policy(name: str, body: t.PolicyChange) -> Call[t.DeploymentView]:
    """Change how a deployment is kept in memory."""
    return _post(f"/v1/deployments/{_part(name)}/policy", t.DeploymentView, body)


def serving() -> Call[t.ServingView]:
    """Memory for serving: who is in it, and what was decided."""
    return _get("/v1/serving", t.ServingView)


def plan_deploy(name: str, body: t.PlanDeploy) -> Call[t.PlanView]:
    """What deploying a version would need and do; nothing is done."""
    return _post(f"/v1/deployments/{_part(name)}/plan", t.PlanView, body)


def remove_deployment(name: str) -> Call[t.DeploymentView]:
    """Stop serving a name; its engine drains."""
    return Call(method="DELETE", path=f"/v1/deployments/{_part(name)}", answer=t.DeploymentView)


def try_prompt(name: str, body: t.TryPrompt) -> Call[t.TryAnswer]:
    """Ask a deployment one question."""
    return _post(f"/v1/deployments/{_part(name)}/try", t.TryAnswer, body)


def keys() -> Call[tuple[t.KeyView, ...]]:
    """Every API key, without secrets."""
    return _get("/v1/keys", tuple[t.KeyView, ...])


def create_key(body: t.CreateKey) -> Call[t.NewKey]:
    """Create an API key; the secret is in this answer only."""
    return _post("/v1/keys", t.NewKey, body)


def revoke_key(key_id: str) -> Call[t.KeyView]:
    """Revoke an API key at once."""
    return Call(method="DELETE", path=f"/v1/keys/{_part(key_id)}", answer=t.KeyView)


def fleet() -> Call[tuple[t.FleetBox, ...]]:
    """The boxes that train together."""
    return _get("/v1/fleet", tuple[t.FleetBox, ...])


def approvers() -> Call[tuple[t.ApproverView, ...]]:
    """Enrolled approvers."""
    return _get("/v1/approvers", tuple[t.ApproverView, ...])


def enrol_approver(body: t.EnrolApprover) -> Call[t.ApproverView]:
    """Make a person's public key count."""
    return _post("/v1/approvers", t.ApproverView, body)


def audit(*, before: int = 0, limit: int = 100, action: str = "") -> Call[t.Page]:
    """Audit events, newest first."""
    return _get("/v1/audit", t.Page, before=before, limit=limit, action=action)


def verify_audit() -> Call[t.AuditVerdict]:
    """Re-compute the whole chain and every signature."""
    return _get("/v1/audit/verify", t.AuditVerdict, wait=60.0)


def audit_export() -> Call[tuple[str, ...]]:
    """The whole trail as lines of JSON, for the stand-alone verifier."""
    return _get("/v1/audit/export", tuple[str, ...], wait=60.0)


def backups() -> Call[tuple[t.BackupView, ...]]:
    """Snapshots in the repository, newest first."""
    return _get("/v1/backups", tuple[t.BackupView, ...], wait=60.0)


def create_backup() -> Call[t.BackupView]:
    """Take a consistent snapshot while serving."""
    return Call(method="POST", path="/v1/backups", answer=t.BackupView, wait=600.0)


def verify_backup() -> Call[t.BackupView]:
    """Read back and check every byte of the repository; answers with the newest snapshot."""
    return Call(method="POST", path="/v1/backups/verify", answer=t.BackupView, wait=600.0)
