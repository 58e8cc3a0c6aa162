"""`make bundle`: a developer's bundle in build/bundle, with keys made for it.

    build/bundle/medium        the bundle, as it would lie on a stick
    build/bundle/fingerprint   of the publisher's key, for `install.sh --fingerprint`
    build/bundle/keys          developer keys, made once; a publisher's keys are made by `intramuros bundle keys init`
    build/bundle/passphrase    of those keys

`GPU=vulkan` or `GPU=cuda` in the environment brings that backend of llama.cpp along, in a bundle of its own inputs.
What was collected is kept in the cache and used again as long as sources, locks and package lists are the same.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

from appliance.kernel.errors import IntramurosError
from appliance.kernel.private import write_private
from tools.bootstrap.cache import cache_directory, exclusive
from tools.bootstrap.narration import SetupFailure, say
from tools.build_seed_model import NAME, provide

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "bundle"
MEDIUM = FOLDER / "medium"


def main() -> int:
    """Build it and print its folder; exit status of the verb that failed."""
    try:
        FOLDER.mkdir(parents=True, exist_ok=True)
        with exclusive(FOLDER, waiting_for="another build of the bundle"):
            _build()
    except subprocess.CalledProcessError as error:
        return error.returncode
    except (SetupFailure, IntramurosError) as failure:
        say(f"FAILED: {failure}")
        return 1
    sys.stdout.write(f"{MEDIUM}\n")
    return 0


def _build() -> None:
    keys, passphrase = FOLDER / "keys", FOLDER / "passphrase"
    if not (keys / "metadata" / "1.root.json").exists():
        shutil.rmtree(keys, ignore_errors=True)
        write_private(passphrase, secrets.token_hex(20).encode() + b"\n")
        _verb("keys", "init", str(keys), f"--passphrase-file={passphrase}")
    model = provide()
    gpus = [f"--gpu={name}" for name in os.environ.get("GPU", "").split()]
    inputs = cache_directory() / "bundle-inputs"
    inputs.mkdir(exist_ok=True)
    with exclusive(inputs, waiting_for="another collection"):
        _verb("collect", str(inputs), f"--checkout={ROOT}", f"--model={NAME}={model}", *gpus, "--if-changed")
        made_from = FOLDER / "made-from"
        wanted = (inputs / "inputs.json").read_bytes()
        if not (MEDIUM.is_dir() and made_from.is_file() and made_from.read_bytes() == wanted):
            new, old = FOLDER / "medium.new", FOLDER / "medium.old"
            shutil.rmtree(new, ignore_errors=True)
            _verb(
                "build",
                f"--inputs={inputs}",
                f"--keys={keys}",
                f"--passphrase-file={passphrase}",
                f"--out={new}",
                "--channel=developer",
            )
            made_from.unlink(missing_ok=True)
            shutil.rmtree(old, ignore_errors=True)
            if MEDIUM.exists():
                MEDIUM.rename(old)  # missing for a moment, not for the time of a build
            new.rename(MEDIUM)
            shutil.rmtree(old, ignore_errors=True)
            made_from.write_bytes(wanted)
    shutil.copyfile(keys / "publisher.fingerprint", FOLDER / "fingerprint")


def _verb(*words: str) -> None:
    program = Path(sys.prefix) / "bin" / "intramuros"
    subprocess.run([str(program), "bundle", *words], check=True, cwd=ROOT, stdout=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
