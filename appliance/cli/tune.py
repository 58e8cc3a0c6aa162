"""`intramuros tune`: measure how a model is served fastest on this box, and keep that as its profile."""

from __future__ import annotations

from typing import Any

import click

from appliance.api import calls
from appliance.api import types as t
from appliance.cli.follow import follow
from appliance.cli.session import Session, verb
from appliance.kernel.errors import BadInput
from appliance.kernel.terminal import size_text, table


@click.command()
@click.argument("ref")
@click.option("--formats", metavar="LIST", help="Number formats to try: q4_0,q8_0,q4_k_m,bf16; none: the file's own.")
@click.option("--threads", metavar="LIST", help="Numbers of threads, such as 2,4,8.")
@click.option("--ubatch", metavar="LIST", help="Tokens computed at once, such as 128,512.")
@click.option("--prompt", type=int, help="Tokens of the prompt that is read.")
@click.option("--answer", type=int, help="Tokens that are generated.")
@click.option("--streams", type=int, help="Answers generated at once.")
@click.option("--repeats", type=int, help="Times each setting is measured; the best counts.")
@click.option("--detach", is_flag=True, help="Queue it and return.")
@verb
def tune(
    session: Session, ref: str, formats: str | None, threads: str | None, ubatch: str | None, detach: bool, **more: Any
) -> None:
    """Measure formats x threads x batch with a model's GGUF file, against the roofline of this machine.

    Deployments of that file use the fastest threads and batch from their next start on. Stop it with `job cancel`.
    """
    parameters: dict[str, Any] = {name: value for name, value in more.items() if value is not None}
    if formats is not None:
        parameters["formats"] = [] if formats == "none" else formats.split(",")
    if threads is not None:
        parameters["threads"] = _numbers(threads, "--threads")
    if ubatch is not None:
        parameters["ubatches"] = _numbers(ubatch, "--ubatch")
    job = session.send(calls.submit_job(t.SubmitJob(kind="tune", inputs={"model": ref}, parameters=parameters)))
    if not detach:
        job = follow(session, job)
    session.show(job, lambda: tune_text(job))


def tune_text(job: t.JobView) -> str:
    """The measurements as a table, the fastest first."""
    head = f"run:{job.id}  {job.state}"
    if "profile" not in job.summary:
        return head
    profile = job.summary["profile"]
    rows = sorted(job.summary["measurements"], key=lambda one: -one["speed"]["answers"])
    roofs = [
        f"roofline at {roof['threads']} threads: {roof['bandwidth'] / 1e9:.1f} GB/s, "
        f"{max(roof['peak_f32'], roof['peak_bf16']) / 1e9:.0f} GFLOP/s"
        for roof in job.summary["rooflines"]
    ]
    listed = table(
        ("FORMAT", "SIZE", "THREADS", "BATCH", "PROMPT t/s", "ONE t/s", "ALL t/s", "OF BANDWIDTH", "OF PEAK"),
        [
            (
                one["format"],
                size_text(one["size"]),
                str(one["threads"]),
                str(one["ubatch"]),
                f"{one['speed']['prompt']:.0f}",
                f"{one['speed']['answer']:.1f}",
                f"{one['speed']['answers']:.1f}",
                f"{one['bandwidth_share']:.0%}",
                f"{one['peak_share']:.0%}",
            )
            for one in rows
        ],
        empty="nothing was measured",
    )
    chosen = f"profile: {profile['threads']} threads, batch {profile['ubatch']}, for {profile['format']} as it is"
    advice = f"fastest format: {job.summary['best_format']} ({job.summary['best_format_gain']:.2f} times this file)"
    return "\n".join([head, *roofs, "", listed, "", chosen, advice])


def _numbers(text: str, option: str) -> list[int]:
    parts = text.split(",")
    if not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        raise BadInput("tune.parameters", f"{text!r} is not a list of numbers.", hint=f"Write {option} 2,4,8.")
    return [int(part) for part in parts]
