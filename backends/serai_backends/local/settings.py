"""Settings of the local backend: the part of `serai.toml` that says how this machine runs jobs. Unknown keys are refused."""

from __future__ import annotations

import msgspec


class LocalSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[backend.local]`."""

    state_dir: str
    """Folder of the jobs' state, private to the server's user (made with mode 0700)."""
    drives_dir: str
    """Root of the drives: `ReplicaSpec.output_folder` lies below it. Must exist."""
    drives: dict[str, str] = {}
    """Drives that lie elsewhere: id → folder, absolute. Every other drive is `drives_dir/{id}`."""
    cpu: int = 0
    """Virtual cores that jobs may have together; 0 = all that this process may use."""
    memory_bytes: int = 0
    """Bytes of memory that jobs may have together; 0 = the machine's."""
    program_dirs: tuple[str, ...] = ()
    """Folders with programs that stand in for container images: read-only in every replica, first on its PATH."""
    uid_first: int = 2_000_000_000
    uid_count: int = 65_536
    """When run as root: each drive belongs to a host user of its own, out of this range, and its jobs run as that user."""
    tmpfs_bytes: int = 256 * 1024 * 1024
    """Size of each of /tmp, /run and /dev/shm of a replica; counts as its memory where limits are hard."""
    pids: int = 4096
    """Processes and threads of one replica."""
    bwrap: str = "/usr/bin/bwrap"
    endpoint_users: tuple[str, ...] = ()
    """Users of this machine, by name or number, that may connect to the jobs' ports beside root and the server's own: a proxy in front of
    them that runs as its own user."""
    allow_unisolated: bool = False
    """Not built: jobs run isolated or not at all. `true` is refused, so that nobody believes that it does something."""

    def __post_init__(self) -> None:
        for name in ("cpu", "memory_bytes"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be 0 or more")
        if min(self.tmpfs_bytes, self.pids, self.uid_count, self.uid_first) < 1:
            raise ValueError("tmpfs_bytes, pids, uid_first and uid_count must be 1 or more")
        for drive, folder in self.drives.items():
            if drive in {"", ".", ".."} or "/" in drive or "\0" in drive:
                raise ValueError(f"drives: {drive!r} cannot be the id of a drive")
            if not folder.startswith("/"):
                raise ValueError(f"drives: the folder of {drive} must be absolute")
        if self.allow_unisolated:
            raise ValueError("allow_unisolated: running jobs without a sandbox is not supported")
