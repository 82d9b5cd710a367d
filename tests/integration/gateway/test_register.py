"""`serai register` as a process against a Core that registers providers as that of 2021 does, and by hand as today's."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from fakes.gateway_tokens import key, pem, spki
from fakes.registering_core import RegisteringCore
from fakes.stack import free_port, local_text, settings_text
from golden.load import golden
from serai_server.cli.exits import Exit

DEADLINE_S = 60


@dataclass
class Ended:
    code: int
    out: str
    err: str

    @property
    def steps(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass
class Site:
    folder: Path
    core: RegisteringCore
    port: int

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def write_settings(self, generation: str = "2021") -> None:
        text = settings_text(self.folder, self.core.url, self.port, generation=generation, backend=local_text(8))
        (self.folder / "serai.toml").write_text(text)

    async def spawn(self, command: str, *arguments: str, stdin: int = asyncio.subprocess.DEVNULL) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "serai_server.cli",
            command,
            *arguments,
            "--config",
            str(self.folder / "serai.toml"),
            stdin=stdin,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "NO_COLOR": "1"},
        )

    async def register(self, *arguments: str, given: str | None = None) -> Ended:
        process = await self.spawn("register", *arguments, stdin=asyncio.subprocess.DEVNULL if given is None else asyncio.subprocess.PIPE)
        async with asyncio.timeout(DEADLINE_S):
            out, err = await process.communicate(None if given is None else given.encode())
        assert process.returncode is not None
        return Ended(process.returncode, out.decode(), err.decode())

    def file(self, name: str) -> Path:
        return self.folder / name

    def names(self) -> list[str]:
        return sorted(one.name for one in self.folder.iterdir())

    def state(self) -> dict[str, Any]:
        return json.loads((self.folder / "state" / "registration.json").read_text())


@pytest.fixture
async def site(tmp_path: Path) -> AsyncGenerator[Site]:
    async with RegisteringCore().running() as core:
        site = Site(tmp_path, core, free_port())
        site.write_settings()
        yield site


async def step(process: asyncio.subprocess.Process) -> dict[str, Any]:
    assert process.stdout is not None
    async with asyncio.timeout(DEADLINE_S):
        return json.loads(await process.stdout.readline())


async def ended(process: asyncio.subprocess.Process) -> Ended:
    async with asyncio.timeout(DEADLINE_S):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


def installed(site: Site, refresh_token: str, key_name: str) -> bool:
    token, public = site.file("refresh.token"), site.file("core.key")
    assert {oct(one.stat().st_mode & 0o777) for one in (token, public)} == {"0o600"}
    return (token.read_text(), public.read_bytes()) == (f"{refresh_token}\n", spki(key(key_name)) + b"\n")


async def test_asking_signing_welcome(site: Site) -> None:
    """Core is asked as documented, the link is shown, the command itself takes the welcome and tries what came with it."""
    process = await site.spawn("register", "--json", "--address", site.address)
    sign, waiting = await step(process), await step(process)
    token = next(iter(site.core.approvals))
    assert (sign["step"], sign["link"]) == ("sign", f"{site.core.url}/app/admin/providers/register?token={token}")
    assert waiting == {"step": "waiting", "port": site.port}
    documented = golden("provider-requestapproval.request.json")["specification"]
    asked = {**documented, "domain": "127.0.0.1", "https": False, "port": site.port}
    assert site.core.approvals[token].specification == asked
    assert await site.core.approve(token) == (200, {})
    last = await ended(process)
    assert last.code == Exit.OK, last.err
    assert last.steps[0]["step"] == "registered"
    assert installed(site, "fresh-token", "pair")
    assert oct(site.file("state").stat().st_mode & 0o777) == "0o700"
    assert not await listens(site)
    again = await site.register()
    assert (again.code, "knows provider example" in again.out) == (Exit.OK, True)
    assert len(site.core.approvals) == 1


async def test_it_waits_at_the_gateways_socket_too(site: Site) -> None:
    """An Envoy that comes to the gateway by its socket brings the welcome there; the socket goes with the command."""
    config, path = site.file("serai.toml"), site.file("g.sock")
    config.write_text(config.read_text().replace("[gateway]\n", '[gateway]\nsocket = "g.sock"\n'))
    process = await site.spawn("register", "--json", "--address", site.address)
    assert [(await step(process))["step"] for _ in range(2)] == ["sign", "waiting"]
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session, session.get("http://x/healthz") as answer:
        assert answer.status == 200
    assert await site.core.approve(next(iter(site.core.approvals))) == (200, {})
    assert (await ended(process)).code == Exit.OK
    assert not path.exists()


async def listens(site: Site) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", site.port)
    except OSError:
        return False
    writer.close()
    return True


async def test_while_it_waits_only_the_welcome_and_the_branding_are_served(site: Site) -> None:
    """Core's other calls are refused for want of a key, and a welcome with another token is forbidden."""
    process = await site.spawn("register", "--json", "--address", site.address)
    await step(process)
    await step(process)
    site.core.approvals["stranger"] = next(iter(site.core.approvals.values()))
    assert (await site.core.approve("stranger"))[0] == 403
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(b"POST /ucloud/example/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
    answer = await reader.read()
    writer.close()
    assert b" 401 " in answer.partition(b"\r\n")[0]
    assert b"being registered" in answer
    assert not site.file("refresh.token").exists()
    assert (await site.core.approve("approval-0"))[0] == 200
    assert (await ended(process)).code == Exit.OK


async def test_an_interrupted_registration_goes_on(site: Site) -> None:
    """Killed while it waits: the next run shows the same link without asking Core again; --again begins anew with another token."""
    process = await site.spawn("register", "--json", "--address", site.address)
    link = (await step(process))["link"]
    await step(process)
    process.kill()
    await process.wait()
    assert oct((site.folder / "state" / "registration.json").stat().st_mode & 0o777) == "0o600"
    process = await site.spawn("register", "--json")
    assert (await step(process))["link"] == link
    await step(process)
    assert list(site.core.approvals) == ["approval-0"]
    process.kill()
    await process.wait()
    process = await site.spawn("register", "--json", "--again", "--address", site.address)
    assert (await step(process))["link"] != link
    await step(process)
    assert (await site.core.approve("approval-0"))[0] == 403
    assert (await site.core.approve("approval-1"))[0] == 200
    assert (await ended(process)).code == Exit.OK
    assert installed(site, "fresh-token", "pair")


async def test_a_gateway_that_runs_takes_the_welcome(site: Site) -> None:
    """A second registration, with new keys, beside `serai serve`: the command waits for the files, and the gateway uses the new key."""
    site.file("core.key").write_bytes(pem(key("old")))
    site.file("refresh.token").write_text("old-token")
    site.core.add_provider("example", "old-token", "old")
    serving = await site.spawn("serve", "gateway")
    try:
        assert serving.stdout is not None
        async with asyncio.timeout(DEADLINE_S):
            assert b"serai serves provider example" in await serving.stdout.readline()
        process = await site.spawn("register", "--json", "--again", "--address", site.address)
        await step(process)
        assert await step(process) == {"step": "waiting", "port": None}
        assert (await site.core.approve("approval-0"))[0] == 200
        last = await ended(process)
        assert last.code == Exit.OK, last.err
        assert installed(site, "fresh-token", "pair")
        assert (await site.core.approve("approval-0", "late"))[0] == 403
    finally:
        serving.terminate()
        await ended(serving)


async def test_waiting_ends_in_time(site: Site) -> None:
    """With the exit code for that; people are shown the link, and the registration goes on with the next run."""
    last = await site.register("--address", site.address, "--timeout", "0.1")
    assert (last.code, "goes on waiting" in last.err) == (Exit.NOT_YET, True)
    assert f"{site.core.url}/app/admin/providers/register?token=approval-0" in last.out
    assert site.state()["token"] == "approval-0"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda: web.json_response({"why": "Not found"}, status=404), 'core.generation = "2026"'),
        (lambda: web.json_response({"why": "Conflict"}, status=409), "(409)"),
        (lambda: web.Response(text="<html>"), "cannot be read"),
        (lambda: web.json_response({"type": "requires_signature", "token": ""}), "no token"),
        (lambda: web.json_response({"type": "requires_signature", "token": "a\nb"}), "no token"),
        (lambda: web.json_response({"type": "something_new", "token": "x"}), "cannot be read"),
    ],
)
async def test_core_that_gives_no_token(site: Site, answer: Any, words: str) -> None:
    """An error that says what to do; nothing is kept and nobody listens."""
    site.core.answer = answer
    last = await site.register("--address", site.address)
    assert (last.code, words in last.err) == (Exit.ERROR, True), last.err
    assert not (site.folder / "state" / "registration.json").exists()


@pytest.mark.parametrize("address", ["", "provider.example.org", "ftp://x", "https://x/path", "https://u@x", "https://x:port"])
async def test_an_address_that_cannot_be_told_to_core(site: Site, address: str) -> None:
    """Core takes a domain, a port and whether it is HTTPS; it is not asked with anything else."""
    last = await site.register(*(["--address", address] if address else []))
    assert last.code == (Exit.ERROR if address else Exit.USAGE)
    assert site.core.approvals == {}


async def test_a_registration_of_other_settings_is_not_taken_over(site: Site) -> None:
    """It waits for another Core, whose welcome these settings must not take for theirs."""
    await site.register("--address", site.address, "--timeout", "0.1")
    text = site.file("serai.toml").read_text()
    site.file("serai.toml").write_text(text.replace(site.core.url, "http://127.0.0.1:9"))
    last = await site.register("--address", site.address)
    assert (last.code, "--again" in last.err) == (Exit.ERROR, True)


# By hand, as with today's Core


@pytest.mark.parametrize("form", ["pem", "line"])
@pytest.mark.parametrize("given", ["files", "stdin"])
async def test_what_an_administrator_has_read_is_tried_and_installed(site: Site, form: str, given: str) -> None:
    """From files or from standard input, with the key as Core shows it or as PEM; on the way it is said what the administrator does."""
    site.write_settings("2026")
    site.core.add_provider("example", "by-hand", "pair")
    public = (pem(key("pair")) if form == "pem" else spki(key("pair"))).decode()
    if given == "files":
        site.file("t").write_text("by-hand\n")
        site.file("k").write_text(public)
        last = await site.register("--refresh-token-file", str(site.file("t")), "--public-key-file", str(site.file("k")))
    else:
        last = await site.register(given=f"by-hand\n{public}\n")
        assert "Admin, Providers, Create" in last.err
    assert last.code == Exit.OK, last.err
    assert site.file("refresh.token").read_text() == "by-hand\n"
    assert site.file("core.key").read_text().strip() == public.strip()
    assert not any("trial" in name for name in site.names())
    assert "by-hand" not in last.out + last.err


@pytest.mark.parametrize(
    ("token", "key_name", "words"),
    [("wrong", "pair", "refuses to give a token"), ("by-hand", "other", "does not belong"), ("theirs", "theirs", "provider 'another'")],
)
async def test_what_does_not_work_is_not_installed(site: Site, token: str, key_name: str, words: str) -> None:
    """A token that Core refuses, a key of another pair, a pair of another provider: what was there before stays."""
    site.write_settings("2026")
    site.core.add_provider("example", "by-hand", "pair")
    site.core.add_provider("another", "theirs", "theirs")
    site.file("refresh.token").write_text("before")
    site.file("core.key").write_text("before")
    last = await site.register("--again", given=f"{token}\n{spki(key(key_name)).decode()}\n")
    assert (last.code, words in last.err) == (Exit.ERROR, True), last.err
    assert (site.file("refresh.token").read_text(), site.file("core.key").read_text()) == ("before", "before")
    assert token not in last.err.replace("provider 'another'", "")
    assert not any("trial" in name for name in site.names())


@pytest.mark.parametrize("given", ["", "only-a-token\n", "two words\nkey\n", "token\nnot a key\n"])
async def test_nonsense_is_refused_before_core_is_asked(site: Site, given: str) -> None:
    """With what is expected."""
    site.write_settings("2026")
    last = await site.register(given=given)
    assert last.code in {Exit.USAGE, Exit.ERROR}
    assert not site.file("core.key").exists()


async def test_serve_without_a_key_names_the_command(site: Site) -> None:
    """An operator who forgot it need not search."""
    process = await site.spawn("serve", "gateway")
    last = await ended(process)
    assert (last.code, "`serai register`" in last.err) == (Exit.ERROR, True)
