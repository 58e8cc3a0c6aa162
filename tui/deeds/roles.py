"""Which roles a deed is offered to, by what it is. The server checks every one again."""

from __future__ import annotations

AUDIT_READERS = frozenset({"admin", "auditor"})
OPERATORS = frozenset({"admin", "operator"})
BUILDERS = OPERATORS | {"data_scientist"}
