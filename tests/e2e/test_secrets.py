"""Secrets of a whole session stay where they belong: not in logs, output, errors, the database, command lines or environments."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

from fakes.canary import processes_below
from fakes.raw_http import request, say
from fakes.stack import Stack, stack
from serai_devcore.applications import shell_request

HOLD = "while [ ! -e go ]; do sleep 0.02; done"


class Canaries:
    """Everything secret that passed by, in the forms in which it could turn up again."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}

    def add(self, name: str, secret: str) -> None:
        assert len(secret) >= 16, "too short to be looked for"
        self.found[name] = secret
        self.found[f"{name} in base64"] = base64.b64encode(secret.encode()).decode().rstrip("=")[:-2]
        if secret.count(".") == 2:
            # A token's signature alone is as good as a word; its other parts could be repeated without harm.
            self.found[f"signature of {name}"] = secret.rpartition(".")[2]

    def check(self, where: str, content: bytes) -> None:
        for name, secret in self.found.items():
            assert secret.encode() not in content, f"{name} is in {where}"


def spy_on_tokens(running: Stack) -> Canaries:
    """Core's secrets, and each token that is given out from now on."""
    issuer = running.core.providers["example"].issuer
    canaries = Canaries()
    canaries.add("the refresh token", issuer.refresh_token)
    give_out = issuer.access_token

    def access_token() -> str:
        token = give_out()
        canaries.add(f"access token {len(canaries.found)}", token)
        return token

    issuer.access_token = access_token  # type: ignore[method-assign]  # the real one, overheard
    canaries.add("core's token", issuer.core_token())
    return canaries


def supervisors(running: Stack) -> list[int]:
    return [int(json.loads(file.read_text())["pid"]) for file in (running.folder / "state").glob("local/jobs/*/begun")]


def check_processes(running: Stack, canaries: Canaries) -> int:
    """Command lines and environments of server, supervisors and replicas; the number of processes that were looked at."""
    assert running.process is not None
    pids = processes_below(running.process.pid, *supervisors(running))
    for pid in pids:
        for file in ("cmdline", "environ"):
            try:
                content = Path(f"/proc/{pid}/{file}").read_bytes()
            except OSError:
                continue  # ended meanwhile
            canaries.check(f"/proc/{pid}/{file}", content)
    return len(pids)


def check_files(folder: Path, canaries: Canaries) -> set[str]:
    """Every file but the one that holds the refresh token on purpose; their names."""
    names: set[str] = set()
    for file in folder.rglob("*"):
        if file.is_file() and not file.is_symlink() and file.name != "refresh.token":
            names.add(file.name)
            canaries.check(str(file.relative_to(folder)), file.read_bytes())
    return names


async def test_no_secret_leaves_its_place(tmp_path: Path) -> None:
    """A session with jobs, renewed and refused tokens, Core's errors and a kill: afterwards the refresh token, Core's and our access
    tokens, and the tokens that strangers tried, are in no file, output, answer, command line or environment."""
    async with stack(tmp_path, started=False) as running:
        canaries = spy_on_tokens(running)
        config = running.folder / "serai.toml"
        config.write_text(config.read_text().replace("[server]", '[server]\nlog_level = "debug"'))
        await running.start()
        # Replicas can print what they see; so they do.
        nosy = await running.core.submit(shell_request(f"env; cat /proc/self/environ; cat /proc/*/cmdline; {HOLD}", replicas=2))
        await running.core.until(lambda: running.core.jobs[nosy.job_id].state == "RUNNING")
        assert check_processes(running, canaries) >= 4
        # Both of Core's refusals make the gateway renew its token.
        running.core.expire_tokens()
        other = await running.core.submit(shell_request("exit 0"))
        await running.until_final(other.job_id)
        # A refresh token that Core refuses makes an error of it.
        (running.folder / "refresh.token").write_text(wrong := "canary-refresh-token-that-nobody-knows")
        canaries.add("a wrong refresh token", wrong)
        running.core.expire_tokens()
        third = await running.core.submit(shell_request("exit 0"))
        await running.core.until(lambda: any(e.status == 403 for e in running.core.requests.find(path="/auth/providers/refresh")))
        (running.folder / "refresh.token").write_text(running.core.providers["example"].issuer.refresh_token)
        await running.until_final(third.job_id)
        await strangers(running, canaries)
        await running.kill()
        await running.start()
        (running.work(nosy.job_id) / "go").touch()
        await running.until_final(nosy.job_id)
        for arguments in (
            ("jobs", "list"),
            ("jobs", "list", "--json"),
            ("jobs", "show", nosy.job_id, "--json"),
            ("jobs", "logs", nosy.job_id),
            ("config", "check"),
            ("config", "check", "--json"),
        ):
            _, out, err = await running.cli(*arguments)
            canaries.check(" ".join(arguments), out + err)
        check_processes(running, canaries)
        assert await running.stop() == 0
        names = check_files(running.folder, canaries)
        assert {"serai.log", "serai.db", "stdout.txt"} <= names
        assert len(canaries.found) > 12
        assert re.search(r'"level": ?"debug"', running.log.read_text()), "the log was to be at its most talkative"


async def strangers(running: Stack, canaries: Canaries) -> None:
    """Tokens that are refused, and secrets in odd places of a request, do not come back in the answer either."""
    issuer = running.core.providers["example"].issuer
    wrong = issuer.sign(issuer.core_claims() | {"sub": "canary-subject-of-a-stranger"})
    canaries.add("a stranger's token", wrong)
    canaries.add("a stranger's subject", "canary-subject-of-a-stranger")
    canaries.add("a secret in a header", "canary-in-a-header-0123456789")
    canaries.add("a secret in a query", "canary-in-a-query-0123456789")
    canaries.add("a secret in a wrong body", "canary-in-a-body-0123456789")
    good = {"Authorization": f"Bearer {issuer.core_token()}"}
    path = "/ucloud/example/jobs"
    for content in (
        request("POST", path, {"Authorization": f"Bearer {wrong}"}, b"{}"),
        request("POST", path, {"Authorization": wrong}, b"{}"),
        request("POST", path, {"Authorization": f"Bearer {wrong}\x01"}, b"{}"),
        request("POST", f"{path}?token=canary-in-a-query-0123456789", good, b"{}"),
        request("GET", f"/{wrong}", good),
        request("POST", path, good | {"X-Secret": "canary-in-a-header-0123456789"}, b'{"items":"canary-in-a-body-0123456789"}'),
        request("POST", path, good, b'{"items":[{"id":"1","owner":{"createdBy":["canary-in-a-body-0123456789"]}}]}'),
        request("POST", path, good, b'{"items": canary-in-a-body-0123456789'),
    ):
        answer = await say(running.port, content)
        assert 400 <= answer.status < 500
        canaries.check("an answer", answer.body)


async def test_state_is_for_its_owner_only(tmp_path: Path) -> None:
    """The state folder and the socket are closed to other users of the machine."""
    async with stack(tmp_path) as running:
        assert (running.folder / "state").stat().st_mode & 0o077 == 0
        assert running.socket.stat().st_mode & 0o077 == 0
