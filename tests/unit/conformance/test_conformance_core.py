"""The kit as Core: its rules, and how it misbehaves when a rule asks for it. Asked over HTTP, as a provider asks."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import cast

import aiohttp
import jwt
import pytest
from fakes.stack import free_port
from serai_conformance import Generation, Target
from serai_conformance.core import ControlSide
from serai_conformance.model import CannotTest
from serai_conformance.tokens import Signer, generate_key
from serai_conformance.watch import Known

KEY = generate_key()
UPDATE = "/api/jobs/control/update"
CHARGE = "/api/jobs/control/chargeCredits"


@dataclass
class Asking:
    """A provider that calls Core."""

    core: ControlSide
    session: aiohttp.ClientSession
    token: str = ""

    async def post(self, path: str, *items: object) -> tuple[int, dict[str, object]]:
        """Status 0 = the connection was cut."""
        try:
            async with self.session.post(
                self.core.url + path, json={"items": list(items)}, headers={"Authorization": f"Bearer {self.token}"}
            ) as answer:
                return answer.status, cast("dict[str, object]", await answer.json())
        except aiohttp.ClientError:
            return 0, {}

    async def refresh(self) -> None:
        status, body = await self.post("/auth/providers/refresh", {"refreshToken": "x"})
        assert status == 200
        self.token = cast("list[dict[str, str]]", body["responses"])[0]["accessToken"]

    async def update(self, job_id: str, **update: object) -> int:
        return (await self.post(UPDATE, {"id": job_id, "update": update}))[0]


@pytest.fixture(params=list(Generation), ids=lambda generation: generation.value)
async def asking(request: pytest.FixtureRequest) -> AsyncGenerator[Asking]:
    target = Target("http://x", "example", KEY, request.param, listen=("127.0.0.1", 0))
    async with ControlSide(target, Signer(KEY, target.generation)) as core, aiohttp.ClientSession() as session:
        for job_id in ("1", "2"):
            core.records.known[job_id] = Known(job_id, "job", {"id": job_id, "status": {}}, "user", "IN_QUEUE")
        found = Asking(core, session)
        await found.refresh()
        yield found


async def test_the_token_is_the_providers_and_stale_ones_are_refused(asking: Asking) -> None:
    """Signed with the provider's key; another or a stale one is 401 in 2021, 403 today, and strange ones are counted."""
    claims = jwt.decode(asking.token, KEY.public_key(), algorithms=["RS256"], options={"verify_aud": False})
    assert (claims["sub"], claims["role"]) == ("#P_example", "PROVIDER")
    refused = {401, 403}
    asking.core.mischief.stale.update(asking.core.tokens)
    assert await asking.update("1", state="RUNNING") in refused
    assert asking.core.refused_tokens == 0
    asking.token = "hello"
    assert await asking.update("1", state="RUNNING") in refused
    assert asking.core.refused_tokens == 1
    await asking.refresh()
    assert await asking.update("1", state="RUNNING") == 200


async def test_one_unknown_id_spoils_the_request(asking: Asking) -> None:
    """Nothing of it is taken, and all of it is noted."""
    items = [{"id": job_id, "update": {"state": "RUNNING"}} for job_id in ("1", "9")]
    assert (await asking.post(UPDATE, *items))[0] in {400, 404}
    assert asking.core.records.states("1") == []
    assert [told.taken for told in asking.core.records.told] == [False, False]


async def test_an_end_is_an_end(asking: Asking) -> None:
    """Later states are noted and change nothing; conditions hold; a folder stays."""
    assert await asking.update("1", state="RUNNING", outputFolder="/1/Jobs") == 200
    assert await asking.update("1", state="EXPIRED", expectedState="IN_QUEUE") == 200
    assert asking.core.records.known["1"].state == "RUNNING"
    assert await asking.update("1", state="SUCCESS") == 200
    assert await asking.update("1", state="RUNNING") == 200
    known = asking.core.records.known["1"]
    assert (known.state, known.final, known.output_folder) == ("SUCCESS", True, "/1/Jobs")
    assert asking.core.records.states("1") == ["RUNNING", "EXPIRED", "SUCCESS", "RUNNING"]


async def test_a_failure_is_told_once(asking: Asking) -> None:
    """The next request that has the job gets the status, the one after that is taken."""
    asking.core.mischief.fail_once["1"] = 503
    assert await asking.update("2", state="RUNNING") == 200
    assert await asking.update("1", state="RUNNING") == 503
    assert await asking.update("1", state="RUNNING") == 200


async def test_charges_are_noted_also_when_the_answer_is_lost(asking: Asking) -> None:
    """A lost answer is a cut connection; who has no money is said."""
    item = {"id": "1", "chargeId": "1-1", "units": 1, "periods": 1}
    asking.core.mischief.lose_once.add("1")
    assert (await asking.post(CHARGE, item))[0] == 0
    asking.core.mischief.broke.add("1")
    assert await asking.post(CHARGE, item) == (200, {"insufficientFunds": [{"id": "1"}], "duplicateCharges": []})
    assert [charge.scope for charge in asking.core.records.paid("1", "user")] == ["1-1", "1-1"]


async def test_a_place_that_is_taken_is_said_in_words() -> None:
    """And not with a stack."""
    target = Target("http://x", "example", KEY, listen=("127.0.0.1", free_port()))
    signer = Signer(KEY, target.generation)
    async with ControlSide(target, signer):
        with pytest.raises(CannotTest, match="cannot listen at"):
            await ControlSide(target, signer).__aenter__()
