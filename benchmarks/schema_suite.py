"""S7.suite: answers under every schema of the JSON Schema Test Suite (draft 2020-12), by its reference validator.

Each schema is given as a `response_format`. It is refused with a reason, or every answer that ends is valid. A random
model cares for nothing but the grammar; closing marks are made likely, so that most answers end. The suite comes with
the source of `jsonschema`, which is downloaded once.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any, Final

import jsonschema
import openai
import uvloop

from benchmarks.comparison import Figure, at_least
from benchmarks.serving_sides import SLOTS, Side
from benchmarks.sse_load import Target
from tools.bootstrap.cache import cache_directory, entry
from tools.bootstrap.environment import locked_versions

_LOCK: Final = Path(__file__).resolve().parent.parent / "requirements" / "installer.lock"
_DRAFT: Final = "json/tests/draft2020-12/"
_TOKENS: Final = 128
_CHOICES: Final = 2
_LIKELY: Final = {'"': 10, "}": 10, "]": 10, " ": -100, "\n": -100, "\t": -100}


def suite_figures(side: Side) -> list[Figure]:
    """Ask under every schema."""
    schemas = published_schemas()
    counted, wrong = uvloop.run(_ask_all(side.target, schemas))
    for schema, text in wrong:
        print(f"not valid: {json.dumps(schema)} {text}", file=sys.stderr)
    return [
        Figure("S7.suite.valid", "share", at_least(1.0), [counted["valid"] / (counted["valid"] + counted["invalid"])]),
        Figure("S7.suite.answers", "answers", None, [counted["valid"] + counted["invalid"]]),
        Figure("S7.suite.cut", "answers", None, [counted["cut"]]),
        Figure("S7.suite.schemas", "schemas", None, [len(schemas)]),
        Figure("S7.suite.refused", "schemas", None, [counted["refused"]]),
    ]


def published_schemas() -> list[dict[str, Any]]:
    """The suite's schemas that are objects, as its files name them."""
    (pinned,) = re.findall(r"^jsonschema==[^#]*?(?=\n    #)", _LOCK.read_text(), re.MULTILINE)
    version = locked_versions(_LOCK)["jsonschema"]

    def download(folder: Path) -> None:
        (folder / "lock").write_text(pinned + "\n")
        words = ["download", "--quiet", "--require-hashes", "--no-deps", "--no-binary=jsonschema"]
        words += [f"--dest={folder}", f"--requirement={folder / 'lock'}"]
        subprocess.run([sys.executable, "-m", "pip", *words], check=True)

    archive = entry(cache_directory(), f"sdist/jsonschema-{version}", download) / f"jsonschema-{version}.tar.gz"
    schemas: list[dict[str, Any]] = []
    with tarfile.open(archive) as files:
        for member in sorted(files.getmembers(), key=lambda member: member.name):
            if member.isfile() and _DRAFT in member.name and "/optional/" not in member.name:
                stream = files.extractfile(member)
                assert stream is not None
                schemas += [group["schema"] for group in json.load(stream) if isinstance(group["schema"], dict)]
    return schemas


async def _ask_all(
    target: Target, schemas: list[dict[str, Any]]
) -> tuple[Counter[str], list[tuple[dict[str, Any], str]]]:
    """How often what came of it; and what was not valid."""
    counted: Counter[str] = Counter()
    wrong: list[tuple[dict[str, Any], str]] = []
    places = asyncio.Semaphore(SLOTS)
    http = openai.DefaultAsyncHttpxClient(verify=target.tls or True, timeout=120)
    base, key = f"https://{target.host}:{target.port}", target.headers["Authorization"].removeprefix("Bearer ")
    async with openai.AsyncOpenAI(base_url=f"{base}/v1", api_key=key, http_client=http, max_retries=0) as client:
        bias = {await _token(http, base, target, text): weight for text, weight in _LIKELY.items()}

        async def ask(seed: int, schema: dict[str, Any]) -> None:
            form: Any = {"type": "json_schema", "json_schema": {"name": "suite", "schema": schema, "strict": True}}
            try:
                async with places:
                    answer = await client.chat.completions.create(
                        model=target.model,
                        messages=[{"role": "user", "content": "Answer."}],
                        response_format=form,
                        logit_bias=bias,
                        max_tokens=_TOKENS,
                        n=_CHOICES,
                        seed=seed,
                    )
            except openai.BadRequestError:
                counted["refused"] += 1
                return
            validator = jsonschema.Draft202012Validator(schema)
            for choice in answer.choices:
                text = choice.message.content or ""
                if choice.finish_reason != "stop":
                    counted["cut"] += 1
                elif validator.is_valid(json.loads(text)):
                    counted["valid"] += 1
                else:
                    counted["invalid"] += 1
                    wrong.append((schema, text))

        await asyncio.gather(*(ask(seed, schema) for seed, schema in enumerate(schemas)))
    return counted, wrong


async def _token(http: Any, base: str, target: Target, text: str) -> str:
    """The number of a text that is one token."""
    answer = await http.post(
        f"{base}/tokenize", json={"model": target.model, "prompt": text}, headers=dict(target.headers)
    )
    return str(answer.json()["tokens"][-1])
