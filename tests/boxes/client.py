"""A client on the second machine: asks with the official `openai` package, and trusts the box's authority alone.

Arguments: address, authority file, key file, model. Prints one JSON line: the answer, or the error's kind and text.
"""

from __future__ import annotations

import json
import ssl
import sys
from pathlib import Path

import openai


def main() -> int:
    """Ask one question. Exit status: 0 answered, 1 not."""
    address, authority, key, model, *more = sys.argv[1:]
    context = ssl.create_default_context(cafile=authority)
    if more:
        context.load_cert_chain(more[0])
    client = openai.OpenAI(
        base_url=f"https://{address}/v1",
        api_key=Path(key).read_text().strip(),
        max_retries=0,
        timeout=60.0,
        http_client=openai.DefaultHttpxClient(verify=context, timeout=60.0),
    )
    try:
        answer = client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "Say something."}], max_tokens=8
        )
    except openai.APIError as error:
        cause = error.__cause__
        sys.stdout.write(json.dumps({"error": type(error).__name__, "text": f"{error} {cause!r}"}) + "\n")
        return 1
    usage = answer.usage.completion_tokens if answer.usage else 0
    sys.stdout.write(json.dumps({"model": answer.model, "tokens": usage}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
