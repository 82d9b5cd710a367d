# pathlib would cost each supervisor 5 ms and its memory
# ruff: noqa: PTH101, PTH102, PTH112, PTH114, PTH115, PTH116, PTH123
"""One replica: the bubblewrap command line, the start of the process, and what its end means.

bubblewrap forks twice: the outer process (our child), and pid 1 of the sandbox, whose child is the program. `--json-status-fd` tells the
pid of pid 1 and, only if the program was really executed, the exit code: so "could not start" and "exited 1" are not mixed up.
What cannot be told apart: a program that exits with 128+N and one that signal N ended; both arrive as 128+N and are reported as the signal.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import signal

from serai_backends.local import journal
from serai_backends.local.supervisor import namespaces
from serai_backends.local.supervisor.secrets import FOLDER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from serai_backends.local.limits import Group
    from serai_backends.local.supervisor.plan import Plan, Spec

_ETC = (
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "alternatives",
    "ssl/certs",
    "ssl/openssl.cnf",
    "localtime",
    "nsswitch.conf",
    "mime.types",
)
_ROOT_FOLDERS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_SHARED = ("cores.txt", "number_of_nodes.txt", "job_id.txt", "nodes.txt")
_TAIL_BYTES = 4096
_LAST_SIGNAL = 64
PROGRAMS = "/opt/serai/bin"


def write_shared(spec: Spec, plan: Plan, hosts: list[str]) -> None:
    """The files that all replicas see, once for each job: the folder of /etc/ucloud, hosts, passwd; and one rank file for each replica."""
    view, count = namespaces.VIEW, spec["replicas"]
    os.mkdir(f"{view}/etc")
    os.mkdir(f"{view}/rank")
    addresses = [namespaces.address(plan["block"], rank) for rank in range(count)]
    etc = dict(zip(_SHARED, (str(spec["cpu"]), str(count), spec["job_id"], "\n".join(f"node-{r}" for r in range(count))), strict=True))
    etc |= {f"node-{rank}.txt": address for rank, address in enumerate(addresses)}
    # a mount point for each replica's own file
    etc["rank.txt"] = "0"
    plain = {f"etc/{name}": text for name, text in etc.items()} | {f"rank/{rank}": str(rank) for rank in range(count)}
    plain["hosts"] = "\n".join(["127.0.0.1 localhost", *(f"{a} node-{r}" for r, a in enumerate(addresses)), *hosts])
    scripts = spec["scripts"]
    if scripts:
        plain["etc/script.sh"] = scripts[0]
    if spec["secrets"]:
        os.mkdir(f"{view}/etc/secrets")
    if len(scripts) > 1:
        os.mkdir(f"{view}/script")
        plain |= {f"script/{rank}": text for rank, text in enumerate(scripts)}
    plain["passwd"] = "root:x:0:0::/work:/bin/sh\nucloud:x:1000:1000::/work:/bin/sh"  # noqa: S105 - the file of that name, without passwords
    plain["group"] = "root:x:0:\nucloud:x:1000:"
    for name, text in plain.items():
        with open(f"{view}/{name}", "w", encoding="utf-8") as file:
            file.write(text if text.endswith("\n") else text + "\n")
    for name in plain:
        if "script" in name:
            os.chmod(f"{view}/{name}", 0o755)  # noqa: S103 - read and executed by the sandbox


def sandbox(spec: Spec, plan: Plan, rank: int, seccomp_fd: int, status_fd: int) -> list[str]:
    """bubblewrap's arguments (to be passed by `--args FD`: /proc/1/cmdline is readable inside)."""
    view, tmpfs = namespaces.VIEW, ["--size", str(plan["tmpfs_bytes"]), "--tmpfs"]
    programs = [f"{PROGRAMS}{i or ''}" for i in range(len(plan["program_dirs"]))]
    user = "0" if spec["run_as_root"] else "1000"
    words = ["--unshare-user", "--uid", user, "--gid", user, "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    words += ["--hostname", f"node-{rank}", "--cap-drop", "ALL", "--new-session", "--die-with-parent", "--json-status-fd", str(status_fd)]
    if plan["disable_userns"]:
        words += ["--disable-userns"]
    words += ["--ro-bind", "/usr", "/usr"]
    for name in _ROOT_FOLDERS:
        if os.path.islink(f"/{name}"):
            words += ["--symlink", os.readlink(f"/{name}"), f"/{name}"]
        elif os.path.isdir(f"/{name}"):
            words += ["--ro-bind", f"/{name}", f"/{name}"]
    for name in _ETC:
        words += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    words += ["--proc", "/proc", "--dev", "/dev", *tmpfs, "/tmp", *tmpfs, "/run", *tmpfs, "/dev/shm", "--remount-ro", "/dev"]  # noqa: S108 - inside the sandbox
    words += ["--ro-bind", f"{view}/etc", "/etc/ucloud", "--ro-bind", f"{view}/rank/{rank}", "/etc/ucloud/rank.txt"]
    if spec["secrets"]:
        words += ["--ro-bind", FOLDER, "/etc/ucloud/secrets"]
    if len(spec["scripts"]) > 1:
        words += ["--ro-bind", f"{view}/script/{rank}", "/etc/ucloud/script.sh"]
    for name in ("hosts", "passwd", "group"):
        words += ["--ro-bind", f"{view}/{name}", f"/etc/{name}"]
    for i, target in enumerate(programs):
        words += ["--ro-bind", f"{view}/programs/{i}", target]
    words += ["--bind", f"{view}/work", "/work"]
    for i, mount in enumerate(spec["mounts"]):
        words += ["--ro-bind" if mount["read_only"] else "--bind", f"{view}/inputs/{i}", mount["target"]]
    words += ["--chdir", "/work" if spec["change_working_directory"] else "/"]
    words += ["--seccomp", str(seccomp_fd), "--remount-ro", "/", "--clearenv"]
    for name, value in environment(spec, plan).items():
        words += ["--setenv", name, value]
    return words


def environment(spec: Spec, plan: Plan) -> dict[str, str]:
    """Of every program in a replica."""
    programs = [f"{PROGRAMS}{i or ''}" for i in range(len(plan["program_dirs"]))]
    path = ":".join([*programs, "/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"])
    own = {"PATH": path, "HOME": "/work", "USER": "root" if spec["run_as_root"] else "ucloud", "LANG": "C.UTF-8"}
    return own | dict(spec["environment"])


def take_limits(plan: Plan, replicas: int, no_files: tuple[int, int]) -> None:
    """Of this process and all that it starts. Last of all: afterwards few more files can be opened."""
    # of the whole job, because it is counted in the job's user namespace; bubblewrap itself takes three for each replica
    processes = (plan["pids"] + 3) * replicas + 8
    hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    processes = processes if hard == resource.RLIM_INFINITY else min(processes, hard)
    resource.setrlimit(resource.RLIMIT_NPROC, (processes, processes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, no_files)


def _memory_file(name: str, data: bytes) -> int:
    fd = os.memfd_create(name, 0)  # inherited by bubblewrap
    os.write(fd, data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


class Replica:
    """A started replica, from fork to the last of its processes."""

    def __init__(self, rank: int, log_fds: tuple[int, int], group: Group | None) -> None:
        self.rank = rank
        self.outer: int | None = None
        self.inner: int | None = None
        self.status_fd: int | None = None
        self.exit_code: int | None = None
        """bubblewrap's word for the program's end; None = the program was not executed (yet)."""
        self.outer_code: int | None = None
        self.inner_gone = False
        self.started = False
        self.ended = False
        self.released = False
        """Its sandbox was let go on after its program had ended (see pause.release)."""
        self.ending: tuple[str, str, str] | None = None
        """Why we ended it: (value of model.End, cause, value of model.Why)."""
        self._log_fds = log_fds
        self._group = group
        self._buffer = b""

    def spawn(self, spec: Spec, plan: Plan, seccomp: bytes, no_files: tuple[int, int]) -> None:
        """Raises OSError."""
        read_fd, write_fd = os.pipe()
        seccomp_fd = _memory_file("filter", seccomp)
        words = sandbox(spec, plan, self.rank, seccomp_fd, write_fd)
        args_fd = _memory_file("arguments", b"".join(word.encode() + b"\0" for word in words))
        command = ["bwrap", "--args", str(args_fd), "--", *spec["argv"]]
        pid = os.fork()
        if pid == 0:
            self._become(plan, command, write_fd, no_files, spec["replicas"])
        self.outer, self.status_fd = pid, read_fd
        for fd in (write_fd, seccomp_fd, args_fd):
            os.close(fd)
        os.set_blocking(read_fd, False)

    def _become(self, plan: Plan, command: list[str], status_fd: int, no_files: tuple[int, int], replicas: int) -> None:
        """In the child: never returns."""
        try:
            os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
            os.dup2(self._log_fds[0], 1)
            os.dup2(self._log_fds[1], 2)
            self.join_group()
            os.set_inheritable(status_fd, True)
            for number in (signal.SIGPIPE, signal.SIGXFSZ):  # ignored by Python, and what is ignored stays so over exec
                signal.signal(number, signal.SIG_DFL)
            take_limits(plan, replicas, no_files)
            os.execve(plan["bwrap"], command, {"PATH": "/usr/bin:/bin"})  # noqa: S606 - no shell is wanted
        except BaseException as error:  # there is no other way to tell from here
            os.write(2, f"bwrap: {error}".encode())
        finally:
            os._exit(126)

    def join_group(self) -> None:
        """The calling process gets the replica's hard limits, where there are any. Raises OSError."""
        if self._group is not None:
            self._group.join()

    def read_status(self) -> bool:
        """Take in what bubblewrap said; False = it said its last word."""
        if self.status_fd is None:
            return False
        while True:
            try:
                data = os.read(self.status_fd, 65536)
            except BlockingIOError:
                return True
            if not data:
                os.close(self.status_fd)
                self.status_fd = None
                return False
            *lines, self._buffer = (self._buffer + data).split(b"\n")
            for line in lines:
                words: dict[str, int] = json.loads(line)
                self.inner = words.get("child-pid", self.inner)
                if "exit-code" in words:
                    # The program may have got hold of the pipe: what it writes there is no more than a code of its own.
                    self.exit_code = words["exit-code"] & 0xFF

    def is_executed(self, bwrap: os.stat_result) -> bool:
        """Whether the program itself runs by now. bubblewrap tells of failures only: look at what the sandbox's second process is."""
        if self.exit_code is not None:
            return True
        for pid in self.children():
            try:
                if not os.path.samestat(os.stat(f"/proc/{pid}/exe"), bwrap):
                    return True
            except OSError:  # it ended this moment: its exit code is on the way
                continue
        return False

    def children(self) -> list[int]:
        """Pids of the children of the sandbox's pid 1: the program, and what it left behind."""
        try:
            with open(f"/proc/{self.inner}/task/{self.inner}/children", encoding="ascii") as file:
                return [int(word) for word in file.read().split()]
        except OSError:
            return []

    def kill(self, number: int) -> None:
        """`number` to the children of pid 1 (which ignores signals), SIGKILL to pid 1 itself."""
        targets = ([self.inner] if self.inner else [self.outer]) if number == 9 else self.children()
        for pid in targets:
            if pid is not None:
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    continue

    def freeze(self, wanted: bool) -> None:
        """Hold every process of it, or let it go on, where there is a freezer; nothing otherwise."""
        if self._group is not None:
            self._group.freeze(wanted)

    def is_frozen(self) -> bool:
        return self._group is not None and self._group.is_frozen()

    def line(self, at_ms: int) -> journal.Line:
        """How it ended, for the journal; every process of it is gone."""
        code, kills = self.exit_code, self._group.out_of_memory_kills() if self._group else 0
        if self.ending is not None:
            how, cause, why = self.ending
            code = code if code is not None and code <= 128 else None
            return journal.end(at_ms, self.rank, how, code=code, signal=9 if how == "signaled" else None, cause=cause, why=why)
        killed_outside = self.outer_code is not None and self.outer_code < 0
        if kills and (code == 128 + 9 or killed_outside):
            return journal.end(at_ms, self.rank, "out_of_memory", signal=9, cause="the memory limit of the replica was reached")
        if code is None and killed_outside:
            return journal.end(at_ms, self.rank, "lost", cause=f"the sandbox of rank {self.rank}", why="killed_from_outside")
        if code is None:
            why, detail = self._start_failure()
            return journal.end(at_ms, self.rank, "start_failed", cause=detail, why=why)
        why = "child_out_of_memory" if kills else ""
        if 128 < code <= 128 + _LAST_SIGNAL:
            return journal.end(at_ms, self.rank, "signaled", signal=code - 128, why=why)
        return journal.end(at_ms, self.rank, "exited", code=code, why=why)

    def _start_failure(self) -> tuple[str, str]:
        """Why and detail of a program that was never executed. All that is in its stderr is bubblewrap's; it is taken out again."""
        fd = self._log_fds[1]
        size = os.fstat(fd).st_size
        text = os.pread(fd, _TAIL_BYTES, max(0, size - _TAIL_BYTES)).decode(errors="replace").strip().rpartition("\n")[2]
        os.ftruncate(fd, 0)
        return words_for(text)

    def close(self) -> None:
        for fd in self._log_fds:
            os.close(fd)
        if self._group is not None:
            self._group.close()


def words_for(text: str) -> tuple[str, str]:
    """bubblewrap's last line as (value of model.Why, detail).

    A tool's image that has no program here is COMMAND_NOT_FOUND too: there are no images on this machine that could be looked up, and the
    program is what a person can do something about.
    """
    text = text.removeprefix("bwrap: ")
    if text.startswith("execvp "):
        program, _, said = text.removeprefix("execvp ").rpartition(": ")
        if said == os.strerror(errno.ENOENT):
            return "command_not_found", program
        if said in {os.strerror(errno.EACCES), os.strerror(errno.ENOEXEC)}:
            return "command_not_executable", program
        return "", f"program {program} could not be started: {said}"
    return "sandbox_failed", text or "no word from bubblewrap"
