"""An end user with the official `openai` client: asks over HTTPS, verifies the appliance's own CA, knows nothing else.

    python -m appliance.tour.end_user ask  --url URL --ca FILE --key-file FILE --model NAME "question"
    python -m appliance.tour.end_user load --url URL --ca FILE --key-file FILE --model NAME

`ask` streams one answer. `load` keeps four streams open, one after the other, until its standard input is closed.
Both print one JSON document.
"""

from __future__ import annotations

import argparse
import json
import ssl
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx2
import openai

_STREAMS = 4
_TRIES = 80
_PAUSE = 0.5


def main(argv: list[str] | None = None) -> int:
    """Run one of the two commands; exit 1 when no answer could be had."""
    parser = argparse.ArgumentParser(prog="end_user")
    parser.add_argument("command", choices=("ask", "load"))
    parser.add_argument("question", nargs="?", default="")
    parser.add_argument("--url", required=True)
    parser.add_argument("--ca", required=True, type=Path)
    parser.add_argument("--key-file", required=True, type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--max-tokens", type=int, default=64)
    options = parser.parse_args(argv)
    client = openai.OpenAI(
        base_url=f"{options.url}/v1",
        api_key=options.key_file.read_text().strip(),
        max_retries=0,
        http_client=openai.DefaultHttpxClient(verify=ssl.create_default_context(cafile=str(options.ca)), timeout=60.0),
    )
    if options.command == "ask":
        answer = _ask_until_answered(client, options.model, options.question, options.max_tokens)
    else:
        answer = _load(client, options.model)
    print(json.dumps(answer))
    return 0 if answer.get("ok", True) else 1


def _ask_until_answered(client: openai.OpenAI, model: str, question: str, max_tokens: int) -> dict[str, Any]:
    """Ask; when the appliance is being restarted, ask again a while later, as any client does."""
    problem = ""
    for attempt in range(_TRIES):
        try:
            return _stream(client, model, question, max_tokens) | {"retries": attempt}
        except openai.APIError as error:
            problem = f"{type(error).__name__}: {error}"
            if isinstance(error, openai.APIStatusError) and error.status_code < 429:
                break
        except httpx2.TransportError as error:
            problem = f"{type(error).__name__}: {error}"
        time.sleep(_PAUSE)
    return {"ok": False, "problem": problem}


def _stream(client: openai.OpenAI, model: str, question: str, max_tokens: int) -> dict[str, Any]:
    began = time.monotonic()
    first = 0.0
    pieces: list[str] = []
    finish = ""
    fingerprint = ""
    stream = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": question}],
        stream=True,
        temperature=0,
        max_tokens=max_tokens,
    )
    for chunk in stream:
        for choice in chunk.choices:
            if choice.delta.content:
                first = first or time.monotonic() - began
                pieces.append(choice.delta.content)
            finish = choice.finish_reason or finish
        fingerprint = chunk.system_fingerprint or fingerprint
    return {
        "ok": bool(finish),
        "text": "".join(pieces),
        "finish_reason": finish,
        "fingerprint": fingerprint,
        "ttft": round(first, 4),
        "seconds": round(time.monotonic() - began, 4),
    }


def _load(client: openai.OpenAI, model: str) -> dict[str, Any]:
    """Stream without a pause until standard input ends; report every stream with its wall-clock interval."""
    over = threading.Event()
    records: list[dict[str, Any]] = []
    threads = [
        threading.Thread(target=_load_loop, args=(client, model, index, over, records)) for index in range(_STREAMS)
    ]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    over.set()
    for thread in threads:
        thread.join()
    broken = [record["problem"] for record in records if record["problem"]]
    return {"streams": len(records), "broken": len(broken), "problems": broken[:5], "records": records}


def _load_loop(
    client: openai.OpenAI, model: str, index: int, over: threading.Event, records: list[dict[str, Any]]
) -> None:
    turn = 0
    while not over.is_set():
        turn += 1
        began = time.time()
        problem, finish, fingerprint = "", "", ""
        try:
            stream = client.completions.create(
                model=model,
                prompt=f"Stream {index}, turn {turn}. The appliance",
                stream=True,
                temperature=1,
                seed=turn,
                max_tokens=400,
            )
            for chunk in stream:
                for choice in chunk.choices:
                    reason: str | None = choice.finish_reason
                    finish = reason or finish
                fingerprint = chunk.system_fingerprint or fingerprint
            if not finish:
                problem = "the stream ended without a finish_reason"
        except (openai.APIError, httpx2.TransportError) as error:
            problem = f"{type(error).__name__}: {error}"
            time.sleep(_PAUSE)
        records.append(
            {"began": began, "ended": time.time(), "problem": problem, "finish": finish, "fingerprint": fingerprint}
        )


if __name__ == "__main__":
    sys.exit(main())
