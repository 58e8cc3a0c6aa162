"""The kernel's part: parameters, modules, boot arguments, mount points."""

from __future__ import annotations

from installer.evidence.checks.finding import Finding, finding, in_words, meets
from installer.evidence.control import KernelArgument, Module, Mount, Sysctl
from installer.evidence.machine import CannotTell, DoesNotApply, Machine


def sysctl(check: Sysctl, machine: Machine) -> Finding:
    """Compare a running parameter."""
    # A dot separates, a slash stands for a dot inside a name (an interface eth0.5), as sysctl(8) has it.
    path = "/proc/sys/" + check.key.translate(str.maketrans("./", "/."))
    value = machine.read(path)
    if value is None:
        raise DoesNotApply(f"this kernel has no parameter {check.key}")
    seen = " ".join(value.split())
    return finding(
        ok=meets(seen, check.value), observed=seen, expected=in_words(check.value), source=["sysctl", "-n", check.key]
    )


def module(check: Module, machine: Machine) -> Finding:
    """A module is out of reach when loading it would run /bin/false, and when it is not loaded already."""
    argv = ("modprobe", "--showconfig")
    name = check.name.replace("-", "_")
    loaded = {line.split()[0] for line in (machine.read("/proc/modules") or "").splitlines() if line}
    rules = [line.split() for line in machine.run(*argv).stdout.splitlines() if line.startswith("install ")]
    commands = [" ".join(words[2:]) for words in rules if words[1].replace("-", "_") == name]
    refused = any(command in {"/bin/false", "/bin/true", "/usr/bin/false", "/usr/bin/true"} for command in commands)
    seen = f"install {commands[0]}" if commands else "loadable, where this kernel has it"
    return finding(
        ok=refused and name not in loaded,
        observed="loaded now" if name in loaded else seen,
        expected="install /bin/false, and not loaded",
        source=argv,
    )


def kernel_argument(check: KernelArgument, machine: Machine) -> Finding:
    """Look for an argument of the kernel that runs now."""
    words = (machine.read("/proc/cmdline") or "").split()
    name = check.argument.partition("=")[0]
    seen = [word for word in words if word.partition("=")[0] == name]
    return finding(
        ok=check.argument in words,
        observed=" ".join(seen) or "not given",
        expected=check.argument,
        source="cat /proc/cmdline",
    )


def mount(check: Mount, machine: Machine) -> Finding:
    """Read the options of a mount point as init sees them."""
    options = _mounted(machine).get(check.path)
    wanted = ", ".join(check.options) or "a file system of its own"
    source = f"findmnt --kernel --output OPTIONS {check.path}"
    if options is None:
        return finding(ok=False, observed="no file system of its own", expected=f"mounted with {wanted}", source=source)
    return finding(ok=set(check.options) <= options, observed=",".join(sorted(options)), expected=wanted, source=source)


def is_mounted(path: str, machine: Machine) -> bool:
    """Tell whether a folder is a mount point."""
    return path in _mounted(machine)


def _mounted(machine: Machine) -> dict[str, set[str]]:
    table = machine.read("/proc/1/mountinfo")
    if table is None:
        raise CannotTell("/proc/1/mountinfo is not there")
    found: dict[str, set[str]] = {}
    for line in table.splitlines():
        fields = line.split()
        found[fields[4].replace("\\040", " ")] = set(fields[5].split(","))
    return found
