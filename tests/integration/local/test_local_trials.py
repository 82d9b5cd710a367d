"""The trial job of a server that was killed in it: nothing of it outlives the next server's start."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import msgspec
from fakes.local_site import LocalSite, until
from serai_backends.local import limits
from serai_backends.local.folder import all_folders
from serai_backends.local.trials import PREFIX, clear_trials, trial_folder

KILLED_IN_IT = textwrap.dedent("""
    import json, os, sys
    from serai_backends.local import probe
    from serai_backends.local.settings import LocalSettings
    def killed(folder, argv):
        print(folder.begun()["pid"], flush=True)
        os.kill(os.getpid(), 9)
    probe.shell_trial = killed
    probe.Machine(LocalSettings(**json.loads(sys.argv[1])))
""")


def runs(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def trials_of(site: LocalSite) -> list[Path]:
    return list(Path(site.settings.state_dir).glob(f"{PREFIX}*"))


async def test_a_killed_servers_trial_is_ended_and_removed(tmp_path: Path) -> None:
    """Its processes, its folder and its groups, when the next one opens; the program itself would have run on."""
    site = LocalSite(tmp_path)
    await site.open()
    await site.close()
    settings = json.dumps(msgspec.to_builtins(site.settings))
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED_IN_IT, settings, stdout=subprocess.PIPE)
    out, _ = await process.communicate()
    assert runs(int(out))
    await site.open()
    await until(lambda: not runs(int(out)), "what is left of its supervisor has been waited for")
    assert not trials_of(site)
    assert not list(limits.owners(site.backend.machine.cgroups, limits.prefix(site.settings.state_dir)))
    await site.clear()


def test_a_trial_that_runs_is_left_alone(tmp_path: Path) -> None:
    """`serai doctor` has one beside a server that starts."""
    with trial_folder(tmp_path) as scratch:
        clear_trials(tmp_path)
        assert (scratch / "jobs").is_dir()
        assert not list(all_folders(scratch / "jobs"))
    assert not scratch.exists()
