"""What the supervisor is told: two JSON files in the job's folder, and their types (erased at run time: importing `typing` costs 5 ms)."""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    class MountFacts(TypedDict):
        source: str
        target: str
        read_only: bool

    class PeerFacts(TypedDict):
        hostname: str
        job_id: str

    class Spec(TypedDict):
        """spec.json: what was submitted. Never changes."""

        job_id: str
        sequence: int
        """Order of arrival."""
        submitted_at_ms: int
        replicas: int
        argv: list[str]
        environment: list[tuple[str, str]]
        cpu: int
        memory_bytes: int
        output_folder: str
        change_working_directory: bool
        mounts: list[MountFacts]
        peers: list[PeerFacts]
        files: list[tuple[str, str]]
        scripts: list[str]
        run_as_root: bool
        secrets: list[str]
        """Their names; their content comes with each attempt to start and is on no disk."""
        ports: list[int]
        time_limit_ms: int

    class Plan(TypedDict):
        """plan.json: how this machine runs it. Written before each attempt to start."""

        bwrap: str
        disable_userns: bool
        uid: int | None
        drives_dir: str
        drives: dict[str, str]
        """Drives that lie elsewhere: id → folder."""
        program_dirs: list[str]
        tmpfs_bytes: int
        pids: int
        cgroups: dict[str, str]
        """Parent folder by controller; empty = no hard limits."""
        group_prefix: str
        soft_memory: bool
        block: str
        """Addresses of the job, `10.128.4.0/24`: rank N has the one N + 1 after the first."""
        clock_offset_ms: int
        """From the time since boot to the server's time. A plan is never older than this boot: it is written before each attempt."""

    class Begun(TypedDict):
        """begun: from here on the job may have run."""

        pid: int
        start_ticks: int
        boot_id: str
        at: int


def read_spec(data: bytes) -> Spec:
    """With what releases before did not write."""
    spec: Spec = json.loads(data)
    spec.setdefault("mounts", [])
    spec.setdefault("peers", [])
    spec.setdefault("files", [])
    spec.setdefault("scripts", [])
    spec.setdefault("run_as_root", False)
    spec.setdefault("secrets", [])
    spec.setdefault("ports", [])
    spec.setdefault("time_limit_ms", 0)
    return spec


OLD_BLOCK = "127.1.0.0/16"
"""Of jobs that releases before started: their plans have none."""
SPEC, PLAN, BEGUN, CANCEL, CONTROL = "spec.json", "plan.json", "begun", "cancel", "ctl"
