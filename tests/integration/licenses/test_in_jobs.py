"""What licenses are to jobs: who may use which, how many seats that takes, and what the program is told of address and key."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.license_inside import ALICE, MESHER, SOLVER, VIEWER, Inside, inside
from fakes.license_rows import job_with, submitted
from fakes.licensed import license_message
from serai_backends.errors import BackendUnavailable, SubmissionRefused
from serai_backends.model import Secret
from serai_server.errors import InvalidRequest, NotEnoughLicenses, WrongState
from serai_server.licenses import words
from serai_server.licenses.in_jobs import MOST_LICENSES, NOTHING_TOLD, Used, Whose
from serai_server.licenses.ports import SeatPlan, Standing
from serai_server.licenses.products import Argument, LicenseProduct
from serai_server.licenses.servers.vault import VaultError
from serai_server.store.license_model import NewClaim, SeatsTaken
from serai_server.store.model import Outcome

HERS = Whose("alice", "", "example", replicas=1)
KEY = b"a vendor's key\n"
WHERE = "items[0].specification.parameters.license"
NOT_THERE = "there is no such license in the job's workspace; choose another one"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncGenerator[Inside]:
    async with inside(tmp_path) as made:
        yield made


def used(*names: str) -> list[Used]:
    return [Used(name, WHERE) for name in names]


async def refusal(site: Inside, *names: str, whose: Whose = HERS) -> str:
    with pytest.raises(InvalidRequest) as raised:
        await site.in_jobs.check(used(*names), whose)
    assert raised.value.field == WHERE
    return raised.value.text


async def holds(site: Inside, *licenses: tuple[str, LicenseProduct], job_id: str = "1") -> str:
    """A job that has the seats of these licenses, which are paid."""
    await site.settle(Outcome.DELIVERED, kind="charge")
    await site.store.create_jobs([job_with(job_id, *((name, product.key, 1) for name, product in licenses))])
    row, answer = await site.licenses.take_seats(submitted(job_id), site.servers.limits())
    assert isinstance(answer, SeatsTaken), answer
    assert row is not None
    return job_id


async def ready(site: Inside, *products: LicenseProduct) -> None:
    for product in products:
        site.servers.stands(product, Standing.UP)
    await site.passes()


class TestWhoMayUseWhich:
    async def test_ones_own(self, site: Inside) -> None:
        """By Core's id; several of different products; one that is named twice is used once."""
        await site.bought("1", SOLVER)
        await site.bought("2", MESHER)
        claims = await site.in_jobs.check(used("1", "2", "1"), HERS)
        assert claims == (NewClaim("1", SOLVER.key, 1), NewClaim("2", MESHER.key, 1))
        assert await site.in_jobs.check([], HERS) == ()

    async def test_one_that_core_calls_otherwise(self, site: Inside) -> None:
        """By Core's id and by ours: the claim is on ours. Both together are one."""
        (license_id,) = await site.made()
        await site.settle(Outcome.DELIVERED, core_id="77")
        for names in (("77",), (license_id,), ("77", license_id)):
            assert await site.in_jobs.check(used(*names), HERS) == (NewClaim(license_id, SOLVER.key, 1),)

    async def test_what_may_not_be_used_is_not_there(self, site: Inside) -> None:
        """Of another user or project, of the other of one's own workspaces, deleted, unknown, no id at all: one text."""
        await site.bought("1")
        await site.bought("2", owner="bob")
        await site.bought("3", project="p")
        await site.bought("4")
        await site.service.delete(["4"], ALICE)
        for name in ("2", "3", "4", "5", "", "../1", "x" * 100, "1\n"):
            assert await refusal(site, name) == NOT_THERE, name
        in_p, in_q = replace(HERS, project="p"), replace(HERS, project="q")
        assert await refusal(site, "1", whose=in_p) == NOT_THERE
        assert await refusal(site, "3", whose=in_q) == NOT_THERE
        assert await refusal(site, "1", "2") == NOT_THERE

    async def test_a_projects_license_is_for_all_its_jobs(self, site: Inside) -> None:
        """Whoever of the project runs them."""
        await site.bought("3", project="p")
        for owner in ("alice", "bob"):
            assert len(await site.in_jobs.check(used("3"), replace(HERS, owner=owner, project="p"))) == 1

    async def test_of_another_provider(self, site: Inside) -> None:
        """Than the machine type is."""
        await site.bought("1", VIEWER)
        assert await refusal(site, "1") == "the license is of another provider than the machine type"
        assert len(await site.in_jobs.check(used("1"), replace(HERS, provider="other"))) == 1

    async def test_one_that_cannot_be_used_now(self, site: Inside) -> None:
        """Refused with the license's own words; for one that is being prepared the job may come."""
        await site.bought("1")
        assert len(await site.in_jobs.check(used("1"), HERS)) == 1
        site.servers.stands(SOLVER, Standing.DOWN)
        await site.passes()
        with pytest.raises(WrongState) as raised:
            await site.in_jobs.check(used("1"), HERS)
        assert raised.value.text == f"{WHERE}: not all resources are ready. {words.down('')}"

    async def test_too_many(self, site: Inside) -> None:
        """Different ones; the same one may be named as often as it likes."""
        await site.bought("1")
        assert len(await site.in_jobs.check(used(*(["1"] * 100)), HERS)) == 1
        assert await refusal(site, *(str(n) for n in range(MOST_LICENSES + 1))) == f"expected at most {MOST_LICENSES} licenses"

    @pytest.mark.parametrize(
        ("seats", "replicas", "needed"),
        [
            (SeatPlan("solver", 4, per_replica=True), 4, 4),
            (SeatPlan("solver", 4, per_replica=False), 9, 1),
            (SeatPlan("", 0, per_replica=True), 9, 9),
            (SeatPlan("", 0, per_replica=False), 9, 1),
            (SeatPlan("solver", 4, per_replica=True), 5, 0),
            (SeatPlan("solver", 0, per_replica=False), 1, 0),
        ],
    )
    async def test_seats(self, site: Inside, seats: SeatPlan, replicas: int, needed: int) -> None:
        """For each replica or for the job, and refused when there never are that many; `needed` 0 = refused."""
        await site.bought("1")
        site.servers.serves(SOLVER, seats=seats)
        whose = replace(HERS, replicas=replicas)
        if needed:
            assert await site.in_jobs.check(used("1"), whose) == (NewClaim("1", SOLVER.key, needed),)
            return
        with pytest.raises(NotEnoughLicenses, match=f"needs {5 if replicas == 5 else 1} seats of the license and there are {seats.seats}"):
            await site.in_jobs.check(used("1"), whose)


class TestWhatAProgramIsTold:
    async def test_address_and_key(self, site: Inside) -> None:
        """The variable of the product, the text of the command line, the file and the variable with its path."""
        await site.bought("1")
        site.servers.serves(SOLVER, ("lic1", 27_001), key=KEY)
        await ready(site, SOLVER)
        job_id = await holds(site, ("1", SOLVER))
        told = await site.in_jobs.told(job_id)
        assert told.texts == {"1": "27001@lic1"}
        assert told.environment == {"LM_LICENSE_FILE": "27001@lic1", "SERAI_LICENSE_FILE": "/etc/ucloud/secrets/license-1"}
        assert told.secrets == ("license-1",)
        assert await site.in_jobs.secrets(job_id) == (Secret("license-1", KEY),)

    async def test_several_licenses_and_a_triad(self, site: Inside) -> None:
        """Colons between servers, commas within a triad, each address once; colons between paths too."""
        await site.of_core.create([license_message(n, "alice", "", p) for n, p in (("1", SOLVER), ("2", MESHER), ("3", SOLVER))])
        site.servers.serves(SOLVER, ("lic1", 27_001), key=KEY)
        site.servers.serves(MESHER, ("a", 1), ("b", 2), ("c", 3), key=b"k")
        await ready(site, SOLVER, MESHER)
        job_id = await holds(site, ("1", SOLVER), ("2", MESHER), ("3", SOLVER))
        told = await site.in_jobs.told(job_id)
        assert told.environment["LM_LICENSE_FILE"].split(":") == ["27001@lic1", "1@a,2@b,3@c"]
        assert told.environment["MESHER_FILE"] == "1@a,2@b,3@c"
        assert told.environment["SERAI_LICENSE_FILE"].split(":") == [f"/etc/ucloud/secrets/license-{n}" for n in "123"]
        assert told.texts == {"1": "27001@lic1", "2": "1@a,2@b,3@c", "3": "27001@lic1"}
        assert {secret.name for secret in await site.in_jobs.secrets(job_id)} == set(told.secrets)

    async def test_both_names_of_a_license_have_the_text(self, site: Inside) -> None:
        """A job may name it as Core does or as we do."""
        (license_id,) = await site.made()
        await site.settle(Outcome.DELIVERED, core_id="77")
        site.servers.serves(SOLVER)
        await ready(site, SOLVER)
        told = await site.in_jobs.told(await holds(site, (license_id, SOLVER)))
        assert told.texts == {license_id: "27000@lic1", "77": "27000@lic1"}

    @pytest.mark.parametrize(
        ("argument", "text"),
        [
            ("port_at_host", "1@a,2@b,3@c"),
            ("file", "/etc/ucloud/secrets/license-1"),
            ("address", "a:1"),
            ("address_and_key", "a:1/a vendor's key"),
        ],
    )
    async def test_forms_of_the_argument(self, tmp_path: Path, argument: Argument, text: str) -> None:
        """As the product says; a triad has its first address where there is room for one."""
        product = replace(SOLVER, argument=argument)
        async with inside(tmp_path, product) as site:
            await site.bought("1")
            site.servers.serves(product, ("a", 1), ("b", 2), ("c", 3), key=KEY)
            await ready(site, product)
            assert (await site.in_jobs.told(await holds(site, ("1", product)))).texts == {"1": text}

    async def test_the_argument_with_a_key_where_there_is_none(self, tmp_path: Path) -> None:
        """Address alone, without a slash."""
        product = replace(SOLVER, argument="address_and_key")
        async with inside(tmp_path, product) as site:
            await site.bought("1")
            site.servers.serves(product, ("a", 1))
            await ready(site, product)
            told = await site.in_jobs.told(await holds(site, ("1", product)))
            assert (told.texts, told.secrets) == ({"1": "a:1"}, ())
            assert "SERAI_LICENSE_FILE" not in told.environment

    async def test_without_a_key_file(self, tmp_path: Path) -> None:
        """The product does not want one: the key goes nowhere, though the server has one."""
        product = replace(SOLVER, key_file=False)
        async with inside(tmp_path, product) as site:
            await site.bought("1")
            site.servers.serves(product, key=KEY)
            await ready(site, product)
            job_id = await holds(site, ("1", product))
            told = await site.in_jobs.told(job_id)
            assert (told.secrets, "SERAI_LICENSE_FILE" in told.environment) == ((), False)
            assert await site.in_jobs.secrets(job_id) == ()

    async def test_a_key_beside_a_license_that_needs_none(self, site: Inside) -> None:
        """What is given is what the job was told of, and nothing more: a backend takes nothing else."""
        await site.bought("1", SOLVER)
        await site.bought("2", MESHER)
        site.servers.serves(SOLVER, key=KEY)
        site.servers.serves(MESHER)
        await ready(site, SOLVER, MESHER)
        job_id = await holds(site, ("1", SOLVER), ("2", MESHER))
        assert (await site.in_jobs.told(job_id)).secrets == ("license-1",)
        assert await site.in_jobs.secrets(job_id) == (Secret("license-1", KEY),)

    async def test_a_job_without_licenses(self, site: Inside) -> None:
        await site.store.create_jobs([job_with("1")])
        assert await site.in_jobs.told("1") == NOTHING_TOLD
        assert await site.in_jobs.secrets("1") == ()


class TestKeysAreForThoseWhoHaveSeats:
    async def test_a_job_that_waits_gets_none(self, site: Inside) -> None:
        """Whoever asks for it."""
        await site.bought("1")
        site.servers.serves(SOLVER, key=KEY)
        await site.store.create_jobs([job_with("1", ("1", SOLVER.key, 1))])
        assert await site.in_jobs.secrets("1") == ()

    async def test_a_server_that_is_gone(self, site: Inside) -> None:
        """The job never runs, and says why."""
        await site.bought("1")
        site.servers.serves(SOLVER, key=KEY)
        await ready(site, SOLVER)
        job_id = await holds(site, ("1", SOLVER))
        del site.servers.reaches[SOLVER.key]
        for ask in (site.in_jobs.told, site.in_jobs.secrets):
            with pytest.raises(SubmissionRefused) as raised:
                await ask(job_id)
            assert str(raised.value) == words.NO_SERVER

    async def test_a_product_that_is_not_sold_any_more(self, site: Inside) -> None:
        await site.bought("1")
        site.servers.serves(SOLVER, key=KEY)
        await ready(site, SOLVER)
        job_id = await holds(site, ("1", SOLVER))
        less = Inside(site.store, site.clock, MESHER)
        for ask in (less.in_jobs.told, less.in_jobs.secrets):
            with pytest.raises(SubmissionRefused) as raised:
                await ask(job_id)
            assert str(raised.value) == words.NOT_SOLD

    async def test_a_key_that_cannot_be_an_argument(self, site: Inside) -> None:
        """With a NUL in it no program can be started: the job ends with words."""
        await site.bought("1")
        site.servers.serves(SOLVER, key=b"a\0b")
        await ready(site, SOLVER)
        job_id = await holds(site, ("1", SOLVER))
        on_the_line = Inside(site.store, site.clock, replace(SOLVER, argument="address_and_key"))
        on_the_line.servers.serves(SOLVER, key=b"a\0b")
        with pytest.raises(SubmissionRefused, match=f"^{words.KEY_NO_ARGUMENT}$"):
            await on_the_line.in_jobs.told(job_id)
        assert (await site.in_jobs.told(job_id)).secrets

    async def test_a_key_that_cannot_be_unsealed_now(self, site: Inside) -> None:
        """The job waits for the operator, and is not lost; its user is told that, and neither where the key is nor what ails it."""
        await site.bought("1")
        site.servers.serves(SOLVER, key=KEY)
        await ready(site, SOLVER)
        job_id = await holds(site, ("1", SOLVER))
        site.servers.reaches[SOLVER.key] = VaultError("there is no file")
        for ask in (site.in_jobs.told, site.in_jobs.secrets):
            with pytest.raises(BackendUnavailable, match=f"^{words.KEY_NOT_READ}$"):
                await ask(job_id)
