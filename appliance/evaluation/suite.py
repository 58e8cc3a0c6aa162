"""A suite: a list of tasks, each with rows of its own or a data set's held-out part. Pure; loads no model.

What a person wrote (YAML) and what is stored (canonical JSON, named by its digest) have one schema. A suite names data
sets by version, so the same suite always asks the same questions. What is not known is refused, never skipped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

import msgspec

from appliance.evaluation.json_schema import check_schema
from appliance.kernel.canonical import canonical_json
from appliance.kernel.errors import BadInput

ROW_LIMIT: Final = 200_000
_DATA = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}@[1-9][0-9]{0,8}")
_Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]
_Text = Annotated[str, msgspec.Meta(max_length=1 << 20)]
_NewTokens = Annotated[int, msgspec.Meta(ge=1, le=4096)]
Normalisation = Literal["whitespace", "case", "punctuation", "articles"]
Style = Literal["chat", "plain"]


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: _Text


class Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One question. Which fields a row needs is decided by its task's type."""

    prompt: _Text | None = None
    messages: tuple[Message, ...] = ()
    """a conversation up to the question, instead of `prompt`"""
    answer: _Text | tuple[_Text, ...] | None = None
    """what is right; several: any of them"""
    text: _Text | None = None
    label: _Text | None = None
    choices: tuple[_Text, ...] = ()
    gold: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """which of `choices` is right, from 0"""
    must_contain: tuple[_Text, ...] = ()
    must_not_contain: tuple[_Text, ...] = ()
    matches: Annotated[str, msgspec.Meta(max_length=4096)] | None = None
    """a regular expression that is found somewhere in the answer"""
    equals: _Text | None = None

    @property
    def answers(self) -> tuple[str, ...]:
        """Everything that counts as right."""
        return () if self.answer is None else (self.answer,) if isinstance(self.answer, str) else self.answer

    @property
    def question(self) -> str:
        """What the predictions file shows of the row."""
        asked = next((message.content for message in reversed(self.messages) if message.role == "user"), None)
        return asked or self.prompt or self.text or ""


class _Task(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", omit_defaults=True
):
    """What every type of task has."""

    name: _Name
    data: str = ""
    """`name@version`: the held-out part of that data set; or `rows`"""
    rows: tuple[Row, ...] = ()
    limit: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """take only the first so many rows"""


class _Generation(_Task, frozen=True, kw_only=True):
    style: Style = "chat"
    """chat: through the model's chat template; plain: the prompt as it stands"""
    max_new_tokens: _NewTokens = 64
    until: tuple[Annotated[str, msgspec.Meta(min_length=1, max_length=200)], ...] = ()
    """an answer ends before the first of these"""


class ExactMatch(_Generation, frozen=True, kw_only=True, tag="exact_match"):
    """Share of answers that equal an expected one."""

    normalise: tuple[Normalisation, ...] = ("whitespace",)


class TokenF1(_Generation, frozen=True, kw_only=True, tag="f1"):
    """Overlap of words with the expected answer (SQuAD)."""

    normalise: tuple[Normalisation, ...] = ("case", "punctuation", "articles", "whitespace")


class RougeL(_Generation, frozen=True, kw_only=True, tag="rouge_l"):
    """Longest common subsequence of words with the expected answer."""

    normalise: tuple[Normalisation, ...] = ("case", "punctuation", "whitespace")


class JsonValidity(_Generation, frozen=True, kw_only=True, tag="json"):
    """Share of answers that are JSON, and of those that keep a schema where one is given."""

    answer_schema: dict[str, Any] | None = msgspec.field(default=None, name="schema")
    fences: bool = False
    """whether one Markdown code fence around the answer is taken off first"""


class Regression(_Generation, frozen=True, kw_only=True, tag="regression"):
    """Prompts whose answers must or must not say something, or stay what they were."""


class Perplexity(_Task, frozen=True, kw_only=True, tag="perplexity"):
    """How surprised the model is by a text, or by an expected answer."""

    style: Style = "chat"


class MultipleChoice(_Task, frozen=True, kw_only=True, tag="multiple_choice"):
    """Which choice the model finds most likely; `acc_norm` counts per byte of the choice."""

    style: Style = "plain"


class Classification(_Task, frozen=True, kw_only=True, tag="classification"):
    """A label for each text, by a classifier, or by the most likely label of a model that generates."""

    labels: tuple[_Text, ...] = ()
    """all labels; none: those that occur in the rows"""
    question: Annotated[str, msgspec.Meta(max_length=4096)] = "{text}"
    """what a model that generates is asked; {text} stands for the row's text"""


class Latency(_Task, frozen=True, kw_only=True, tag="latency"):
    """Tokens a second and time to the first token in this process; informative, for no gate unless it says so."""

    style: Style = "chat"
    new_tokens: _NewTokens = 32


Task = (
    ExactMatch | TokenF1 | RougeL | JsonValidity | Regression | Perplexity | MultipleChoice | Classification | Latency
)
Generation = ExactMatch | TokenF1 | RougeL | JsonValidity | Regression


class Suite(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A whole suite."""

    tasks: tuple[Task, ...]
    description: Annotated[str, msgspec.Meta(max_length=2000)] = ""

    @property
    def data(self) -> tuple[str, ...]:
        """The data sets it takes rows from, each once."""
        return tuple(sorted({task.data for task in self.tasks if task.data}))


def parse_suite(document: Any, *, source: str) -> Suite:
    """Check a decoded suite. Raises BadInput (`suite.empty`, `suite.invalid`, `suite.data`, `suite.row`)."""
    if not isinstance(document, dict) or not document.get("tasks"):
        raise BadInput("suite.empty", f"{source} has no tasks.", hint="A suite is `tasks:` with at least one of them.")
    try:
        suite = msgspec.convert(document, Suite)
    except msgspec.ValidationError as error:
        raise BadInput(
            "suite.invalid", f"{source}: {error}.", hint="docs/operators/evaluation.md has every type and field."
        ) from error
    names = [task.name for task in suite.tasks]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadInput("suite.invalid", f"{source}: two tasks are called {twice[0]}.")
    for task in suite.tasks:
        _check_task(task, source)
    return suite


def encode_suite(suite: Suite) -> bytes:
    """Return the stored form: the same suite gives the same bytes."""
    return canonical_json(msgspec.to_builtins(suite)) + b"\n"


def decode_suite(data: bytes) -> Suite:
    """Read the stored form. Raises BadInput (`suite.invalid`)."""
    try:
        return msgspec.json.decode(data, type=Suite)
    except msgspec.MsgspecError as error:
        raise BadInput("suite.invalid", f"The stored suite cannot be read: {error}.") from error


def _check_task(task: Task, source: str) -> None:
    where = f"{source}, task {task.name}"
    if bool(task.data) == bool(task.rows):
        what = "has both data and rows" if task.data else "has neither data nor rows"
        raise BadInput("suite.data", f"{where} {what}.", hint="Give `data: name@version`, or `rows:`.")
    if task.data and not _DATA.fullmatch(task.data):
        raise BadInput(
            "suite.data",
            f"{where}: {task.data!r} does not name a version of a data set.",
            hint="Write it like faq@1, so that the suite always asks the same.",
        )
    if len(task.rows) > ROW_LIMIT:
        raise BadInput("suite.data", f"{where} has {len(task.rows)} rows, more than {ROW_LIMIT}.")
    if isinstance(task, JsonValidity) and task.answer_schema is not None:
        check_schema(task.answer_schema, where=where)
    if isinstance(task, Classification) and "{text}" not in task.question:
        raise BadInput("suite.invalid", f"{where}: the question has no {{text}} in it.")
    for number, row in enumerate(task.rows, start=1):
        require_row(task, row, f"{where}, row {number}")


def require_row(task: Task, row: Row, where: str) -> None:
    """Raise BadInput (`suite.row`) unless a row has what its task's type asks about."""
    for fault in _faults(task, row):
        raise BadInput(
            "suite.row", f"{where}: {fault}.", hint="docs/operators/evaluation.md says what each type needs."
        )


def _faults(task: Task, row: Row) -> Iterator[str]:
    asked = row.prompt is not None or bool(row.messages)
    match task:
        case ExactMatch() | TokenF1() | RougeL():
            if not asked or not row.answers:
                yield "it needs prompt (or messages) and answer"
        case JsonValidity() | Latency():
            if not asked:
                yield "it needs prompt (or messages)"
        case Regression():
            if not asked:
                yield "it needs prompt (or messages)"
            if not (row.must_contain or row.must_not_contain or row.matches or row.equals is not None):
                yield "it needs must_contain, must_not_contain, matches or equals"
            yield from _pattern_faults(row.matches)
        case Perplexity():
            if not (row.text or (asked and row.answers)):
                yield "it needs text, or prompt and answer"
        case MultipleChoice():
            if row.prompt is None and not row.messages:
                yield "it needs prompt (or messages)"
            elif len(row.choices) < 2 or row.gold is None or row.gold >= len(row.choices):
                yield "it needs two or more choices, and gold, the number of the right one from 0"
            elif not all(row.choices):
                yield "a choice is empty"
        case Classification():
            if not row.text or row.label is None:
                yield "it needs text and label"
            elif task.labels and row.label not in task.labels:
                yield f"the label {row.label[:60]!r} is not among the task's labels"


def _pattern_faults(pattern: str | None) -> Iterator[str]:
    if pattern is None:
        return
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        yield f"matches is no regular expression: {error}"
