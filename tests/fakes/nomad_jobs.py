"""Jobs as tests send them to an agent, fake or real: one group for each rank, nothing is ever started again."""

from __future__ import annotations

from collections.abc import Sequence

Json = dict[str, object]
_SECOND = 1_000_000_000


def job(
    name: str,
    script: str = "exit 0",
    *,
    ranks: int = 1,
    gated: bool = False,
    driver: str = "raw_exec",
    network: str | None = None,
    sidecar: str | None = None,
    cpu: int = 50,
    memory_mb: int = 32,
    kill_timeout_s: float = 1.0,
    max_run_s: float | None = None,
    meta: dict[str, str] | None = None,
) -> Json:
    """Each rank runs `script` with /bin/sh; `gated`: only when the job's variable is there. `sidecar`: a script that starts before it."""
    restart: Json = {"Attempts": 0, "Mode": "fail", "Interval": 86_400 * _SECOND, "Delay": 15 * _SECOND}
    command: Json = {"command": "/bin/sh", "args": ["-c", script]}
    main: Json = {
        "Name": "main",
        "Driver": driver,
        "Config": command | ({"image": "acme/batch:1.0.0", "init": True} if driver == "docker" else {}),
        "Resources": {"CPU": cpu, "MemoryMB": memory_mb},
        "KillSignal": "SIGTERM",
        "KillTimeout": int(kill_timeout_s * _SECOND),
        "RestartPolicy": restart,
        "LogConfig": {"MaxFiles": 2, "MaxFileSizeMB": 10},
    }
    if gated:
        text = f'{{{{ with nomadVar "nomad/jobs/{name}" }}}}{{{{ .nodes }}}}{{{{ end }}}}'
        main["Templates"] = [{"EmbeddedTmpl": text, "DestPath": "local/nodes", "ChangeMode": "noop"}]
    tasks = [main]
    if sidecar is not None:
        tasks.append(
            main
            | {
                "Name": "firewall",
                "Driver": "raw_exec",
                "Lifecycle": {"Hook": "prestart", "Sidecar": True},
                "Config": {"command": "/bin/sh", "args": ["-c", sidecar]},
                "Templates": None,
            }
        )
    groups = [_group(rank, tasks, restart, network, max_run_s) for rank in range(ranks)]
    return {"ID": name, "Name": name, "Type": "batch", "Datacenters": ["*"], "TaskGroups": groups, "Meta": meta or {}}


def _group(rank: int, tasks: Sequence[Json], restart: Json, network: str | None, max_run_s: float | None) -> Json:
    made: Json = {
        "Name": f"rank-{rank}",
        "Count": 1,
        "Tasks": list(tasks),
        "RestartPolicy": restart,
        "ReschedulePolicy": {"Attempts": 0, "Unlimited": False},
        "Disconnect": {"Replace": False},
        "EphemeralDisk": {"SizeMB": 50},
    }
    if network is not None:
        made["Networks"] = [{"Mode": network}]
    if max_run_s is not None:
        made["MaxRunDuration"] = int(max_run_s * _SECOND)
    return made


def create(job: Json) -> Json:
    """The body of a registration that must not find the job there."""
    return {"Job": job, "EnforceIndex": True, "JobModifyIndex": 0}
