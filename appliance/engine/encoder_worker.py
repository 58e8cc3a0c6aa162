"""The engine process for one model that encodes: verify, load, listen, serve, drain.

    python -I -m appliance.engine.encoder_worker --kind embed --model PATH --digest HEX --socket PATH --threads N

A file is a GGUF model and computed by llama.cpp, a folder is a Hugging Face model and computed by torch; only one of
the two libraries is ever loaded. Frames, signals and exit status are those of `llama_worker`.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from appliance.engine.encoder import Encoder, passages
from appliance.engine.encoder_loop import EncodeRequest, EncoderLoop
from appliance.engine.frames import VERSION, Accepted, Encode, Info, Submit
from appliance.engine.outbox import Connection, Emitter
from appliance.engine.reader import Reader
from appliance.engine.worker_socket import digest_name, limit_memory, listen_at, positive, serve, socket_names
from appliance.kernel.canonical import digest_of
from appliance.kernel.errors import BadInput, IntegrityFailure, IntramurosError, storage_errors
from appliance.kernel.standard_error import report_without_failing

QUEUE: Final = 256
KINDS: Final = ("embed", "rerank", "classify")


class _Intake(Reader):
    """The reader of a worker that encodes."""

    def __init__(
        self,
        encoder: Encoder,
        loop: EncoderLoop,
        emitter: Emitter,
        listener: socket.socket,
        options: argparse.Namespace,
    ) -> None:
        super().__init__(
            listener=listener,
            engine=loop,
            emitter=emitter,
            info=_info(options, encoder),
            most_open=QUEUE,
            drain_timeout=options.drain_timeout,
        )
        self._encoder = encoder
        self._loop = loop

    def _work(self, connection: Connection, frame: Submit | Encode) -> None:
        if isinstance(frame, Submit):
            raise BadInput("engine.kind", f"This worker is of kind {self._encoder.kind}; it generates no text.")
        request = EncodeRequest(
            id=frame.id,
            connection=connection,
            tenant=frame.tenant,
            passages=passages(self._encoder, frame),
            submitted=time.monotonic(),
            priority=frame.priority,
        )
        connection.requests[frame.id] = request
        self._emitter.send(connection, Accepted(id=frame.id, prompt_tokens=request.tokens))
        self._loop.submit(request)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the worker; returns its exit status after one line on stderr if that is not 0."""
    options = _parser().parse_args(argv)
    try:
        _serve(options)
    except IntramurosError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def _serve(options: argparse.Namespace) -> None:
    path, staged = socket_names(options.socket)
    limit_memory(options.memory)
    encoder = _load(options)
    emitter = Emitter()
    loop = EncoderLoop(encoder, emitter, on_end=lambda: intake.engine_ended())
    intake = _Intake(encoder, loop, emitter, listen_at(staged), options)
    said = f"Engine {options.name} ({encoder.kind}) takes {encoder.context} tokens a text."
    serve(intake, loop, emitter, path=path, staged=staged, said=said)


def _load(options: argparse.Namespace) -> Encoder:
    model = Path(options.model)
    with storage_errors("reading the model"):
        if not model.is_dir():
            return _load_file(model, options)
        found = folder_digest(model)
    if found != options.digest:
        raise _not_as_registered(found, options.digest)
    os.environ["HF_HUB_OFFLINE"] = "1"
    from appliance.engine.encoder_torch import TorchEncoder  # seconds and hundreds of MiB, for a folder alone

    return TorchEncoder(model, kind=options.kind, context=options.context, threads=options.threads)


def _load_file(path: Path, options: argparse.Namespace) -> Encoder:
    """Load the very file whose bytes were verified: both go through one descriptor."""
    from appliance.engine.encoder_llama import LlamaEncoder
    from appliance.engine.llama_context import LlamaModel, start_backend

    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
        if found != options.digest:
            raise _not_as_registered(found, options.digest)
        start_backend()
        model = LlamaModel(Path(f"/proc/self/fd/{stream.fileno()}"))
    return LlamaEncoder(model, kind=options.kind, context=options.context, threads=options.threads)


def folder_digest(folder: Path) -> str:
    """The manifest digest of the files below a folder, links to blobs followed; the catalogue's has the same form."""
    entries: list[dict[str, str | int]] = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
                size = os.fstat(stream.fileno()).st_size
            entries.append({"path": path.relative_to(folder).as_posix(), "digest": digest, "size": size})
    return digest_of(sorted(entries, key=lambda entry: str(entry["path"])))


def _not_as_registered(found: str, wanted: str) -> IntegrityFailure:
    return IntegrityFailure(
        "engine.digest", f"The model has the digest {found[:12]}…, not {wanted[:12]}… as registered."
    )


def _info(options: argparse.Namespace, encoder: Encoder) -> Info:
    return Info(
        version=VERSION,
        name=options.name,
        digest=options.digest,
        context=encoder.context,
        cells=encoder.batch,
        slots=encoder.sequences,
        vocabulary=encoder.vocabulary,
        chat=False,
        parameters=encoder.parameters,
        model=encoder.description,
        build=encoder.build,
        pid=os.getpid(),
        kind=encoder.kind,
        width=encoder.width,
        labels=encoder.labels,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="encoder_worker", description="Serve one encoding model on a Unix socket.")
    parser.add_argument("--kind", required=True, choices=KINDS, help="what a text becomes")
    parser.add_argument("--model", required=True, help="GGUF file, or Hugging Face folder")
    parser.add_argument("--digest", required=True, type=digest_name, help="SHA-256 of the file, or of the manifest")
    parser.add_argument("--socket", required=True, help="Unix socket; appears when the model is ready")
    parser.add_argument("--threads", required=True, type=positive, help="compute threads")
    parser.add_argument("--context", type=positive, default=2048, help="longest text, in tokens")
    parser.add_argument("--memory", type=positive, help="most memory of its own, in MiB")
    parser.add_argument("--name", default="model", help="what to call the model")
    parser.add_argument("--drain-timeout", type=float, default=60.0, help="seconds to finish after SIGTERM")
    return parser


if __name__ == "__main__":
    report_without_failing()
    sys.exit(main())
