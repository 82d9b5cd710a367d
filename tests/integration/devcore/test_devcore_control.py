"""Products, registered jobs, existence and credit checks over the wire, as a provider calls them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast

import aiohttp
import pytest
from serai_devcore import EXAMPLE_LICENSE, EXAMPLE_PRODUCT, DevCore, Generation, Settings, acme_request
from serai_devcore.documents import job_document
from serai_devcore.resources import ResourceRequest
from serai_devcore.tokens import PrivateKey, generate_key
from serai_devcore.wire import Json, JsonObject, dig

G2021, G2026 = Generation.G2021, Generation.G2026
SPEC: JsonObject = {
    "product": {"id": "example-compute-1", "category": "example-compute", "provider": "example"},
    "application": {"name": "acme-batch", "version": "1.0.0"},
    "replicas": 2,
    "parameters": {},
    "resources": [],
    "timeAllocation": None,
}
V1: JsonObject = {
    "type": "compute",
    "name": "big",
    "pricePerUnit": 7,
    "category": {"name": "example-compute", "provider": "example"},
    "unitOfPrice": "CREDITS_PER_HOUR",
    "cpu": 64,
}
V2: JsonObject = {
    "type": "compute",
    "productType": "COMPUTE",
    "name": "big",
    "description": "A big machine",
    "price": 7,
    "fraction": {"numerator": 1, "denominator": 1},
    "category": {
        "name": "example-compute",
        "provider": "example",
        "productType": "COMPUTE",
        "accountingUnit": {"name": "DKK", "namePlural": "DKK", "floatingPoint": True, "displayFrequencySuffix": False},
        "accountingFrequency": "PERIODIC_HOUR",
    },
    "cpu": 64,
}


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    return generate_key()


@dataclass
class Caller:
    core: DevCore
    session: aiohttp.ClientSession

    async def call(self, method: str, path: str, body: Json = None, *, token: bool = True) -> tuple[int, JsonObject]:
        headers = {"Authorization": f"Bearer {self.core.providers['example'].issuer.access_token()}"} if token else {}
        async with self.session.request(method, self.core.url + path, json=body, headers=headers) as answer:
            return answer.status, cast("JsonObject", await answer.json())

    async def post(self, path: str, *items: JsonObject) -> tuple[int, JsonObject]:
        return await self.call("POST", path, {"items": list(items)})


@asynccontextmanager
async def talking(key: PrivateKey, generation: Generation) -> AsyncGenerator[Caller]:
    async with DevCore(Settings(generation=generation)) as core, aiohttp.ClientSession() as session:
        core.add_provider("example", key=key)
        core.expect([job_document(acme_request(), "1", 0, generation)])
        yield Caller(core, session)


async def test_products_of_2021_are_registered_read_and_versioned(key: PrivateKey) -> None:
    """2021 §8.4: own provider only, an existing name makes a new version, the newest price counts; retrieve by three filters, browse by
    provider and area."""
    async with talking(key, G2021) as caller:
        assert await caller.post("/api/products", V1) == (200, {})
        assert await caller.post("/api/products", V1 | {"pricePerUnit": 9}) == (200, {})
        where = "filterName=big&filterCategory=example-compute&filterProvider=example"
        status, found = await caller.call("GET", f"/api/products/retrieve?{where}")
        assert status == 200
        assert (found["type"], found["pricePerUnit"], found["version"], found["cpu"]) == ("compute", 9, 2, 64)
        _, page = await caller.call("GET", "/api/products/browse?filterProvider=example&filterArea=COMPUTE")
        assert [dig(item, "name") for item in cast("list[Json]", page["items"])] == ["big", "example-compute-1"]
        _, page = await caller.call("GET", "/api/products/browse?filterProvider=example&filterArea=LICENSE")
        assert [dig(item, "name") for item in cast("list[Json]", page["items"])] == ["example-license"]
        product = caller.core.accounts.products["example", "example-compute", "big"]
        assert (product.price_per_unit, product.unit, product.cpu) == (9, "CREDITS_PER_HOUR", 64)


async def test_products_of_today_are_registered_and_anybody_may_read_them(key: PrivateKey) -> None:
    """today §2 step 9, and the reference of products/v2: create for providers, retrieve and browse without a token; pages go on after
    provider@category@name."""
    async with talking(key, G2026) as caller:
        more = [V2 | {"name": f"m-{number:02}"} for number in range(11)]
        assert await caller.post("/api/products/v2", V2, *more) == (200, {})
        where = "filterName=big&filterCategory=example-compute&filterProvider=example"
        status, found = await caller.call("GET", f"/api/products/v2/retrieve?{where}", token=False)
        assert status == 200
        assert (found["price"], dig(found, "category", "accountingFrequency"), found["cpu"]) == (7, "PERIODIC_HOUR", 64)
        assert "version" not in found
        _, page = await caller.call("GET", "/api/products/v2/browse?filterProductType=COMPUTE&itemsPerPage=10", token=False)
        assert (len(cast("list[Json]", page["items"])), page["next"]) == (10, "example@example-compute@m-07")
        _, rest = await caller.call("GET", f"/api/products/v2/browse?filterProductType=COMPUTE&next={page['next']}", token=False)
        assert ([dig(item, "name") for item in cast("list[Json]", rest["items"])], rest["next"]) == (["m-08", "m-09", "m-10"], None)
        assert (await caller.call("GET", "/api/products/v2/retrieve?filterName=big", token=False))[0] == 400
        status, _ = await caller.call("GET", f"/api/products/v2/retrieve?{where.replace('big', 'none')}", token=False)
        assert status == 404


FOREIGN: JsonObject = {"name": "example-compute", "provider": "other"}


@pytest.mark.parametrize(
    ("generation", "item", "status"),
    [
        (G2021, V1 | {"category": FOREIGN}, 403),
        (G2021, V1 | {"type": "car"}, 400),
        (G2021, V1 | {"unitOfPrice": "PER_YEAR"}, 400),
        (G2021, {key: value for key, value in V1.items() if key != "pricePerUnit"}, 400),
        (G2026, V2 | {"category": cast("JsonObject", V2["category"]) | {"provider": "other"}}, 403),
        (G2026, V2 | {"productType": "LICENSE"}, 400),
        *[
            (G2026, {key: value for key, value in V2.items() if key != left_out}, 400)
            for left_out in ("type", "price", "fraction", "category")
        ],
    ],
)
async def test_a_product_that_is_foreign_or_lacks_something_is_refused(
    key: PrivateKey, generation: Generation, item: JsonObject, status: int
) -> None:
    """2021 §8.4 and §7 Keys in; today §2 step 9: nothing of the bulk is registered."""
    async with talking(key, generation) as caller:
        path, good = ("/api/products", V1) if generation is G2021 else ("/api/products/v2", V2)
        assert (await caller.post(path, good, item))[0] == status
        assert list(caller.core.accounts.products) == [EXAMPLE_PRODUCT.key, EXAMPLE_LICENSE.key]
        assert (await caller.call("POST", path, {"items": [good]}, token=False))[0] in {401, 403}


async def test_existence_is_told_item_by_item(key: PrivateKey) -> None:
    """today §9 and the reference of checkExistence: type and id both count, foreign ones are not there, an empty list is fine, and 2021
    has no such call."""
    path = "/api/providers/resources/checkExistence"
    async with talking(key, G2026) as caller:
        caller.core.resources.insert(ResourceRequest("licenses", EXAMPLE_PRODUCT), "7", 0)
        asked: list[JsonObject] = [{"type": kind, "id": i} for kind, i in (("job", "1"), ("job", "7"), ("license", "7"), ("job", "9"))]
        assert await caller.post(path, *asked) == (200, {"responses": [True, False, True, False]})
        caller.core.jobs["1"].provider = "other"
        assert await caller.post(path, asked[0]) == (200, {"responses": [False]})
        assert await caller.post(path) == (200, {"responses": []})
        assert (await caller.post(path, *[asked[0]] * 1001))[0] == 400
    async with talking(key, G2021) as caller:
        assert (await caller.post(path, {"type": "job", "id": "1"}))[0] == 404


async def test_check_credits_is_there_today_only(key: PrivateKey) -> None:
    """2021 §2: no checkCredits at this commit; today §9: same shape as chargeCredits."""
    item: JsonObject = {"id": "1", "chargeId": "c", "units": 1, "periods": 1}
    async with talking(key, G2026) as caller:
        assert (await caller.post("/api/jobs/control/checkCredits", item))[1] == {"insufficientFunds": [], "duplicateCharges": []}
    async with talking(key, G2021) as caller:
        assert (await caller.post("/api/jobs/control/checkCredits", item))[0] == 404


@pytest.mark.parametrize("generation", [G2021, G2026])
async def test_a_provider_registers_jobs_of_its_own(key: PrivateKey, generation: Generation) -> None:
    """2021 §2.3, today §9: ids come back; the job is confirmed and can be updated; a foreign provider is 403, a comma in its own id 400;
    the same own id again is the same job in 2021; today it is refused (core2/pkg/orchestrator/resources.go, ResourceCreateEx)."""
    async with talking(key, generation) as caller:
        path = "/api/jobs/control/register"
        status, answer = await caller.post(path, {"spec": SPEC, "providerGeneratedId": "mine"}, {"spec": SPEC, "createdBy": "u"})
        assert status == 200
        first, second = (str(dig(found, "id")) for found in cast("list[Json]", answer["responses"]))
        jobs = caller.core.jobs
        assert (jobs[first].username, jobs[first].replicas, jobs[first].provider_generated_id) == ("_ucloud", 2, "mine")
        assert (jobs[second].username, jobs[second].confirmed) == ("u", True)
        assert (await caller.post("/api/jobs/control/update", {"id": second, "update": {"state": "RUNNING"}}))[0] == 200
        again = await caller.post(path, {"spec": SPEC, "providerGeneratedId": "mine"})
        assert again == (200, {"responses": [{"id": first}]}) if generation is G2021 else again[0] == 409
        assert [repeat.fatal for repeat in caller.core.repeats] == ([] if generation is G2021 else [False])
        foreign: JsonObject = {"spec": SPEC | cast("JsonObject", {"product": {"id": "x", "category": "y", "provider": "other"}})}
        assert (await caller.post(path, foreign))[0] == 403
        assert (await caller.post(path, {"spec": SPEC}, foreign))[0] == (400 if generation is G2021 else 403)
        assert (await caller.post(path, {"spec": SPEC, "providerGeneratedId": "a,b"}))[0] == 400
        assert len(jobs) == 3
