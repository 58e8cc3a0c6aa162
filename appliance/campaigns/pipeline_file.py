"""The pipeline file: steps in their order, each one call of the appliance, with values of earlier steps by name.

    pipeline: faq
    steps:
      - train: {recipe: lora, base: assistant@1, data: faq@1}
      - convert: {model: "${train.run}"}
      - register: {run: "${convert.run}", name: faq}

`${step.value}` is replaced by text and by nothing else: nothing in the file is ever executed. A file is checked as a
whole before its first step, names and order of values included.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from appliance.kernel.errors import BadInput
from appliance.kernel.plain_yaml import PlainDocument, parse_plain_yaml

_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_VALUE: Final = re.compile(r"\$\{([^}]*)\}")
_Text = Annotated[str, Meta(min_length=1)]


class _Step(msgspec.Struct, frozen=True, kw_only=True):
    """Base of what a step is told."""


class Import(_Step, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bring a data set in; a relative source lies beside the pipeline file."""

    source: _Text
    name: _Text
    mapping: dict[str, str] = {}
    heldout_percent: int = 10
    form: str = ""
    labels: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    redact: bool = False


class Data(_Step, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Name a data set that is there; later steps use the version that is the newest now."""

    ref: _Text


class Train(_Step, frozen=True, kw_only=True):
    """A recipe file's content: `recipe`, its inputs, `seed`, `with`."""

    recipe: _Text


class Job(_Step, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Any kind of job."""

    kind: _Text
    inputs: dict[str, str] = {}
    parameters: dict[str, Any] = {}
    seed: int = 0


class Convert(_Step, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Convert a model to GGUF; `prompts` is a data set whose held-out questions join the parity check."""

    model: _Text
    dtype: Literal["f32", "f16", "bf16", "q8_0"] = "f32"
    prompts: str = ""


class Evaluate(_Step, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Measure a model on a data set's held-out part, or on a suite."""

    model: _Text
    data: str = ""
    suite: str = ""
    parameters: dict[str, Any] = {}

    def __post_init__(self) -> None:
        """One of the two. Raises ValueError, which msgspec reports with its place."""
        if bool(self.data) == bool(self.suite):
            raise ValueError("an evaluation has one of data and suite")


class Register(_Step, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Register a finished run's outputs as the next version of a name."""

    run: _Text
    name: _Text
    licence: str = ""


class Promote(_Step, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Move a version to a stage, through every stage and gate on the way."""

    model: _Text
    to: Literal["dev", "test", "prod"]


class Deploy(_Step, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Serve a version under a name."""

    model: _Text
    name: _Text = msgspec.field(name="as")


_JOB_VALUES: Final = ("run", "digest")
VERBS: Final[Mapping[str, tuple[type[_Step], tuple[str, ...]]]] = {
    "import": (Import, ("ref", "digest")),
    "data": (Data, ("ref", "digest")),
    "train": (Train, _JOB_VALUES),
    "job": (Job, _JOB_VALUES),
    "convert": (Convert, _JOB_VALUES),
    "evaluate": (Evaluate, _JOB_VALUES),
    "register": (Register, ("ref", "digest")),
    "promote": (Promote, ("ref", "stage")),
    "deploy": (Deploy, ("name", "ref")),
}
"""Verb -> its form, and the values that later steps may use of it."""

_LATER: Final = ("schedule", "on_drift")
"""Fields that say when a pipeline starts by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineStep:
    """One step; `given` may hold values of earlier steps by name."""

    name: str
    verb: str
    given: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineFile:
    """A whole pipeline, checked."""

    name: str
    steps: tuple[PipelineStep, ...]


def parse_pipeline_file(data: bytes, *, name: str) -> PipelineFile:
    """Check a pipeline file. Raises BadInput (`pipeline.file`, `pipeline.not_yet`) naming file and line."""
    document = parse_plain_yaml(data, name=name)
    value = document.value
    if not isinstance(value, dict) or not isinstance(value.get("steps"), list) or not value["steps"]:
        raise _invalid(document, "it must be a mapping with pipeline (a name) and steps (a list)")
    for key in value:
        if key in _LATER:
            raise BadInput(
                "pipeline.not_yet",
                f"{document.where(key)}: {key} is not yet carried out.",
                hint="Take it out and start the pipeline with `intramuros pipeline run`, by hand or from a timer.",
            )
        if key not in ("pipeline", "steps"):
            raise _invalid(document, f"{key} is not known here; a pipeline has pipeline and steps", key)
    title = value.get("pipeline")
    if not isinstance(title, str) or not _NAME.fullmatch(title):
        raise _invalid(document, "pipeline must be a name of lower-case letters, digits, - and _", "pipeline")
    steps: dict[str, PipelineStep] = {}
    for index, entry in enumerate(value["steps"]):
        step = _step(document, index, entry)
        if step.name in steps:
            raise _invalid(document, f"two steps are called {step.name}; give one a name of its own", "steps", index)
        substitute(step.given, partial(_known, document, index, steps))
        steps[step.name] = step
    return PipelineFile(name=title, steps=tuple(steps.values()))


def form_of(verb: str, given: Mapping[str, Any]) -> Any:
    """Return a step's body in the form of its verb. Raises msgspec.ValidationError."""
    return msgspec.convert(dict(given), VERBS[verb][0])


def substitute(given: Any, value_of: Callable[[str], str]) -> Any:
    """Return a copy in which every `${step.value}` has been replaced."""
    if isinstance(given, str):
        return _VALUE.sub(lambda found: value_of(found.group(1).strip()), given)
    if isinstance(given, Mapping):
        return {key: substitute(value, value_of) for key, value in given.items()}
    if isinstance(given, list):
        return [substitute(value, value_of) for value in given]
    return given


def _step(document: PlainDocument, index: int, entry: Any) -> PipelineStep:
    verbs = [key for key in entry if key != "name"] if isinstance(entry, dict) else []
    if len(verbs) != 1 or verbs[0] not in VERBS:
        raise _invalid(document, f"a step is one of {', '.join(VERBS)}, and may have a name", "steps", index)
    verb = verbs[0]
    given = {"ref": entry[verb]} if verb == "data" else entry[verb]
    name = entry.get("name", verb)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _invalid(document, "a step's name has lower-case letters, digits, - and _", "steps", index, "name")
    if not isinstance(given, dict):
        raise _invalid(document, f"{verb} must be a mapping", "steps", index, verb)
    try:
        form_of(verb, given)
    except msgspec.ValidationError as error:
        raise _invalid(document, f"{verb}: {error}", "steps", index, verb) from error
    return PipelineStep(name=name, verb=verb, given=given)


def _known(document: PlainDocument, index: int, earlier: Mapping[str, PipelineStep], wanted: str) -> str:
    step, _, value = wanted.partition(".")
    if step not in earlier:
        raise _invalid(document, f"${{{wanted}}} names no earlier step", "steps", index)
    values = VERBS[earlier[step].verb][1]
    if value not in values:
        raise _invalid(document, f"{step} has no value {value!r}; it has {', '.join(values)}", "steps", index)
    return wanted


def _invalid(document: PlainDocument, fault: str, *path: str | int) -> BadInput:
    return BadInput(
        "pipeline.file",
        f"{document.where(*path)}: {fault}.",
        hint="docs/operators/pipelines.md has every step.",
    )
