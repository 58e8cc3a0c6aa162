from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.catalog.model_folder import inspect_model
from appliance.catalog.purpose import kind_of
from appliance.kernel.errors import IntegrityFailure
from tests.factories.tiny_encoder import CLS, FEED_FORWARD, make_tiny_bert, make_tiny_bert_gguf
from tests.factories.tiny_llama import make_tiny_llama


def described(source: Path) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.to_builtins(inspect_model(source).description)
    return document


def test_a_folder_of_sentence_transformers_is_taken_with_its_pooling(tmp_path: Path) -> None:
    inspected = inspect_model(make_tiny_bert(tmp_path / "m", pooling="cls"))
    assert {"modules.json", "1_Pooling/config.json"} <= {file.name for file in inspected.files}
    assert inspected.left_out == ()
    assert kind_of(msgspec.to_builtins(inspected.description)) == "embed"


def test_labels_tell_classifiers_and_rerankers_apart(tmp_path: Path) -> None:
    classifier = described(make_tiny_bert(tmp_path / "c", labels=("fine", "rude")))
    assert (classifier["head"], tuple(classifier["labels"])) == ("BertForSequenceClassification", ("fine", "rude"))
    assert kind_of(classifier) == "classify"
    assert kind_of(described(make_tiny_bert(tmp_path / "r", labels=("relevance",)))) == "rerank"
    assert kind_of({**classifier, "head": "BertForTokenClassification"}) == "tag"


def test_pooling_tells_in_gguf(tmp_path: Path) -> None:
    embedder = described(make_tiny_bert_gguf(tmp_path / "e.gguf", pooling=CLS))
    assert (embedder["pooling"], embedder["feed_forward"], kind_of(embedder)) == ("cls", FEED_FORWARD, "embed")
    assert kind_of(described(make_tiny_bert_gguf(tmp_path / "r.gguf", labels=("relevance",)))) == "rerank"


def test_a_causal_model_generates(tmp_path: Path) -> None:
    model = described(make_tiny_llama(tmp_path / "m"))
    assert (kind_of(model), model["key_width"], model["feed_forward"]) == ("generate", 32, 128)
    assert kind_of({}) == "generate"


@pytest.mark.parametrize("labels", [{"0": "a", "2": "b"}, {"a": "b"}, {str(n): "x" for n in range(5000)}])
def test_labels_that_number_nothing_are_damage(tmp_path: Path, labels: dict[str, str]) -> None:
    folder = make_tiny_bert(tmp_path / "m", labels=("a", "b"))
    config = msgspec.json.decode((folder / "config.json").read_bytes())
    (folder / "config.json").write_bytes(msgspec.json.encode(config | {"id2label": labels}))
    with pytest.raises(IntegrityFailure) as refused:
        inspect_model(folder)
    assert refused.value.code == "model.lying_header"
