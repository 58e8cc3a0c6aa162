"""Figures that scenarios measure: `benchmarks/results/boxes.json`, a list of {"id", "value", "unit", "goal", "met"}."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

import msgspec

from appliance.kernel.durable import write_file

FILE = Path(__file__).resolve().parents[3] / "benchmarks" / "results" / "boxes.json"


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One measured number and the goal it is held against."""

    id: str
    value: float
    unit: str
    goal: str
    """The comparison in words, such as "<= 600"."""
    met: bool


def record(figure: Figure, file: Path = FILE) -> None:
    """Put a figure into the file in place of the one with its id; several runs may do so at once."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = msgspec.json.decode(file.read_bytes(), type=list[Figure]) if file.exists() else []
        others = [one for one in known if one.id != figure.id]
        figures = sorted([*others, figure], key=lambda one: one.id)
        text = json.dumps([msgspec.to_builtins(one) for one in figures], indent=2)
        write_file(file, f"{text}\n".encode())
    finally:
        os.close(lock)


def at_most(id: str, value: float, limit: float, unit: str) -> Figure:
    """A figure that should not be above a limit."""
    return Figure(id=id, value=round(value, 2), unit=unit, goal=f"<= {limit:g}", met=value <= limit)


def at_least(id: str, value: float, limit: float, unit: str) -> Figure:
    """A figure that should not be below a limit."""
    return Figure(id=id, value=round(value, 2), unit=unit, goal=f">= {limit:g}", met=value >= limit)
