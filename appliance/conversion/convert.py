"""One Hugging Face folder to one GGUF file, by llama.cpp's converter in a process of its own.

Only the files that a model is made of are shown to the converter: no code, no pickle, no model card of the folder is
ever read. What is not known exactly (architecture, tokenizer, number format) is refused before anything runs.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from appliance.conversion import converter_driver
from appliance.conversion.converter_location import converter_path
from appliance.conversion.pre_tokenizer import pre_tokenizer_of
from appliance.kernel import process
from appliance.kernel.errors import BadInput, IntegrityFailure, InternalError
from appliance.weights import normaliser

ARCHITECTURES = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "llama",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
}
"""Architectures whose conversion has been proven, and what GGUF calls them."""

DTYPES = ("f32", "f16", "bf16", "q8_0")
"""Number formats of the weights; f32 is exact, the others are lossy."""

_REQUIRED = ("config.json", "tokenizer.json", "tokenizer_config.json")
_OPTIONAL = (
    "generation_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "model.safetensors.index.json",
)
_TIMEOUT = 6 * 3600.0


def convert(folder: Path, output: Path, *, dtype: str, name: str, scratch: Path, threads: int) -> None:
    """Write `output` from the model in `folder`; `name` becomes general.name, `scratch` is a folder of ours.

    Raises BadInput (not convertible), IntegrityFailure (files are not what they say), NotFound (no converter).
    """
    if dtype not in DTYPES:
        raise BadInput("conversion.dtype", f"The number format {dtype!r} is not one of {', '.join(DTYPES)}.")
    _check_architecture(folder)
    pre = pre_tokenizer_of(folder / "tokenizer.json")
    stage, scores = _stage(folder, scratch / "model"), scratch / "scores.json"
    scores.write_text(json.dumps(pre.scores))
    outcome = process.run(
        [
            sys.executable,
            "-I",
            str(converter_driver.__file__),
            *("--converter", str(converter_path())),
            *("--model", str(stage)),
            *("--output", str(output)),
            *("--dtype", dtype),
            *("--pre", pre.name),
            *(("--note", f"{normaliser.COMPOSITION}={normaliser.NFC}") if pre.composes else ()),
            *(("--note", f"{normaliser.PREFIX}={pre.prefix}", "--scores", str(scores)) if pre.scores else ()),
            *("--name", name),
        ],
        timeout=_TIMEOUT,
        extra_environment={
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "OMP_NUM_THREADS": str(threads),
            "OMP_WAIT_POLICY": "passive",
            "GOMP_SPINCOUNT": "0",
        },
    )
    if outcome.status != 0:
        raise _failure(outcome)
    if not output.is_file():
        raise InternalError("conversion.no_output", "The converter ended well but wrote no file.")


def _check_architecture(folder: Path) -> None:
    for name in _REQUIRED:
        if not (folder / name).is_file():
            raise BadInput("conversion.incomplete", f"The model has no {name}.", hint="Import the whole model folder.")
    if not any(folder.glob("*.safetensors")):
        raise BadInput(
            "conversion.incomplete",
            "The model has no weights in the safetensors format.",
            hint="Pickled weights are never read; save the model as safetensors.",
        )
    config = _config(folder / "config.json")
    named = config.get("architectures")
    named = named if isinstance(named, list) else []
    if len(named) != 1 or named[0] not in ARCHITECTURES:
        raise BadInput(
            "conversion.architecture",
            f"config.json names the architecture {', '.join(map(str, named)) or 'nothing'}.",
            hint=f"These can be converted: {', '.join(ARCHITECTURES)}.",
        )
    window, context = config.get("sliding_window"), config.get("max_position_embeddings")
    if (
        isinstance(window, int)
        and isinstance(context, int)
        and window < context
        and config.get("use_sliding_window", True)
    ):
        raise BadInput(
            "conversion.window",
            f"Its attention sees {window} of {context} tokens; a GGUF file of this architecture would see all of them.",
            hint="Set max_position_embeddings to the window, if the model is to be used up to it.",
        )


def _config(file: Path) -> dict[str, Any]:
    try:
        document = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise IntegrityFailure("conversion.config_unreadable", f"{file.name} is not JSON: {error}.") from error
    return document if isinstance(document, dict) else {}


def _stage(folder: Path, stage: Path) -> Path:
    """Link the files that a model is made of into a folder that holds nothing else."""
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir(parents=True)
    names = [*_REQUIRED, *_OPTIONAL, *(path.name for path in folder.glob("*.safetensors"))]
    for name in names:
        if (folder / name).is_file():
            (stage / name).symlink_to((folder / name).resolve())
    return stage


def _failure(outcome: process.Outcome) -> BadInput:
    said = outcome.stderr.strip().splitlines() or [f"exit status {outcome.status}"]
    reason = said[-1]
    if outcome.status == converter_driver.EXIT_REFUSED:
        reason = str(json.loads(outcome.stdout.strip().splitlines()[-1])["refused"])
    return BadInput(
        "conversion.refused",
        f"The model cannot be written as GGUF: {reason[:300]}.",
        hint="Check config.json and the tokenizer files against the weights.",
    )
