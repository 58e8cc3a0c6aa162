"""Print the GPUs that engines can use, as JSON. The daemon runs it: a driver that crashes takes this process alone.

python -I -m appliance.engine.gpu_devices
"""

from __future__ import annotations

import sys

import msgspec

from appliance.engine.llama_context import start_backend
from appliance.weights.gpu import gpus
from appliance.weights.llama_devices import Ggml


def main() -> int:
    """Print one list."""
    start_backend()
    sys.stdout.write(msgspec.json.encode(gpus(Ggml())).decode() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
