#!/usr/bin/python
"""Write one drop-in of the same name beside many systemd units, in one go.

A loop over folders and templates takes seconds on a small box, and a box has a dozen units with a sandbox each.
"""

from __future__ import annotations

import os
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: unit_drop_ins
short_description: Writes one drop-in of the same name beside many systemd units
description:
  - Makes UNIT.d where it is missing and puts the file there, mode 0644, by one rename each.
author: The Intramuros authors
options:
  name:
    description: Name of the drop-in, such as 50-sandbox.conf.
    type: str
    required: true
  units:
    description: Name of each unit, and the text of its drop-in.
    type: dict
    required: true
  root:
    description: Folder of the units.
    type: path
    default: /etc/systemd/system
"""

EXAMPLES = r"""
- name: Restart two services always
  unit_drop_ins:
    name: 40-restart.conf
    units:
      one.service: "[Service]\nRestart=always\n"
      two.service: "[Service]\nRestart=always\n"
"""

RETURN = r"""
changed_units:
  description: The units whose drop-in was written, or would be.
  returned: always
  type: list
"""

_FILE_MODE = 0o644
_FOLDER_MODE = 0o755


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "units": {"type": "dict", "required": True},
            "root": {"type": "path", "default": "/etc/systemd/system"},
        },
        supports_check_mode=True,
    )
    root, name = Path(module.params["root"]), module.params["name"]
    if "/" in name or not name.endswith(".conf"):
        module.fail_json(msg=f"{name!r} is no name of a drop-in: it ends in .conf and has no slash.")
    changed: list[str] = []
    before: dict[str, str] = {}
    after: dict[str, str] = {}
    for unit, text in sorted(module.params["units"].items()):
        path = root / f"{unit}.d" / name
        if is_as_wanted(path, str(text)):
            continue
        changed.append(unit)
        before[str(path)], after[str(path)] = content(path), str(text)
        if not module.check_mode:
            try:
                write(path, str(text))
            except OSError as error:
                module.fail_json(msg=f"{path} cannot be written: {error.strerror}.")
    module.exit_json(
        changed=bool(changed),
        changed_units=changed,
        diff=[
            {"before_header": path, "before": before[path], "after_header": path, "after": text}
            for path, text in after.items()
        ],
    )


def is_as_wanted(path: Path, text: str) -> bool:
    """Tell whether folder and file are there, root's, and as they shall be."""
    if content(path) != text:
        return False
    file, folder = path.lstat(), path.parent.lstat()
    modes = (file.st_mode & 0o7777, folder.st_mode & 0o7777)
    return modes == (_FILE_MODE, _FOLDER_MODE) and file.st_uid == folder.st_uid == os.geteuid()


def content(path: Path) -> str:
    """Return the present text, empty when there is none."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def write(path: Path, text: str) -> None:
    """Replace the file in one step, making its folder. Raises OSError."""
    path.parent.mkdir(exist_ok=True)
    path.parent.chmod(_FOLDER_MODE)
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("w") as stream:
        os.fchmod(stream.fileno(), _FILE_MODE)
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


if __name__ == "__main__":
    main()
