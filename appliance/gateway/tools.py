"""Functions that a request offers to the model, and which of them it must call; the same for chat and responses."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from appliance.engine.frames import Tool
from appliance.gateway.json_schema import SchemaBudget
from appliance.gateway.refusals import bad_request, unsupported

MAX_TOOLS: Final = 128
_NO_PARAMETERS: Final[dict[str, Any]] = {"type": "object", "properties": {}, "additionalProperties": False}

FunctionName = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class Function(msgspec.Struct, frozen=True, kw_only=True):
    """A function's description. `strict` makes no difference: arguments always follow the parameters' schema."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


def offered(functions: list[tuple[str, Function]], budget: SchemaBudget) -> tuple[Tool, ...]:
    """Check functions, each with its path in the request. Raises Refusal (400)."""
    names: set[str] = set()
    tools = []
    for where, function in functions:
        if function.name in names:
            raise bad_request(f"{where}.name: {function.name!r} occurs twice.", param=f"{where}.name")
        names.add(function.name)
        parameters = function.parameters or _NO_PARAMETERS
        path = f"{where}.parameters"
        if parameters.setdefault("type", "object") != "object":
            raise bad_request(f"{path}.type: parameters are an object.", param=f"{path}.type", code="invalid_schema")
        tools.append(
            Tool(name=function.name, description=function.description or "", parameters=budget.check(parameters, path))
        )
    return tuple(tools)


def subset(names: list[tuple[str, str]], tools: tuple[Tool, ...]) -> tuple[str, ...]:
    """Check the functions that alone may be called, each with its path in the request. Raises Refusal (400)."""
    offers = {tool.name for tool in tools}
    for where, name in names:
        if name not in offers:
            raise bad_request(f"{where}: no function {name!r} is among the tools.", param=where)
    return tuple(name for _, name in names)


def check_kind(kind: str, where: str) -> None:
    """Refuse (400) tools that are not functions."""
    if kind != "function":
        raise unsupported(f"{where}.type", f"a tool of type {kind!r}")
