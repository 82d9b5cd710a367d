"""What this machine allows, in words: tried by really running a small job, not guessed from settings of the kernel."""

from __future__ import annotations

import os
import secrets
import select
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from serai_backends.local import limits
from serai_backends.local.adopt import open_process
from serai_backends.local.callers import unknown_users
from serai_backends.local.folder import JobFolder
from serai_backends.local.launcher import launch, run_code
from serai_backends.local.record import History
from serai_backends.local.shell_trial import shell_trial
from serai_backends.local.supervisor import seccomp
from serai_backends.local.trials import PREFIX, trial_folder
from serai_backends.model import Finding, Severity

if TYPE_CHECKING:
    from serai_backends.local.settings import LocalSettings
    from serai_backends.local.supervisor.plan import Plan

_TRIAL_TIMEOUT_S = 20
_TRIAL_LINE = "n=0; until [ -e /work/over ] || [ $n -ge 1500 ]; do n=$((n+1)); sleep 0.01; done"
"""Ends by itself when its server was killed: some 20 s at most."""
_TRIAL_SHELL = ["test", "-t", "0"]
SOFT = "memory soft, cpu advisory, number of processes limited for the job as a whole"


class Machine:
    """What was found when the backend was opened."""

    def __init__(self, settings: LocalSettings) -> None:
        """Blocking. Raises nothing for what it finds."""
        self.is_root = os.geteuid() == 0
        self.cgroups = limits.usable() if self.is_root else {}
        self.disable_userns = _knows_disable_userns(settings.bwrap)
        self.has_filter = seccomp.program() is not None
        self.trouble: str | None = None
        """Why no job can be run isolated here; None = it works."""
        self.shells_trouble: str | None = None
        """Why no shell can be opened in a job here; None = it works."""
        self.trouble = self._trial(settings)
        self.peers_trouble = self._peers_trial()
        """Why jobs cannot be connected here; None = it works."""

    def plan(self, settings: LocalSettings, uid: int | None, block: str, group_prefix: str, clock_offset_ms: int) -> Plan:
        return {
            "bwrap": settings.bwrap,
            "disable_userns": self.disable_userns,
            "uid": uid,
            "drives_dir": settings.drives_dir,
            "drives": settings.drives,
            "program_dirs": list(settings.program_dirs),
            "tmpfs_bytes": settings.tmpfs_bytes,
            "pids": settings.pids,
            "cgroups": self.cgroups,
            "group_prefix": group_prefix,
            "soft_memory": "memory" not in self.cgroups and limits.UNIFIED not in self.cgroups,
            "block": block,
            "clock_offset_ms": clock_offset_ms,
        }

    def _peers_trial(self) -> str | None:
        if not self.is_root:
            return "only root can connect the networks of two jobs"
        try:
            run = run_code("from serai_backends.local.supervisor.peers import trial; trial()", _TRIAL_TIMEOUT_S)
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"a trial to connect two networks failed: {error}"
        said = (run.stdout + run.stderr).decode(errors="replace").strip().rpartition("\n")[2]
        return None if run.returncode == 0 else f"a trial to connect two networks failed: {said}"

    def _trial(self, settings: LocalSettings) -> str | None:
        if not os.access(settings.bwrap, os.X_OK):
            return f"bubblewrap is not installed ({settings.bwrap}): apt install bubblewrap"
        if not self.has_filter:
            return f"no system-call filter is known for this processor ({os.uname().machine})"
        state = Path(settings.state_dir)
        with trial_folder(state if state.is_dir() else None) as scratch:
            return self._run_trial(settings, scratch)

    def _run_trial(self, settings: LocalSettings, scratch: Path) -> str | None:
        # groups are named after the state folder: what a killed trial left is removed when the backend is opened
        name, prefix = f"{PREFIX}{secrets.token_hex(4)}", limits.prefix(settings.state_dir)
        folder = JobFolder(scratch / "jobs", name)
        plan = self.plan(settings, settings.uid_first + settings.uid_count - 1 if self.is_root else None, "10.128.0.0/24", prefix, 0)
        plan["drives_dir"], plan["drives"] = str(scratch / "drives"), {}
        missing = [path for path in settings.program_dirs if not Path(path).is_dir()]
        if missing:
            return f"the folder of programs {missing[0]} does not exist"
        folder.save_spec(
            {
                "job_id": name,
                "sequence": 0,
                "submitted_at_ms": 0,
                "replicas": 1,
                "argv": ["sh", "-c", _TRIAL_LINE],
                "environment": [],
                "cpu": 1,
                "memory_bytes": 0,
                "output_folder": "trial",
                "change_working_directory": True,
                "mounts": [],
                "peers": [],
                "files": [],
                "scripts": [],
                "run_as_root": False,
                "secrets": [],
                "ports": [],
                "time_limit_ms": 0,
            }
        )
        folder.save_plan(plan)
        try:
            code = launch(folder)
            begun = folder.begun()
            process = open_process(begun) if begun else None
            if process is not None:
                self.shells_trouble = shell_trial(folder, _TRIAL_SHELL)
                with suppress(OSError):  # then its folder is not there, and it ends for that
                    (scratch / "drives" / "trial" / "over").touch()
                select.select([process], [], [], _TRIAL_TIMEOUT_S)
                os.close(process)
        finally:
            limits.remove_all(self.cgroups, f"{prefix}{name}+")
        history = History()
        history.add(folder.lines()[0])
        if history.done_at_ms is None:
            return f"a trial job did not end (the launcher ended with {code}): {folder.log_tail()}"
        end = history.ends[0]
        return None if end.get("end") == "exited" and end.get("code") == 0 else words_for(end.get("cause") or f"the trial job: {end}")

    def _sessions(self, settings: LocalSettings) -> list[Finding]:
        """What people at their jobs will miss."""
        found: list[Finding] = []
        if self.shells_trouble is not None and self.trouble is None:
            words = f"people cannot open shells in their jobs: {self.shells_trouble}"
            found.append(Finding(severity=Severity.WARNING, subject="shells", text=words))
        for user in unknown_users(settings.endpoint_users):
            words = f"this machine has no user {user}: correct endpoint_users of [backend.local]"
            found.append(Finding(severity=Severity.WARNING, subject="endpoints", text=words))
        return found

    def findings(self, settings: LocalSettings) -> list[Finding]:
        found: list[Finding] = []

        def say(severity: Severity, subject: str, text: str) -> None:
            found.append(Finding(severity=severity, subject=subject, text=text))

        if self.trouble is not None:
            say(Severity.ERROR, "sandbox", self.trouble)
        if not Path(settings.drives_dir).is_dir():
            say(Severity.ERROR, "drives", f"the root of the drives {settings.drives_dir} is not a folder")
        elif not os.access(settings.drives_dir, os.W_OK | os.X_OK):
            say(Severity.ERROR, "drives", f"the root of the drives {settings.drives_dir} is not writable")
        elif Path(settings.drives_dir).stat().st_mode & 0o077:
            words = f"other users of this machine can reach jobs' files below {settings.drives_dir}: chmod 700 it, unless they are meant to"
            say(Severity.WARNING, "drives", words)
        if not self.cgroups:
            why = "this user may make no groups" if not self.is_root else "no cgroup controllers can be used below the server's own group"
            say(Severity.WARNING, "limits", f"{SOFT}: {why}")
        elif not {"memory", "cpu", "pids"} <= self.cgroups.keys() and limits.UNIFIED not in self.cgroups:
            missing = sorted({"memory", "cpu", "pids"} - self.cgroups.keys())
            say(Severity.WARNING, "limits", f"no hard limits for {', '.join(missing)}: the cgroup controller is missing")
        if not self.is_root:
            say(Severity.NOTE, "users", "all jobs run as the server's own user; only root can give each job a user of its own")
        found += self._sessions(settings)
        if self.peers_trouble is not None:
            say(Severity.NOTE, "peers", f"jobs that want to reach other jobs are refused: {self.peers_trouble}")
        if not self.disable_userns and self.trouble is None:
            say(Severity.NOTE, "sandbox", "this bubblewrap lacks --disable-userns; the system-call filter stands in for it")
        say(Severity.NOTE, "disk", "disk space of a job is not limited: put the drives on a file system with quotas if that matters")
        return found


def _knows_disable_userns(bwrap: str) -> bool:
    try:
        run = subprocess.run([bwrap, "--help"], capture_output=True, check=False, timeout=10, env={})  # noqa: S603 - the configured program
    except (OSError, subprocess.TimeoutExpired):
        return False
    return b"--disable-userns" in run.stdout + run.stderr


def words_for(cause: str) -> str:
    """A failure of the trial as something that an operator can act on."""
    if "Can't mount proc" in cause or "no private /proc" in cause:
        return f"masked /proc: no private /proc here (a container needs --security-opt systempaths=unconfined): {cause}"
    if "unshare" in cause or "No permissions to create new namespace" in cause:
        if "No space left" in cause:
            return f"user namespaces are switched off (sysctl user.max_user_namespaces): {cause}"
        return f"user namespaces are blocked (the container's system-call filter, or a sysctl): {cause}"
    if _sysctl("kernel/apparmor_restrict_unprivileged_userns") == "1" and "permitted" in cause:
        return f"AppArmor keeps bubblewrap from making namespaces: it needs a profile with 'userns,': {cause}"
    return cause


def _sysctl(name: str) -> str:
    try:
        return Path("/proc/sys", name).read_text(encoding="ascii").strip()
    except OSError:
        return ""
