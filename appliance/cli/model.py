"""`intramuros model …`: the catalogue and the registry."""

from __future__ import annotations

from pathlib import Path

import click

from appliance.api import calls
from appliance.api import types as t
from appliance.cli.export import require_new, write_export
from appliance.cli.follow import follow
from appliance.cli.quantities import figure_text
from appliance.cli.run import verification_text
from appliance.cli.session import Session, confirmed, verb
from appliance.cli.train import parameters_of
from appliance.kernel.errors import BadInput
from appliance.kernel.terminal import size_text, table, when


@click.group()
def model() -> None:
    """Import, register, promote, convert and remove models."""


@model.command("import")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="Name in the catalogue.")
@click.option("--licence", default="", help="Licence, when the files do not say it.")
@verb
def import_(session: Session, source: Path, name: str, licence: str) -> None:
    """Bring a GGUF file or a Hugging Face folder into the catalogue."""
    body = t.ImportModel(source=str(source.absolute()), name=name, licence=licence)
    job = follow(session, session.send(calls.import_model(body)))
    _show(session, session.send(calls.model(str(job.summary["ref"]))))


@model.command("list")
@verb
def list_(session: Session) -> None:
    """List every version, newest first."""
    found = session.send(calls.models())
    session.show(
        found,
        lambda: table(
            ("MODEL", "KIND", "STAGE", "FORMATS", "PARAMETERS", "SIZE", "CREATED", "BY"),
            [
                (
                    entry.ref,
                    entry.kind,
                    entry.stage,
                    "+".join(entry.formats),
                    f"{entry.parameters:,}",
                    size_text(entry.size),
                    when(entry.created_at),
                    entry.created_by,
                )
                for entry in found
            ],
            empty="No models yet. Bring one in with `intramuros model import PATH --name NAME`.",
        ),
    )


@model.command()
@click.argument("ref")
@verb
def show(session: Session, ref: str) -> None:
    """Show a version with its whole lineage."""
    _show(session, session.send(calls.model(ref)))


@model.command()
@click.argument("ref")
@verb
def verify(session: Session, ref: str) -> None:
    """Re-hash every file of a version."""
    detail = session.send(calls.verify_model(ref))
    session.show(detail, lambda: f"{detail.model.ref}: all {len(detail.files)} files match their digests")


@model.command()
@click.argument("ref")
@click.option("--yes", is_flag=True, help="Do not ask.")
@verb
def remove(session: Session, ref: str, yes: bool) -> None:
    """Remove a version that nothing depends on. Its bytes are freed."""
    detail = session.send(calls.model(ref))
    target = detail.model.ref
    question = f"Remove {target} ({size_text(detail.model.size)}) for good?"
    if not confirmed(question, yes=yes):
        raise BadInput("model.not_confirmed", f"{target} was not removed.", hint="Confirm it, or add --yes.")
    view = session.send(calls.remove_model(target))
    session.show(view, lambda: f"{view.ref} removed")


@model.command()
@click.argument("run")
@click.option("--name", required=True, help="Name in the registry.")
@click.option("--licence", default="", help="Licence of the version.")
@click.option("--rung", default="", help="Rung of a ladder, such as Q4_K_M.")
@verb
def register(session: Session, run: str, name: str, licence: str, rung: str) -> None:
    """Register the outputs of a finished run as the next version of NAME."""
    body = t.RegisterModel(name=name, run=run, licence=licence, rung=rung)
    _show(session, session.send(calls.register_model(body)))


@model.command()
@click.argument("ref")
@click.option("--to", "stage", required=True, type=click.Choice(["dev", "test", "prod"]), help="Next stage.")
@verb
def promote(session: Session, ref: str, stage: str) -> None:
    """Move a version one stage on, through its gate."""
    detail = session.send(calls.promote(ref, t.Promote(stage=stage)))
    session.show(detail, lambda: f"{detail.model.ref} is at {detail.model.stage}\n  {_verdict(detail, stage)}")


@model.command()
@click.argument("ref")
@click.option("--to", "stage", required=True, type=click.Choice(["dev", "test", "prod"]), help="Stage consented to.")
@click.option("--approver", default="", help="Enrolled approver whose key signs.")
@click.option("--key", "key_file", type=click.Path(path_type=Path), help="That approver's private key file.")
@verb
def approve(session: Session, ref: str, stage: str, approver: str, key_file: Path | None) -> None:
    """Consent to a promotion: as this Unix user, or with an enrolled approver's key."""
    signature = ""
    if approver or key_file:
        if not (approver and key_file):
            raise BadInput("approval.incomplete", "--approver and --key belong together.")
        from appliance.access.approvals import sign, statement

        detail = session.send(calls.model(ref))
        instance = session.send(calls.status()).instance
        signature = sign(key_file, statement(detail.model.digest, stage, instance))
    body = t.Approve(stage=stage, approver=approver, signature=signature)
    detail = session.send(calls.approve(ref, body))
    who = ", ".join(entry.approver for entry in detail.approvals if entry.stage == stage)
    session.show(detail, lambda: f"{detail.model.ref} for {stage} is approved by {who}")


@model.command()
@click.argument("ref")
@click.option("--dtype", default="f32", type=click.Choice(["f32", "f16", "bf16", "q8_0"]), help="Tensor type.")
@click.option("--prompts", "dataset", default="", help="Data set whose held-out questions join the parity prompts.")
@click.option("--detach", is_flag=True, help="Queue it and return.")
@verb
def convert(session: Session, ref: str, dtype: str, dataset: str, detach: bool) -> None:
    """Convert a model (`name@version` or `run:ID`) to GGUF, and prove that both engines agree."""
    inputs = {"model": ref} | ({"dataset": dataset} if dataset else {})
    job = session.send(calls.submit_job(t.SubmitJob(kind="convert.gguf", inputs=inputs, parameters={"dtype": dtype})))
    if not detach:
        job = follow(session, job)
    session.show(job, lambda: _parity_text(job))


@model.command()
@click.argument("ref")
@click.option("--to", "rungs", default="", metavar="LIST", help="Q8_0,Q6_K,Q5_K_M,Q4_K_M,Q4_0; without it all of them.")
@click.option("--data", default="", help="Data set to measure on; without it the one the model was trained on.")
@click.option("--imatrix", is_flag=True, help="Measure which weights matter, on the data set's training part.")
@click.option("--set", "given", multiple=True, metavar="KEY=VALUE", help="Other parameter (docs/operators/export.md).")
@click.option("--detach", is_flag=True, help="Queue it and return.")
@verb
def quantise(
    session: Session, ref: str, rungs: str, data: str, imatrix: bool, given: tuple[str, ...], detach: bool
) -> None:
    """Write a model as GGUF in several number formats, and measure what each costs against f32.

    Register one of them with `model register run:ID --rung RUNG --name NAME`.
    """
    parameters = parameters_of(given) | {"imatrix": imatrix}
    if rungs:
        parameters["to"] = rungs.upper().split(",")
    inputs = {"model": ref} | ({"dataset": data} if data else {})
    body = t.SubmitJob(kind="convert.ladder", inputs=inputs, parameters=parameters)
    job = session.send(calls.submit_job(body))
    if not detach:
        job = follow(session, job)
    session.show(job, lambda: ladder_text(job))


@model.command()
@click.argument("ref")
@click.option("--prompts", "dataset", default="", help="Data set whose held-out questions join the prompts.")
@click.option("--detach", is_flag=True, help="Queue it and return.")
@verb
def adapter(session: Session, ref: str, dataset: str, detach: bool) -> None:
    """Write a tuned model's LoRA adapter as GGUF, and prove that base and adapter give what the merged model gives.

    `model register run:ID --name NAME` keeps it beside the model as a new version.
    """
    inputs = {"model": ref} | ({"dataset": dataset} if dataset else {})
    job = session.send(calls.submit_job(t.SubmitJob(kind="convert.adapter", inputs=inputs)))
    if not detach:
        job = follow(session, job)
    session.show(job, lambda: _adapter_text(job))


@model.command()
@click.argument("ref")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--layout", default="huggingface", type=click.Choice(["huggingface", "gguf", "mlflow"]), help="Layout.")
@verb
def export(session: Session, ref: str, directory: Path, layout: str) -> None:
    """Copy a version into a new or empty DIRECTORY, with a card that tells where it comes from."""
    target = directory.absolute()
    require_new(target)
    plan = session.send(calls.export_model(ref, t.ExportModel(layout=layout)))
    size = write_export(plan, session.paths, target)
    session.show(plan, lambda: f"{plan.model} as {layout}: {len(plan.files)} files, {size_text(size)}, in {target}")


def _show(session: Session, detail: t.ModelDetail) -> None:
    session.show(detail, lambda: _text(detail))


def _text(detail: t.ModelDetail) -> str:
    entry = detail.model
    base = detail.lineage.get("base")
    lines = [
        f"{entry.ref}  {entry.kind}  stage {entry.stage}  {size_text(entry.size)}  {entry.licence}",
        f"  digest      {entry.digest}",
        f"  weights     {entry.architecture}, {entry.parameters:,} parameters, context {entry.context_length}",
        f"  made by     {entry.created_by} at {when(entry.created_at)}",
        f"  base        {base['ref'] if base else '-'}",
        f"  data        {', '.join(item['ref'] for item in detail.lineage.get('datasets', [])) or '-'}",
    ]
    lines += [
        f"  run         {run['kind']} {run['job']} seed {run['seed']} id {run['run_id'][:16]}"
        for run in detail.lineage.get("runs", [])
    ]
    lines += [f"  verified    {verification_text(item)}" for item in detail.verifications]
    lines += [
        f"  evaluation  {item.dataset}: "
        + ", ".join(f"{name} {figure_text(name, value)}" for name, value in sorted(item.metrics.items()))
        for item in detail.evaluations
    ]
    lines += [f"  approval    {item.stage} by {item.approver} ({item.method})" for item in detail.approvals]
    lines += [f"  stage       {item.stage} by {item.by} at {when(item.at)}" for item in detail.stages]
    for verdict in detail.verdicts[:5]:
        word = "passed" if verdict.passed else "refused"
        lines.append(f"  gate        {verdict.stage} {word} for {verdict.by} at {when(verdict.at)}")
        lines += [
            f"    {_mark(check)} {check.name}: {check.measured}, wanted {check.wanted}" for check in verdict.checks
        ]
    lines += [f"  used by     {item}" for item in detail.used_by]
    lines += [f"  file        {item.path} {size_text(item.size)} {item.digest[:16]}" for item in detail.files]
    return "\n".join(lines)


def ladder_text(job: t.JobView) -> str:
    """The rungs as a table."""
    head = f"run:{job.id}  {job.state}"
    if "rungs" not in job.summary:
        return head
    rows = [
        (
            one["name"],
            size_text(one["gguf_bytes"]),
            f"{one['size_ratio']:.2f}",
            f"{one['perplexity_ratio']:.4f}",
            "{:.4f} to {:.4f}".format(*one["perplexity_ratio_interval"]),
            f"{one['same_tokens']:.1%}",
            f"{one['prefill_ratio']:.2f}",
            f"{one['decode_ratio']:.2f}",
            "yes" if one["parity"]["passed"] else "no",
        )
        if one["made"]
        else (one["name"], "not made", "", "", one["why_not"], "", "", "", "")
        for one in job.summary["rungs"]
    ]
    columns = ("RUNG", "BYTES", "SIZE", "PPL RATIO", "95 % INTERVAL", "SAME TOKENS", "READS", "GENERATES", "PARITY")
    told = f"f32: perplexity {job.summary['perplexity']:.4f} on {job.summary['measured_tokens']} tokens"
    return f"{head}\n{told} of {job.summary['data']}\n\n" + table(columns, rows, empty="no rungs")


def _parity_text(job: t.JobView) -> str:
    head = f"run:{job.id}  {job.state}"
    if (found := job.summary.get("parity")) is None:
        return head
    return (
        f"{head}\n  {found['tokens_equal']} of {found['tokens_total']} greedy tokens and {found['strings_equal']} of "
        f"{found['strings']} tokenised strings are equal in both engines"
    )


def _adapter_text(job: t.JobView) -> str:
    found = job.summary
    if "tokens_total" not in found:
        return f"run:{job.id}  {job.state}"
    return (
        f"run:{job.id}  {job.state}\n  {found['tokens_equal']} of {found['tokens_total']} greedy tokens equal to the "
        f"merged model; the base alone gives {found['tokens_equal_without_adapter']}"
    )


def _mark(check: t.CheckView) -> str:
    return "ok  " if check.passed else "FAIL"


def _verdict(detail: t.ModelDetail, stage: str) -> str:
    return next((item.verdict for item in detail.stages if item.stage == stage), "")
