"""The sections [backend.nomad], [backend.nomad.firewall] and [[backend.nomad.placements]] of serai.toml."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Driver = Literal["docker", "podman", "exec", "raw_exec"]
_CONSTRAINT = "a text of an attribute, an operator and a value with blanks between, such as ${attr.cpu.arch} = amd64"
_NETWORK = "bridge, host, or cni/ and a name"
Cidr = Annotated[str, Meta(pattern="^[0-9.]+/[0-9]+$", description="a network such as 10.0.0.0/8")]


class NomadFirewallSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """[backend.nomad.firewall]: closes each replica's network but for its own job, its peers and the outside."""

    enabled: bool = False
    """true = each replica gets it; nodes need nft and the driver raw_exec. Without it jobs of different users reach each other."""
    nft: str = "nft"
    """The program on the nodes."""
    job_networks: tuple[Cidr, ...] = ("172.26.64.0/20",)
    """Networks in which replicas have their addresses: Nomad's default bridge."""
    closed: tuple[Cidr, ...] = ("169.254.0.0/16",)
    """Other networks that jobs must not reach: metadata services, management."""
    proxies: tuple[Cidr, ...] = ()
    """From where web pages and desktops may be reached: Envoy and the gateway, each as a network. Empty = none are offered."""


class NomadPlacementSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """[[backend.nomad.placements]]: where and how the jobs of one machine type run."""

    product: str = "*"
    """The machine type, `category/id`; `*` = each that has no placement of its own."""
    driver: Driver = "docker"
    """Nomad's driver for the replicas. raw_exec needs `backend.nomad.raw_exec`."""
    node_pool: Annotated[str, Meta(min_length=1)] = "default"
    """Nomad's pool of nodes."""
    datacenters: tuple[str, ...] = ("*",)
    """Nomad's datacenters, with `*` for any part of a name."""
    constraints: tuple[Annotated[str, Meta(pattern="^\\S+ \\S+ .+$", description=_CONSTRAINT)], ...] = ()
    """What a node must be: an attribute, an operator and a value each."""
    device: str = ""
    """Nomad's name of the GPU device, such as nvidia/gpu, for machine types with GPUs."""
    priority: Annotated[int, Meta(ge=1, le=100)] = 50
    """Nomad's priority of the jobs."""


class NomadBackendSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """[backend.nomad]: replicas as allocations of a Nomad cluster."""

    address: Annotated[str, Meta(pattern="^(|https?://.+|unix://.+)$", description="nothing, or http://…, https://… or unix://…")] = ""
    """Where Nomad's API is; empty = NOMAD_ADDR, else its socket inside a task of Nomad, else http://127.0.0.1:4646."""
    region: str = ""
    """Empty = NOMAD_REGION, else the agent's own."""
    namespace: str = ""
    """Nomad's namespace for the jobs, used by nobody else; empty = NOMAD_NAMESPACE, else default."""
    token_file: str = ""
    """File with the ACL token; empty = NOMAD_TOKEN, NOMAD_TOKEN_FILE, else the workload identity when Serai is a Nomad job itself."""
    ca_cert: str = ""
    """PEM file of the CA of Nomad's certificate; empty = NOMAD_CACERT, else the system's."""
    ca_path: str = ""
    """Folder of such files; empty = NOMAD_CAPATH."""
    client_cert: str = ""
    """PEM file of our certificate, where Nomad asks for one; empty = NOMAD_CLIENT_CERT."""
    client_key: str = ""
    """PEM file of its key; empty = NOMAD_CLIENT_KEY."""
    tls_server_name: str = ""
    """Name that Nomad's certificate must have, if not the address'; empty = NOMAD_TLS_SERVER_NAME."""
    timeout_ms: Annotated[int, Meta(ge=100, le=300_000)] = 10_000
    """For one call to Nomad."""
    drives_dir: str = "drives"
    """Root of the drives as this server sees it."""
    node_drives_dir: str = ""
    """The same folder as the nodes see it; empty = the same path."""
    work: Literal["path", "volume", "scratch"] = "path"
    """How /work comes to a replica: path = drives_dir is a file system that server and nodes share; volume = a dynamic host volume for each
    job; scratch = the allocation's own disk, which goes with it."""
    placements: tuple[NomadPlacementSettings, ...] = (NomadPlacementSettings(),)
    network: Annotated[str, Meta(pattern="^(bridge|host|cni/[A-Za-z0-9_.-]+)$", description=_NETWORK)] = "bridge"
    """Network of the replicas: bridge, host, or cni/ and the name of a CNI network."""
    firewall: NomadFirewallSettings = NomadFirewallSettings()
    raw_exec: bool = False
    """true = placements may use raw_exec: programs run on the node itself, as the drive's user, without isolation."""
    root_in_containers: bool = False
    """true = containers of applications that want it run as root: only where dockerd maps users (userns-remap)."""
    mhz_per_core: Annotated[int, Meta(ge=1, le=1_000_000)] = 1_000
    """What one virtual core is in Nomad's count of CPU."""
    scratch_mib: Annotated[int, Meta(ge=10, le=100_000_000)] = 300
    """Ephemeral disk of each replica, in MiB."""
    placement_deadline_ms: Annotated[int, Meta(ge=10_000, le=3_600_000)] = 60_000
    """For how long the first placed replica of a job waits for the last one before all are taken back."""
    node_lost_ms: Annotated[int, Meta(ge=1_000, le=86_400_000)] = 120_000
    """For how long a node may be out of reach before the jobs on it are given up; until then they go on when it comes back."""
    backstop_hours: Annotated[int, Meta(ge=1, le=87_600)] = 720
    """What Nomad's own limit of time is beyond the job's: it matters only when Serai is gone."""
    cluster_grows: bool = False
    """true = an autoscaler adds nodes: a job that is larger than the cluster waits instead of being refused."""
    uid_first: Annotated[int, Meta(ge=1, le=4_294_000_000)] = 2_000_000_000
    """First of the user ids that drives get, one each; the jobs of a drive run as its user. Used only when the server runs as root."""
    uid_count: Annotated[int, Meta(ge=1, le=1_000_000)] = 65_536
    """How many such user ids there are."""
    sweep_ms: Annotated[int, Meta(ge=1_000, le=3_600_000)] = 30_000
    """Between two looks at everything, whatever Nomad's event stream says."""
    shells: Annotated[int, Meta(ge=1, le=10_000)] = 40
    """Shells that may be open at the same time; each takes one of the 100 connections that Nomad allows an address by default."""
    releases: Annotated[int, Meta(ge=1, le=1_000)] = 16
    """Jobs that may be on their way to their nodes at the same time."""
