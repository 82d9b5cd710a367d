"""Bad input of every kind against a live server: a clear 4xx that names the place, nothing stored, and the server lives on.

The requests go over bare sockets, because a client library is too polite for most of them.
"""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_asyncio
from fakes.bad_requests import BODIES, JOBS, LIMIT, LIST, OBJECT, ODD, REQUIRED, SEED, TYPES, WHOLE, seed, told, wrong_tokens
from fakes.raw_http import RawAnswer, chunked, request, say
from fakes.raw_http import answer as read_answer
from fakes.stack import UNIT_PRODUCT, Stack, stack
from serai_devcore.applications import shell_request
from serai_devcore.documents import job_document
from serai_devcore.wire import Generation

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def serai(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Stack]:
    async with stack(tmp_path_factory.mktemp("bad")) as running:
        yield running


def headers(running: Stack) -> dict[str, str]:
    """What Core sends."""
    return {"Authorization": f"Bearer {running.core.providers['example'].issuer.core_token()}", "UCloud-Username": "user"}


async def post(running: Stack, body: bytes, **more: str) -> RawAnswer:
    return await say(running.port, request("POST", JOBS, headers(running) | more, body))


def check_form(answer: RawAnswer, status: int) -> str:
    """The `why` of an error that has UCloud's form and gives nothing of the inside away."""
    assert answer.status == status, answer.body[:500]
    assert answer.headers["content-type"] == "application/json"
    document = answer.document
    assert list(document) == ["statusCode", "why", "errorCode", "detailedCode"]
    assert document["statusCode"] == status
    why = document["why"]
    assert isinstance(why, str)
    assert 5 < len(why) < 500
    assert not any(inside in why for inside in ("Traceback", ".py", "msgspec", "sqlite", "psycopg")), why
    return why


async def stored(running: Stack) -> set[str]:
    """Ids of all jobs that the server keeps."""
    found: set[str] = set()
    token = ""
    code, out, err = await running.cli("jobs", "list", "--json", "--limit", "1000", *([token] if token else []))
    assert code == 0, err
    for job in json.loads(out)["jobs"]:
        found.add(job["id"])
    return found


@pytest.mark.parametrize("name", list(BODIES))
async def test_a_wrong_body_is_refused_in_words(serai: Stack, name: str) -> None:
    """400 in UCloud's form, with the place first where there is one."""
    body, begins = BODIES[name]
    why = check_form(await post(serai, body), 400)
    assert why.startswith(begins)


async def test_a_wrong_type_names_its_path(serai: Stack) -> None:
    """At each interesting place of the seed's job a value of another type is 400 with that path, what was expected and what was found."""
    for path, kind in TYPES.items():
        wrong, found = ("x", "a text") if kind in (WHOLE, LIST, OBJECT) else (True, "true or false")
        why = check_form(await post(serai, seed(path, wrong)), 400)
        assert why.startswith(f"{told(path)}: expected {kind}"), why
        assert why.endswith(f"found {found}"), why


async def test_a_missing_key_names_its_path(serai: Stack) -> None:
    """Each key that a job cannot do without is 400 with its path when it is missing, and when it is null."""
    for path in REQUIRED:
        for body in (seed(path, drop=True), seed(path, None)):
            why = check_form(await post(serai, body), 400)
            assert why.startswith(f"{told(path)}: expected "), why


async def test_what_is_not_built_is_said_with_its_code(serai: Stack) -> None:
    """A feature that the provider does not have is 400 with UCloud's code for it."""
    answer = await post(serai, seed("specification.resources", [{"type": "network", "id": "1"}]))
    why = check_form(answer, 400)
    assert why.startswith("items[0].specification.resources[0]: ")
    assert answer.document["errorCode"] == "FEATURE_NOT_SUPPORTED_BY_PROVIDER"


async def test_a_body_over_the_limit_is_413(serai: Stack) -> None:
    """With a Content-Length at once, without one as soon as it is over, also when not a byte of it was sent; at the limit it is read."""
    plain = request("POST", JOBS, headers(serai), b" " * (LIMIT + 1))
    pieces = request("POST", JOBS, headers(serai) | {"Transfer-Encoding": "chunked"}, chunked(*[b" " * 65536] * 257))
    nothing = request("POST", JOBS, headers(serai) | {"Content-Length": str(LIMIT + 1)})
    for content in (plain, pieces, nothing):
        answer = await say(serai.port, content)
        assert "limit" in check_form(answer, 413)
        assert answer.headers["connection"] == "close"
    check_form(await post(serai, b'{"items":[],"x":"' + b"a" * (LIMIT - 19) + b'"}'), 400)


@pytest.mark.parametrize(
    ("verb", "path", "status"),
    [
        ("POST", "/ucloud/example/nope", 404),
        ("POST", "/ucloud/other/jobs", 404),
        ("POST", "/ucloud/example/../example/jobs", 404),
        ("POST", "/ucloud/example/jobs%00", 404),
        ("POST", "/ucloud//jobs", 404),
        ("GET", "/", 404),
        ("GET", JOBS, 405),
        ("DELETE", JOBS, 405),
        ("BREW", JOBS, 400),
        ("POST", "/ucloud/example/jobs/retrieveProducts", 405),
        ("POST", "/healthz", 405),
    ],
)
async def test_an_unknown_path_or_verb(serai: Stack, verb: str, path: str, status: int) -> None:
    """404 and 405 (with the verbs that would do) in UCloud's form, with and without a token."""
    for given in (headers(serai), {}):
        answer = await say(serai.port, request(verb, path, given))
        check_form(answer, status)
        assert ("allow" in answer.headers) is (status == 405)


@pytest.mark.parametrize("name", list(ODD))
async def test_http_that_is_odd_or_broken(serai: Stack, name: str) -> None:
    """An error in UCloud's form, never a plain text or a silence, and the connection ends."""
    odd = ODD[name]
    token = headers(serai)["Authorization"].removeprefix("Bearer ").encode()
    check_form(await say(serai.port, odd.content.replace(b"{token}", token)), odd.status)


async def test_broken_http_behind_a_good_request_is_not_its_answer(serai: Stack) -> None:
    """Garbage that follows a request on the same connection does not change the answer to that request."""
    good = request("POST", JOBS, headers(serai), b"{}")
    answer = await say(serai.port, good + b"\x00\x01garbage\r\n\r\n")
    # Either its own answer or, when the garbage was read first, a connection that ends without one.
    assert answer.status == 0 or check_form(answer, 400).startswith("items: ")


async def test_a_request_that_never_ends_is_ended(serai: Stack) -> None:
    """Nothing, half a head, a head and half a body: after `gateway.request_timeout_ms` the connection is closed with words about it. A byte
    now and then does not help: the time is for the whole request, not for each read."""
    half = request("POST", JOBS, headers(serai) | {"Content-Length": "1000000"})
    answers = await asyncio.gather(
        *(say(serai.port, sent) for sent in (b"", b"POST /ucl", half, half + b'{"items"')), trickle(serai.port, half)
    )
    for answer in answers:
        assert "did not come whole within" in check_form(answer, 400)


async def trickle(port: int, content: bytes) -> RawAnswer:
    """The answer to a request whose body comes byte by byte and never ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(content)
        async with asyncio.timeout(30):
            answered = asyncio.create_task(read_answer(reader))
            while not answered.done():
                writer.write(b" ")
                await asyncio.wait({answered}, timeout=0.05)
            return await answered
    finally:
        writer.close()


async def test_a_client_that_leaves_in_the_middle(serai: Stack) -> None:
    """Half a request and then the end of the connection stores nothing and disturbs nobody."""
    for part in (b"POST /ucl", request("POST", JOBS, headers(serai) | {"Content-Length": "9999"}, SEED[:100])):
        answer = await say(serai.port, part, end=True)
        assert answer.status in (0, 400)


async def test_only_cores_token_opens(serai: Stack) -> None:
    """Every other token is 401 in words, also when the body is good, wrong or far too long; and nothing of the token comes back."""
    other = serai.core.add_provider("other")
    for name, value in (
        wrong_tokens(serai.core.providers["example"].issuer) | {"another key": "Bearer " + other.issuer.core_token()}
    ).items():
        given = {} if value is None else {"Authorization": value}
        for content in (
            request("POST", JOBS, given, SEED),
            request("POST", JOBS, given, b"hello"),
            request("POST", JOBS, given | {"Content-Length": str(LIMIT * 9)}),
            request("GET", f"{JOBS}/retrieveProducts", given),
        ):
            answer = await say(serai.port, content)
            why = check_form(answer, 401)
            assert why.startswith("Unauthorized"), name
            assert value is None or len(value) < 20 or value.encode()[-20:] not in answer.body, name


async def test_the_same_again_and_another_of_the_same_id(serai: Stack) -> None:
    """A repeated create of the same content is answered alike and runs once; another content under the id is 409 and changes nothing."""
    document = job_document(shell_request("echo run >> runs", product=UNIT_PRODUCT), "again-1", 1_700_000_000_000, Generation.G2021)
    serai.core.expect([document])
    body = json.dumps({"items": [document]}).encode()
    answers = await asyncio.gather(*(post(serai, body) for _ in range(5)))
    assert {(a.status, a.body) for a in answers} == {(200, b'{"responses":[null]}')}
    await serai.until_final("again-1")
    later = await post(serai, body)
    assert (later.status, later.body) == (200, b'{"responses":[null]}')
    other = copy.deepcopy(document)
    cast("dict[str, Any]", other["specification"])["replicas"] = 2
    why = check_form(await post(serai, json.dumps({"items": [other]}).encode()), 409)
    assert why.startswith("items[0].id: a job again-1 with other content exists already")
    # A conflict takes its whole bulk with it.
    check_form(await post(serai, json.dumps({"items": [{**document, "id": "again-2"}, other]}).encode()), 409)
    assert "again-2" not in await stored(serai)
    assert (serai.work("again-1") / "runs").read_text() == "run\n"
    assert [a.state for a in serai.core.jobs["again-1"].arrivals if a.state] == ["RUNNING", "SUCCESS"]


@pytest.mark.parametrize("job_id", ["unknown", "a\0b", "../x", "", "x" * 10_000])
async def test_terminate_of_what_is_not_there_is_success(serai: Stack, job_id: str) -> None:
    """Cancelling a job that nobody knows, whatever its id, is done already."""
    answer = await say(serai.port, request("POST", f"{JOBS}/terminate", headers(serai), seed("id", job_id)))
    assert (answer.status, answer.body) == (200, b'{"responses":[{}]}')


async def test_a_storm_of_it_leaves_nothing_behind(tmp_path: Path) -> None:
    """After hundreds of bad requests of all kinds: nothing is stored, no failure of our own is logged, memory is as before, open files too,
    and a good job runs."""
    async with stack(tmp_path) as running:
        token = headers(running)["Authorization"].removeprefix("Bearer ").encode()
        contents = [request("POST", JOBS, headers(running), body) for body, _ in BODIES.values()]
        contents += [odd.content.replace(b"{token}", token) for odd in ODD.values()]
        contents += [
            request("POST", JOBS, {"Authorization": value or ""}, SEED)
            for value in wrong_tokens(running.core.providers["example"].issuer).values()
        ]
        contents += [request("POST", JOBS, headers(running) | {"Transfer-Encoding": "chunked"}, chunked(*[b" " * 65536] * 257))]

        async def round_of_all() -> None:
            for begin in range(0, len(contents), 8):
                answers = await asyncio.gather(*(say(running.port, c) for c in contents[begin : begin + 8]))
                assert {a.status for a in answers} <= {400, 401, 404, 413}

        for _ in range(2):
            await round_of_all()
        before, open_before = rss_mib(running), open_files(running)
        for _ in range(4):
            await round_of_all()
        assert rss_mib(running) < before + 48, f"{before:.0f} MiB grew to {rss_mib(running):.0f} in {4 * len(contents)} requests"
        assert open_files(running) <= open_before + 16
        assert await stored(running) == set()
        assert "Traceback" not in running.log.read_text()
        assert '"level": "error"' not in running.log.read_text()
        (sent,) = await running.core.submit_raw(SEED)
        await running.until_final(sent.job_id)
        assert running.core.jobs[sent.job_id].state == "SUCCESS"


def rss_mib(running: Stack) -> float:
    assert running.process is not None
    status = Path(f"/proc/{running.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def open_files(running: Stack) -> int:
    assert running.process is not None
    return len(list(Path(f"/proc/{running.process.pid}/fd").iterdir()))


@pytest.mark.parametrize(
    "trailer",
    [b"a: " + b"b" * 4_000 + b"\r\n", b"c" * 4_096],
    ids=["many trailers", "one trailer without end"],
)
async def test_trailers_have_an_end(serai: Stack, trailer: bytes) -> None:
    """After a chunked body a client without a token cannot make the server keep trailers for ever: it is cut off."""
    _, writer = await asyncio.open_connection("127.0.0.1", serai.port)
    writer.write(b"POST /ucloud/example/jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")
    with pytest.raises(ConnectionError):
        for _ in range(4_096):  # 16 MiB, where 64 KiB are allowed
            writer.write(trailer)
            await writer.drain()
    writer.close()


@pytest.mark.parametrize("extra", [{}, {"Content-Length": "3"}, {"X": "y" * 60_000}])
async def test_an_upgrade_is_refused_and_closed(serai: Stack, extra: dict[str, str]) -> None:
    """A path without a WebSocket call: a handshake gets a 404 in UCloud's form and its connection is not held."""
    reader, writer = await asyncio.open_connection("127.0.0.1", serai.port)
    upgrade = {"Host": "x", "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "eA=="}
    head = "".join(f"{name}: {value}\r\n" for name, value in (upgrade | extra).items())
    writer.write(f"GET /ucloud/example/jobs HTTP/1.1\r\n{head}\r\n".encode())
    async with asyncio.timeout(20):
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"no WebSocket call of this provider" in answer
    writer.close()
