"""The one table of questions, made from the answer file's own definition. Screens, line mode and the manual use it.

Kinds, defaults and help come from `installer.answers`: what it says of a key is what a person reads. Written here are
only the order, the short labels, what to say instead of a pattern, and when a question makes sense at all.
"""

from __future__ import annotations

import ast
import inspect
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from installer import answers

Texts = Mapping[str, str]
"""What stands in each field as typed, by key. A list is separated by commas, rows by line breaks."""


class Kind(StrEnum):
    """How a question is answered."""

    TEXT = "text"
    NUMBER = "number"
    SWITCH = "switch"
    """yes or no"""
    ONE = "one"
    """one of the choices"""
    SEVERAL = "several"
    """any of the choices, in the order they are given"""
    LIST = "list"
    """words separated by commas or spaces"""
    ROWS = "rows"
    """one entry per line, for entries that contain spaces"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One question. `default` is a text as a person would type it."""

    key: str
    label: str
    help: str
    kind: Kind
    type: Any
    """what msgspec converts the value to"""
    default: str
    required: bool
    choices: tuple[str, ...] = ()
    wrong: str = ""
    """what it must be, said instead of naming a pattern"""
    when: Callable[[Texts], bool] = lambda _: True


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Questions that are asked together, on one screen."""

    id: str
    title: str
    about: str
    fields: tuple[Field, ...]

    def asked(self, texts: Texts) -> tuple[Field, ...]:
        """The questions that make sense with these answers."""
        return tuple(field for field in self.fields if field.when(texts))


@dataclass(frozen=True, slots=True)
class _Said:
    label: str
    wrong: str = ""
    when: Callable[[Texts], bool] = lambda _: True


def _is(key: str, *values: str) -> Callable[[Texts], bool]:
    return lambda texts: texts.get(key, "") in values


def _both(first: Callable[[Texts], bool], second: Callable[[Texts], bool]) -> Callable[[Texts], bool]:
    return lambda texts: first(texts) and second(texts)


def _has(key: str, value: str) -> Callable[[Texts], bool]:
    return lambda texts: value in words(texts.get(key, ""))


def _given(key: str) -> Callable[[Texts], bool]:
    return lambda texts: bool(texts.get(key, "").strip())


_APP = _is("app.enabled", "yes")
_LUKS = _is("storage.mode", "luks")
_PASSPHRASE = _both(_LUKS, _has("storage.unlock", "passphrase"))
_TANG = _both(_LUKS, _has("storage.unlock", "tang"))
_PROVIDED = _both(_APP, _is("tls.mode", "provided"))
_PORT = "a whole number from 1 to 65535"

_SECTIONS: tuple[tuple[str, str, str, dict[str, _Said]], ...] = (
    (
        "box",
        "The box",
        "Its name and how strictly it is hardened.",
        {
            "hostname": _Said("Host name", "letters, digits and dashes, with or without a domain"),
            "timezone": _Said("Time zone", "a name such as Europe/Vienna"),
            "profile": _Said("Profile"),
        },
    ),
    (
        "admin",
        "Administrator",
        "The person who logs in over SSH, with keys only.",
        {
            "admin.user": _Said("Account", "small letters, digits, - and _, at most 31, a letter first"),
            "admin.authorized_keys": _Said("SSH key"),
            "admin.sudo": _Said("sudo asks for"),
            "admin.password_hash_file": _Said("Password hash file", when=_is("admin.sudo", "password")),
        },
    ),
    (
        "network",
        "Network",
        "Who may reach the box and whom it may reach. All else is closed, in and out.",
        {
            "network.admin": _Said("Administrators"),
            "network.clients": _Said("Clients", when=_APP),
            "network.fleet": _Said("Other boxes"),
            "network.dns": _Said("Name servers"),
            "network.ntp": _Said("Time servers"),
            "network.syslog": _Said("Log servers"),
            "network.syslog_authority": _Said("Log servers' CA", when=_given("network.syslog")),
        },
    ),
    (
        "storage",
        "Storage",
        "Where the data lives, and what opens it after a reboot.",
        {
            "storage.mode": _Said("Encryption"),
            "storage.device": _Said("Device", when=_LUKS),
            "storage.wipe": _Said("Device again", when=_LUKS),
            "storage.mount": _Said("Mounted at", "an absolute path of letters, digits and . _ - /"),
            "storage.unlock": _Said("Opened by", when=_LUKS),
            "storage.passphrase_file": _Said(
                "Passphrase file", when=_both(_LUKS, _has("storage.unlock", "passphrase"))
            ),
            "network.tang": _Said("Tang addresses", when=_TANG),
            "storage.tang_servers": _Said(
                "Tang server", "an address and a thumbprint: http://192.0.2.9:7500 THUMBPRINT", when=_TANG
            ),
        },
    ),
    (
        "app",
        "The appliance",
        "What runs on the box.",
        {
            "app.enabled": _Said("Install it"),
            "app.port": _Said("HTTPS port", _PORT, when=_APP),
            "app.seed_model": _Said("First model", "small letters, digits and . _ -", when=_APP),
            "monitor.enabled": _Said("Monitoring"),
            "backup.enabled": _Said("Backups"),
            "backup.repository": _Said("Repository", when=_is("backup.enabled", "yes")),
            "backup.schedule": _Said("Schedule", when=_is("backup.enabled", "yes")),
        },
    ),
    (
        "tls",
        "Certificate",
        "What clients see and check when they connect.",
        {
            "tls.mode": _Said("Certificate from", when=_APP),
            "tls.names": _Said("Names", when=_APP),
            "tls.certificate": _Said("Certificate file", when=_PROVIDED),
            "tls.key": _Said("Key file", when=_PROVIDED),
            "tls.chain": _Said("Chain file", when=_PROVIDED),
            "tls.client_certificates": _Said("Of clients too", when=_APP),
        },
    ),
    (
        "access",
        "Ways in",
        "Ports, local logins, and the timer that undoes a change that locks you out.",
        {
            "ssh.port": _Said("SSH port", _PORT),
            "firewall.log": _Said("Log drops"),
            "console.tty1": _Said("Login on tty1"),
            "console.serial": _Said("Serial line", "a name such as ttyS0"),
            "lifeline.seconds": _Said("Lifeline seconds", "a whole number from 120 to 3600"),
            "lifeline.probe_from": _Said("Proof comes from"),
        },
    ),
)

_IN_ROWS = frozenset({"admin.authorized_keys"})
"""Lists whose entries contain spaces."""

NOT_ASKED = frozenset(
    {"schema", "storage.recovery_key_file", "fleet.name", "fleet.address", "fleet.port", "fleet.boxes"}
)
"""Keys of the answer file that no person at a wizard decides: it shows a recovery key itself, and a fleet needs keys
that the boxes make."""


@cache
def sections() -> tuple[Section, ...]:
    """Every section in the order of the screens."""
    known = {field.key: field for field in _generated()}
    return tuple(
        Section(
            id=name,
            title=title,
            about=about,
            fields=tuple(
                replace(known[key], label=said.label, wrong=said.wrong, when=said.when) for key, said in told.items()
            ),
        )
        for name, title, about, told in _SECTIONS
    )


@cache
def fields() -> Mapping[str, Field]:
    """Every field by its key."""
    return types.MappingProxyType({field.key: field for section in sections() for field in section.fields})


def words(text: str) -> list[str]:
    """Split a list as typed."""
    return text.replace(",", " ").replace(";", " ").split()


def rows(text: str) -> list[str]:
    """Split rows as typed; empty ones do not count."""
    return [row.strip() for row in text.split("\n") if row.strip()]


def generated_keys() -> list[str]:
    """Every key that the answer file has: a test holds this table to it."""
    return [field.key for field in _generated()]


def _generated() -> Iterator[Field]:
    yield from _of_struct(answers.Answers, "")


def _of_struct(struct: type[msgspec.Struct], prefix: str) -> Iterator[Field]:
    told, hints = _docstrings().get(struct.__name__, {}), get_type_hints(struct, include_extras=True)
    for entry in msgspec.structs.fields(struct):
        declared = hints[entry.name]
        bare = get_args(declared)[0] if get_origin(declared) is Annotated else declared
        if isinstance(bare, type) and issubclass(bare, msgspec.Struct):
            yield from _of_struct(bare, f"{prefix}{entry.name}.")
            continue
        kind, choices = _kind_of(bare)
        kind = Kind.ROWS if f"{prefix}{entry.name}" in _IN_ROWS else kind
        required = entry.default is msgspec.NODEFAULT and entry.default_factory is msgspec.NODEFAULT
        yield Field(
            key=f"{prefix}{entry.name}",
            label=entry.name,
            help=told.get(entry.name, ""),
            kind=kind,
            type=declared,
            default="" if required else as_text(entry.default, kind),
            required=required,
            choices=choices,
        )


def _kind_of(bare: Any) -> tuple[Kind, tuple[str, ...]]:
    if bare is bool:
        return Kind.SWITCH, ("yes", "no")
    if bare is int:
        return Kind.NUMBER, ()
    if get_origin(bare) is Literal:
        return Kind.ONE, tuple(str(value) for value in get_args(bare))
    if get_origin(bare) is tuple:
        inner = get_args(bare)[0]
        if get_origin(inner) is Literal:
            return Kind.SEVERAL, get_args(inner)
        if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            return Kind.ROWS, ()
        return Kind.LIST, ()
    return Kind.TEXT, ()


def as_text(value: Any, kind: Kind) -> str:
    """Say a value of the answer file as a person would type it."""
    if kind is Kind.SWITCH:
        return value if isinstance(value, str) else "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        entries = [" ".join(map(str, entry.values())) if isinstance(entry, dict) else str(entry) for entry in value]
        return ("\n" if kind is Kind.ROWS else ", ").join(entries)
    return str(value)


@cache
def _docstrings() -> Mapping[str, Mapping[str, str]]:
    """The sentence below each attribute in `installer.answers`, by class and name."""
    found: dict[str, dict[str, str]] = {}
    for node in ast.parse(inspect.getsource(answers)).body:
        if not isinstance(node, ast.ClassDef):
            continue
        pairs = zip(node.body, node.body[1:], strict=False)
        found[node.name] = {
            first.target.id: " ".join(str(second.value.value).split())
            for first, second in pairs
            if isinstance(first, ast.AnnAssign)
            and isinstance(first.target, ast.Name)
            and isinstance(second, ast.Expr)
            and isinstance(second.value, ast.Constant)
        }
    return found
