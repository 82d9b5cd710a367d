"""The seed's five examples, replayed as its curl calls send them, in generation 2021: documented answers, documented control calls.

The requests are kept byte for byte below tests/golden/ucloud-2021 and in examples/requests.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import cast

import aiohttp
import pytest
from fakes.stack import ROOT, UNIT_PRODUCT, Stack, stack
from golden.load import INDEX, Golden
from serai_devcore import WalletKey
from serai_devcore.accounts import Product
from serai_devcore.applications import acme_request, shell_request
from serai_devcore.documents import job_document
from serai_devcore.records import Exchange
from serai_devcore.wire import Generation, Json, JsonObject, as_object, dig, parse, read_items

SEED_CONTENT_TYPE = {"Content-Type": "content-type: application/json; charset=utf-8"}
"""As the seed's curl sends it: the header's name stands in its value too."""
BATCH = ROOT / "examples" / "requests" / "batch.json"


@pytest.fixture
async def serai(tmp_path: Path) -> AsyncGenerator[Stack]:
    async with stack(tmp_path) as running:
        running.core.providers["example"].path_name = "ucloud"
        yield running


def seed(number: int, kind: str = "request") -> Golden:
    """The seed's call of this number, or what is documented to come back."""
    return next(g for g in INDEX if g.file.startswith(f"jobs-provider-{number:02}-") and g.kind == kind)


def same_keys(ours: Json, theirs: Json) -> bool:
    """The same keys in the same order, all the way down; values may differ."""
    if isinstance(theirs, dict):
        return isinstance(ours, dict) and list(ours) == list(theirs) and all(same_keys(ours[key], theirs[key]) for key in theirs)
    if isinstance(theirs, list):
        return isinstance(ours, list) and all(same_keys(element, theirs[0]) for element in ours)
    return not isinstance(ours, dict | list)


def control_calls(running: Stack, call: str) -> list[Exchange]:
    return running.core.requests.find(path=f"/api/jobs/control/{call}")


async def to_core(running: Stack, golden: Golden) -> tuple[int, Json]:
    """Send a control call of the seed to Core, as its curl does with the provider's token."""
    token = running.core.providers["example"].issuer.access_token()
    headers = {"Authorization": f"Bearer {token}"} | SEED_CONTENT_TYPE
    async with (
        aiohttp.ClientSession() as session,
        session.request(golden.verb, running.core.url + golden.path, data=golden.body, headers=headers) as answer,
    ):
        return answer.status, cast("Json", await answer.json())


async def test_examples_1_and_2_declaring_support(serai: Stack) -> None:
    """Both retrieveProducts calls: one entry for each product of the settings, with exactly the documented keys in the documented order;
    flags are true or null; what is not supported is null throughout, as in the second example."""
    for number in (1, 2):
        assert seed(number, "response").path == "/ucloud/{provider}/jobs/retrieveProducts"
        answer = await serai.core.client.call(serai.core.providers["example"], "GET", "/jobs/retrieveProducts")
        assert answer.status == 200
        entries = cast("list[JsonObject]", as_object(answer.body, "")["responses"])
        documented = cast("list[JsonObject]", seed(number, "response").json["responses"])
        assert [dig(entry, "product", "id") for entry in entries] == ["example-compute-1", "example-unit", "example-tiny"]
        for entry in entries:
            known = {key: entry[key] for key in ("product", "docker", "virtualMachine")}
            assert same_keys(cast("Json", known), documented[0])
            assert all(flag in {True, None} for block in ("docker", "virtualMachine") for flag in as_object(entry[block], block).values())
        assert entries[0]["product"] == documented[0]["product"]
        assert dig(entries[0], "docker", "enabled") is True
        assert entries[0]["virtualMachine"] == seed(1, "response").json["responses"][0]["virtualMachine"]


async def test_example_3_a_batch_job_and_its_life(serai: Stack) -> None:
    """The create gives {"responses":[null]}; Core is then told RUNNING and SUCCESS with the documented keys and words, and answers {}."""
    assert json.loads(BATCH.read_bytes()) == seed(3).json
    (sent,) = await serai.core.submit_raw(seed(3).body, SEED_CONTENT_TYPE)
    assert sent.answer.body == seed(3, "response").json
    await serai.until_final(sent.job_id)
    told: list[JsonObject] = []
    for exchange in control_calls(serai, "update"):
        assert (exchange.status, exchange.answer) == (200, seed(4, "response").json)
        told += read_items(as_object(exchange.body, ""))
    for number, state in ((4, "RUNNING"), (5, "SUCCESS")):
        documented = cast("JsonObject", seed(number).json["items"][0])
        (item,) = [item for item in told if dig(item, "update", "state") == state]
        assert item["id"] == documented["id"]
        assert dig(documented, "update", "state") == state
        assert dig(item, "update", "status") == dig(documented, "update", "status")
        assert set(as_object(item["update"], "")) <= set(as_object(documented["update"], ""))


async def test_example_4_accounting(serai: Stack) -> None:
    """A charge has exactly the documented keys; when Core says that the owner's funds are insufficient, Core is told what the seed's last
    call tells: SUCCESS, "The job was terminated (No credits)"."""
    first = await serai.core.submit(shell_request("exit 0", product=UNIT_PRODUCT))
    await serai.until_final(first.job_id)
    await serai.core.until(lambda: bool(control_calls(serai, "chargeCredits")))
    exchange = control_calls(serai, "chargeCredits")[0]
    assert same_keys(exchange.body, seed(6).json)
    assert exchange.answer == seed(6, "response").json
    serai.core.set_credits(first.job_id, 0)
    sent = await serai.core.submit(shell_request("sleep 600", product=UNIT_PRODUCT))
    await serai.until_final(sent.job_id)
    refused = control_calls(serai, "chargeCredits")[-1].answer
    assert refused == {"insufficientFunds": [{"id": sent.job_id}], "duplicateCharges": []}
    assert same_keys(refused, seed(7, "response").json)
    last = read_items(as_object(control_calls(serai, "update")[-1].body, ""))[-1]
    documented = cast("JsonObject", seed(8).json["items"][0])
    assert last["id"] == sent.job_id
    for key in ("state", "status"):
        assert dig(last, "update", key) == dig(documented, "update", key)


async def test_example_4_the_seeds_own_control_calls(serai: Stack) -> None:
    """The stand-in answers the three calls of the example as the seed says: 15 periods of 1 and of 23 products are paid, the next ones of
    the second job are not, and its final state is taken."""
    core = serai.core
    core.expect([job_document(acme_request(), "51231", 0, Generation.G2021)])
    poor = Product(id="example-compute-2", category="example-other", provider="example", price_per_unit=1)
    core.accounts.add_product(poor)
    core.expect([job_document(acme_request(product=poor), "63489", 0, Generation.G2021)])
    core.accounts.set_credits(WalletKey("user:user", "example", "example-other"), 15 * 23)
    for number in (6, 7, 8):
        assert await to_core(serai, seed(number)) == (200, seed(number, "response").json)
    assert (core.jobs["63489"].state, core.jobs["51231"].state) == ("SUCCESS", "IN_QUEUE")
    assert core.bill_of("63489").credits == 15 * 23
    assert core.bill_of("51231").periods == 30


async def test_example_5_a_job_that_is_not_known_any_more(serai: Stack) -> None:
    """The verify call is answered 200; Core is told FAILURE and "Your job is no longer available" of the job that Serai does not know."""
    core = serai.core
    core.expect(read_items(parse(seed(9).body)))
    core.jobs.update("example", [{"id": "54112", "update": {"state": "RUNNING"}}])
    answer = await core.client.call(core.providers["example"], "POST", "/jobs/verify", seed(9).body, headers=SEED_CONTENT_TYPE)
    assert (answer.status, answer.body) == (200, seed(9, "response").json)
    await core.until(lambda: core.jobs["54112"].final)
    (item,) = read_items(as_object(control_calls(serai, "update")[-1].body, ""))
    documented = cast("JsonObject", seed(10).json["items"][0])
    assert item["id"] == documented["id"]
    for key in ("state", "status"):
        assert dig(item, "update", key) == dig(documented, "update", key)


async def test_example_5_a_job_that_is_known(serai: Stack) -> None:
    """The same call for a job that runs changes nothing: it ends as it would have."""
    core = serai.core
    sent = await core.submit(shell_request("while [ ! -e go ]; do sleep 0.02; done"))
    await core.until(lambda: core.jobs[sent.job_id].state == "RUNNING")
    assert (await core.verify(sent.job_id)).status == 200
    (serai.work(sent.job_id) / "go").touch()
    await serai.until_final(sent.job_id)
    assert [a.state for a in core.jobs[sent.job_id].arrivals if a.state and a.state != "RUNNING"] == ["SUCCESS"]
