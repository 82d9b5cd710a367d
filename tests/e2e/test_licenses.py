"""Licenses against the whole: the seed's example by a user's own calls, and a license of Core's up to a job that ran with it.

The stand-in for Core, `serai serve` in a process of its own, a license server on loopback. The key is looked for in every file."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import aiohttp
import grpc.aio
import pytest
from fakes.lmgrd import FakeLmgrd
from fakes.stack import ROOT, START_S, Stack, stack
from golden.load import golden
from serai.core.v1.resources_pb2 import ProductReference
from serai.licenses.v1 import license_servers_service_pb2 as pb
from serai.licenses.v1.license_servers_service_pb2_grpc import LicenseServersServiceStub
from serai_devcore import ACME_SOLVER, EXAMPLE_LICENSE, Resource, ResourceRequest, licensed_request
from serai_devcore.wire import Json, JsonObject, as_list, dig

KEY = b"CANARY-5f1d9b0c7e-VENDOR-KEY"
SEED = "licenses-enduser-2023-0{}-create-and-configure-a-license-{}.json"
PROGRAMS = [str(ROOT / "examples" / name) for name in ("acme-batch", "acme-licensed", "ucloud-etc")]
BACKEND = f"""
[backend.local]
drives_dir = "drives"
cpu = 8
memory_gib = 64
program_dirs = {json.dumps(PROGRAMS)}
"""
MORE = """
[gateway.users]
public_key_file = "users.pem"
[licenses]
probe_every_ms = 1000
probes_to_fail = 2
[[licenses.products]]
id = "example-license"
category = "example-license"
description = "An example license"
price_per_unit = 1
"""


@asynccontextmanager
async def licensed(folder: Path, lmgrd: FakeLmgrd, generation: str) -> AsyncGenerator[Stack]:
    """Everything runs, and the example license's server is known to it."""
    async with stack(folder, generation=generation, started=False, backend=BACKEND) as running:
        (folder / "users.pem").write_text(running.core.users.public_key_pem)
        with (folder / "serai.toml").open("a") as settings:
            settings.write(MORE)
        await running.start()
        server = pb.LicenseServer(
            name="acme",
            addresses=[pb.LicenseServerAddress(host="127.0.0.1", port=lmgrd.port)],
            features=[pb.LicenseFeature(name="solver", seats=2)],
            seats_per=pb.SEATS_PER_JOB,
            product=ProductReference(id="example-license", category="example-license", provider="example"),
        )
        async with grpc.aio.insecure_channel(f"unix:{running.socket}") as channel:
            await LicenseServersServiceStub(channel).Add(pb.AddRequest(server=server, key=KEY))
        yield running


@pytest.fixture
async def lmgrd() -> AsyncGenerator[FakeLmgrd]:
    async with FakeLmgrd(solver=2) as server:
        yield server


@pytest.fixture(params=["2021", "2026"])
async def serai(tmp_path: Path, lmgrd: FakeLmgrd, request: pytest.FixtureRequest) -> AsyncGenerator[Stack]:
    async with licensed(tmp_path, lmgrd, cast("str", request.param)) as running:
        yield running
        assert running.core.repeats == [], "today's Core would not live any more"
        assert_no_key_in(tmp_path)


def assert_no_key_in(folder: Path) -> None:
    """No file that is left, the database and logs included, holds the vendor's key in the clear."""
    found = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink() and KEY in path.read_bytes()]
    assert found == []


class User:
    """Somebody with a token, who talks to the provider's own /api/licenses."""

    def __init__(self, serai: Stack, username: str = "user", project: str | None = None, role: str = "USER") -> None:
        self._serai = serai
        self._headers = {"Authorization": f"Bearer {serai.core.users.token(username, project=project, role=role)}"}
        if project is not None:
            self._headers["Project"] = project

    async def call(self, method: str, path: str, body: Json = None) -> tuple[int, JsonObject]:
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, f"{self._serai.url}/api/licenses{path}", json=body, headers=self._headers) as answer,
        ):
            return answer.status, cast("JsonObject", await answer.json())

    async def buy(self) -> str:
        status, made = await self.call("POST", "", golden(SEED.format(2, "post-licenses.request")))
        assert status == 200, made
        return cast("str", dig(as_list(made["responses"], "")[0], "id"))

    async def until_ready(self, license_id: str) -> JsonObject:
        """The license as soon as it is READY."""
        async with asyncio.timeout(START_S):
            while True:
                status, shown = await self.call("GET", f"/retrieve?id={license_id}")
                assert status == 200, shown
                if dig(shown, "status", "state") == "READY":
                    return shown
                await asyncio.sleep(0.1)


async def test_the_seeds_example_end_to_end(serai: Stack) -> None:
    """Seed 003: retrieveProducts, create, retrieve, each with the documented answer; Core learns of the license once, and it is charged."""
    user = User(serai)
    assert await user.call("GET", "/retrieveProducts") == (200, golden(SEED.format(1, "get-retrieveproducts.response")))
    license_id = await user.buy()
    shown = await user.until_ready(license_id)
    documented = cast("JsonObject", golden(SEED.format(3, "get-retrieve.response")))
    assert shown == documented | {"id": license_id, "createdAt": shown["createdAt"]}
    await serai.core.until(lambda: any(one.provider_generated_id == license_id for one in serai.core.resources))
    assert len(serai.core.resources) == 1
    await serai.core.until(lambda: bool(serai.core.accounts.charges))
    assert sum(charge.charged for charge in serai.core.accounts.charges) == 1


async def test_what_one_may_not_see_is_not_there(serai: Stack) -> None:
    """Issue: 404 for somebody else's, also in another workspace of one's own."""
    license_id = await User(serai).buy()
    for other in (User(serai, "mallory"), User(serai, "user", "p", "PI")):
        assert (await other.call("GET", f"/retrieve?id={license_id}"))[0] == 404
        assert (await other.call("GET", "/browse"))[1]["items"] == []


async def bought_at_core(serai: Stack) -> Resource:
    made, ended = await serai.core.create_resource(ResourceRequest("licenses", EXAMPLE_LICENSE))
    assert ended.accepted, ended
    if serai.core.settings.generation.value == "2021":
        await serai.core.until(lambda: made.state == "READY")
    return made


async def test_a_license_of_core_reaches_the_program_and_is_let_go(serai: Stack, lmgrd: FakeLmgrd) -> None:
    """Facts 2021 §5.3, today §7: READY, a job with it, its binding told, the program has address and key; unbound at the end; deleted."""
    made = await bought_at_core(serai)
    sent = await serai.core.submit(licensed_request(made.id))
    assert sent.accepted, sent.outcome
    await serai.until_final(sent.job_id)
    assert serai.core.jobs[sent.job_id].states[-1] == "SUCCESS", serai.tail(40)
    printed = (serai.work(sent.job_id, ACME_SOLVER.title) / "stdout.txt").read_text().splitlines()
    assert printed[1:] == [f"license server: {lmgrd.port_at_host}", f"key file: {len(KEY)} bytes", "solved"]
    if serai.core.settings.generation.value == "2021":
        bindings = [dig(arrival.update, "binding") for arrival in made.arrivals if arrival.update.get("binding")]
        assert {"kind": "BIND", "job": sent.job_id} in bindings
    await serai.core.until(lambda: made.bound_to == [])
    await serai.core.until(lambda: bool([c for c in serai.core.accounts.charges if made.id in c.charge_id]))
    assert (await serai.core.delete_resource(made.id)).accepted
    assert len(serai.core.resources) == 0


async def test_a_server_that_goes_away_makes_its_licenses_unavailable_until_it_is_back(tmp_path: Path, lmgrd: FakeLmgrd) -> None:
    """Issue 4: PREPARING → READY → UNAVAILABLE → READY, each told to Core of 2021, which refuses jobs meanwhile."""
    async with licensed(tmp_path, lmgrd, "2021") as serai:
        made = await bought_at_core(serai)
        async with lmgrd.away():
            await serai.core.until(lambda: made.state == "UNAVAILABLE")
            refused = await serai.core.submit(licensed_request(made.id))
            assert (refused.outcome.status, refused.outcome.why) == (400, "Not all resources are ready")
        await serai.core.until(lambda: made.state == "READY")
        assert made.states == ["READY", "UNAVAILABLE", "READY"]


async def test_an_unknown_license_is_deleted_with_success(serai: Stack) -> None:
    """Issue 3: or today's Core keeps the license for ever."""
    made = await bought_at_core(serai)
    stranger = serai.core.resources.insert(ResourceRequest("licenses", EXAMPLE_LICENSE), "999999", made.created_at_ms)
    assert (await serai.core.delete_resource(stranger.id)).accepted


@pytest.mark.parametrize("generation", ["2021", "2026"])
async def test_after_a_store_is_put_back_licenses_are_known_again(tmp_path: Path, lmgrd: FakeLmgrd, generation: str) -> None:
    """An older copy of the database knows none of them. Core has them, so they are there again after the comparison at start, in 2026 with
    the ids that their users know, and can be used. Nobody pays again; none is deleted, here or at Core, and none registered twice."""
    async with licensed(tmp_path, lmgrd, generation) as serai:
        await serai.stop()
        database = tmp_path / "state" / "serai.db"
        older = {file.name: file.read_bytes() for file in database.parent.glob("serai.db*")}
        await serai.start()
        user, core = User(serai), serai.core
        ours = await user.buy()
        await user.until_ready(ours)
        cores = (await bought_at_core(serai)).id
        await core.until(lambda: len(core.accounts.charges) == 2)
        await serai.stop()
        at_core = {one.id: one for one in core.resources}
        assert len(at_core) == 2
        paid = sum(charge.charged for charge in core.accounts.charges)

        for file in database.parent.glob("serai.db*"):
            file.unlink()
        for name, content in older.items():
            (database.parent / name).write_bytes(content)
        for one in at_core.values():
            one.created_at_ms -= 600_000  # young ones are left alone
        await serai.start()
        known = {cores, ours} if generation == "2026" else set(at_core)
        async with asyncio.timeout(START_S):
            while {str(dig(item, "id")) for item in as_list((await user.call("GET", "/browse"))[1]["items"], "")} != known:
                await asyncio.sleep(0.1)
        for license_id in known:
            await user.until_ready(license_id)
        if generation == "2026":
            await core.until(lambda: len(core.accounts.charges) == 4)  # told again, and taken for the same
        else:
            code, out, err = await serai.cli("licenses", "payment")
            assert code == 0, err
            assert out.decode().count("UNSURE") == 2, out
        assert sum(charge.charged for charge in core.accounts.charges) == paid
        assert {one.id: one for one in core.resources} == at_core
        assert core.repeats == []
        assert (await core.delete_resource(cores)).accepted
        assert (await user.call("GET", f"/retrieve?id={cores}"))[0] == 404
    assert_no_key_in(tmp_path)
