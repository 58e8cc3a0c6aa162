"""MLflow's layout of a transformers model (flavour `transformers`), written without MLflow. Pure.

MLmodel  conda.yaml  python_env.yaml  requirements.txt  README.md
model/                 configuration and weights
components/tokenizer/  the tokenizer's files
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_TOKENIZER_FILES: Final = frozenset(
    {
        *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
        *("chat_template.jinja", "tokenizer.model", "vocab.json", "merges.txt"),
    }
)
_PIPELINES: Final = {
    "generate": ("text-generation", "TextGenerationPipeline"),
    "classify": ("text-classification", "TextClassificationPipeline"),
    "embed": ("feature-extraction", "FeatureExtractionPipeline"),
    "rerank": ("text-classification", "TextClassificationPipeline"),
    "tag": ("token-classification", "TokenClassificationPipeline"),
}
_PINNED: Final = ("numpy", "safetensors", "tokenizers", "torch", "transformers")
_WRITTEN_FOR: Final = "2.22.0"
"""the version of MLflow whose layout this is"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """What MLmodel says of the version."""

    ref: str
    digest: str
    purpose: str
    architecture: str
    tokenizer: str
    dtype: str
    made_at: str
    python: str
    packages: Mapping[str, str]


def place_of(name: str) -> str:
    """Return where a file of a Hugging Face folder lies in MLflow's layout."""
    return f"components/tokenizer/{name}" if name in _TOKENIZER_FILES else f"model/{name}"


def render(described: Described) -> dict[str, str]:
    """Return the layout's own files by path."""
    pins = [f"{name}=={described.packages[name]}" for name in _PINNED if name in described.packages]
    requirements = [f"mlflow=={_WRITTEN_FOR}", *pins]
    return {
        "MLmodel": _mlmodel(described),
        "requirements.txt": "\n".join(requirements) + "\n",
        "python_env.yaml": _lines(
            f"python: {json.dumps(described.python)}",
            "build_dependencies:",
            "- pip",
            "dependencies:",
            "- -r requirements.txt",
        ),
        "conda.yaml": _lines(
            "channels:",
            "- conda-forge",
            "dependencies:",
            f"- python={described.python}",
            "- pip",
            "- pip:",
            *(f"  - {pin}" for pin in requirements),
            "name: mlflow-env",
        ),
    }


def _mlmodel(described: Described) -> str:
    """YAML with keys in MLflow's order; values are JSON strings, which YAML reads too."""
    task, pipeline = _PIPELINES[described.purpose]
    return _lines(
        "artifact_path: model",
        "flavors:",
        "  python_function:",
        "    env:",
        "      conda: conda.yaml",
        "      virtualenv: python_env.yaml",
        "    loader_module: mlflow.transformers",
        "    model_binary: model",
        f"    python_version: {json.dumps(described.python)}",
        "  transformers:",
        "    code: null",
        "    components:",
        "    - tokenizer",
        "    framework: pt",
        f"    instance_type: {pipeline}",
        "    model_binary: model",
        f"    pipeline_model_type: {json.dumps(described.architecture)}",
        f"    source_model_name: {json.dumps(described.ref)}",
        f"    task: {task}",
        f"    tokenizer_type: {json.dumps(described.tokenizer)}",
        f"    torch_dtype: torch.{described.dtype}",
        f"    transformers_version: {json.dumps(described.packages.get('transformers', ''))}",
        "metadata:",
        f"  digest: {json.dumps(described.digest)}",
        f"  ref: {json.dumps(described.ref)}",
        f"mlflow_version: {_WRITTEN_FOR}",
        f"model_uuid: {described.digest[:32]}",
        f"utc_time_created: {json.dumps(described.made_at.removesuffix('Z').replace('T', ' '))}",
    )


def _lines(*lines: str) -> str:
    return "\n".join(lines) + "\n"
