"""The job `train.seed`: a small Llama with its own tokenizer, trained from nothing on a text data set.

in/corpus/train.jsonl  ->  out/  (Hugging Face folder)
"""

from __future__ import annotations

import time
from typing import Any

import torch

from appliance.jobs.workspace import Workspace
from appliance.kernel.canonical import digest_of
from appliance.kernel.errors import BadInput
from appliance.kernel.events import Progress
from appliance.training import export
from appliance.training.fit_task import train_in
from appliance.training.fitting import settings_of
from appliance.training.objective import NextToken
from appliance.training.recipes.registry import recipe_of
from appliance.training.recipes.seed import SeedRecipe
from appliance.training.rows import Row, read_rows
from appliance.training.runtime import derive_seed, prepare
from appliance.training.sampler import TextSampler
from appliance.training.summary import summarise
from appliance.training.tokenizer import CHAT_TEMPLATE, END, PAD, as_transformers, encode_documents, train_tokenizer
from appliance.weights.products import with_fast_products


def run(workspace: Workspace) -> dict[str, Any]:
    """Train a seed model. Raises BadInput, IntegrityFailure, StorageFailure or Interrupted."""
    started = time.monotonic()
    spec = workspace.spec
    recipe = recipe_of(SeedRecipe, spec.parameters)
    prepare(threads=spec.environment.threads, device=spec.environment.device)

    workspace.emit(Progress(phase="tokenizer"))
    texts = _texts(read_rows(workspace.input("corpus") / "train.jsonl"))
    tokenizer = train_tokenizer(texts, vocabulary=recipe.vocabulary)
    documents = encode_documents(tokenizer, texts)
    del texts  # as many bytes as the corpus has
    model = _model(recipe, tokenizer, seed=spec.seed)
    sampler = TextSampler(
        documents,
        seed=spec.seed,
        length=recipe.sequence_length,
        batch_size=recipe.batch_size,
        accumulation=recipe.accumulation,
    )
    # The tokenizer is trained anew in each attempt; weights for another one must never be taken up.
    fingerprint = digest_of([spec.run_id, tokenizer.to_str()])
    settings = settings_of(recipe, steps=recipe.steps, seed=spec.seed)
    result = train_in(workspace, model, sampler, settings, objective=NextToken(), fingerprint=fingerprint)

    workspace.emit(Progress(phase="write", fraction=0.98, step=result.steps, steps=recipe.steps))
    export.write_model(model, workspace.output)
    as_transformers(tokenizer, context_length=recipe.context_length).save_pretrained(workspace.output)
    summary = summarise(model, vocabulary=tokenizer.get_vocab_size(), result=result)
    workspace.emit(Progress(phase="done", fraction=1.0, step=result.steps, steps=recipe.steps, loss=result.loss))
    return summary | {"job_seconds": round(time.monotonic() - started, 3)}


def _texts(rows: list[Row]) -> list[str]:
    """Return one text per row; a conversation is written the way the chat template would."""
    texts = [row.text or _conversation(row) for row in rows]
    filled = [text for text in texts if text.strip()]
    if not filled:
        raise BadInput(
            "training.corpus_empty",
            "The corpus has no rows to train on.",
            hint='Import a JSONL file whose rows are {"text": ...} and use it as the corpus.',
        )
    return filled


def _conversation(row: Row) -> str:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    template = ImmutableSandboxedEnvironment().from_string(CHAT_TEMPLATE)
    return template.render(messages=row.plain_messages()).removesuffix(f"{END}\n")


def _model(recipe: SeedRecipe, tokenizer: Any, *, seed: int) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    end, pad = tokenizer.token_to_id(END), tokenizer.token_to_id(PAD)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=recipe.hidden_size,
        intermediate_size=recipe.intermediate_size,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.kv_heads,
        max_position_embeddings=recipe.context_length,
        # The usual 0.02 suits wide models; in a narrow one attention would stay flat for hundreds of steps.
        initializer_range=recipe.hidden_size**-0.5,
        tie_word_embeddings=True,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=pad,
    )
    torch.manual_seed(derive_seed(seed, "weights"))
    return with_fast_products(LlamaForCausalLM(config).float())
