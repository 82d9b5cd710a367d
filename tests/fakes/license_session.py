"""An operator, a user and a stranger with a vendor's key at hand, who do right and wrong with it and keep all that they are told."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import aiohttp
import grpc.aio
import pytest
from serai.core.v1.resources_pb2 import ProductReference
from serai.events.v1.events_service_pb2 import SubscribeRequest, SubscribeResponse
from serai.events.v1.events_service_pb2_grpc import EventsServiceStub
from serai.jobs.v1 import jobs_service_pb2 as jobs
from serai.jobs.v1.job_pb2 import JOB_STATE_SUCCESS
from serai.jobs.v1.jobs_service_pb2_grpc import JobsServiceStub
from serai.licenses.v1 import license_servers_service_pb2 as servers
from serai.licenses.v1.license_servers_service_pb2_grpc import LicenseServersServiceStub
from serai_devcore.applications import var, word

from fakes.canary import Canary
from fakes.license_stack import Site, adding, licensed_shell, serai
from fakes.lmgrd import FakeLmgrd
from fakes.nomad_agents import Agent
from fakes.stack import START_S

CANARY = Canary("cAnArY+9f2e/VENDOR?7c61~KEY")
KEY = b"SERVER lic1 ANY 27000\nFEATURE solver acmed 1.0 SIGN=" + CANARY.secret + b"\n"
SCRIPT = 'sha256sum < "$SERAI_LICENSE_FILE"; echo "$1"; env; while [ ! -e go ]; do sleep 0.05; done'


class Session:
    """A site, its operator's key, and all that was said by anybody."""

    def __init__(self, site: Site, lmgrd: FakeLmgrd, folder: Path) -> None:
        self.site, self.lmgrd = site, lmgrd
        self.said: dict[str, bytes] = {}
        folder.mkdir()
        self.key = folder / "acme.lic"
        self.key.write_bytes(KEY)
        self.key.chmod(0o600)
        self.large = KEY + CANARY.secret * (48 * 1024 // len(CANARY.secret))

    @property
    def ring(self) -> Path:
        """The file with the keys that the vendors' keys are sealed with."""
        return self.site.serai.folder / "state" / "licenses.key"

    def keep(self, what: str, content: bytes) -> None:
        self.said[f"{len(self.said)} {what}"] = content

    async def command(self, *arguments: str, stdin: bytes = b"", fails: bool = False) -> bytes:
        """All that it says."""
        ran = await serai(self.site.serai, *arguments, stdin=stdin)
        assert (ran.code != 0) is fails, (arguments, ran)
        self.keep(" ".join(arguments), ran.out + ran.err)
        return ran.out + ran.err

    async def give_keys(self) -> None:
        """By file and by stdin; whatever can go wrong goes wrong with the key at hand."""
        add = adding(self.lmgrd, 8)
        elsewhere = adding(self.lmgrd, 8, "other", "example-license/nope")
        await self.command(*elsewhere, "--key-file", str(self.key), fails=True)
        await self.command(*add, "--key-stdin", stdin=self.large, fails=True)
        await self.command(*add, "--feature", "=0", "--key-stdin", stdin=KEY, fails=True)
        await self.command(*add, "--key-file", str(self.key))
        for name in ("acme", "twice"):
            await self.command(*adding(self.lmgrd, 8, name), "--key-stdin", stdin=KEY, fails=True)
        set_key = ("licenses", "server", "set-key")
        await self.command(*set_key, "nobody", "--key-stdin", stdin=KEY, fails=True)
        await self.command(*set_key, "acme", "--key-stdin", stdin=KEY)
        await self.command("licenses", "server", "rotate-key")
        good = self.ring.read_bytes()
        self.ring.write_bytes(b"damaged\n")
        assert b"is damaged" in await self.command(*set_key, "acme", "--key-stdin", stdin=KEY, fails=True)
        self.ring.write_bytes(good)
        self.ring.chmod(0o644)
        assert b"others can read" in await self.command(*set_key, "acme", "--key-file", str(self.key), fails=True)
        self.ring.chmod(0o600)
        if os.geteuid() == 0:
            os.chown(self.ring, 12_345, 12_345)
            assert b"another user" in await self.command("licenses", "server", "rotate-key", fails=True)
            os.chown(self.ring, 0, 0)
        await self.look()

    async def look(self) -> None:
        for verb in ("show", "probe"):
            await self.command("licenses", "server", verb, "acme")
            await self.command("licenses", "server", verb, "acme", "--json")
        await self.command("licenses", "server", "list")
        await self.command("licenses", "server", "list", "--json")

    async def a_job_with_the_key(self, license_id: str) -> str:
        """It runs on when the server is killed, and printed the key's digest."""
        job_id = await self.site.submit(licensed_shell(license_id, SCRIPT))
        await self.site.until_state(job_id, "RUNNING")
        await self.ask_everybody(job_id)
        if self.site.agent is not None:
            await self.nomad(self.site.agent, "meanwhile")
        await self.site.serai.kill()
        await self.site.serai.start()
        self.site.file(job_id, "go").touch()
        assert await self.site.ended(job_id) == ("SUCCESS", "The job has finished processing!")
        printed = self.site.file(job_id).read_text().splitlines()
        assert printed[:2] == [f"{hashlib.sha256(KEY).hexdigest()}  -", self.lmgrd.port_at_host]
        return job_id

    async def a_job_while_the_ring_is_lost(self, license_id: str) -> None:
        """It waits until the file is back, and then it runs."""
        away = self.ring.rename(self.key.with_name("ring"))
        assert b"put your copy of it back" in await self.command("licenses", "server", "rotate-key", fails=True)
        job_id = await self.site.submit(licensed_shell(license_id, f"touch go; {SCRIPT}"))
        await self.site.until_said(job_id, "waiting for the key of its license")
        assert b"cannot be unsealed" in self.site.serai.log.read_bytes()
        assert b"put your copy of it back" in await self.command("licenses", "server", "show", "acme", "--json")
        await self.command("jobs", "show", job_id)
        away.rename(self.ring)
        assert (await self.site.ended(job_id))[0] == "SUCCESS"

    async def jobs_that_cannot_start(self, license_id: str) -> None:
        """The program is not there; and a user who gives up before it is."""
        request = licensed_shell(license_id, "")
        application = replace(request.application, invocation=(word("no-such-program"), var("license")))
        state, words = await self.site.ended(await self.site.submit(replace(request, application=application)))
        assert (state, "no-such-program" in words) == ("FAILURE", True), words
        job_id = await self.site.submit(licensed_shell(license_id, SCRIPT))
        await self.site.serai.core.terminate(job_id)
        assert (await self.site.ended(job_id))[0] == "SUCCESS"

    async def ask_everybody(self, job_id: str) -> None:
        """Whatever an API can be asked, and what it says of wrong calls that bring a key."""
        for arguments in (("jobs", "list"), ("jobs", "show", job_id), ("jobs", "show", job_id, "--json"), ("jobs", "logs", job_id)):
            await self.command(*arguments)
        async with grpc.aio.insecure_channel(f"unix:{self.site.serai.socket}") as channel:
            operator, jobs_stub = LicenseServersServiceStub(channel), JobsServiceStub(channel)
            self.keep("List", (await operator.List(servers.ListRequest())).SerializeToString())
            self.keep("Get", (await operator.Get(servers.GetRequest(name="acme"))).SerializeToString())
            self.keep("Probe", (await operator.Probe(servers.ProbeRequest(name="acme"))).SerializeToString())
            self.keep("List of jobs", (await jobs_stub.List(jobs.ListRequest())).SerializeToString())
            self.keep("Get of a job", (await jobs_stub.Get(jobs.GetRequest(job_id=job_id))).SerializeToString())
            server = servers.LicenseServer(name="acme", product=ProductReference(id="example-license", category="nope", provider="example"))
            for caller, metadata in (("tool", ()), ("core", (("serai-caller", "core"),)), ("user", (("serai-caller", "user"),))):
                for call in (
                    operator.Add(servers.AddRequest(server=server, key=KEY), metadata=metadata),
                    operator.Add(servers.AddRequest(key=self.large), metadata=metadata),
                    operator.SetKey(servers.SetKeyRequest(name="nobody", key=KEY), metadata=metadata),
                    operator.SetKey(servers.SetKeyRequest(name="acme", key=self.large), metadata=metadata),
                ):
                    with pytest.raises(grpc.aio.AioRpcError) as raised:
                        await call
                    told = f"{raised.value!r} {raised.value.details()} {raised.value.debug_error_string()}"
                    self.keep(f"error for {caller}", told.encode() + repr(raised.value.trailing_metadata()).encode())

    async def events(self, last_of: str) -> None:
        """All that consumers are told, up to the end of that job."""
        over = False
        async with grpc.aio.insecure_channel(f"unix:{self.site.serai.socket}") as channel:
            stream = EventsServiceStub(channel).Subscribe(SubscribeRequest(consumer="search"))
            async with asyncio.timeout(START_S):
                while not over:
                    batch = await stream.read()
                    assert isinstance(batch, SubscribeResponse)
                    self.keep("events", batch.SerializeToString())
                    over = any(event.job_id == last_of and event.job_update.state == JOB_STATE_SUCCESS for event in batch.events)
            stream.cancel()

    async def users(self, license_id: str) -> None:
        """What the license's owner is told, by the provider and by Core."""
        core, url = self.site.serai.core, self.site.serai.url
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {core.users.token('user')}"}) as session:
            flags = "includeOthers=true&includeUpdates=true&includeSupport=true&includeProduct=true"
            for path in (f"retrieve?id={license_id}&{flags}", f"browse?{flags}", "retrieveProducts", "retrieve?id=999"):
                async with session.get(f"{url}/api/licenses/{path}") as answer:
                    self.keep(path, await answer.read() + repr(answer.headers).encode())
        self.keep("all of Core's requests and answers", json.dumps([one.to_json() for one in core.requests.find()]).encode())

    async def nomad(self, agent: Agent, moment: str) -> None:
        """All that Nomad's API tells, but the variables' own content."""
        paths = ["jobs?meta=true", "allocations?resources=true&task_states=true", "evaluations", "deployments", "nodes", "vars"]
        for job in await agent.rows("/v1/jobs"):
            paths += [f"job/{job['ID']}{more}" for more in ("", "/versions", "/allocations", "/evaluations", "/summary")]
        for node in await agent.rows("/v1/nodes"):
            paths += [f"node/{node['ID']}", f"node/{node['ID']}/allocations"]
        for row in await agent.rows("/v1/evaluations"):
            paths.append(f"evaluation/{row['ID']}")
        for row in await agent.rows("/v1/allocations"):
            alloc = str(row["ID"])
            paths.append(f"allocation/{alloc}")
            paths += [f"client/fs/ls/{alloc}?path={folder}" for folder in ("/", "main", "main/local", "main/local/serai", "main/secrets")]
            paths += [f"client/fs/cat/{alloc}?path=main/{file}" for file in ("local/serai/start.sh", "secrets/serai.key")]
            paths += [f"client/fs/logs/{alloc}?task=main&type={kind}&plain=true" for kind in ("stdout", "stderr")]
        async with aiohttp.ClientSession(agent.address) as session:
            for path in paths:
                async with session.get(f"/v1/{path}") as answer:
                    self.keep(f"nomad {moment} {path}", await answer.read())
            self.keep(f"nomad {moment} event stream", await _buffered(session))


async def _buffered(session: aiohttp.ClientSession) -> bytes:
    """Every event that Nomad still has; its stream does not say where they end."""
    said = b""
    async with session.get("/v1/event/stream?index=1&topic=*") as answer:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2):
                async for part in answer.content.iter_any():
                    said += part
    return said
