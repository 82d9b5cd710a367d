"""A job as it was sent to Nomad: the fields that the fake obeys. The whole text is kept beside it, to be told again."""

from __future__ import annotations

from typing import cast

import msgspec

Json = dict[str, object]


class _Read(msgspec.Struct, frozen=True, rename="pascal"):
    pass


class Resources(_Read, frozen=True):
    cpu: int = msgspec.field(default=100, name="CPU")
    memory_mb: int = msgspec.field(default=300, name="MemoryMB")
    memory_max_mb: int | None = msgspec.field(default=0, name="MemoryMaxMB")


class Constraint(_Read, frozen=True):
    l_target: str = msgspec.field(default="", name="LTarget")
    r_target: str = msgspec.field(default="", name="RTarget")
    operand: str = "="


class Restart(_Read, frozen=True):
    attempts: int = 3
    mode: str = "fail"


class Reschedule(_Read, frozen=True):
    attempts: int = 1
    unlimited: bool = False


class Disconnect(_Read, frozen=True):
    replace: bool | None = None
    lost_after: int | None = None


class Template(_Read, frozen=True):
    embedded_tmpl: str = ""
    dest_path: str = ""
    change_mode: str | None = None
    change_signal: str | None = None
    left_delim: str | None = None
    right_delim: str | None = None
    perms: str | None = None
    uid: int | None = None
    gid: int | None = None
    envvars: bool | None = None


class Lifecycle(_Read, frozen=True):
    hook: str = ""
    sidecar: bool = False


class LogConfig(_Read, frozen=True):
    disabled: bool | None = None
    max_files: int | None = None
    max_file_size_mb: int | None = msgspec.field(default=None, name="MaxFileSizeMB")


class Task(_Read, frozen=True):
    name: str = ""
    driver: str = ""
    user: str = ""
    config: dict[str, object] | None = None
    env: dict[str, str] | None = None
    resources: Resources | None = None
    templates: list[Template] | None = None
    lifecycle: Lifecycle | None = None
    constraints: list[Constraint] | None = None
    kill_timeout: int | None = None
    kill_signal: str | None = None
    log_config: LogConfig | None = None
    meta: dict[str, str] | None = None
    restart_policy: Restart | None = None
    leader: bool | None = None

    @property
    def sidecar(self) -> bool:
        return self.lifecycle is not None and self.lifecycle.sidecar

    @property
    def prestart(self) -> bool:
        return self.lifecycle is not None and self.lifecycle.hook == "prestart"

    @property
    def asks(self) -> Resources:
        return self.resources or Resources()


class Port(_Read, frozen=True):
    label: str = ""
    to: int = 0
    value: int = 0
    host_network: str | None = None


class Network(_Read, frozen=True):
    mode: str = "host"
    hostname: str = ""
    dynamic_ports: list[Port] | None = None
    reserved_ports: list[Port] | None = None


class Disk(_Read, frozen=True):
    size_mb: int | None = msgspec.field(default=None, name="SizeMB")


class Volume(_Read, frozen=True):
    type: str = ""
    source: str = ""
    access_mode: str = ""
    attachment_mode: str = ""


class Group(_Read, frozen=True):
    name: str = ""
    count: int | None = None
    tasks: list[Task] | None = None
    constraints: list[Constraint] | None = None
    restart_policy: Restart | None = None
    reschedule_policy: Reschedule | None = None
    disconnect: Disconnect | None = None
    networks: list[Network] | None = None
    ephemeral_disk: Disk | None = None
    max_run_duration: int | None = None
    volumes: dict[str, Volume] | None = None
    meta: dict[str, str] | None = None

    @property
    def members(self) -> list[Task]:
        return self.tasks or []

    @property
    def size(self) -> int:
        return 1 if self.count is None else self.count

    @property
    def network(self) -> Network | None:
        return self.networks[0] if self.networks else None

    @property
    def disk_mb(self) -> int:
        size = self.ephemeral_disk.size_mb if self.ephemeral_disk else None
        return 300 if size is None else size


class Job(_Read, frozen=True):
    id: str = msgspec.field(default="", name="ID")
    name: str | None = None
    namespace: str | None = None
    type: str | None = None
    priority: int | None = None
    node_pool: str | None = None
    datacenters: list[str] | None = None
    constraints: list[Constraint] | None = None
    task_groups: list[Group] | None = None
    meta: dict[str, str] | None = None
    stop: bool | None = None

    @property
    def groups(self) -> list[Group]:
        return self.task_groups or []

    @property
    def pool(self) -> str:
        return self.node_pool or "default"


def read(raw: Json) -> Job:
    """Fields of the wrong type are msgspec.ValidationError: the caller answers 400 as Nomad does."""
    return msgspec.convert(raw, Job, strict=False)


def listed(problems: list[str]) -> str:
    """Errors as Nomad counts them out."""
    count = len(problems)
    head = "1 error occurred:" if count == 1 else f"{count} errors occurred:"
    return head + "".join(f"\n\t* {p}" for p in problems) + "\n\n"


def problems(job: Job) -> str:
    """What Nomad finds wrong with a job, as its text; "" = nothing. Only the rules that were seen to bite."""
    found: list[str] = []
    if not job.id:
        found.append("Missing job ID")
    elif " " in job.id:
        found.append("Job ID contains a space")
    if not job.groups:
        found.append("Missing job task groups")
    for group in job.groups:
        wrong: list[str] = []
        if not group.members:
            wrong.append("Missing tasks for group")
        for task in group.members:
            lines = _task_problems(task, group)
            if lines:
                wrong.append(f"Task {task.name} validation failed: {listed(lines)}")
        if wrong:
            found.append(f"Task group {group.name} validation failed: {listed(wrong)}")
    return listed(found) if found else ""


def _task_problems(task: Task, group: Group) -> list[str]:
    lines: list[str] = []
    if not task.driver:
        lines.append("Missing task driver")
    if task.asks.cpu < 1:
        lines.append(f"minimum CPU value is 1; got {task.asks.cpu}")
    if task.asks.memory_mb < 10:
        lines.append(f"minimum MemoryMB value is 10; got {task.asks.memory_mb}")
    log = task.log_config or LogConfig()
    files = 10 if log.max_files is None else log.max_files
    each = 10 if log.max_file_size_mb is None else log.max_file_size_mb
    if not log.disabled and files * each >= group.disk_mb:
        lines.append(listed([f"log storage ({files * each} MB) must be less than requested disk capacity ({group.disk_mb} MB)"]))
    return lines


def unplayed(job: Job) -> str:
    """What the real one would do and the fake does not: said at registration rather than played wrong."""
    if (job.type or "service") != "batch":
        return "the fake agent runs batch jobs only"
    for group in job.groups:
        for policy in [group.restart_policy, *(t.restart_policy for t in group.members)]:
            if policy is not None and policy.attempts:
                return "the fake agent does not restart tasks: send RestartPolicy{Attempts: 0, Mode: fail}"
        if group.reschedule_policy is not None and (group.reschedule_policy.attempts or group.reschedule_policy.unlimited):
            return "the fake agent does not reschedule: send ReschedulePolicy{Attempts: 0, Unlimited: false}"
    return ""


def completed(raw: Json, namespace: str) -> Json:
    """The job as Nomad tells it back: what was left out has its default."""
    told: Json = {**raw}
    told.setdefault("Name", raw.get("ID"))
    defaults: Json = {"Namespace": namespace, "Region": "global", "NodePool": "default", "Priority": 50, "Type": "service", "Meta": None}
    defaults |= {"Datacenters": ["*"], "StatusDescription": "", "ParentID": "", "Periodic": None, "ParameterizedJob": None, "Stop": False}
    for key, value in defaults.items():
        if told.get(key) in (None, "", {}):
            told[key] = value
    groups: list[Json] = []
    for group in cast("list[Json]", raw.get("TaskGroups") or []):
        tasks = [
            {"Env": None, "User": "", "Templates": None, "Lifecycle": None, "KillSignal": "", "KillTimeout": 5_000_000_000} | t
            for t in cast("list[Json]", group.get("Tasks") or [])
        ]
        groups.append(
            {"Count": 1, "Constraints": None, "Networks": None, "Volumes": None, "MaxRunDuration": None} | group | {"Tasks": tasks}
        )
    told["TaskGroups"] = groups
    return told
