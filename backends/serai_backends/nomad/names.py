"""How Serai's things are called at Nomad. Everything is made of the job's id and the number of the attempt, so it can be found again.

A job that was taken back before it started (roll-back) comes again under the next attempt's name: what is told of the old one can then
never be taken for the new one.
"""

from __future__ import annotations

import re

PREFIX = "ucloud-"
META_JOB, META_PROVIDER, META_REPLICAS, META_FOLDER, META_HASH, META_ATTEMPT = (
    "serai_job_id",
    "serai_provider",
    "serai_replicas",
    "serai_output_folder",
    "serai_spec",
    "serai_attempt",
)
MAIN, FIREWALL = "main", "firewall"
PORT = "port-"
"""The beginning of the labels of a replica's own ports; the rest is the port inside."""
"""Tasks of each group."""
NODES, PEERS, HOSTS = "nodes", "peers", "hosts"
"""Items of the job's variable: addresses of its ranks, one each line; addresses that it may reach and be reached by beside them, one each
line; further lines of /etc/hosts."""
_GROUP = re.compile(r"rank-([0-9]{1,9})")


def nomad_id(job_id: str, attempt: int) -> str:
    """The job's id at Nomad. A variable's path has fewer characters than a job's id, so `.` becomes `~`, which job ids do not have."""
    name = PREFIX + job_id.replace(".", "~")
    return name if attempt == 1 else f"{name}~~{attempt}"


def group(rank: int) -> str:
    return f"rank-{rank}"


def rank_of(group_name: str) -> int | None:
    found = _GROUP.fullmatch(group_name)
    return int(found.group(1)) if found else None


def secret(number: int) -> str:
    """Item of the number-th secret in the variable of a rank's secrets."""
    return f"secret{number}"


def variable(nomad_job_id: str) -> str:
    """The path that each task of the job may read by its workload identity without any policy (facts: nomad-tried §1.4)."""
    return f"nomad/jobs/{nomad_job_id}"


def secrets_variable(nomad_job_id: str, rank: int) -> str:
    """The path that the main task of this rank may read by its workload identity without any policy, and no other task (as above)."""
    return f"{variable(nomad_job_id)}/{group(rank)}/{MAIN}"
