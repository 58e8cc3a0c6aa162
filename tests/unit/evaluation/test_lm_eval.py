"""Tasks in lm-evaluation-harness's form: what is taken over, and what is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
import yaml
from pyarrow import parquet

from appliance.evaluation.suite import ExactMatch, MultipleChoice, Perplexity, Suite
from appliance.evaluation.suite_import_task import read_suite
from appliance.kernel.errors import BadInput, IntramurosError

DOCS = [
    {"question": "What barks?", "options": ["cat", "dog"], "answer": "dog"},
    {"question": "What purrs?", "options": ["cat", "dog"], "answer": "cat"},
]
PICK: dict[str, Any] = {
    "task": "Pets-1",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"train": "train.jsonl", "test": "docs.jsonl"}},
    "test_split": "test",
    "output_type": "multiple_choice",
    "description": "Pick one.\n\n",
    "doc_to_text": "Question: {{question}}\nAnswer:",
    "doc_to_choice": "{{options}}",
    "doc_to_target": "{{options.index(answer)}}",
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}, {"metric": "acc_norm"}],
    "metadata": {"version": 1.0},
}
FIRST = {"sampler": "first_n"}


def take_over(folder: Path, **changes: Any) -> Suite:
    document = {name: value for name, value in (PICK | changes).items() if value is not None}
    (folder / "docs.jsonl").write_text("".join(json.dumps(doc) + "\n" for doc in DOCS))
    (folder / "task.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    return read_suite(folder / "task.yaml")


def test_a_multiple_choice_task_becomes_plain_rows(tmp_path: Path) -> None:
    (task,) = take_over(tmp_path).tasks
    assert isinstance(task, MultipleChoice)
    assert (task.name, task.style) == ("pets-1", "plain")
    assert task.rows[0].prompt == "Pick one.\n\nQuestion: What barks?\nAnswer:"
    assert task.rows[0].choices == (" cat", " dog")
    assert [row.gold for row in task.rows] == [1, 0]


@pytest.mark.parametrize("target", ["answer", "{{answer}}"])
def test_a_column_or_a_choices_text_may_name_the_right_one(tmp_path: Path, target: str) -> None:
    (task,) = take_over(tmp_path, doc_to_target=target, doc_to_choice="options").tasks
    assert [row.gold for row in task.rows] == [1, 0]


def test_choices_may_be_a_list_of_templates(tmp_path: Path) -> None:
    (task,) = take_over(tmp_path, doc_to_choice=["{{options[0]}}", "{{options[1]}}"]).tasks
    assert task.rows[0].choices == (" cat", " dog")


def test_a_generation_task_keeps_its_ends_and_its_leniency(tmp_path: Path) -> None:
    (task,) = take_over(
        tmp_path,
        output_type="generate_until",
        doc_to_choice=None,
        doc_to_target="{{answer}}",
        generation_kwargs={"until": ["\n", "."], "max_gen_toks": 8, "do_sample": False},
        metric_list=[{"metric": "exact_match", "ignore_case": True, "ignore_punctuation": True}],
    ).tasks
    assert isinstance(task, ExactMatch)
    assert (task.until, task.max_new_tokens) == (("\n", "."), 8)
    assert set(task.normalise) == {"whitespace", "case", "punctuation"}
    assert task.rows[0].answers == ("dog",)


def test_a_likelihood_task_scores_the_target_after_the_prompt(tmp_path: Path) -> None:
    (task,) = take_over(
        tmp_path, output_type="loglikelihood", doc_to_target="{{answer}}", metric_list=[{"metric": "perplexity"}]
    ).tasks
    assert isinstance(task, Perplexity)
    assert task.rows[0].answers == (" dog",)


def test_a_task_says_more_than_what_it_includes(tmp_path: Path) -> None:
    shared = PICK | {"description": "Of the template.", "doc_to_text": "Q: {{question}}", "include": "deeper.yaml"}
    (tmp_path / "base.yaml").write_text(yaml.safe_dump({name: shared[name] for name in shared if name != "task"}))
    (tmp_path / "deeper.yaml").write_text(yaml.safe_dump({"target_delimiter": "\n", "description": "Deeper."}))
    (tmp_path / "docs.jsonl").write_text(json.dumps(DOCS[0]))
    (tmp_path / "task.yaml").write_text(yaml.safe_dump({"task": "own", "include": "base.yaml", "description": "Own. "}))
    (task,) = read_suite(tmp_path / "task.yaml").tasks
    assert isinstance(task, MultipleChoice)
    assert (task.rows[0].prompt, task.rows[0].choices) == ("Own. Q: What barks?", ("\ncat", "\ndog"))


def test_the_first_examples_stand_in_front_of_each_question(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(
        "".join(
            json.dumps({"question": f"What {sound}?", "options": [animal, "dog"], "answer": animal}) + "\n"
            for sound, animal in (("quacks", "duck"), ("neighs", "horse"), ("moos", "cow"))
        )
    )
    files = {"train": "train.jsonl", "test": "docs.jsonl"}
    changes = {"num_fewshot": 2, "fewshot_config": FIRST, "fewshot_split": "train"}
    (task,) = take_over(tmp_path, dataset_kwargs={"data_files": files}, **changes).tasks
    assert task.rows[1].prompt == (
        "Pick one.\n\nQuestion: What quacks?\nAnswer: duck\n\nQuestion: What neighs?\nAnswer: horse\n\n"
        "Question: What purrs?\nAnswer:"
    )


def test_a_row_is_no_example_of_itself(tmp_path: Path) -> None:
    (task,) = take_over(tmp_path, num_fewshot=1, fewshot_config=FIRST, fewshot_split="test").tasks
    assert [str(row.prompt).count("What purrs?") for row in task.rows] == [1, 1]
    assert task.rows[0].prompt == "Pick one.\n\nQuestion: What purrs?\nAnswer: cat\n\nQuestion: What barks?\nAnswer:"


def test_examples_may_stand_in_the_task_itself(tmp_path: Path) -> None:
    (task,) = take_over(
        tmp_path,
        output_type="generate_until",
        doc_to_choice=None,
        doc_to_target="{{answer}}",
        metric_list=None,
        fewshot_delimiter=" ## ",
        num_fewshot=1,
        fewshot_config=FIRST | {"samples": [{"question": "What moos?", "answer": ["cow", "ox"]}]},
    ).tasks
    assert str(task.rows[0].prompt).startswith("Pick one.\n\nQuestion: What moos?\nAnswer: ")
    assert str(task.rows[0].prompt).endswith(" ## Question: What barks?\nAnswer:")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_other_local_files(tmp_path: Path, kind: str) -> None:
    if kind == "csv":
        (tmp_path / "docs.csv").write_text('question,answer\n"What barks?",dog\n')
    else:
        parquet.write_table(pyarrow.table({"question": ["What barks?"], "answer": ["dog"]}), tmp_path / "docs.parquet")
    (task,) = take_over(
        tmp_path,
        dataset_path=kind,
        dataset_kwargs={"data_files": f"docs.{kind}"},
        doc_to_choice=["cat", "dog"],
        doc_to_target="answer",
    ).tasks
    assert task.rows[0].gold == 1


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"dataset_path": "allenai/sciq", "dataset_kwargs": None}, "'allenai/sciq' would have to come from a hub"),
        ({"dataset_kwargs": {"data_files": "https://example.org/docs.jsonl"}}, "does not lie beside the task"),
        ({"dataset_kwargs": {"data_files": "../docs.jsonl"}}, "does not lie beside the task"),
        ({"dataset_kwargs": {"data_files": "gone.jsonl"}}, "there is no file"),
        ({"output_type": "generate_and_pray"}, "generate_and_pray"),
        ({"metric_list": [{"metric": "bleu"}]}, "'bleu'"),
        ({"num_fewshot": 5}, "num_fewshot draws its examples at random"),
        ({"num_fewshot": "many"}, "num_fewshot is no number"),
        ({"num_fewshot": 2, "fewshot_config": FIRST}, "needs 3 examples and there are 2"),
        ({"num_fewshot": 1, "fewshot_config": FIRST, "fewshot_split": "train"}, "there is no file 'train.jsonl'"),
        ({"num_fewshot": 1, "fewshot_config": FIRST | {"split": "dev"}}, "does not name one local file for dev"),
        ({"num_fewshot": 2, "fewshot_config": FIRST | {"samples": DOCS[:1]}}, "needs 2 examples and there are 1"),
        ({"num_fewshot": 1, "fewshot_config": FIRST | {"samples": ["a"]}}, "no list of rows"),
        ({"num_fewshot": 1, "fewshot_config": FIRST | {"doc_to_text": "x"}}, "doc_to_text, which is not known"),
        ({"process_docs": "anything"}, "process_docs"),
        ({"filter_list": [{"name": "x"}]}, "filter_list"),
        ({"include": "base.yaml"}, "there is no file 'base.yaml' beside it"),
        ({"include": "/etc/passwd"}, "does not lie beside the task"),
        ({"include": "task.yaml"}, "included a second time"),
        ({"include": "docs.jsonl"}, "docs.jsonl"),
        ({"doc_to_target": "{{ 'bird' }}"}, "none of the choices"),
        ({"doc_to_text": "{{ missing }}"}, "'missing' is undefined"),
        ({"doc_to_text": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"}, "stopped"),
        ({"surprise": 1}, "surprise is not known"),
        (
            {"output_type": "generate_until", "generation_kwargs": {"do_sample": True}, "metric_list": None},
            "it samples answers",
        ),
    ],
)
def test_what_cannot_be_taken_over_is_named_in_one_line(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    with pytest.raises(IntramurosError) as refusal:
        take_over(tmp_path, **changes)
    assert named in refusal.value.message
    assert "\n" not in refusal.value.message


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("task: x\ndoc_to_text: !function utils.doc_to_text\n", "line 2: the tag !function is not allowed"),
        ("task: x\nevil: !!python/object/apply:os.system ['true']\n", "line 2: the tag"),
        ("task: &a x\nother: *a\n", "anchors and aliases"),
    ],
)
def test_tags_and_anchors_never_reach_anything(tmp_path: Path, text: str, named: str) -> None:
    (tmp_path / "task.yaml").write_text(text)
    with pytest.raises(BadInput) as refusal:
        read_suite(tmp_path / "task.yaml")
    assert named in refusal.value.message
