#!/usr/bin/python
"""Write several small text files of root's in one go.

A loop of copies or templates starts two programs for each file, half a second on a small box; a role has several.
"""

from __future__ import annotations

import os
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: text_files
short_description: Writes several small text files of root's in one go
description:
  - Each file is replaced by one rename where its text, mode, owner or group is another.
  - Says before and after of each file that differs.
author: The Intramuros authors
options:
  files:
    description: Absolute path of each file, and its text.
    type: dict
    required: true
  mode:
    description: Mode of every file, in octal digits.
    type: str
    default: "0644"
  folders:
    description: Whether the folder of each file is made and kept too, mode 0755.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Restart two services always
  text_files:
    folders: true
    files:
      /etc/systemd/system/one.service.d/40-restart.conf: "[Service]\nRestart=always\n"
      /etc/systemd/system/two.service.d/40-restart.conf: "[Service]\nRestart=always\n"
"""

RETURN = r"""
changed_files:
  description: The files that were written, or would be.
  returned: always
  type: list
"""

_FOLDER_MODE = 0o755


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "files": {"type": "dict", "required": True},
            "mode": {"type": "str", "default": "0644"},
            "folders": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    mode, folders = int(module.params["mode"], 8), module.params["folders"]
    changed: list[str] = []
    before: dict[str, str] = {}
    for name, text in sorted(module.params["files"].items()):
        path = Path(name)
        if not path.is_absolute() or ".." in path.parts:
            module.fail_json(msg=f"{name!r} is no absolute path.")
        try:
            if is_as_wanted(path, text, mode, folder=folders):
                continue
            before[name] = content(path)
            changed.append(name)
            if not module.check_mode:
                write(path, text, mode, folder=folders)
        except (OSError, UnicodeDecodeError) as error:
            module.fail_json(msg=f"{name} cannot be written: {error}.")
    module.exit_json(
        changed=bool(changed),
        changed_files=changed,
        diff=[
            {
                "before_header": name,
                "before": before[name],
                "after_header": name,
                "after": module.params["files"][name],
            }
            for name in changed
        ],
    )


def is_as_wanted(path: Path, text: str, mode: int, *, folder: bool) -> bool:
    """Tell whether the file is a file, root's, and as it shall be; with `folder` its folder too. Raises OSError."""
    if path.is_symlink() or not path.is_file() or content(path) != text:
        return False
    file, above = path.stat(), path.parent.stat()
    if folder and (above.st_mode & 0o7777 != _FOLDER_MODE or above.st_uid != os.geteuid()):
        return False
    return (file.st_mode & 0o7777, file.st_uid, file.st_gid) == (mode, os.geteuid(), os.getegid())


def content(path: Path) -> str:
    """Return the present text, empty when there is none. Raises OSError."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def write(path: Path, text: str, mode: int, *, folder: bool) -> None:
    """Replace the file in one step. Raises OSError."""
    if folder:
        path.parent.mkdir(exist_ok=True)
        path.parent.chmod(_FOLDER_MODE)
        os.chown(path.parent, os.geteuid(), os.getegid())
    temporary = path.with_name(f".{path.name}.intramuros")
    temporary.unlink(missing_ok=True)
    with temporary.open("x") as stream:
        os.fchmod(stream.fileno(), mode)
        os.fchown(stream.fileno(), os.geteuid(), os.getegid())
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


if __name__ == "__main__":
    main()
