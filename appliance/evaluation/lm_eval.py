"""Tasks of lm-evaluation-harness (YAML) whose data lie beside them, taken over as suites.

The templates are rendered once, here, in a confined child; what is kept are plain rows. What needs a hub, Python code
(`!function`, `process_docs`), sampling or several answers is refused by name: a figure that is not what the task means
would be worse than none. Prompts are asked as plain text, as the harness does without a chat template.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from appliance.evaluation.confined import Confined
from appliance.evaluation.lm_eval_files import refused, rows_of, rows_of_split, whole
from appliance.evaluation.suite import ExactMatch, MultipleChoice, Perplexity, Row, Suite, Task, parse_suite

_OUTPUT_TYPES: Final = ("multiple_choice", "generate_until", "loglikelihood", "loglikelihood_rolling")
_METRICS: Final = {
    "multiple_choice": {"acc", "acc_norm"},
    "generate_until": {"exact_match"},
    "loglikelihood": {"perplexity"},
    "loglikelihood_rolling": {"perplexity", "bits_per_byte"},
}
_READ: Final = frozenset(
    {
        *("task", "task_alias", "tag", "group", "dataset_path", "dataset_name", "dataset_kwargs", "output_type"),
        *("training_split", "validation_split", "test_split", "fewshot_split", "num_fewshot", "description"),
        *("doc_to_text", "doc_to_target", "doc_to_choice", "target_delimiter", "fewshot_delimiter", "metric_list"),
        *("generation_kwargs", "metadata", "should_decontaminate", "doc_to_decontamination_query", "repeats"),
        "fewshot_config",
    }
)
_EXAMPLES: Final = frozenset({"sampler", "samples", "split"})
"""What is read of `fewshot_config`."""


def is_lm_eval(document: Any) -> bool:
    """Tell whether a YAML document is a task of the harness rather than a suite."""
    return isinstance(document, dict) and "task" in document and "tasks" not in document


def import_task(document: Mapping[str, Any], file: Path, *, confined: Confined) -> Suite:
    """Turn one task into a suite. Raises BadInput (`suite.lm_eval`, `suite.template`, `suite.row`) or NotFound."""
    document, source = whole(document, file), file.name
    _refuse_unknown(document, source)
    output_type = document.get("output_type", "generate_until")
    if output_type not in _OUTPUT_TYPES:
        raise refused(source, f"the output_type {output_type!r} is not one of {', '.join(_OUTPUT_TYPES)}")
    normalise = _metrics(document, output_type, source)
    examples = [
        (row, _Doc(document, row, confined, f"{source}, example {n}").as_example())
        for n, row in enumerate(_examples(document, file), 1)
    ]
    rows = tuple(
        _row(_Doc(document, row, confined, f"{source}, row {n}"), output_type, examples)
        for n, row in enumerate(rows_of(document, file), 1)
    )
    name = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in str(document["task"]).lower())
    task = _task(document, output_type, name.strip("-_")[:40] or "task", rows, normalise, source)
    described = f"from the lm-evaluation-harness task {str(document['task'])[:200]}"
    return parse_suite({"tasks": [msgspec.to_builtins(task)], "description": described}, source=source)


def _task(
    document: Mapping[str, Any], output_type: str, name: str, rows: tuple[Row, ...], normalise: Any, source: str
) -> Task:
    match output_type:
        case "multiple_choice":
            return MultipleChoice(name=name, rows=rows, style="plain")
        case "generate_until":
            options = document.get("generation_kwargs") or {}
            until, most = _generation(options, document, source)
            return ExactMatch(
                name=name, rows=rows, style="plain", until=until, max_new_tokens=most, normalise=normalise
            )
        case _:
            return Perplexity(name=name, rows=rows, style="plain")


@dataclass(frozen=True, slots=True)
class _Doc:
    """One row of the data as the task's templates show it."""

    document: Mapping[str, Any]
    row: dict[str, Any]
    confined: Confined
    where: str

    def rendered(self, field: str, *, native: bool = False) -> Any:
        """Return what a field of the task gives for this row: a text, or a value where it is `native`."""
        template, row = self.document.get(field), self.row
        if isinstance(template, list) and native:
            return [self.confined.render(str(item), row) if isinstance(item, str) else item for item in template]
        if isinstance(template, int) and native:
            return template
        if not isinstance(template, str):
            raise refused(self.where, f"{field} is {'missing' if template is None else 'no text'}")
        if template in row:  # the name of a column stands for its value
            return row[template] if native else str(row[template])
        return self.confined.render(template, row, native=native)

    def choices(self) -> list[str]:
        """Return the answers to choose from."""
        found = self.rendered("doc_to_choice", native=True)
        if not isinstance(found, list):
            raise refused(self.where, "doc_to_choice gives no list")
        return [str(choice) for choice in found]

    def said(self, name: str, default: str) -> str:
        """Return a text of the task that has a default in the harness."""
        return str(self.document.get(name, default))

    def as_example(self) -> str:
        """Return question and answer as they stand in front of what is asked (the harness's `ContextSampler`)."""
        question, target = str(self.rendered("doc_to_text")), self.rendered("doc_to_target", native=True)
        if self.document.get("doc_to_choice") is not None and not isinstance(target, list):
            choices = self.choices()
            answer = choices[_gold(target, choices, self.where)]
        else:
            answer = str(target[0] if isinstance(target, list) else target)
        if not answer:
            return question
        return question + self.said("target_delimiter", " ") + answer + self.said("fewshot_delimiter", "\n\n")


def _row(doc: _Doc, output_type: str, examples: Sequence[tuple[dict[str, Any], str]]) -> Row:
    if output_type == "loglikelihood_rolling":
        return Row(text=str(doc.rendered("doc_to_target" if doc.document.get("doc_to_target") else "doc_to_text")))
    before = doc.confined.render(str(doc.document.get("description") or ""), doc.row)
    wanted = doc.document.get("num_fewshot") or 0
    # A row is no example of itself: one more than wanted is there where they come from what is measured.
    others = [text for row, text in examples if row != doc.row][:wanted]
    prompt = before + "".join(others) + str(doc.rendered("doc_to_text"))
    gap = doc.said("target_delimiter", " ")
    target = doc.rendered("doc_to_target", native=True)
    if output_type != "multiple_choice":
        answers = [str(one) for one in target] if isinstance(target, list) else [str(target)]
        if output_type == "loglikelihood":
            answers = [gap + answers[0]]
        return Row(prompt=prompt, answer=tuple(answers))
    texts = doc.choices()
    return Row(prompt=prompt, choices=tuple(gap + text for text in texts), gold=_gold(target, texts, doc.where))


def _examples(document: Mapping[str, Any], file: Path) -> list[dict[str, Any]]:
    """Return the rows of which the examples in each prompt are made; one more where the measured rows are these."""
    wanted, config = document.get("num_fewshot") or 0, document.get("fewshot_config") or {}
    if not isinstance(wanted, int) or wanted < 0:
        raise refused(file.name, "num_fewshot is no number of examples")
    if not wanted:
        return []
    if not isinstance(config, dict) or config.get("sampler") != "first_n":
        raise refused(
            file.name, "num_fewshot draws its examples at random there; only fewshot_config.sampler first_n is the same"
        )
    if foreign := sorted(config.keys() - _EXAMPLES):
        raise refused(file.name, f"fewshot_config has {foreign[0]}, which is not known here")
    splits = [document.get(f"{name}_split") for name in ("test", "validation", "training", "fewshot")]
    measured = splits[0] or splits[1]
    split = next((one for one in (config.get("split"), *reversed(splits)) if one), "train")
    rows = config.get("samples") or rows_of_split(document, str(split), file)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise refused(file.name, "fewshot_config.samples is no list of rows")
    wanted += split == measured and not config.get("samples")
    if len(rows) < wanted:
        raise refused(file.name, f"num_fewshot needs {wanted} examples and there are {len(rows)}")
    return rows[:wanted]


def _gold(target: Any, choices: Sequence[str], where: str) -> int:
    if isinstance(target, bool | list):
        raise refused(where, "doc_to_target names more than one choice, or none")
    text = str(target).strip()
    if text.isdigit() and text not in choices:
        return int(text)
    if text not in choices:
        raise refused(where, f"doc_to_target gives {text[:60]!r}, which is none of the choices")
    return list(choices).index(text)


def _metrics(document: Mapping[str, Any], output_type: str, source: str) -> tuple[str, ...]:
    """Check the metrics that are asked for; return how exact match normalises."""
    steps = ["whitespace"]
    for entry in document.get("metric_list") or []:
        metric = entry.get("metric") if isinstance(entry, dict) else entry
        if metric not in _METRICS[output_type]:
            wanted = ", ".join(sorted(_METRICS[output_type]))
            raise refused(source, f"the metric {metric!r} of {output_type} is not known here (known: {wanted})")
        if isinstance(entry, dict):
            if entry.get("regexes_to_ignore"):
                raise refused(source, "regexes_to_ignore cannot be taken over")
            steps += ["case"] * bool(entry.get("ignore_case")) + ["punctuation"] * bool(entry.get("ignore_punctuation"))
    return tuple(dict.fromkeys(steps))


def _generation(options: Any, document: Mapping[str, Any], source: str) -> tuple[tuple[str, ...], int]:
    if not isinstance(options, dict):
        raise refused(source, "generation_kwargs is no mapping")
    foreign = sorted(options.keys() - {"until", "max_gen_toks", "do_sample", "temperature"})
    if foreign:
        raise refused(source, f"generation_kwargs has {foreign[0]}, which is not known here")
    if options.get("do_sample") or (options.get("temperature") or 0) > 0:
        raise refused(source, "it samples answers; here they are greedy, so that they can be repeated")
    until = options.get("until", [str(document.get("fewshot_delimiter", "\n\n"))])
    ends = [until] if isinstance(until, str) else until
    return tuple(str(end) for end in ends if end), int(options.get("max_gen_toks", 256))


def _refuse_unknown(document: Mapping[str, Any], source: str) -> None:
    if (document.get("repeats") or 1) > 1:
        raise refused(source, "repeats asks for several sampled answers")
    for name in ("process_docs", "process_results", "filter_list", "use_prompt", "custom_dataset"):
        if document.get(name):
            raise refused(source, f"{name} cannot be taken over")
    foreign = sorted(set(document) - _READ)
    if foreign:
        raise refused(source, f"{foreign[0][:60]} is not known here")
