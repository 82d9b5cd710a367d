"""The server's sections of serai.toml: [server], [store], [jobs], [sessions], [drives], [backend] and [[products]].

Each section refuses keys that it does not know, and each limit is checked while the file is read, so a wrong file is found at
start. The gateway has its own sections (serai_gateway.settings); `cli/config.py` puts the whole file together.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from serai_server.nomad_settings import NomadBackendSettings
from serai_server.tools_settings import ClientSettings, ToolsSettings

LogLevel = Literal["debug", "info", "warning", "error"]
PriceUnit = Literal["minute", "hour", "day", "unit"]
BackendKind = Literal["local", "nomad"]
Tool = Literal["docker", "native", "virtual_machine"]
Feature = Literal["logs", "terminal", "web", "vnc", "peers", "time_extension", "utilization", "suspension"]

_NAME = "a text of 1 to 250 characters without slash, comma and blank"
Name = Annotated[str, Meta(min_length=1, max_length=250, pattern="^[^/,\\s]+$", description=_NAME)]
"""A part of a product's name: Core refuses slashes, commas and blanks in it."""

_PROJECT_DRIVE = "a text with {project} in it, after that {user} if wanted, and without slash"
_DRIVE = "a text of 1 to 100 characters without slash, that begins with no dot and has no blanks at its ends"
_LONGEST_DRIVE = 100
"""Bytes; what the folder below adds must still fit into a path component."""


_LISTEN = "^(|(\\[[0-9A-Fa-f:.]+\\]|[^:/\\s\\[\\]]+):[0-9]{1,5})$"
_LISTEN_WORDS = "nothing, or host:port"


class ServerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """[server]: the process."""

    state_dir: str = ".serai"
    """Folder of everything that must outlive the process; made 0700 when it is missing."""
    socket: str = ""
    """Unix socket of the gRPC API, for the gateway and for the command line; empty = `serai.sock` in state_dir."""
    log_level: LogLevel = "info"
    """The least that is logged. debug = one line for each call."""
    stop_grace_ms: Annotated[int, Meta(ge=0, le=600_000)] = 5_000
    """ms that calls in flight have to end after a stop was asked for."""
    tools: ToolsSettings = ToolsSettings()
    clients: tuple[ClientSettings, ...] = ()
    """Client certificates that are an identity at the tools' door."""


class MetricsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """[metrics]: what Prometheus reads, on an address that nobody else needs to reach."""

    listen: Annotated[str, Meta(pattern=_LISTEN, description=_LISTEN_WORDS)] = ""
    """Where `serai serve` and `serai serve server` answer /metrics and /healthz, such as 127.0.0.1:9464; empty = nowhere. Whoever reaches
    it may read: no token is asked for."""
    gateway_listen: Annotated[str, Meta(pattern=_LISTEN, description=_LISTEN_WORDS)] = ""
    """The same of `serai serve gateway`, which has metrics of its own; empty = nowhere."""


class TracesSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """[traces]: OpenTelemetry."""

    endpoint: Annotated[
        str, Meta(pattern="^(|https?://[^/?#\\s]+(/[^?#\\s]*)?)$", description="nothing, or an address of OTLP over HTTP")
    ] = ""
    """Where spans are sent, such as http://127.0.0.1:4318/v1/traces (OTLP over HTTP); empty = traces are off. Needs the packages
    opentelemetry-sdk and opentelemetry-exporter-otlp-proto-http."""
    sample_ratio: Annotated[float, Meta(ge=0, le=1)] = 1.0
    """How many of the requests that come without word of a trace begin one, of 1. Those that come with one follow its word."""


class StoreSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """[store]: the database."""

    url: Annotated[str, Meta(pattern="^(|sqlite:///.+|postgresql://.+)$", description="sqlite:///path or postgresql://…, or nothing")] = ""
    """sqlite:///path or postgresql://…; empty = `serai.db` in state_dir."""
    keep_events_days: Annotated[int, Meta(ge=1, le=36_500)] = 30
    """Days that an event is kept after every consumer has settled it."""

    def __repr__(self) -> str:
        # A PostgreSQL address may hold a password.
        return f"StoreSettings(url={self.url.partition(':')[0]}:…)"


class JobsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """[jobs]: rules for what Core may ask."""

    most_replicas: Annotated[int, Meta(ge=1, le=10_000)] = 64
    """Most replicas of one job; more is refused."""
    charge_every_ms: Annotated[int, Meta(ge=1_000, le=86_400_000)] = 60_000
    """ms between two looks at whether a running job owes another whole period."""
    stop_grace_ms: Annotated[int, Meta(ge=0, le=600_000)] = 3_000
    """ms that a stopped job's programs have between SIGTERM and SIGKILL."""
    out_of_funds_ms: Annotated[int, Meta(ge=0, le=86_400_000)] = 300_000
    """ms for which an owner whose charge could not be paid gets no new job; 0 = they are let in to find out."""
    workers: Annotated[int, Meta(ge=8, le=256)] = 16
    """Jobs that the reconciler steps at the same time; templates that are rendered take up to 6 of these places."""


class MappedDriveSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """[[drives.mapped]]: a drive that lies in a folder of its own and that jobs may take input from."""

    id: Annotated[str, Meta(min_length=1, max_length=100, pattern="^[^/.\\s]([^/]*[^/\\s])?$", description=_DRIVE)]
    """The drive's id: what stands first in a file's path at Core (`/{id}/folder/file`)."""
    path: Annotated[str, Meta(min_length=1)]
    """Its folder on this machine."""
    node_path: str = ""
    """The same folder as the nodes of a cluster see it; empty = the same path."""
    read_only: bool = False
    """true = jobs can read what is on it and change nothing."""
    users: tuple[str, ...] = ()
    """Usernames of those whose jobs may use it."""
    projects: tuple[str, ...] = ()
    """Ids of projects whose jobs may use it. Without users and projects every job may whose request Core lets through."""


class DrivesSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """[drives]: on which drive a job's output folder is made.

    In the values of {user} and {project}, everything but letters, digits and `#._+=,-` becomes %XX. So `@` and blanks can be
    used to separate the two without one user ever reaching the drive of another.
    """

    personal: Annotated[str, Meta(pattern="^[^/{}]*\\{user\\}[^/{}]*$", description="a text with {user} in it and without slash")] = (
        "{user}"
    )
    """Drive of a job in a personal workspace; {user} must be in it."""
    project: Annotated[str, Meta(pattern="^[^/{}]*\\{project\\}[^/{}]*(\\{user\\}[^/{}]*)?$", description=_PROJECT_DRIVE)] = (
        "{project}@{user}"
    )
    """Drive of a job in a project; {project} must be in it. Without {user} the project's members share one drive."""
    mapped: tuple[MappedDriveSettings, ...] = ()
    """Drives that lie elsewhere; a job may use its output's drive, its owner's personal one, and those."""

    def drive(self, user: str, project: str) -> str:
        """`project` empty = personal workspace."""
        template = self.project if project else self.personal
        return _short(template.replace("{project}", _quoted(project)).replace("{user}", _quoted(user)))


class LocalBackendSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """[backend.local]: replicas as sandboxed processes on this machine."""

    drives_dir: str = "drives"
    """Root of the drives; the jobs' output folders are below it."""
    cpu: Annotated[int, Meta(ge=0, le=100_000)] = 0
    """Cores for jobs; 0 = all of this machine."""
    memory_gib: Annotated[float, Meta(ge=0, le=1_000_000)] = 0
    """GiB of memory for jobs; 0 = all of this machine."""
    program_dirs: tuple[str, ...] = ()
    """Folders with programs, first on the jobs' PATH; they stand in for container images."""
    uid_first: Annotated[int, Meta(ge=1, le=4_294_000_000)] = 2_000_000_000
    """First of the user ids that jobs get, one each while they run. Used only when the server runs as root."""
    uid_count: Annotated[int, Meta(ge=1, le=1_000_000)] = 65_536
    """How many such user ids there are."""
    tmpfs_mib: Annotated[int, Meta(ge=1, le=1_000_000)] = 256
    """MiB of each of a replica's /tmp, /run and /dev/shm."""
    pids: Annotated[int, Meta(ge=8, le=1_000_000)] = 4_096
    """Most processes and threads of one replica."""
    bwrap: str = "/usr/bin/bwrap"
    """The bubblewrap program, which makes the sandboxes."""
    endpoint_users: tuple[str, ...] = ()
    """Users of this machine, by name or number, that may connect to the ports of jobs, beside root and the server's own: a proxy, such as
    Envoy, that runs as its own user."""


class BackendSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """[backend]: where replicas run."""

    kind: BackendKind = "local"
    """Which backend runs the jobs."""
    local: LocalBackendSettings = LocalBackendSettings()
    nomad: NomadBackendSettings = NomadBackendSettings()


class SessionsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """[sessions]: people at their running jobs, by shell, web page or desktop."""

    most_per_job: Annotated[int, Meta(ge=1, le=10_000)] = 16
    """Most sessions of one job at a time. Beyond it a new page or desktop takes the place of the same user's longest unused one, and what
    finds no place is refused."""
    most_shells: Annotated[int, Meta(ge=1, le=100_000)] = 100
    """Most shells at a time, of all jobs."""
    shell_detached_ms: Annotated[int, Meta(ge=0, le=3_600_000)] = 60_000
    """ms that a shell goes on without anybody connected, so that who was cut off finds it again."""
    idle_ms: Annotated[int, Meta(ge=300_000, le=2_592_000_000)] = 36_000_000
    """ms after its last use that a page or a desktop can be used again without a new session."""
    open_within_ms: Annotated[int, Meta(ge=10_000, le=3_600_000)] = 300_000
    """ms within which a page's address or a shell must be used for the first time."""


class ProductSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """[[products]]: one machine type that Core sells in our name."""

    id: Name
    """The product's name at Core."""
    category: Name
    """Its category's name at Core."""
    provider: Annotated[str, Meta(pattern="^[^/,\\s]*$", max_length=250, description=f"nothing, or {_NAME}")] = ""
    """The provider's id in the product; empty = provider.id."""
    cpu: Annotated[int, Meta(ge=1, le=100_000)]
    """Virtual cores of one replica."""
    memory_gib: Annotated[float, Meta(gt=0, le=1_000_000)]
    """GiB of memory of one replica."""
    gpu: Annotated[int, Meta(ge=0, le=1_000)] = 0
    """Whole GPUs of one replica."""
    price_unit: PriceUnit = "minute"
    """What is counted: each begun minute, hour or day of each replica, or one unit for the whole job."""
    price_per_unit: Annotated[int, Meta(ge=0)] = 0
    """Price of one such unit, in millionths of a krone or the category's own unit of accounting: what `serai products push` tells Core,
    and what counts where Core tells no price."""
    tools: Annotated[tuple[Tool, ...], Meta(min_length=1)] = ("docker",)
    """Kinds of tools whose applications it runs; the backend must be able to."""
    without: tuple[Feature, ...] = ()
    """What it does not offer although the backend could."""


def _quoted(value: str) -> str:
    kept = "".join(c if c.isalnum() or c in "#._+=,-" else "".join(f"%{b:02X}" for b in c.encode()) for c in value)
    # A leading dot would hide the drive, and be dropped further down.
    return f"%2E{kept[1:]}" if kept.startswith(".") else kept


def _short(drive: str) -> str:
    """A name that is too long ends in its hash, so that two long names stay two drives."""
    encoded = drive.encode()
    if len(encoded) <= _LONGEST_DRIVE:
        return drive
    return encoded[: _LONGEST_DRIVE - 17].decode(errors="ignore") + "~" + hashlib.sha256(encoded).hexdigest()[:16]
