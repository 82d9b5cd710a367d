"""Playing users and administrators over HTTP, below /devcore/: each call reaches the provider, and tells what a user would see."""

from __future__ import annotations

from typing import cast

import aiohttp
import pytest
from fakes.devcore_provider import both
from fakes.devcore_time import StillClock
from serai_devcore import DevCore, Generation, acme_request
from serai_devcore.documents import job_document
from serai_devcore.tokens import PrivateKey, generate_key
from serai_devcore.wire import Json, JsonObject, dig

G2021, G2026 = Generation.G2021, Generation.G2026
LICENSE: JsonObject = {"type": "licenses", "category": "example-compute", "product": "example-compute-1"}


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    return generate_key()


async def ask(core: DevCore, call: str, body: Json = None, **more: str) -> tuple[int, JsonObject]:
    """`call` as HELP names it."""
    method, _, path = call.partition(" ")
    for name, value in more.items():
        path = path.replace(f"{{{name}}}", value)
    async with aiohttp.ClientSession() as session, session.request(method, core.url + path, json=body) as answer:
        assert answer.headers["Cache-Control"] == "no-store"
        return answer.status, cast("JsonObject", await answer.json())


def knows_a_job(core: DevCore) -> None:
    core.expect([job_document(acme_request(), "1", 0, core.generation)])


@pytest.mark.parametrize(
    ("generation", "call", "body", "path"),
    [
        (G2021, "POST /devcore/jobs/{id}/extend", {"hours": 1}, "/jobs/extend"),
        (G2021, "POST /devcore/jobs/{id}/suspend", None, "/jobs/suspend"),
        (G2026, "POST /devcore/jobs/{id}/unsuspend", None, "/jobs/unsuspend"),
        (G2021, "POST /devcore/jobs/{id}/acl", {"added": [], "deleted": []}, "/jobs/updateAcl"),
        (G2021, "GET /devcore/jobs/{id}/utilization", None, "/jobs/retrieveUtilization"),
        (G2026, "POST /devcore/jobs/{id}/labels", {"labels": {}}, "/jobs/onUpdatedLabels"),
        (G2026, "POST /devcore/jobs/{id}/attach", {"resource": {}}, "/jobs/attachResource"),
        (G2026, "POST /devcore/jobs/{id}/detach", {"resource": {}}, "/jobs/detachResource"),
        (G2026, "POST /devcore/jobs/{id}/parameters", None, "/jobs/requestDynamicParameters"),
        (G2026, "POST /devcore/jobs/{id}/session", {"type": "VNC", "rank": 1}, "/jobs/interactiveSession"),
        (G2026, "POST /devcore/terminal", {"folder": "/1"}, "/jobs/openTerminalInFolder"),
        (G2026, "POST /devcore/users", {"call": "unlinked"}, "/integration/unlinked"),
        (G2026, "POST /devcore/keys", {"title": "k", "key": "ssh-ed25519 A"}, "/ssh/keyUploaded"),
        (G2026, "POST /devcore/resources", LICENSE, "/licenses"),
    ],
)
async def test_each_call_is_made_and_its_end_told(key: PrivateKey, generation: Generation, call: str, body: Json, path: str) -> None:
    """The provider's answer stands beside what a user would see of it."""
    async with both(key, generation) as (core, provider):
        knows_a_job(core)
        provider.answers = [(418, b'{"why":"I am a teapot"}')]
        status, told = await ask(core, call, body, id="1")
        assert (status, told["status"], told["answer"]) == (200, 418, {"why": "I am a teapot"})
        assert provider.heard[-1].path == f"/ucloud/example{path}"
        user = 200 if path == "/ssh/keyUploaded" else 418
        assert dig(told, "user", "status") == user


async def test_verify_polls_bills_and_lost_usage(key: PrivateKey) -> None:
    """Calls that are no user's: each generation has its own, and says so of the other's."""
    async with both(key, G2021) as (core, provider):
        knows_a_job(core)
        assert (await ask(core, "POST /devcore/verify", {"ids": ["1"]}))[1]["status"] == 200
        assert provider.heard[-1].path == "/ucloud/example/jobs/verify"
        core.accounts.charge("example", [{"id": "1", "chargeId": "a", "units": 3}])
        bill: JsonObject = {"credits": 3_000_000, "periods": 3, "replicas": 1, "price": 1_000_000, "odd": 0}
        assert await ask(core, "GET /devcore/jobs/{id}/bill", id="1") == (200, bill)
        assert (await ask(core, "POST /devcore/poll"))[0] == 404
        assert (await ask(core, "POST /devcore/usage/lose"))[0] == 404
        assert (await ask(core, "GET /devcore/jobs/{id}/bill", id="9"))[0] == 404
    async with both(key, G2026, clock=StillClock()) as (core, _):
        assert await ask(core, "POST /devcore/poll") == (200, {"support": True, "branding": True})
        assert await ask(core, "POST /devcore/usage/lose") == (200, {})
        assert (await ask(core, "POST /devcore/verify"))[0] == 404


async def test_a_license_comes_and_goes(key: PrivateKey) -> None:
    async with both(key, G2026) as (core, provider):
        _, made = await ask(core, "POST /devcore/resources", LICENSE)
        assert dig(made, "user", "status") == 200
        _, gone = await ask(core, "DELETE /devcore/resources/{id}", id=str(made["id"]))
        assert (dig(gone, "user", "status"), provider.heard[-1].method, len(core.resources)) == (200, "DELETE", 0)
        assert (await ask(core, "POST /devcore/resources", LICENSE | {"product": "none"}))[0] == 404
        assert (await ask(core, "POST /devcore/resources", LICENSE | {"type": "cars"}))[0] == 404


@pytest.mark.parametrize(
    ("call", "body"),
    [
        ("POST /devcore/jobs/{id}/extend", {"hours": "1"}),
        ("POST /devcore/jobs/{id}/extend", {"days": 1}),
        ("POST /devcore/jobs/{id}/labels", {}),
        ("POST /devcore/users", {"call": "dance"}),
        ("POST /devcore/keys", {"title": "k"}),
    ],
)
async def test_a_wrong_wish_is_a_400_and_nothing_is_sent(key: PrivateKey, call: str, body: Json) -> None:
    async with both(key, G2026) as (core, provider):
        knows_a_job(core)
        assert (await ask(core, call, body, id="1"))[0] == 400
        assert provider.heard == []
