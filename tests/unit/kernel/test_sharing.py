"""Files for a few groups: set-group-ID directories and access control lists."""

from __future__ import annotations

import os
import struct
from pathlib import Path

from appliance.kernel.sharing import access_list, open_to_groups, shared_mode


def test_only_a_set_group_id_directory_shares(tmp_path: Path) -> None:
    assert shared_mode(tmp_path, private=0o600, shared=0o640) == 0o600
    tmp_path.chmod(0o2711)
    assert shared_mode(tmp_path, private=0o600, shared=0o640) == 0o640


def test_the_list_is_what_the_kernel_expects() -> None:
    data = access_list([42, 7, 42])
    assert struct.unpack("<I", data[:4]) == (2,)
    entries = [struct.unpack("<HHI", data[at : at + 8]) for at in range(4, len(data), 8)]
    undefined = 0xFFFFFFFF
    assert entries == [
        (0x01, 6, undefined),
        (0x04, 0, undefined),
        (0x08, 6, 7),
        (0x08, 6, 42),
        (0x10, 6, undefined),
        (0x20, 0, undefined),
    ]


def test_the_kernel_takes_the_list(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch(mode=0o600)
    open_to_groups(path, [4711])
    assert os.getxattr(path, "system.posix_acl_access") == access_list([4711])
    assert path.stat().st_mode & 0o007 == 0
