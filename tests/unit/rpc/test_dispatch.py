"""Calls from inside the process: every method of every service, through the same chain as the socket."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from fakes.front import Front
from fakes.usecases import job
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2
from serai.events.v1 import events_service_pb2
from serai.jobs.v1 import job_pb2
from serai.jobs.v1 import jobs_service_pb2 as pb
from serai_server.errors import InvalidRequest
from serai_server.rpc.dispatch import Dispatcher
from serai_server.rpc.methods import methods_of
from serai_server.rpc.status import RpcFailure
from serai_server.store.api import StoreUnavailable
from serai_server.store.model import EventKind, EventSettlement, Outcome, StoredEvent

JOBS = "/serai.jobs.v1.JobsService/"
EVENTS = "/serai.events.v1.EventsService/"
HEALTH = "/grpc.health.v1.Health/"
CORE = {"serai-caller": "core", "serai-user": "alice"}


@pytest.fixture
def front() -> Front:
    return Front()


@pytest.fixture
def server(front: Front) -> Dispatcher:
    return front.dispatcher()


async def ask(server: Dispatcher, path: str, request: Message) -> bytes:
    return await server.unary(path, request.SerializeToString(), CORE)


async def refused(server: Dispatcher, path: str, request: Message) -> status_pb2.Status:
    with pytest.raises(RpcFailure) as caught:
        await ask(server, path, request)
    return caught.value.status


def reason_of(status: status_pb2.Status) -> str:
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info.reason


async def test_create_answers_once_for_each_item(server: Dispatcher, front: Front) -> None:
    """Each item has an answer of its own, with no id: on UCloud's wire that is `{"responses":[null,null]}`."""
    answer = pb.CreateResponse.FromString(await ask(server, JOBS + "Create", pb.CreateRequest(items=[job("1"), job("2")])))
    assert [r.HasField("id") for r in answer.responses] == [False, False]
    assert list(front.jobs.jobs) == ["1", "2"]


async def test_bytes_that_are_no_message_are_the_callers_fault(server: Dispatcher) -> None:
    """INVALID_ARGUMENT; grpc.aio by itself would answer INTERNAL."""
    with pytest.raises(RpcFailure) as caught:
        await server.unary(JOBS + "Create", b"\xff\xff\xff", CORE)
    assert reason_of(caught.value.status) == "INVALID_REQUEST"


async def test_bulk_answers_each_request_by_itself(server: Dispatcher, front: Front) -> None:
    """One bad request among many: the others are stored, and each failure is the status that it would have had alone."""
    await front.jobs.create([job("1")])
    alone = await refused(server, JOBS + "Create", pb.CreateRequest(items=[job("1", replicas=2)]))
    request = pb.CreateBulkRequest(
        requests=[
            pb.CreateRequest(items=[job("2")]),
            pb.CreateRequest(items=[job("1", replicas=2)]),
            pb.CreateRequest(),
            pb.CreateRequest(items=[job("3"), job("4")]),
        ]
    )
    outcomes = pb.CreateBulkResponse.FromString(await ask(server, JOBS + "CreateBulk", request)).outcomes
    assert [o.WhichOneof("outcome") for o in outcomes] == ["created", "error_status", "error_status", "created"]
    assert status_pb2.Status.FromString(outcomes[1].error_status) == alone
    assert reason_of(status_pb2.Status.FromString(outcomes[2].error_status)) == "INVALID_REQUEST"
    assert len(outcomes[3].created.responses) == 2
    assert list(front.jobs.jobs) == ["1", "2", "3", "4"]


async def test_bulk_has_a_limit(server: Dispatcher) -> None:
    """More than 1,000 requests in one call are refused."""
    status = await refused(server, JOBS + "CreateBulk", pb.CreateBulkRequest(requests=[pb.CreateRequest()] * 1_001))
    assert reason_of(status) == "INVALID_REQUEST"


async def test_bulk_with_the_store_away_says_so_for_each(server: Dispatcher, front: Front) -> None:
    """A failure of the store is each request's own failure, and it may be tried again."""
    front.jobs.wrong = StoreUnavailable("disk full")
    request = pb.CreateBulkRequest(requests=[pb.CreateRequest(items=[job("1")])] * 2)
    outcomes = pb.CreateBulkResponse.FromString(await ask(server, JOBS + "CreateBulk", request)).outcomes
    assert [status_pb2.Status.FromString(o.error_status).code for o in outcomes] == [code_pb2.UNAVAILABLE] * 2


async def test_terminate_answers_once_for_each_item(server: Dispatcher, front: Front) -> None:
    """An unknown job counts as stopped."""
    await front.jobs.create([job("1")])
    answer = pb.TerminateResponse.FromString(await ask(server, JOBS + "Terminate", pb.TerminateRequest(items=[job("1"), job("9")])))
    assert len(answer.responses) == 2
    assert front.jobs.reports["1"].state == job_pb2.JOB_STATE_SUCCESS


async def test_get_list_and_products(server: Dispatcher, front: Front) -> None:
    """The calls of tools give what the use cases say."""
    await front.jobs.create([job("1"), job("2", owner="bob")])
    assert pb.GetResponse.FromString(await ask(server, JOBS + "Get", pb.GetRequest(job_id="2"))).job.id == "2"
    listed = pb.ListResponse.FromString(await ask(server, JOBS + "List", pb.ListRequest(owner="alice")))
    assert [r.id for r in listed.jobs] == ["1"]
    products = pb.RetrieveProductsResponse.FromString(await ask(server, JOBS + "RetrieveProducts", pb.RetrieveProductsRequest()))
    assert [p.product.id for p in products.responses] == ["c1"]


@pytest.mark.parametrize(
    ("name", "request_", "asked"),
    [
        ("Extend", pb.ExtendRequest(items=[pb.ExtendItem(job=job("1"))]), ("extend", ["1"])),
        ("Suspend", pb.SuspendRequest(items=[pb.SuspendItem(job=job("1"))]), ("suspend", ["1"])),
        ("Unsuspend", pb.UnsuspendRequest(items=[pb.UnsuspendItem(job=job("1"))]), ("unsuspend", ["1"])),
        ("Verify", pb.VerifyRequest(items=[job("1"), job("x")]), ("verify", ["1", "x"])),
        ("UpdateAcl", pb.UpdateAclRequest(items=[pb.UpdateAclItem(resource=job("x"))]), ("update acl", ["x"])),
        ("OnUpdatedLabels", pb.OnUpdatedLabelsRequest(items=[job("1")]), ("update labels", ["1"])),
        ("Disown", pb.DisownRequest(job_ids=["1", "x"]), ("disown", ["1", "x"])),
        ("Terminate", pb.TerminateRequest(items=[job("1")]), ("terminate for core", ["1"])),
        ("Extend", pb.ExtendRequest(job_ids=["1"], added_ms=60_000), ("extend by 60000", ["1"])),
        ("Extend", pb.ExtendRequest(job_ids=["1"], time_limit_ms=60_000), ("extend to 60000", ["1"])),
        ("Suspend", pb.SuspendRequest(job_ids=["1"]), ("suspend", ["1"])),
        ("Unsuspend", pb.UnsuspendRequest(job_ids=["1"]), ("unsuspend", ["1"])),
        ("Terminate", pb.TerminateRequest(job_ids=["1"]), ("terminate for core", ["1"])),
    ],
)
async def test_what_is_asked_of_jobs_reaches_them(
    server: Dispatcher, front: Front, name: str, request_: Message, asked: tuple[str, list[str]]
) -> None:
    """Each call gives its jobs' ids to its use case, and answers once for each item."""
    await front.jobs.create([job("1")])
    await ask(server, JOBS + name, request_)
    assert front.jobs.asked == [asked]


@pytest.mark.parametrize(
    ("name", "request_", "field"),
    [
        ("Extend", pb.ExtendRequest(items=[pb.ExtendItem(job=job("1"))], job_ids=["1"], added_ms=1_000), "job_ids"),
        ("Extend", pb.ExtendRequest(items=[pb.ExtendItem(job=job("1"))], added_ms=1_000), "added_ms"),
        ("Extend", pb.ExtendRequest(added_ms=1_000), "job_ids"),
        ("Suspend", pb.SuspendRequest(items=[pb.SuspendItem(job=job("1"))], job_ids=["1"]), "job_ids"),
        ("Unsuspend", pb.UnsuspendRequest(items=[pb.UnsuspendItem(job=job("1"))], job_ids=["1"]), "job_ids"),
        ("Terminate", pb.TerminateRequest(items=[job("1")], job_ids=["2"]), "job_ids"),
        ("Terminate", pb.TerminateRequest(), "job_ids"),
        ("Terminate", pb.TerminateRequest(job_ids=["1"] * 1_001), "job_ids"),
        ("Extend", pb.ExtendRequest(items=[pb.ExtendItem(job=job("1"))], time_limit_ms=1_000), "time_limit_ms"),
        ("Extend", pb.ExtendRequest(job_ids=["1"], added_ms=1_000, time_limit_ms=1_000), "time_limit_ms"),
        ("Extend", pb.ExtendRequest(job_ids=["1", "2", "1"], added_ms=1_000), "job_ids[2]"),
        ("Suspend", pb.SuspendRequest(job_ids=["1", "1"]), "job_ids[1]"),
        ("Unsuspend", pb.UnsuspendRequest(job_ids=["1", "1"]), "job_ids[1]"),
        ("Terminate", pb.TerminateRequest(job_ids=["1", "1"]), "job_ids[1]"),
        ("Disown", pb.DisownRequest(job_ids=["1", "1"]), "job_ids[1]"),
        ("Disown", pb.DisownRequest(), "job_ids"),
    ],
)
async def test_jobs_are_named_in_one_way(server: Dispatcher, front: Front, name: str, request_: Message, field: str) -> None:
    """A tool's or UCloud's: both, or neither, is refused with the field's path, and nothing is done; so is a job that a tool names twice,
    as if it were meant twice."""
    await front.jobs.create([job("1")])
    with pytest.raises(RpcFailure) as caught:
        await ask(server, JOBS + name, request_)
    assert caught.value.status.code == code_pb2.INVALID_ARGUMENT
    bad = error_details_pb2.BadRequest()
    assert any(detail.Unpack(bad) for detail in caught.value.status.details)
    assert [violation.field for violation in bad.field_violations] == [field]
    assert front.jobs.asked == []


async def test_utilization_is_told_in_cores_bytes_and_jobs(server: Dispatcher) -> None:
    """Sizes in bytes, as the seed's data model has them."""
    told = pb.RetrieveUtilizationResponse.FromString(await ask(server, JOBS + "RetrieveUtilization", pb.RetrieveUtilizationRequest()))
    assert (told.capacity.cpu, told.used_capacity.memory, told.queue_status.running, told.queue_status.pending) == (8, 1 << 30, 2, 1)


async def test_no_dynamic_parameters(server: Dispatcher) -> None:
    """An error here would keep users of today's Core from submitting (facts today §5)."""
    assert await ask(server, JOBS + "RequestDynamicParameters", pb.RequestDynamicParametersRequest()) == b""


UNSUPPORTED = ["OpenInteractiveSession", "AttachResource", "DetachResource", "OpenTerminalInFolder"]


@pytest.mark.parametrize("name", UNSUPPORTED)
async def test_what_this_provider_does_not_do_is_said_in_words(server: Dispatcher, name: str) -> None:
    """Core learns that this provider does not do that, and a person reads what it is."""
    with pytest.raises(RpcFailure) as caught:
        await server.unary(JOBS + name, b"", CORE)
    assert reason_of(caught.value.status) == "UNSUPPORTED"
    assert caught.value.status.message.startswith("this provider does not ")


async def test_watch_follows_a_job_to_its_end(server: Dispatcher, front: Front) -> None:
    """A report now, one after each change, and the stream ends with the final one."""
    await front.jobs.create([job("1")])
    states: list[int] = []
    async for answer in server.stream(JOBS + "Watch", pb.WatchRequest(job_id="1").SerializeToString(), CORE):
        states.append(pb.WatchResponse.FromString(answer).job.state)
        await front.jobs.change("1", (job_pb2.JOB_STATE_RUNNING, job_pb2.JOB_STATE_SUCCESS)[len(states) > 1], "")
    assert states == [job_pb2.JOB_STATE_IN_QUEUE, job_pb2.JOB_STATE_RUNNING, job_pb2.JOB_STATE_SUCCESS]


async def test_a_stream_that_cannot_begin_says_why(server: Dispatcher) -> None:
    """The error comes at the first step of the iteration."""
    with pytest.raises(RpcFailure) as caught:
        await anext(server.stream(JOBS + "Watch", pb.WatchRequest(job_id="9").SerializeToString(), CORE))
    assert reason_of(caught.value.status) == "JOB_UNKNOWN"


async def test_leaving_a_stream_ends_it(server: Dispatcher, front: Front) -> None:
    """Closing the iterator closes the use case's own."""
    await front.jobs.create([job("1")])
    async with aclosing(server.stream(JOBS + "Watch", pb.WatchRequest(job_id="1").SerializeToString(), CORE)) as answers:
        await anext(answers)
        assert front.jobs.open_iterators == 1
    assert front.jobs.open_iterators == 0


async def test_follow_gives_bytes(server: Dispatcher, front: Front) -> None:
    """Output is not touched, whatever bytes it has."""
    await front.jobs.create([job("1")])
    front.jobs.output["1"] = [pb.FollowResponse(rank=0, stream=pb.OUTPUT_STREAM_STDOUT, data=bytes(range(256)))]
    request = pb.FollowRequest(job_id="1").SerializeToString()
    got = [pb.FollowResponse.FromString(a).data async for a in server.stream(JOBS + "Follow", request, CORE)]
    assert got == [bytes(range(256))]


async def test_subscribe_turns_stored_events_into_messages(server: Dispatcher, front: Front) -> None:
    """Each kind of event has its message, also one with nothing set in it."""
    update = job_pb2.JobUpdate(state=job_pb2.JOB_STATE_RUNNING, status="up", timestamp=5)
    charge = events_service_pb2.Charge(charge_id="1-0", units=2, number_of_products=3)
    for sequence, (kind, body) in enumerate(
        [(EventKind.JOB_UPDATE, update), (EventKind.CHARGE, charge), (EventKind.JOB_UPDATE, job_pb2.JobUpdate())]
    ):
        await front.events.put(StoredEvent(sequence + 1, "1", kind, body.SerializeToString(), 7))
    request = events_service_pb2.SubscribeRequest(consumer="core", batch_size=2).SerializeToString()
    async with aclosing(server.stream(EVENTS + "Subscribe", request, CORE)) as answers:
        batches = [events_service_pb2.SubscribeResponse.FromString(await anext(answers)) for _ in range(2)]
    events = [e for b in batches for e in b.events]
    assert [len(b.events) for b in batches] == [2, 1]
    assert [e.WhichOneof("change") for e in events] == ["job_update", "charge", "job_update"]
    assert (events[0].job_update, events[1].charge) == (update, charge)
    assert (events[0].sequence, events[0].job_id, events[0].occurred_at_ms) == (1, "1", 7)
    assert front.events.open_iterators == 0


async def test_a_subscription_that_cannot_be_says_why(server: Dispatcher) -> None:
    """What the event log refuses is told at the first step."""
    request = events_service_pb2.SubscribeRequest(consumer="core", batch_size=-1)
    with pytest.raises(RpcFailure) as caught:
        await anext(server.stream(EVENTS + "Subscribe", request.SerializeToString(), CORE))
    assert reason_of(caught.value.status) == "INVALID_REQUEST"


async def test_acknowledge_settles(server: Dispatcher, front: Front) -> None:
    """Outcomes reach the log with the server's time."""
    request = events_service_pb2.AcknowledgeRequest(
        consumer="core",
        settlements=[
            events_service_pb2.Settlement(sequence=1, outcome=events_service_pb2.SETTLEMENT_OUTCOME_DELIVERED),
            events_service_pb2.Settlement(sequence=2, outcome=events_service_pb2.SETTLEMENT_OUTCOME_REFUSED, detail="why"),
        ],
    )
    await ask(server, EVENTS + "Acknowledge", request)
    at = 1_700_000_000_000
    assert front.events.settled == {"core": [EventSettlement(1, Outcome.DELIVERED, "", at), EventSettlement(2, Outcome.REFUSED, "why", at)]}


@pytest.mark.parametrize("found", [0, 1_001])
async def test_settlements_are_some(server: Dispatcher, front: Front, found: int) -> None:
    """A request without any does not look like success: as JSON its field's name may have been misspelled. Nor may there be too many."""
    settlement = events_service_pb2.Settlement(sequence=1, outcome=events_service_pb2.SETTLEMENT_OUTCOME_DELIVERED)
    request = events_service_pb2.AcknowledgeRequest(consumer="core", settlements=[settlement] * found)
    status = await refused(server, EVENTS + "Acknowledge", request)
    assert (status.code, reason_of(status)) == (code_pb2.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert status.message == f"settlements: expected 1 to 1000 settlements, found {found}"
    assert front.events.settled == {}


async def test_an_outcome_must_be_one(server: Dispatcher, front: Front) -> None:
    """An outcome that is missing or unknown settles nothing, the others of the request neither."""
    request = events_service_pb2.AcknowledgeRequest(
        consumer="core",
        settlements=[
            events_service_pb2.Settlement(sequence=1, outcome=events_service_pb2.SETTLEMENT_OUTCOME_DELIVERED),
            events_service_pb2.Settlement(sequence=2),
        ],
    )
    status = await refused(server, EVENTS + "Acknowledge", request)
    assert status.message.startswith("settlements[1].outcome")
    assert front.events.settled == {}


@pytest.mark.parametrize("path", ["/serai.jobs.v1.JobsService/Nope", "", "/x/y", JOBS + "Watch"])
async def test_a_method_that_is_not_there(server: Dispatcher, path: str) -> None:
    """UNIMPLEMENTED, also for a stream that is called as if it had one answer."""
    with pytest.raises(RpcFailure) as caught:
        await server.unary(path, b"", CORE)
    assert caught.value.status.code == code_pb2.UNIMPLEMENTED
    with pytest.raises(RpcFailure):
        await anext(server.stream(JOBS + "Get", b"", CORE))


async def test_health_is_serving_when_every_part_is_up(server: Dispatcher, front: Front) -> None:
    """Down until store and reconciler said that they are up; `watch` tells each change once."""
    request = health_pb2.HealthCheckRequest(service="serai.jobs.v1.JobsService").SerializeToString()
    serving, not_serving = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
    async with aclosing(server.stream(HEALTH + "Watch", request, {})) as answers:

        async def told() -> int:
            return health_pb2.HealthCheckResponse.FromString(await anext(answers)).status

        assert await told() == not_serving
        pending = asyncio.ensure_future(told())
        await asyncio.sleep(0)
        front.health.tell("store", up=True)
        await asyncio.sleep(0)
        assert not pending.done()
        front.health.tell("reconciler", up=True)
        assert await pending == serving
        assert health_pb2.HealthCheckResponse.FromString(await server.unary(HEALTH + "Check", request, {})).status == serving
        front.health.tell("store", up=False)
        assert await told() == not_serving
        assert front.health.down == ("store",)


async def test_health_of_a_service_that_is_not_there(server: Dispatcher) -> None:
    """NOT_FOUND for a check, SERVICE_UNKNOWN on a watch, as the protocol of grpc.health.v1 says."""
    request = health_pb2.HealthCheckRequest(service="nope").SerializeToString()
    with pytest.raises(RpcFailure) as caught:
        await server.unary(HEALTH + "Check", request, {})
    assert caught.value.status.code == code_pb2.NOT_FOUND
    async with aclosing(server.stream(HEALTH + "Watch", request, {})) as answers:
        assert health_pb2.HealthCheckResponse.FromString(await anext(answers)).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


def test_a_method_without_a_handler_is_found_at_start() -> None:
    """A call that is added to the proto and not to the servicer stops the server from starting."""

    class Empty:
        pass

    with pytest.raises(AttributeError):
        methods_of(pb.DESCRIPTOR.services_by_name["JobsService"], Empty())  # pyright: ignore[reportArgumentType] - two names of one class


async def test_the_first_of_two_errors_of_a_call_is_told(server: Dispatcher, front: Front) -> None:
    """A use case's InvalidRequest keeps its path all the way."""
    front.jobs.wrong = InvalidRequest("expected 1 or more", field="items[0].specification.replicas")
    status = await refused(server, JOBS + "Create", pb.CreateRequest(items=[job("1")]))
    assert status.message == "items[0].specification.replicas: expected 1 or more"
