"""The one charge of a license: what Core's answers make of it, what is asked again, and where an operator has to decide."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import pytest
from fakes.license_money import FREE, SOLVER, Money, money
from fakes.license_rows import job_with, submitted
from fakes.licensed import reference
from serai.core.v1.resources_pb2 import ResourceOwner
from serai.events.v1.events_service_pb2 import Event
from serai.licenses.v1 import license_servers_service_pb2 as pb
from serai.licenses.v1.license_pb2 import JOB_BIND_KIND_BIND, LicenseSpecification
from serai_server.errors import InvalidRequest, LicenseUnknown, WrongState
from serai_server.licenses import words
from serai_server.licenses.access import Actor
from serai_server.licenses.states import revived
from serai_server.store.api import StoreUnavailable
from serai_server.store.license_model import AtCore, LicenseChange, LicenseState, Payment, StoredLicense
from serai_server.store.model import CORE, EventSettlement, Outcome, StoredEvent

ALICE = Actor("alice")
MAYBE = "Core may have been sent this charge before; its word on funds does not count"
UNAVAILABLE, READY = LicenseState.UNAVAILABLE, LicenseState.READY


@pytest.fixture
async def of_2021(tmp_path: Path) -> AsyncGenerator[Money]:
    async with money(tmp_path, today=False) as made:
        yield made


@pytest.fixture
async def today(tmp_path: Path) -> AsyncGenerator[Money]:
    async with money(tmp_path, today=True) as made:
        yield made


async def test_one_that_is_paid(of_2021: Money) -> None:
    """ASKED from the transaction that makes it READY, PAID at Core's word; both are lines of its history, and nothing is asked again."""
    await of_2021.bought("5123")
    await of_2021.passes()
    assert (await of_2021.row()).payment is Payment.ASKED
    assert await of_2021.charges() == ["license-5123-1"]
    await of_2021.answer(Outcome.DELIVERED)
    assert (await of_2021.row()).payment is Payment.PAID
    assert (await of_2021.lines())[-2:] == [words.asked_to_pay("license-5123-1"), words.paid("license-5123-1")]
    await of_2021.passes(hours=48)
    assert await of_2021.charges() == []


async def test_a_second_word_on_an_event_is_not_heard(of_2021: Money) -> None:
    """Two gateways answer for it, or one answers twice in a call: the first word is what the store has, and what the license is told."""
    await of_2021.bought("5123")
    await of_2021.passes()
    (charge,) = await of_2021.unsettled("charge")
    paid, short, unknown = [
        EventSettlement(charge.sequence, outcome, "", 0) for outcome in (Outcome.DELIVERED, Outcome.INSUFFICIENT_FUNDS, Outcome.JOB_UNKNOWN)
    ]
    stream = of_2021.log.subscribe(CORE)
    await anext(stream)
    await of_2021.log.acknowledge(CORE, [paid, short])
    assert (await of_2021.row()).payment is Payment.PAID
    await of_2021.log.acknowledge(CORE, [unknown])
    row = await of_2021.row()
    assert (row.payment, row.at_core, row.state) == (Payment.PAID, AtCore.KNOWN, READY)
    await stream.aclose()


async def test_a_word_that_fails_is_not_overtaken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two acknowledgements at once, and the first cannot tell the license: the second does, and a server that starts then finds it paid."""
    began, fail = asyncio.Event(), asyncio.Event()
    async with money(tmp_path, today=False) as first:
        await first.bought("5123")
        await first.passes()
        (charge,) = await first.unsettled("charge")
        stream = first.log.subscribe(CORE)
        await anext(stream)
        tell = first.settlements.settle

        async def settle(settled: Sequence[tuple[StoredEvent, EventSettlement]]) -> None:
            if not began.is_set():
                began.set()
                await fail.wait()
                raise StoreUnavailable("connection lost")
            await tell(settled)

        monkeypatch.setattr(first.settlements, "settle", settle)
        paid = [EventSettlement(charge.sequence, Outcome.DELIVERED, "", 0)]
        failing = asyncio.create_task(first.log.acknowledge(CORE, paid))
        await began.wait()
        other = asyncio.create_task(first.log.acknowledge(CORE, paid))
        for _ in range(3):
            await first.store.ping()  # the other one gets as far as it can
        fail.set()
        with pytest.raises(StoreUnavailable):
            await failing
        await other
        await stream.aclose()
    async with money(tmp_path, today=False) as second:
        await second.log.acknowledge(CORE, paid)
        assert ((await second.row()).payment, await second.charges()) == (Payment.PAID, [])


@pytest.mark.parametrize(
    ("killed", "payment", "settled"),
    [
        ("before the license is told", Payment.ASKED, False),
        ("before the event is settled", Payment.PAID, False),
        ("after it", Payment.PAID, True),
    ],
)
async def test_killed_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: str, payment: Payment, settled: bool) -> None:
    """What is not settled comes again, and what is settled is paid."""
    async with money(tmp_path, today=False) as first:
        await first.bought("5123")
        await first.passes()
        (charge,) = await first.unsettled("charge")
        settle = first.store.settle

        async def kill(*given: Any) -> None:
            if settled:
                await settle(*given)
            raise asyncio.CancelledError

        stream = first.log.subscribe(CORE)
        await anext(stream)
        monkeypatch.setattr(first.settlements if killed == "before the license is told" else first.store, "settle", kill)
        with pytest.raises(asyncio.CancelledError):
            await first.log.acknowledge(CORE, [EventSettlement(charge.sequence, Outcome.DELIVERED, "", 0)])
        await stream.aclose()
    async with money(tmp_path, today=False) as second:
        assert ((await second.row()).payment, len(await second.charges())) == (payment, 0 if settled else 1)
        await second.answer(Outcome.DELIVERED)
        assert ((await second.row()).payment, await second.charges()) == (Payment.PAID, [])


async def test_a_second_word_after_an_answer_that_was_lost(of_2021: Money, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store has the first one, and so has the license, though nobody was told that it is stored."""
    await of_2021.bought("5123")
    await of_2021.passes()
    (charge,) = await of_2021.unsettled("charge")
    stream = of_2021.log.subscribe(CORE)
    await anext(stream)
    settle = of_2021.store.settle

    async def lost(*given: Any) -> None:
        await settle(*given)
        raise StoreUnavailable("connection lost")

    with monkeypatch.context() as patch:
        patch.setattr(of_2021.store, "settle", lost)
        with pytest.raises(StoreUnavailable):
            await of_2021.log.acknowledge(CORE, [EventSettlement(charge.sequence, Outcome.INSUFFICIENT_FUNDS, "", 0)])
    await of_2021.log.acknowledge(CORE, [EventSettlement(charge.sequence, Outcome.DELIVERED, "", 0)])
    assert (await of_2021.row()).payment is Payment.UNPAID
    await stream.aclose()


async def test_one_without_a_price(of_2021: Money) -> None:
    """PAID at once, and Core is asked nothing."""
    await of_2021.bought("5123", product=FREE)
    await of_2021.passes()
    assert ((await of_2021.row()).payment, await of_2021.charges()) == (Payment.PAID, [])


@pytest.mark.parametrize(("outcome", "detail"), [(Outcome.REFUSED, "not now"), (Outcome.DELIVERED, MAYBE)])
async def test_an_answer_that_settles_nothing(of_2021: Money, outcome: Outcome, detail: str) -> None:
    """A refusal, or "insufficient" of a charge that Core may have had before, is no payment: it can be used, an operator sees it."""
    await of_2021.bought("5123")
    await of_2021.passes()
    await of_2021.answer(outcome, detail)
    await of_2021.passes()
    row = await of_2021.row()
    assert (row.payment, row.state) == (Payment.UNSURE, READY)
    assert [one.license_id for one in await of_2021.payments.list()] == ["5123"]
    assert (await of_2021.lines())[-1] == words.unsure("license-5123-1", detail)


async def test_2021_is_never_asked_again_by_itself(of_2021: Money) -> None:
    """It takes what is left of the wallet and calls a repeated charge unpaid; its users are sent to the provider."""
    await of_2021.bought("5123")
    await of_2021.passes()
    await of_2021.answer(Outcome.INSUFFICIENT_FUNDS)
    row = await of_2021.row()
    assert (row.payment, row.state, row.status) == (Payment.UNPAID, UNAVAILABLE, words.unpaid(again=False))
    for _ in range(5):
        await of_2021.passes(hours=2)
    assert await of_2021.charges() == []
    assert (await of_2021.row()).state is UNAVAILABLE


async def test_today_is_asked_again_every_hour_with_the_same_charge(today: Money) -> None:
    """Only when it has answered: an hour without Core adds nothing. The license cannot be used until Core says that it is paid."""
    await today.bought("5123")
    await today.passes()
    await today.answer(Outcome.INSUFFICIENT_FUNDS)
    await today.rest()
    assert (await today.row()).status == words.unpaid(again=True)
    await today.passes(hours=0.9)
    assert await today.charges() == []
    for _ in range(4):
        await today.passes(hours=1.1)
        row = await today.row()
        assert (await today.charges(), row.payment, row.state) == (["license-5123-1"], Payment.AGAIN, UNAVAILABLE)
    await today.answer(Outcome.INSUFFICIENT_FUNDS)
    await today.rest()
    assert (await today.row()).payment is Payment.UNPAID
    await today.passes(hours=1.1)
    assert await today.charges() == ["license-5123-1"]
    await today.answer(Outcome.DELIVERED)
    await today.passes()
    row = await today.row()
    assert (row.payment, row.state, row.charges) == (Payment.PAID, READY, 3)


async def test_today_is_asked_again_after_a_refusal(today: Money) -> None:
    """It can be used meanwhile."""
    await today.bought("5123")
    await today.passes()
    await today.answer(Outcome.REFUSED, "no")
    await today.passes(hours=1.1)
    row = await today.row()
    assert (row.payment, row.state, await today.charges()) == (Payment.ASKED, READY, ["license-5123-1"])


async def test_an_answer_to_a_process_before_this_one(tmp_path: Path) -> None:
    """The gateway had Core's word, and the server was killed before it heard it: the next one understands "paid" without having handed the
    charge out itself."""
    async with money(tmp_path, today=True) as first:
        await first.bought("5123")
        await first.passes()
    async with money(tmp_path, today=True) as second:
        (charge,) = await second.unsettled("charge")
        await second.log.acknowledge(CORE, [EventSettlement(charge.sequence, Outcome.DELIVERED, "", 0)])
        assert (await second.row()).payment is Payment.PAID


async def test_nothing_moves_what_is_paid(of_2021: Money) -> None:
    """An answer to an older charge, or a second one, changes nothing."""
    await of_2021.bought("5123")
    await of_2021.passes()
    (charge,) = await of_2021.unsettled("charge")
    await of_2021.answer(Outcome.DELIVERED)
    settled = EventSettlement(charge.sequence, Outcome.INSUFFICIENT_FUNDS, "", 0)
    await of_2021.log.acknowledge(CORE, [settled])
    assert (await of_2021.row()).payment is Payment.PAID


async def test_an_operator_takes_it_for_paid(of_2021: Money) -> None:
    """The license comes back with the next pass, and the history says whose word it was."""
    await of_2021.bought("5123")
    await of_2021.passes()
    await of_2021.answer(Outcome.INSUFFICIENT_FUNDS)
    await of_2021.rest()
    shown = await of_2021.payments.set("5123", pb.PAYMENT_DECISION_PAID)
    await of_2021.passes()
    row = await of_2021.row()
    assert (shown.state, row.payment, row.state) == (pb.LICENSE_PAYMENT_STATE_PAID, Payment.PAID, READY)
    assert words.TAKEN_FOR_PAID in await of_2021.lines()
    assert await of_2021.payments.list() == []


async def test_an_operator_has_it_charged_again(of_2021: Money) -> None:
    """With the next number, because to Core of 2021 the same one is a charge that it has seen; with the same one where Core may not have
    taken it up. Not usable until Core says paid."""
    await of_2021.bought("5123")
    await of_2021.passes()
    await of_2021.answer(Outcome.INSUFFICIENT_FUNDS)
    await of_2021.rest()
    shown = await of_2021.payments.set("5123", pb.PAYMENT_DECISION_CHARGE_AGAIN)
    assert (shown.state, shown.attempts, shown.repeats) == (pb.LICENSE_PAYMENT_STATE_AGAIN, 2, False)
    await of_2021.passes()
    assert ((await of_2021.row()).state, await of_2021.charges()) == (UNAVAILABLE, ["license-5123-2"])
    await of_2021.answer(Outcome.DELIVERED, MAYBE)
    await of_2021.rest()
    assert (await of_2021.row()).payment is Payment.UNPAID
    await of_2021.payments.set("5123", pb.PAYMENT_DECISION_CHARGE_AGAIN)
    assert await of_2021.charges() == ["license-5123-2"]
    await of_2021.answer(Outcome.DELIVERED)
    await of_2021.passes()
    assert ((await of_2021.row()).payment, (await of_2021.row()).state) == (Payment.PAID, READY)


async def test_where_there_is_nothing_to_decide(of_2021: Money) -> None:
    """Before Core has answered, when it is paid, for no license, and for no decision."""
    await of_2021.bought("5123")
    await of_2021.passes()
    for decision in (pb.PAYMENT_DECISION_PAID, pb.PAYMENT_DECISION_CHARGE_AGAIN):
        with pytest.raises(WrongState):
            await of_2021.payments.set("5123", decision)
    await of_2021.answer(Outcome.DELIVERED)
    with pytest.raises(WrongState, match="PAID"):
        await of_2021.payments.set("5123", pb.PAYMENT_DECISION_CHARGE_AGAIN)
    with pytest.raises(LicenseUnknown):
        await of_2021.payments.get("77")
    with pytest.raises(InvalidRequest):
        await of_2021.payments.set("5123", pb.PAYMENT_DECISION_UNSPECIFIED)
    assert (await of_2021.row()).charges == 1


async def test_no_second_charge_while_core_may_still_answer_the_first(of_2021: Money) -> None:
    """Killed between what an answer means and its settlement, the charge goes to Core once more: until then there is no other one."""
    await of_2021.bought("5123")
    await of_2021.passes()
    (charge,) = await of_2021.unsettled("charge")
    await of_2021.settlements.settle([(charge, EventSettlement(charge.sequence, Outcome.INSUFFICIENT_FUNDS, "", 0))])
    assert (await of_2021.row()).payment is Payment.UNPAID
    with pytest.raises(WrongState, match="not answered"):
        await of_2021.payments.set("5123", pb.PAYMENT_DECISION_CHARGE_AGAIN)
    await of_2021.answer(Outcome.INSUFFICIENT_FUNDS)
    await of_2021.rest()
    await of_2021.payments.set("5123", pb.PAYMENT_DECISION_CHARGE_AGAIN)


async def test_one_that_core_does_not_know_is_kept(today: Money) -> None:
    """It cannot be used, no pass touches it, it is asked for nothing; when Core names it again it is told and moved as before, and its
    charge, which nobody can say anything of, is asked again."""
    await today.bought("5123")
    await today.passes()
    await today.answer(Outcome.JOB_UNKNOWN, "unknown")
    for _ in range(3):
        await today.passes(hours=2)
    row = await today.row()
    assert (row.at_core, row.state, row.status, row.deleted_at_ms) == (AtCore.LOST, UNAVAILABLE, words.UNKNOWN_AT_CORE, 0)
    assert (row.payment, await today.unsettled()) == (Payment.UNSURE, [])
    now_ms = today.clock.now_ms()

    def back(_: int, stored: StoredLicense | None) -> LicenseChange | None:
        return None if stored is None else revived(stored, now_ms)

    await today.licenses.decide(["5123"], back)
    today.states.look(row.product)
    await today.passes()
    assert [Event.FromString(e.body).WhichOneof("change") for e in await today.unsettled()] == ["license_update"] * 2
    assert ((await today.row()).at_core, (await today.row()).state) == (AtCore.KNOWN, READY)
    await today.answer(Outcome.DELIVERED, kind="license_update")
    await today.passes()
    assert await today.charges() == ["license-5123-1"]


async def test_one_that_is_lost_and_unpaid_comes_back_unpaid(of_2021: Money) -> None:
    """Core's word on the wallet outlives that on the license."""
    await of_2021.bought("5123")
    await of_2021.passes()
    await of_2021.answer(Outcome.INSUFFICIENT_FUNDS)
    await of_2021.answer(Outcome.JOB_UNKNOWN, kind="license_update")
    row = await of_2021.row()
    assert row.at_core is AtCore.LOST
    change = revived(row, 1)
    assert (change.state, change.status, change.at_core) == (UNAVAILABLE, words.UNPAID, AtCore.KNOWN)


async def test_a_deletion_by_a_user_is_told(of_2021: Money) -> None:
    """Core keeps the license, and no provider can take it away there: it reads that it cannot be used, and so does the history."""
    await of_2021.bought("5123")
    await of_2021.passes()
    await of_2021.answer(Outcome.DELIVERED)
    await of_2021.service.delete(["5123"], ALICE)
    (told,) = await of_2021.unsettled()
    update = Event.FromString(told.body).license_update
    assert (LicenseState(update.state), update.status) == (UNAVAILABLE, words.DELETED)
    assert (await of_2021.lines())[-1] == words.DELETED


async def _made_here(site: Money) -> str:
    (license_id,) = await site.service.create([LicenseSpecification(product=reference(FREE))], ResourceOwner(), ALICE)
    return license_id


async def test_jobs_that_use_it_before_core_knows_it(of_2021: Money) -> None:
    """One that Core refused can be used here, and be registered after all: then Core is told of the jobs that use it. One that only waits
    is not told, nor one whose id is none of Core's; the history has its line from when the seats were taken."""
    license_id = await _made_here(of_2021)
    await of_2021.passes()
    await of_2021.answer(Outcome.REFUSED, "no such product", kind="license_registration")
    for job_id in ("71", "72", "o-1"):
        await of_2021.store.create_jobs([job_with(job_id, (license_id, FREE.key, 1), events=0)])
    for job_id in ("71", "o-1"):
        await of_2021.store.licenses.take_seats(submitted(job_id), {FREE.key: None})
    await of_2021.payments.register_again(license_id)
    before = await of_2021.lines(license_id)
    await of_2021.answer(Outcome.DELIVERED, kind="license_registration", core_id="40")
    told = [Event.FromString(e.body) for e in await of_2021.unsettled()]
    bound = [e for e in told if e.license_update.HasField("binding")]
    assert [(e.license_core_id, e.license_update.binding.kind, e.license_update.binding.job) for e in bound] == [
        ("40", JOB_BIND_KIND_BIND, "71")
    ]
    assert await of_2021.lines(license_id) == [*before, words.REGISTERED]


async def test_a_refused_registration_is_asked_for_again(of_2021: Money) -> None:
    """With a new event of the same id of ours; when Core takes it on, it is charged and told as one that it took at once."""
    license_id = await _made_here(of_2021)
    await of_2021.passes()
    with pytest.raises(WrongState, match="WANTED"):
        await of_2021.payments.register_again(license_id)
    await of_2021.answer(Outcome.REFUSED, "no such product", kind="license_registration")
    assert (await of_2021.row(license_id)).at_core is AtCore.UNTOLD
    await of_2021.payments.register_again(license_id)
    (asked,) = await of_2021.unsettled()
    assert Event.FromString(asked.body).license_registration.provider_generated_id == license_id
    await of_2021.answer(Outcome.DELIVERED, kind="license_registration", core_id="40")
    row = await of_2021.row(license_id)
    assert (row.at_core, row.core_id) == (AtCore.KNOWN, "40")
    with pytest.raises(WrongState, match="KNOWN"):
        await of_2021.payments.register_again("40")


async def test_one_that_stays_here_owes_nothing_until_core_knows_it(of_2021: Money) -> None:
    """READY without a charge; the charge comes with the registration that is accepted later."""
    (license_id,) = await of_2021.service.create([LicenseSpecification(product=reference(SOLVER))], ResourceOwner(), ALICE)
    await of_2021.answer(Outcome.REFUSED, "no", kind="license_registration")
    await of_2021.passes()
    row = await of_2021.row(license_id)
    assert (row.payment, row.state, await of_2021.charges()) == (Payment.OPEN, READY, [])
    await of_2021.payments.register_again(license_id)
    await of_2021.answer(Outcome.DELIVERED, kind="license_registration", core_id="40")
    assert await of_2021.charges() == [f"license-{license_id}-1"]
