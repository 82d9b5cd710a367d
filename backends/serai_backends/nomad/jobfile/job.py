"""The whole job, as Nomad's API takes it."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from serai_backends.common import submission
from serai_backends.errors import SubmissionRefused
from serai_backends.nomad import names
from serai_backends.nomad.jobfile import drivers, network, scripts, view
from serai_backends.nomad.jobfile.model import Rank
from serai_backends.nomad.jobfile.texts import plain, template

if TYPE_CHECKING:
    from serai_backends.model import ReplicaSpec
    from serai_backends.nomad.jobfile.model import JSON, JobFile, Prepared
    from serai_backends.nomad.settings import NomadSettings, Placement

_MS, _MIB = 1_000_000, 1 << 20
LEAST_MIB = 16
"""Of memory: Nomad's drivers want a little more than nothing."""
FIREWALL_MHZ, FIREWALL_MIB = 20, 32
"""What each rank's firewall takes beside the rank's own share."""
_LOST_AFTER_MS = 365 * 86_400_000
"""A rank whose node is out of reach would be placed a second time when Nomad calls it lost, whatever `replace` says (seen on a real cluster
of two nodes). So Nomad never does; Serai gives it up itself (`node_lost_ms`)."""
_LARGEST_JOB = 8 * _MIB
"""Of all the job's JSON: it goes through Nomad's log of changes as one entry."""
_TOO_LARGE = "the job's command, environment, scripts and files are too large for Nomad: 8 MiB for all ranks at most"


def build(spec: ReplicaSpec, attempt: int, prepared: Prepared, settings: NomadSettings) -> JobFile:
    """The job for an attempt to start it: the same arguments make the same job, byte by byte. Raises SubmissionRefused."""
    submission.check(spec)
    if any(
        name.partition("/")[0] == view.OWN for name in (*(m.target.removeprefix(submission.WORK) for m in spec.mounts), *dict(spec.files))
    ):
        raise SubmissionRefused(f"{view.OWN} in the job's folder is Serai's own: no input or file can have that name")
    placement = _placement(spec, settings)
    if _least_size(spec) > _LARGEST_JOB:  # before the server has made it, whose memory may be less than that of all ranks
        raise SubmissionRefused(_TOO_LARGE)
    nomad_id = names.nomad_id(spec.job_id, attempt)
    job: JobFile = {
        "ID": nomad_id,
        "Name": nomad_id,
        "Type": "batch",
        "Priority": placement.priority,
        "NodePool": placement.node_pool,
        "Datacenters": list(placement.datacenters),
        "Constraints": [{"LTarget": left, "Operand": operator, "RTarget": right} for left, operator, right in placement.constraints],
        "Meta": {
            names.META_JOB: spec.job_id,
            names.META_PROVIDER: settings.provider,
            names.META_REPLICAS: str(spec.replicas),
            names.META_FOLDER: spec.output_folder,
            names.META_ATTEMPT: str(attempt),
        },
        "TaskGroups": [_group(Rank(rank, spec, nomad_id, prepared, settings, placement)) for rank in range(spec.replicas)],
    }
    if settings.namespace:
        job["Namespace"] = settings.namespace
    if settings.region:
        job["Region"] = settings.region
    if len(json.dumps(job)) > _LARGEST_JOB:
        raise SubmissionRefused(_TOO_LARGE)
    job["Meta"] = _object(job["Meta"]) | {names.META_HASH: spec_hash(job)}
    return job


def _least_size(spec: ReplicaSpec) -> int:
    """Of the job's JSON: it has at least each word of each rank, and no character less."""
    words = sum(map(len, spec.argv)) + sum(len(name) + len(value) for name, value in spec.environment)
    scripts = sum(map(len, spec.scripts))
    return words * spec.replicas + (scripts * spec.replicas if len(spec.scripts) == 1 else scripts)


def spec_hash(job: JobFile) -> str:
    """What a job of the same id must have in its Meta to be the same job: of everything but itself."""
    meta = {name: value for name, value in _object(job["Meta"]).items() if name != names.META_HASH}
    text = json.dumps(job | {"Meta": meta}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _object(value: JSON) -> dict[str, JSON]:
    return value if isinstance(value, dict) else {}


def _placement(spec: ReplicaSpec, settings: NomadSettings) -> Placement:
    placement = settings.placement(spec.product)
    if placement is None:
        raise SubmissionRefused(f"the settings have no placement for the machine type {spec.product or '(none)'}")
    if spec.resources.gpu and not placement.device:
        raise SubmissionRefused(f"the machine type {spec.product} has GPUs and its placement names no device")
    return placement


def _group(one: Rank) -> dict[str, JSON]:
    spec, settings = one.spec, one.settings
    tasks: list[JSON] = [_main(one)]
    if settings.firewall.enabled:
        tasks.insert(0, _firewall(one))
    group: dict[str, JSON] = {
        "Name": names.group(one.number),
        "Count": 1,
        "RestartPolicy": {"Attempts": 0, "Mode": "fail", "Interval": 86_400_000 * _MS, "Delay": 15_000 * _MS, "RenderTemplates": False},
        "ReschedulePolicy": {"Attempts": 0, "Unlimited": False, "Interval": 0},
        "Disconnect": {"Replace": False, "LostAfter": _LOST_AFTER_MS * _MS},
        "EphemeralDisk": {"SizeMB": settings.scratch_mib, "Sticky": False, "Migrate": False},
        "Networks": [network.network(spec, one.number, settings, one.placement.driver)],
        "Tasks": tasks,
    }
    if spec.time_limit_ms:
        group["MaxRunDuration"] = (spec.time_limit_ms + settings.backstop_ms) * _MS
    if settings.work == "volume":
        group["Volumes"] = {
            "work": {
                "Name": "work",
                "Type": "host",
                "Source": one.nomad_id,
                "ReadOnly": False,
                "AccessMode": "single-node-multi-writer",
                "AttachmentMode": "file-system",
            }
        }
    return group


def _main(one: Rank) -> dict[str, JSON]:
    spec, settings = one.spec, one.settings
    resources: dict[str, JSON] = {
        "CPU": spec.resources.cpu * settings.mhz_per_core,
        "MemoryMB": max(LEAST_MIB, -(-spec.resources.memory_bytes // _MIB)),
    }
    if spec.resources.gpu:
        resources["Devices"] = [{"Name": one.placement.device, "Count": spec.resources.gpu}]
    task: dict[str, JSON] = {
        "Name": names.MAIN,
        "KillTimeout": settings.kill_timeout_ms * _MS,
        "KillSignal": "SIGTERM",
        "Resources": resources,
        "LogConfig": {"MaxFiles": 10, "MaxFileSizeMB": max(1, min(10, settings.scratch_mib // 40)), "Disabled": settings.work == "path"},
    }
    if settings.network == network.HOST:
        task["Env"] = {"SERAI_NODE_ADDRESS": "${attr.unique.network.ip-address}"}
    if settings.work == "volume":
        task["VolumeMounts"] = [{"Volume": "work", "Destination": "/work", "ReadOnly": False}]
    return task | drivers.main(one)


def _firewall(one: Rank) -> dict[str, JSON]:
    """Root on the node, in the replica's network only; the program has no right to change what it loads."""
    friends = template(f"{scripts.LOCAL}/{scripts.FRIENDS}", network.friends_template(one.nomad_id))
    friends |= {"ChangeMode": "signal", "ChangeSignal": "SIGHUP", "Splay": 0, "Wait": {"Min": 50 * _MS, "Max": 500 * _MS}}
    return {
        "Name": names.FIREWALL,
        "Driver": "raw_exec",
        "Lifecycle": {"Hook": "prestart", "Sidecar": True},
        "Config": {"command": "/bin/sh", "args": [f"{scripts.LOCAL}/{scripts.RULES}"]},
        "KillTimeout": 1_000 * _MS,
        "KillSignal": "SIGTERM",
        "Resources": {"CPU": FIREWALL_MHZ, "MemoryMB": FIREWALL_MIB},
        "LogConfig": {"MaxFiles": 1, "MaxFileSizeMB": 1, "Disabled": False},
        "Templates": [friends, plain(f"{scripts.LOCAL}/{scripts.RULES}", scripts.firewall(one.spec, one.settings))],
    }
