"""Settings of the Nomad backend: `[backend.nomad]` of serai.toml, with paths made absolute and the environment already looked at.

Where Nomad is and how one gets in follows Nomad's own tools: what the file leaves empty is taken from NOMAD_ADDR, NOMAD_TOKEN, … by
`client/environment.py`.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Driver = Literal["docker", "podman", "exec", "raw_exec"]
Network = Literal["bridge", "host"] | str
"""`bridge`, `host`, or `cni/{name}`."""
Work = Literal["path", "volume", "scratch"]


class Placement(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where and how the jobs of one machine type run; `[[backend.nomad.placements]]`."""

    product: str = "*"
    """`{category}/{id}`, or `*` for every machine type that has no placement of its own."""
    driver: Driver = "docker"
    node_pool: str = "default"
    datacenters: tuple[str, ...] = ("*",)
    constraints: tuple[tuple[str, str, str], ...] = ()
    """(attribute, operator, value) as Nomad's `constraint` has them, such as ("${attr.cpu.arch}", "=", "amd64")."""
    device: str = ""
    """Nomad's name of the GPU device, such as `nvidia/gpu`; asked for in the number that the machine type has."""
    priority: int = 50


class Firewall(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The sidecar that closes each replica's network but for its own job, its peers and the outside; `[backend.nomad.firewall]`."""

    enabled: bool = False
    nft: str = "nft"
    """The program on the nodes."""
    job_networks: tuple[str, ...] = ("172.26.64.0/20",)
    """CIDRs in which replicas have their addresses: closed, but for the job's own and its peers'. Nomad's default bridge."""
    closed: tuple[str, ...] = ("169.254.0.0/16",)
    """Other CIDRs that jobs must not reach: metadata services, management networks."""
    proxies: tuple[str, ...] = ()
    """CIDRs from which the ports of web applications and desktops may be reached (Envoy, the gateway); empty = they are not offered."""


class NomadSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[backend.nomad]`."""

    state_dir: str
    """Folder of the jobs' records, private to the server's user (made with mode 0700)."""
    provider: str
    """Id of the provider: written into each job, so that two providers in one namespace do not take each other's jobs."""
    address: str = ""
    """`http://…`, `https://…` or `unix:///…`; empty = NOMAD_ADDR, else http://127.0.0.1:4646."""
    region: str = ""
    """Empty = NOMAD_REGION, else the agent's own."""
    namespace: str = ""
    """Empty = NOMAD_NAMESPACE, else `default`."""
    token_file: str = ""
    """File with the ACL token; read again when Nomad refuses it. Empty = NOMAD_TOKEN, or NOMAD_TOKEN_FILE, or the workload identity of a
    task (`${NOMAD_SECRETS_DIR}/nomad_token`)."""
    ca_cert: str = ""
    ca_path: str = ""
    client_cert: str = ""
    client_key: str = ""
    tls_server_name: str = ""
    timeout_ms: int = 10_000
    """For each plain call."""
    drives_dir: str
    """Root of the drives as the server sees it."""
    drives: dict[str, str] = {}
    """Drives that lie elsewhere, as the server sees them: id → folder, absolute."""
    node_drives_dir: str = ""
    """The same root as the nodes see it; empty = drives_dir."""
    node_drives: dict[str, str] = {}
    """Mapped drives as the nodes see them, where that is another path: id → folder."""
    work: Work = "path"
    """How /work comes to a replica: `path` = a folder that server and nodes share; `volume` = a dynamic host volume for each job, on one
    node; `scratch` = the allocation's own disk, gone with it."""
    placements: tuple[Placement, ...] = (Placement(),)
    network: str = "bridge"
    firewall: Firewall = Firewall()
    raw_exec: bool = False
    """Placements may use the driver raw_exec: programs run on the node itself, as the drive's user, without isolation of their own."""
    root_in_containers: bool = False
    """Containers of applications that want to be root are root: only for nodes whose dockerd maps users (userns-remap)."""
    mhz_per_core: int = 1_000
    """What one virtual core of a machine type is in Nomad's count of CPU."""
    scratch_mib: int = 300
    """Ephemeral disk of each replica."""
    kill_timeout_ms: int = 3_000
    """Between SIGTERM and SIGKILL when a job is stopped; Nomad's clients allow 30 s unless told otherwise."""
    placement_deadline_ms: int = 60_000
    """For how long the first placed replica of a job waits for the last one before all are taken back."""
    node_lost_ms: int = 120_000
    """For how long a node may be out of reach before its ranks are given up; until then they go on if it comes back."""
    backstop_ms: int = 30 * 86_400_000
    """What is added to a job's time limit for Nomad's own `max_run_duration`, which only matters when Serai is gone."""
    cluster_grows: bool = False
    """An autoscaler adds nodes: a job that is larger than all of the cluster waits instead of being refused."""
    uid_first: int = 2_000_000_000
    uid_count: int = 65_536
    """When the server is root: each drive belongs to a user of its own, out of this range, and its jobs run as that user on the nodes."""
    sweep_ms: int = 30_000
    """Between two looks at everything, whatever the event stream says."""
    silence_ms: int = 45_000
    """Without a byte of the event stream for so long it is opened anew; Nomad sends a heartbeat each 30 s."""
    shells: int = 40
    """That may be open at the same time: each takes one of the 100 connections that Nomad allows an address."""
    releases: int = 16
    """Jobs that may be on their way to their nodes at the same time."""

    def placement(self, product: str) -> Placement | None:
        """Of a machine type `{category}/{id}`; None = the settings have none for it."""
        return next((p for p in self.placements if p.product == product), next((p for p in self.placements if p.product == "*"), None))

    def needs_image(self, product: str) -> bool:
        """Whether its programs run in containers, which are made of an image."""
        placement = self.placement(product)
        return placement is not None and placement.driver in {"docker", "podman"}

    def node_drive(self, drive: str) -> str:
        """A drive's root as the nodes see it."""
        return self.node_drives.get(drive) or self.drives.get(drive) or f"{self.node_drives_dir or self.drives_dir}/{drive}"
