"""Tasks of lm-evaluation-harness (YAML) whose data lie beside them, taken over as suites.

The templates are rendered once, here, in a confined child; what is kept are plain rows. What needs a hub, Python code
(`!function`, `process_docs`), sampling or several answers is refused by name: a figure that is not what the task means
would be worse than none. Prompts are asked as plain text, as the harness does without a chat template.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from appliance.evaluation.confined import Confined
from appliance.evaluation.local_rows import read_local_rows
from appliance.evaluation.suite import ExactMatch, MultipleChoice, Perplexity, Row, Suite, Task, parse_suite
from appliance.kernel.errors import BadInput

_LOCAL: Final = {"json": (".json", ".jsonl"), "csv": (".csv",), "parquet": (".parquet",)}
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
    }
)
_SPLITS: Final = ("test", "validation", "train")


def is_lm_eval(document: Any) -> bool:
    """Tell whether a YAML document is a task of the harness rather than a suite."""
    return isinstance(document, dict) and "task" in document and "tasks" not in document


def import_task(document: Mapping[str, Any], file: Path, *, confined: Confined) -> Suite:
    """Turn one task into a suite. Raises BadInput (`suite.lm_eval`, `suite.template`, `suite.row`) or NotFound."""
    source = file.name
    _refuse_unknown(document, source)
    output_type = document.get("output_type", "generate_until")
    if output_type not in _OUTPUT_TYPES:
        raise _refused(source, f"the output_type {output_type!r} is not one of {', '.join(_OUTPUT_TYPES)}")
    normalise = _metrics(document, output_type, source)
    docs = read_local_rows(_data_file(document, file))
    rows = tuple(_row(document, doc, output_type, confined, f"{source}, row {n}") for n, doc in enumerate(docs, 1))
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


def _row(document: Mapping[str, Any], doc: dict[str, Any], output_type: str, confined: Confined, where: str) -> Row:
    def rendered(field: str, *, native: bool = False) -> Any:
        template = document.get(field)
        if isinstance(template, list) and native:
            return [confined.render(str(item), doc) if isinstance(item, str) else item for item in template]
        if isinstance(template, int) and native:
            return template
        if not isinstance(template, str):
            raise _refused(where, f"{field} is {'missing' if template is None else 'no text'}")
        if template in doc:  # the name of a column stands for its value
            return doc[template] if native else str(doc[template])
        return confined.render(template, doc, native=native)

    before = confined.render(str(document.get("description") or ""), doc)
    if output_type == "loglikelihood_rolling":
        return Row(text=str(rendered("doc_to_target" if document.get("doc_to_target") else "doc_to_text")))
    prompt = before + str(rendered("doc_to_text"))
    gap = str(document.get("target_delimiter", " "))
    target = rendered("doc_to_target", native=True)
    if output_type != "multiple_choice":
        answers = [str(one) for one in target] if isinstance(target, list) else [str(target)]
        if output_type == "loglikelihood":
            answers = [gap + answers[0]]
        return Row(prompt=prompt, answer=tuple(answers))
    choices = rendered("doc_to_choice", native=True)
    if not isinstance(choices, list):
        raise _refused(where, "doc_to_choice gives no list")
    texts = [str(choice) for choice in choices]
    return Row(prompt=prompt, choices=tuple(gap + text for text in texts), gold=_gold(target, texts, where))


def _gold(target: Any, choices: Sequence[str], where: str) -> int:
    if isinstance(target, bool | list):
        raise _refused(where, "doc_to_target names more than one choice, or none")
    text = str(target).strip()
    if text.isdigit() and text not in choices:
        return int(text)
    if text not in choices:
        raise _refused(where, f"doc_to_target gives {text[:60]!r}, which is none of the choices")
    return list(choices).index(text)


def _metrics(document: Mapping[str, Any], output_type: str, source: str) -> tuple[str, ...]:
    """Check the metrics that are asked for; return how exact match normalises."""
    steps = ["whitespace"]
    for entry in document.get("metric_list") or []:
        metric = entry.get("metric") if isinstance(entry, dict) else entry
        if metric not in _METRICS[output_type]:
            wanted = ", ".join(sorted(_METRICS[output_type]))
            raise _refused(source, f"the metric {metric!r} of {output_type} is not known here (known: {wanted})")
        if isinstance(entry, dict):
            if entry.get("regexes_to_ignore"):
                raise _refused(source, "regexes_to_ignore cannot be taken over")
            steps += ["case"] * bool(entry.get("ignore_case")) + ["punctuation"] * bool(entry.get("ignore_punctuation"))
    return tuple(dict.fromkeys(steps))


def _generation(options: Any, document: Mapping[str, Any], source: str) -> tuple[tuple[str, ...], int]:
    if not isinstance(options, dict):
        raise _refused(source, "generation_kwargs is no mapping")
    foreign = sorted(options.keys() - {"until", "max_gen_toks", "do_sample", "temperature"})
    if foreign:
        raise _refused(source, f"generation_kwargs has {foreign[0]}, which is not known here")
    if options.get("do_sample") or (options.get("temperature") or 0) > 0:
        raise _refused(source, "it samples answers; here they are greedy, so that they can be repeated")
    until = options.get("until", [str(document.get("fewshot_delimiter", "\n\n"))])
    ends = [until] if isinstance(until, str) else until
    return tuple(str(end) for end in ends if end), int(options.get("max_gen_toks", 256))


def _data_file(document: Mapping[str, Any], file: Path) -> Path:
    """Return the one local file with the rows. Raises BadInput for anything that a hub would have to give."""
    path = document.get("dataset_path")
    options = document.get("dataset_kwargs") or {}
    files = options.get("data_files") if isinstance(options, dict) else None
    if isinstance(path, str) and path not in _LOCAL and (file.parent / path).is_file():
        return _inside(file, path)
    if path not in _LOCAL:
        raise _refused(
            file.name,
            f"the data set {str(path)[:80]!r} would have to come from a hub; "
            "only json, csv and parquet files beside the task can be read",
        )
    if isinstance(files, dict):
        split = next((document[f"{name}_split"] for name in _SPLITS[:2] if document.get(f"{name}_split")), None)
        wanted = split if split in files else next((name for name in _SPLITS if name in files), None)
        files = files.get(wanted) if wanted else None
    if isinstance(files, list) and len(files) == 1:
        files = files[0]
    if not isinstance(files, str):
        raise _refused(file.name, "dataset_kwargs.data_files does not name one local file for its test split")
    found = _inside(file, files)
    if found.suffix not in _LOCAL[path]:
        raise _refused(file.name, f"{files[:80]!r} is not a {path} file")
    return found


def _inside(file: Path, name: str) -> Path:
    """Return a file beside the task or below it: a task must not read the rest of the disk."""
    folder = file.parent.resolve()
    found = (folder / name).resolve()
    if "://" in name or not found.is_relative_to(folder):
        raise _refused(file.name, f"{name[:80]!r} does not lie beside the task")
    if not found.is_file():
        raise _refused(file.name, f"there is no file {name[:80]!r} beside it")
    return found


def _refuse_unknown(document: Mapping[str, Any], source: str) -> None:
    if (document.get("num_fewshot") or 0) > 0:
        raise _refused(source, "num_fewshot asks for examples in the prompt, which are drawn at random there")
    if (document.get("repeats") or 1) > 1:
        raise _refused(source, "repeats asks for several sampled answers")
    for name in ("process_docs", "process_results", "filter_list", "include", "use_prompt", "custom_dataset"):
        if document.get(name):
            raise _refused(source, f"{name} cannot be taken over")
    foreign = sorted(set(document) - _READ)
    if foreign:
        raise _refused(source, f"{foreign[0][:60]} is not known here")


def _refused(source: str, why: str) -> BadInput:
    return BadInput(
        "suite.lm_eval",
        f"{source}: {why}.",
        hint="docs/operators/evaluation.md says which tasks of lm-evaluation-harness can be imported.",
    )
