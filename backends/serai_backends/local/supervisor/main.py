# pathlib would cost each supervisor 5 ms and its memory
# ruff: noqa: PTH101, PTH108, PTH123, PTH208
"""The way from the server to a running supervisor: `python -I -S -c … JOB-FOLDER [DESCRIPTOR]`.
DESCRIPTOR: of the job's secrets, if it has any (see secrets.py).

Three processes, each for a reason:
    launcher    (as the server's user) takes the lock, opens all files, makes the groups; waits until the supervisor stands, then writes
                `begun` and says "go". Its exit tells the server: 0 = begun, 75 = somebody holds the lock, 76 = begun or ended before,
                70 = could not be started (the journal says why).
    middle      root only gives its user up here; enters the namespaces; ends after its one fork.
    supervisor  pid 1 of the job. Holds the lock as long as it lives.

kill -9 before `begun`: the go never comes, the supervisor ends, nothing has run, the job is still in the queue.
kill -9 after `begun`: it is never started again; if the supervisor did not get its go, the job is LOST.
"""

from __future__ import annotations

import codecs
import json
import os
import resource
import socket
import sys

from serai_backends.common import files
from serai_backends.local import journal
from serai_backends.local.limits import Group
from serai_backends.local.supervisor import namespaces, peers, seccomp, secrets
from serai_backends.local.supervisor.failure import StartFailure, failure_of, on_the_drive
from serai_backends.local.supervisor.inputs import clear_points, make_points, open_inputs, write_files
from serai_backends.local.supervisor.loop import Supervisor
from serai_backends.local.supervisor.plan import BEGUN, CANCEL, CONTROL, PLAN, SPEC, read_spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from serai_backends.local.supervisor.plan import Begun, Plan, Spec

EXIT_FAILED, EXIT_LOCKED, EXIT_BEGUN = 70, 75, 76
LOG_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT
_SPARE_FILES = 256
"""For what people do in the job: shells and connections."""
_FILES_FOR_EACH = 8


def open_logs(work_fd: int, replicas: int, uid: int | None) -> list[tuple[int, int]]:
    """(stdout, stderr) of each rank. Opened before the first replica runs: nothing of the job can have put a link there."""
    logs: list[tuple[int, int]] = []
    for rank in range(replicas):
        pair: list[int] = []
        for stream in ("stdout", "stderr"):
            fd = files.open_regular(work_fd, files.log_name(rank, stream), LOG_FLAGS, 0o644)
            if os.fstat(fd).st_nlink > 1:
                raise files.UnsafePath(f"{files.log_name(rank, stream)} has another name somewhere else")
            os.set_blocking(fd, True)
            if uid is not None:
                _give(fd, uid, files.log_name(rank, stream), fresh=os.fstat(fd).st_size == 0)
            pair.append(fd)
        logs.append((pair[0], pair[1]))
    return logs


def open_work(spec: Spec, plan: Plan) -> int:
    """The output folder, made below its drive without following a link, owned by the job's user."""
    uid = plan["uid"]
    fd = files.open_output(plan["drives_dir"], plan["drives"], spec["output_folder"], create=True, owner=uid)
    if uid is not None:
        _give(fd, uid, "the job's folder", fresh=not os.listdir(fd))
    return fd


def _give(fd: int, uid: int, name: str, *, fresh: bool) -> None:
    """To the job's user, unless it is somebody else's: jobs of the same drive may have put another thing of the drive in its place."""
    owner = os.fstat(fd).st_uid
    if owner == uid:
        return
    if owner != os.geteuid() or not fresh:
        raise files.UnsafePath(f"{name} belongs to another user")
    os.fchown(fd, uid, uid)


def listen(job_fd: int) -> socket.socket:
    """The control socket; by a short path, because a socket's path has at most 108 bytes."""
    path = f"/proc/self/fd/{job_fd}/{CONTROL}"
    if os.path.lexists(path):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    os.chmod(path, 0o600)
    listener.listen(16)
    return listener


def raise_file_limit(replicas: int) -> tuple[int, int]:
    """The old limit, which the replicas get. Raises OSError when the machine's limit is too low for the job."""
    old = resource.getrlimit(resource.RLIMIT_NOFILE)
    need = _SPARE_FILES + _FILES_FOR_EACH * replicas
    if old[1] != resource.RLIM_INFINITY and old[1] < need:
        raise OSError(f"{replicas} replicas need {need} open files, the limit is {old[1]}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (old[1], old[1]))
    return old


def launch(job_path: str, secrets_fd: int | None) -> int:
    """The launcher. Returns its exit code."""
    os.umask(0o022)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if secrets_fd is not None:
        os.set_inheritable(secrets_fd, False)
    job_fd = os.open(job_path, files.DIRECTORY)
    if files.try_lock(job_fd) is None:
        return EXIT_LOCKED
    journal_fd = journal.open_journal(job_fd)
    past = journal.parse(files.read_file(job_fd, journal.NAME) or b"")
    if files.exists(job_fd, BEGUN) or journal.has_end(past):
        return EXIT_BEGUN
    raw = files.read_file(job_fd, SPEC)
    if raw is None:  # forgotten meanwhile: it has begun and ended before
        return EXIT_BEGUN
    spec = read_spec(raw)
    plan: Plan = json.loads(files.read_file(job_fd, PLAN) or b"{}")
    if files.exists(job_fd, CANCEL):
        close_journal(journal_fd, spec, plan, "canceled")
        return EXIT_BEGUN
    try:
        return _begin(job_path, job_fd, journal_fd, spec, plan, secrets_fd=secrets_fd)
    except OSError as error:
        clear_points(job_fd, spec, plan)
        close_journal(journal_fd, spec, plan, "start_failed", failure_of(error))
        return EXIT_FAILED


def close_journal(journal_fd: int, spec: Spec, plan: Plan, how: str, failure: StartFailure | None = None) -> None:
    """Write a job off that never started."""
    cause, why = (failure.detail, failure.why) if failure else ("", "")
    at_ms = journal.now_ms(plan["clock_offset_ms"])
    ends = [journal.end(at_ms, rank, how, cause=cause, why=why) for rank in range(spec["replicas"])]
    journal.append(journal_fd, [*ends, journal.done(at_ms, cause, why)])


def _begin(job_path: str, job_fd: int, journal_fd: int, spec: Spec, plan: Plan, *, secrets_fd: int | None) -> int:
    if spec["secrets"] and secrets_fd is None:
        raise OSError("its secrets did not come with it")
    namespaces.leave_keyring()
    codecs.lookup("ascii")  # now: a job's user may not be able to read it from the server's Python
    no_files = raise_file_limit(spec["replicas"])
    program = seccomp.program()
    if program is None:
        raise OSError(f"no system-call filter is known for {os.uname().machine}")
    listener = listen(job_fd)
    hosts = peers.hosts(job_path, spec)
    mounts = open_inputs(spec, plan)
    with on_the_drive():
        work_fd = open_work(spec, plan)
        logs = open_logs(work_fd, spec["replicas"], plan["uid"])
        write_files(work_fd, spec["files"], plan["uid"])
        points = make_points(job_fd, work_fd, spec, plan, mounts)
    groups: list[Group] = []
    if plan["cgroups"]:
        names = [f"{plan['group_prefix']}{spec['job_id']}+{rank}" for rank in range(spec["replicas"])]
        groups = [Group(plan["cgroups"], n, memory_bytes=spec["memory_bytes"], cpu=spec["cpu"], pids=plan["pids"]) for n in names]
    go_read, go_write = os.pipe()
    told_read, told_write = os.pipe()
    middle = os.fork()
    if middle == 0:
        os.close(go_write)
        os.close(told_read)
        supervisor = Supervisor(
            spec,
            plan,
            job_fd=job_fd,
            journal_fd=journal_fd,
            listener=listener,
            logs=logs,
            groups=groups,
            points=points,
            hosts=hosts,
            seccomp=program,
        )
        view = namespaces.View(
            work_fd, plan["program_dirs"], [(f"/{m['source']}", fd) for m, fd in zip(spec["mounts"], mounts, strict=True)]
        )
        _middle(plan, view, supervisor, no_files, go_read=go_read, told_write=told_write, lay=lambda: _lay(secrets_fd, spec))
    os.close(go_read)
    os.close(told_write)
    with open(told_read, "rb") as told:
        words = told.read()
    os.waitpid(middle, 0)
    told_facts: list[dict[str, str | int]] = [json.loads(line) for line in words.splitlines()]
    for fact in told_facts:
        if "why" in fact:
            raise StartFailure(str(fact["why"]), str(fact["detail"]))
    pid = next((int(fact["pid"]) for fact in told_facts if "pid" in fact), 0)
    ticks = files.start_ticks(pid)
    if not pid or ticks is None:
        raise StartFailure("sandbox_failed", "the supervisor ended before it began")
    if spec["peers"]:
        peers.connect(job_path, spec, plan, pid)
    begun: Begun = {"pid": pid, "start_ticks": ticks, "boot_id": files.boot_id(), "at": journal.now_ms(plan["clock_offset_ms"])}
    files.write_atomic(job_fd, BEGUN, json.dumps(begun).encode())
    os.write(go_write, b"g")
    return 0


def _lay(secrets_fd: int | None, spec: Spec) -> None:
    if secrets_fd is not None:
        secrets.lay(secrets_fd, spec["secrets"])


def _middle(
    plan: Plan,
    view: namespaces.View,
    supervisor: Supervisor,
    no_files: tuple[int, int],
    *,
    go_read: int,
    told_write: int,
    lay: Callable[[], None],
) -> None:
    """Never returns. Tells the launcher {"pid":N}, or {"why":…,"detail":…}, a line each."""
    try:
        namespaces.enter(plan["uid"], view, plan["block"])
        pid = os.fork()
        if pid == 0:
            _pid_one(supervisor, no_files, go_read, told_write, lay)
        _tell(told_write, {"pid": pid})
    except BaseException as error:
        _tell_failure(told_write, error)
    finally:
        os._exit(0)


def _tell(told_write: int, fact: dict[str, str | int]) -> None:
    os.write(told_write, json.dumps(fact).encode() + b"\n")


def _tell_failure(told_write: int, error: BaseException) -> None:
    failure = error if isinstance(error, StartFailure) else StartFailure("sandbox_failed", str(error))
    _tell(told_write, {"why": failure.why, "detail": failure.detail})


def _pid_one(supervisor: Supervisor, no_files: tuple[int, int], go_read: int, told_write: int, lay: Callable[[], None]) -> None:
    """Never returns."""
    status = 1
    try:
        try:
            namespaces.own_proc()
            namespaces.quiet_network()
            namespaces.open_low_ports()
        except OSError as error:
            _tell_failure(told_write, OSError(f"no private /proc here: {error}"))
            raise
        try:
            lay()
        except OSError as error:
            _tell_failure(told_write, error)
            raise
        os.close(told_write)
        if os.read(go_read, 1) == b"g":
            os.close(go_read)
            supervisor.run(no_files)
        status = 0
    except BaseException as error:
        sys.stderr.write(f"supervisor: {type(error).__name__}: {error}\n")
        sys.stderr.flush()
    finally:
        os._exit(status)


def main() -> None:
    os._exit(launch(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else None))
