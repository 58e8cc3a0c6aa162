"""A worker's edges: arguments, names of sockets, and a memory limit that the kernel enforces."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.engine.worker_socket import digest_name, listen_at, positive, socket_names, unlink_own
from appliance.kernel.errors import BadInput

_LIMITED = """
import resource, sys
from appliance.engine.worker_socket import limit_memory
from appliance.kernel.errors import BadInput
limit_memory(256)
try:
    bytearray(300 << 20)
except MemoryError:
    print("bounded")
try:
    limit_memory(512)
except BadInput as error:
    print(error.code)
"""


def test_a_memory_limit_bounds_the_process_and_one_that_cannot_be_set_is_refused() -> None:
    powerless = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    command = [*powerless, sys.executable, "-c", _LIMITED]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.stdout.split() == ["bounded", "engine.memory_limit"], finished.stderr


def test_arguments() -> None:
    assert positive("7") == 7
    assert digest_name("ab" * 32) == "ab" * 32
    for text in ("0", "-1", str(2**31), "x"):
        with pytest.raises(ValueError):
            positive(text)
    for text in ("ab", "AB" * 32, "zz" * 32):
        with pytest.raises(ValueError):
            digest_name(text)


def test_a_name_that_is_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as refused:
        socket_names(str(tmp_path / ("x" * 120)))
    assert refused.value.code == "engine.socket_path"


def test_only_its_own_socket_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "s"
    first = listen_at(path)
    identity = path.stat()
    path.unlink()
    second = listen_at(path)
    unlink_own(path, identity)
    assert path.exists()
    unlink_own(path, path.stat())
    assert not path.exists()
    unlink_own(path, identity)
    first.close()
    second.close()
