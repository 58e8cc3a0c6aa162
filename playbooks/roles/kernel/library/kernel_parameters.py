#!/usr/bin/python
"""Set kernel parameters at run time where they differ from what is declared.

`sysctl --system` stops at the first read-only key, which every container has, and cannot say whether anything
changed. This module reads /proc/sys, writes only what differs, and names the keys that this machine lacks or does not
let us write.
"""

from __future__ import annotations

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: kernel_parameters
short_description: Sets kernel parameters at run time where they differ
description:
  - Compares every given parameter with /proc/sys and writes the ones that differ.
  - Parameters that do not exist here, or are read-only (as in a container), are returned, not failed.
author: The Intramuros authors
options:
  values:
    description: Parameter name in dotted form, and the value it shall have.
    type: dict
    required: true
  root:
    description: Folder of the parameters.
    type: path
    default: /proc/sys
"""

EXAMPLES = r"""
- name: Refuse redirects
  kernel_parameters:
    values:
      net.ipv4.conf.all.accept_redirects: "0"
"""

RETURN = r"""
absent:
  description: Parameters that this kernel does not have.
  returned: always
  type: list
read_only:
  description: Parameters that this machine does not let us write.
  returned: always
  type: list
"""


def file_of(name: str, root: Path) -> Path:
    """Return the file of a dotted parameter name; a slash in a name stands for a dot in an interface's name."""
    return root / "/".join(part.replace("/", ".") for part in name.split("."))


def words(text: str) -> list[str]:
    """Return a value's words: the kernel separates them by tabs, people by spaces."""
    return text.split()


def main() -> None:
    module = AnsibleModule(
        argument_spec={"values": {"type": "dict", "required": True}, "root": {"type": "path", "default": "/proc/sys"}},
        supports_check_mode=True,
    )
    root = Path(module.params["root"])
    before: dict[str, str] = {}
    after: dict[str, str] = {}
    absent: list[str] = []
    read_only: list[str] = []
    for name, wanted in sorted(module.params["values"].items()):
        path = file_of(name, root)
        try:
            present = path.read_text().strip()
        except FileNotFoundError:
            absent.append(name)
            continue
        except PermissionError:  # write-only or hidden here
            read_only.append(name)
            continue
        if words(present) == words(str(wanted)):
            continue
        if not _writable(path):
            read_only.append(name)
            continue
        if not module.check_mode:
            try:
                path.write_text(f"{wanted}\n")
            except OSError as error:
                module.fail_json(msg=f"The kernel refused {name}={wanted}: {error.strerror}.")
        before[name], after[name] = present, str(wanted)
    module.exit_json(
        changed=bool(after),
        absent=absent,
        read_only=read_only,
        diff={"before": _lines(before), "after": _lines(after)},
    )


def _writable(path: Path) -> bool:
    """Open for writing without writing: the mode bits say nothing about a read-only mount."""
    try:
        with path.open("r+"):
            return True
    except OSError:
        return False


def _lines(values: dict[str, str]) -> str:
    return "".join(f"{name} = {value}\n" for name, value in values.items())


if __name__ == "__main__":
    main()
