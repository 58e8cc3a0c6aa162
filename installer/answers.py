"""The answer file: everything the installer has to be told, in one TOML file.

Invariant: no secret is an answer. A password, a passphrase or a key is named by the path of a file, which is read when
it is needed and never copied into the answers. Unknown keys are refused with file and key; what fields say about each
other is checked by `installer.answer_rules`, and all of it is reported at once.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from appliance.kernel.errors import BadInput, NotFound, storage_failure

_LIMIT = 1 << 20
_LABELS = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_USER = r"[a-z_][a-z0-9_-]{0,30}"


class Admin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The person who administers the box: an account of its own, keys only over SSH."""

    user: Annotated[str, msgspec.Meta(pattern=rf"^{_USER}\Z")]
    """Account of the administrator; made when it is missing."""
    authorized_keys: tuple[str, ...]
    """Public SSH keys that may log in, each one line as in a `.pub` file. At least one."""
    sudo: Literal["password", "nopasswd"] = "password"
    """Whether `sudo` asks for the account's password."""
    password_hash_file: str = ""
    """File (mode 0600) with the account's password hash, as `intramuros answers password` makes it, needed until the
    account has a password; empty leaves it alone."""


class Network(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who may reach the box, and whom the box may reach. Addresses or networks in CIDR form, both families."""

    admin: tuple[str, ...]
    """Networks of administrators: SSH is open to them alone. At least one."""
    clients: tuple[str, ...] = ()
    """Networks whose machines may use the model over HTTPS."""
    fleet: tuple[str, ...] = ()
    """Addresses of other boxes."""
    dns: tuple[str, ...] = ()
    """Name servers the box may ask."""
    ntp: tuple[str, ...] = ()
    """Addresses of time servers; without any the box keeps its own time."""
    syslog: tuple[str, ...] = ()
    """Addresses of log servers that get a copy of the log over TLS."""
    syslog_authority: str = ""
    """PEM file of the authority that signed the log servers' certificates; empty means the system's authorities."""
    tang: tuple[str, ...] = ()
    """Addresses of the Tang servers that the box may reach."""


class TangServer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A server whose presence unlocks the data volume. Its key is pinned, never taken on trust."""

    url: Annotated[str, msgspec.Meta(pattern=r"^http://[^\s/@?#]+/?\Z")]
    """Address of the server, such as `http://192.0.2.9:7500`; Tang needs no TLS."""
    thumbprint: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{43}\Z")]
    """SHA-256 thumbprint of its signing key, as `tang-show-keys` prints it."""


class Storage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the appliance keeps its data, and how an encrypted volume is opened."""

    mode: Literal["none", "luks"] = "none"
    """`luks` encrypts a whole device; `none` uses a folder of the system's disk."""
    device: str = ""
    """Empty block device for `luks`, best by a name below `/dev/disk/by-id/`. Everything on it is lost."""
    wipe: str = ""
    """The same name as `device` once more, for one that is not empty; without it such a device is refused."""
    mount: Annotated[str, msgspec.Meta(pattern=r"^/[A-Za-z0-9._/-]+\Z")] = "/srv/intramuros"
    """Where the data is found: a folder of its own, in none of the system's, such as `/data/intramuros`."""
    unlock: tuple[Literal["passphrase", "tpm2", "tang"], ...] = ()
    """Ways to open the volume, besides the recovery key, which always exists. At least one for `luks`."""
    passphrase_file: str = ""
    """File (mode 0600) with the passphrase on one line, needed until the volume is made; empty asks for it."""
    recovery_key_file: str = ""
    """File (mode 0600) of `intramuros storage recovery --prepare`, for an installation without a terminal. Needed until
    the volume is made; empty shows a new key on the terminal."""
    tang_servers: tuple[TangServer, ...] = ()
    """Tang servers for `tang`; any one of them opens the volume."""


class Tls(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The certificate that clients see."""

    mode: Literal["internal", "provided"] = "internal"
    """`internal`: the box has an authority of its own. `provided`: certificate and key come as files."""
    names: tuple[str, ...] = ()
    """Names and addresses clients use; empty means the host name."""
    certificate: str = ""
    """PEM file of the certificate for `provided`."""
    key: str = ""
    """PEM file (mode 0600) of its private key."""
    chain: str = ""
    """PEM file of the authorities above it, in order; the last one is handed out as the one that clients trust."""
    client_certificates: Literal["off", "required"] = "off"
    """`required`: besides its key, a client shows a certificate that `intramuros tls client` made for it."""


class App(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The appliance itself."""

    enabled: bool = True
    """Whether the appliance is installed; without it the box is hardened only."""
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 8443
    """TCP port of the HTTPS address."""
    seed_model: Annotated[str, msgspec.Meta(pattern=r"^([a-z0-9][a-z0-9._-]{0,63})?\Z")] = ""
    """Model of the bundle to serve from the start; empty means none."""


class FleetBox(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Another box whose processes train together with this one's. Its key is named here, never taken on trust."""

    name: Annotated[str, msgspec.Meta(pattern=rf"^{_LABEL}\Z")]
    """Its name in the fleet: small letters, digits and dashes."""
    address: str
    """Its address inside the fleet's private network, such as `10.77.0.2`."""
    endpoint: str
    """Its address in your network, covered by `network.fleet`: `192.0.2.12`, or `192.0.2.12:51820` where its port is
    not this box's."""
    public_key: str
    """Its public key, as its `/etc/intramuros/fleet/public.key` has it."""


class Fleet(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Boxes that train together, over an encrypted network of their own ([fleet](fleet.md))."""

    name: Annotated[str, msgspec.Meta(pattern=rf"^({_LABEL})?\Z")] = ""
    """Name of this box in the fleet; empty means the host name's first part."""
    address: str = ""
    """Address of this box inside the fleet's private network, with the network's length: `10.77.0.1/24`. Empty means
    no fleet."""
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 51820
    """UDP port of the encrypted network, open to `network.fleet` alone."""
    boxes: tuple[FleetBox, ...] = ()
    """The other boxes, at most 64. Empty until their public keys are known."""


class Monitor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Metrics and alerts, on the loopback only."""

    enabled: bool = True
    """Whether Prometheus, Alertmanager and the node exporter are set up."""


class Backup(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Encrypted backups by a timer."""

    enabled: bool = True
    """Whether backups run by themselves."""
    repository: str = ""
    """Folder of its own for restic's repository, outside `storage.mount`; empty means a folder beside the data."""
    schedule: str = "daily"
    """When, as systemd's `OnCalendar=` takes it."""


class Ssh(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The SSH server."""

    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 22
    """TCP port administrators connect to."""


class Firewall(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The packet filter."""

    log: bool = True
    """Whether dropped packets are logged, at a limited rate."""


class Console(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Local logins."""

    tty1: bool = True
    """Whether the first virtual terminal offers a login."""
    serial: Annotated[str, msgspec.Meta(pattern=r"^(tty[A-Za-z0-9]{1,12})?\Z")] = ""
    """Serial line that offers a login, such as `ttyS0`; empty leaves it to the kernel's `console=`."""


class Lifeline(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The timer that restores firewall, SSH and PAM unless a new login was proven."""

    seconds: Annotated[int, msgspec.Meta(ge=120, le=3600)] = 180
    """How long the box waits for the proof; the roles' own work has to fit between two of its starts."""
    probe_from: str = ""
    """Address the proof comes from; empty means yours, or else one of the first admin network."""


class Answers(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything the installer has to be told."""

    hostname: Annotated[str, msgspec.Meta(pattern=rf"^{_LABELS}\Z", max_length=253)]
    """Name of the box, with or without a domain."""
    admin: Admin
    network: Network
    schema: Literal[1] = 1
    """Version of this form."""
    profile: Literal["baseline", "strict"] = "baseline"
    """How far hardening goes; `strict` costs convenience."""
    timezone: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*\Z", max_length=64)] = "Etc/UTC"
    """Time zone, as in `timedatectl list-timezones`."""
    storage: Storage = Storage()
    tls: Tls = Tls()
    app: App = App()
    fleet: Fleet = Fleet()
    monitor: Monitor = Monitor()
    backup: Backup = Backup()
    ssh: Ssh = Ssh()
    firewall: Firewall = Firewall()
    console: Console = Console()
    lifeline: Lifeline = Lifeline()


def read_answers(file: Path) -> Answers:
    """Read an answer file. Raises NotFound, or BadInput that names the file and every key at fault."""
    return parse_answers(read_text_of(file), name=str(file))


def read_text_of(file: Path) -> bytes:
    """Return the bytes of an answer file, which may be a pipe. Raises NotFound, BadInput or StorageFailure."""
    try:
        with file.open("rb") as stream:
            data = stream.read(_LIMIT + 1)
    except FileNotFoundError as error:
        raise NotFound("answers.missing", f"There is no answer file {file}.") from error
    except OSError as error:
        raise storage_failure(error, doing=f"reading {file}") from error
    if len(data) > _LIMIT:
        raise BadInput("answers.size", f"{file} is larger than {_LIMIT} bytes, so it is no answer file.")
    return data


def parse_answers(data: bytes, *, name: str) -> Answers:
    """Parse the bytes of an answer file called `name`. Raises BadInput naming it and every key at fault."""
    try:
        document = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput("answers.syntax", f"{name} is not valid TOML: {error}.") from error
    return check_answers(document, name=name)


def check_answers(document: dict[str, Any], *, name: str) -> Answers:
    """Turn a document into answers. Raises BadInput naming it and every key at fault."""
    from installer.answer_rules import contradictions

    try:
        answers = msgspec.convert(document, Answers)
    except msgspec.ValidationError as error:
        raise BadInput(
            "answers.invalid",
            f"{name}: {_with_key(str(error))}.",
            hint="See docs/it-staff/answers.md for every key, or print one: `intramuros answers example`.",
        ) from error
    if faults := contradictions(answers):
        raise BadInput(
            "answers.contradiction",
            f"{name}: " + "; ".join(f"{fault.key}: {fault.text}" for fault in faults) + ".",
            hint="See docs/it-staff/answers.md for every key.",
        )
    return answers


def as_document(answers: Answers) -> dict[str, Any]:
    """Return the answers as plain data, defaults included: what the playbooks get."""
    document: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(answers))  # lists where the structs have tuples
    return document


def _with_key(text: str) -> str:
    """Say `key admin.user` where msgspec says ``- at `$.admin.user` ``."""
    what, _, where = text.partition(" - at `$")
    where = where.strip("`").lstrip(".")
    if where.startswith("["):
        where = where[1:]
    return f"key {where}: {what[:1].lower()}{what[1:]}" if where else what[:1].lower() + what[1:]
