"""The engine process for one GGUF model: verify, load, listen, serve, drain.

    python -I -m appliance.engine.llama_worker --model PATH --digest HEX --socket PATH --threads N --slots N --context N

Owns the process: arguments, the check of the file's digest, the socket, signals and the exit status. Three threads:
the main one reads (`intake`), one computes (`engine_loop`), one writes (`outbox`).
Invariant: the socket's name appears only when requests can be served, and everything that is loaded has the digest.

SIGTERM drains: running requests end, new ones fail as retryable. A second one, or `--drain-timeout`, ends at once.
Exit status: 0 drained, 2 wrong arguments, 7 the file is not what its digest says or llama.cpp refuses it, 70 a defect.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import llama_cpp

from appliance.engine.block_store import BlockFolder, BlockStore
from appliance.engine.draft_model import DraftModel
from appliance.engine.engine_loop import EngineLoop
from appliance.engine.frames import VERSION, Info
from appliance.engine.intake import Intake
from appliance.engine.llama_context import LlamaContext, LlamaModel, start_backend
from appliance.engine.outbox import Emitter
from appliance.engine.prefix_cache import Bounds, PrefixCache
from appliance.engine.prompt import PromptMaker
from appliance.engine.scheduler import Limits
from appliance.engine.vocabulary import require_same_vocabulary
from appliance.engine.worker_socket import digest_name, limit_memory, listen_at, positive, serve, socket_names
from appliance.kernel.errors import IntegrityFailure, IntramurosError, storage_errors
from appliance.kernel.standard_error import report_without_failing
from appliance.weights.llama_devices import free_bytes, require_gpu
from appliance.weights.llama_loading import build

BATCH: Final = 2048
UBATCH: Final = 512
SEQUENCES_PER_SLOT: Final = 4
MOST_SLOTS: Final = 64
QUEUE: Final = 256
MIB: Final = 1 << 20


def main(argv: Sequence[str] | None = None) -> int:
    """Run the worker; returns its exit status after one line on stderr if that is not 0."""
    parser = _parser()
    options = parser.parse_args(argv)
    if (options.draft is None) != (options.draft_digest is None):
        parser.error("--draft and --draft-digest belong together")
    try:
        _serve(options)
    except IntramurosError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def _serve(options: argparse.Namespace) -> None:
    path, staged = socket_names(options.socket)
    limit_memory(options.memory)
    start_backend()
    free = free_bytes(require_gpu(options.gpu).name) if options.gpu_layers else 0
    model = _load(options)
    helper = _load_draft(options, model)
    context = LlamaContext(
        model,
        cells=options.context,
        batch=min(BATCH, max(options.ubatch, options.context)),
        ubatch=options.ubatch,
        sequences=_sequences(options.slots),
        threads=options.threads,
    )
    limits = Limits(
        slots=options.slots,
        cells=context.cells,
        batch=context.batch,
        micro=min(options.ubatch, context.batch),
        outputs=_sequences(options.slots) if model.shares_prefixes else 0,  # wrong guesses are cut out of the cells
        tenant_queue=QUEUE // 2,
        decode_target=options.itl_target / 1000,
    )
    store = _store(options)
    longest = min(context.cells, model.trained_context or context.cells)
    prompts = PromptMaker(model, context=longest)
    emitter = Emitter()
    engine = EngineLoop(
        model,
        context,
        limits,
        _cache(options, model, context, store),
        emitter,
        on_end=lambda: intake.engine_ended(),
        draft=None if helper is None else _draft(options, model, helper, cells=context.cells),
        backend_sampling=options.backend_sampling,
    )
    intake = Intake(
        listener=listen_at(staged),
        engine=engine,
        emitter=emitter,
        model=model,
        prompts=prompts,
        info=_info(options, model, limits, longest, chat=prompts.chats, gpu_free=free),
        most_open=options.slots + QUEUE,
        drain_timeout=options.drain_timeout,
    )
    sys.setswitchinterval(0.0005)  # a step's result should not wait five milliseconds for the reader's Python
    said = f"Engine {options.name} serves {longest} tokens a sequence, {limits.cells} in all."
    try:
        serve(intake, engine, emitter, path=path, staged=staged, said=said)
    finally:
        prompts.close()
        store.close()


def _store(options: argparse.Namespace) -> BlockStore:
    disk = None
    if options.cache_folder is not None and options.cache_disk:
        with storage_errors("making the folder of the prefix cache"):
            disk = BlockFolder(Path(options.cache_folder), size=options.cache_disk * MIB)
    return BlockStore(memory=options.cache_ram * MIB, disk=disk)


def _cache(options: argparse.Namespace, model: LlamaModel, context: LlamaContext, store: BlockStore) -> PrefixCache:
    private = options.idle_cells
    if private is None:
        private = 0 if options.cache_ram else context.cells // 16
    return PrefixCache(
        cells=context.cells,
        sequences=_sequences(options.slots),
        memory=context,
        bounds=Bounds(private=private, proven=context.cells // 4),
        store=store,
        sharing=model.shares_prefixes,
    )


def _load(options: argparse.Namespace) -> LlamaModel:
    with _verified(Path(options.model), options.digest, what="model") as file:
        model = LlamaModel(file, gpu_layers=options.gpu_layers, gpu=options.gpu)
    for name, digest, path in options.adapter:
        with _verified(path, digest, what=f"adapter {name}") as file:
            model.load_adapter(name, file)
    return model


def _load_draft(options: argparse.Namespace, model: LlamaModel) -> LlamaModel | None:
    """The model that guesses for the main one; IntegrityFailure where it cannot."""
    if options.draft is None:
        return None
    with _verified(Path(options.draft), options.draft_digest, what="draft model") as file:
        draft = LlamaModel(file)
    if not (model.shares_prefixes and draft.shares_prefixes):
        raise IntegrityFailure(
            "engine.draft_refused",
            "A draft model works with models alone that can forget their latest tokens; one of the two is recurrent.",
            hint="Serve the model without a draft.",
        )
    require_same_vocabulary(model, draft)
    draft.pieces = model.pieces  # equal; once is enough
    return draft


def _draft(options: argparse.Namespace, model: LlamaModel, draft: LlamaModel, *, cells: int) -> DraftModel:
    context = LlamaContext(
        draft,
        cells=cells,
        batch=min(BATCH, max(options.ubatch, options.context)),
        ubatch=options.ubatch,
        sequences=options.slots,
        threads=options.threads,
    )
    return DraftModel(draft, context, slots=options.slots, vocabulary=model.vocabulary)


@contextmanager
def _verified(path: Path, digest: str, *, what: str) -> Iterator[Path]:
    """Yield a path of the very file whose bytes were verified: both go through one descriptor."""
    with storage_errors(f"reading the {what}"), path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
        if found != digest:
            raise IntegrityFailure(
                "engine.digest", f"The {what} file has the digest {found[:12]}…, not {digest[:12]}… as registered."
            )
        yield Path(f"/proc/self/fd/{stream.fileno()}")


def _sequences(slots: int) -> int:
    """Resident prefixes besides the running requests; llama.cpp bounds the number of sequences."""
    return max(slots, min(slots * SEQUENCES_PER_SLOT, int(llama_cpp.llama_max_parallel_sequences()) - 1))


def _info(
    options: argparse.Namespace, model: LlamaModel, limits: Limits, longest: int, *, chat: bool, gpu_free: int
) -> Info:
    """`gpu_free` is what the device had left before anything was loaded."""
    return Info(
        version=VERSION,
        name=options.name,
        digest=options.digest,
        context=longest,
        cells=limits.cells,
        slots=limits.slots,
        vocabulary=model.vocabulary,
        chat=chat,
        parameters=model.parameters,
        model=model.description,
        build=build(),
        pid=os.getpid(),
        adapters=tuple(model.adapters),
        draft=options.draft_digest or "",
        gpu=model.gpu,
        gpu_layers=model.gpu_layers,
        gpu_bytes=max(0, gpu_free - free_bytes(model.gpu)) if model.gpu else 0,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="llama_worker", description="Serve one GGUF model on a Unix socket.")
    parser.add_argument("--model", required=True, help="GGUF file")
    parser.add_argument("--digest", required=True, type=digest_name, help="its SHA-256, 64 hexadecimal digits")
    parser.add_argument("--socket", required=True, help="Unix socket; appears when the model is ready")
    parser.add_argument("--threads", required=True, type=positive, help="compute threads")
    parser.add_argument(
        "--slots", required=True, type=_slots, help=f"requests that run at the same time, 1 to {MOST_SLOTS}"
    )
    parser.add_argument("--context", required=True, type=positive, help="tokens held by all requests together")
    parser.add_argument("--ubatch", type=positive, default=UBATCH, help="tokens computed at once")
    parser.add_argument(
        "--gpu-layers", type=_size, default=0, help="layers put on a GPU, the last ones first; the output counts as one"
    )
    parser.add_argument("--gpu", default="", metavar="NAME", help="the device, such as CUDA0 (default: the first)")
    parser.add_argument("--backend-sampling", action="store_true", help="draw tokens where the model is computed")
    parser.add_argument("--memory", type=positive, help="most memory of its own, in MiB")
    parser.add_argument("--name", default="model", help="what to call the model")
    parser.add_argument("--itl-target", type=positive, default=200, help="longest step while decoding (ms)")
    parser.add_argument(
        "--idle-cells",
        type=int,
        help="most tokens of ended requests kept in the context beside running ones (default: none, they go to the"
        " second tier; without one a sixteenth of the context)",
    )
    parser.add_argument("--cache-ram", type=_size, default=256, help="second tier of the prefix cache in memory (MiB)")
    parser.add_argument("--cache-folder", help="folder of its third tier; emptied at the start and at the end")
    parser.add_argument("--cache-disk", type=_size, default=0, help="most that the folder holds (MiB)")
    parser.add_argument(
        "--adapter",
        type=_adapter,
        action="append",
        default=[],
        metavar="NAME=DIGEST=PATH",
        help="LoRA adapter (GGUF) that requests may name; may be given several times",
    )
    parser.add_argument("--draft", help="GGUF file of a smaller model with the same vocabulary, which guesses tokens")
    parser.add_argument("--draft-digest", type=digest_name, help="its SHA-256")
    parser.add_argument("--drain-timeout", type=float, default=60.0, help="seconds to finish after SIGTERM")
    return parser


def _size(text: str) -> int:
    value = int(text)
    if not 0 <= value < 2**24:
        raise ValueError(text)
    return value


def _adapter(text: str) -> tuple[str, str, Path]:
    name, digest, path = text.split("=", 2)
    if not name or not path:
        raise ValueError(text)
    return name, digest_name(digest), Path(path)


def _slots(text: str) -> int:
    value = positive(text)
    if value > MOST_SLOTS:
        raise ValueError(text)
    return value


if __name__ == "__main__":
    report_without_failing()
    sys.exit(main())
