"""Applications' pages, by both ways: what a browser and an application say to each other arrives as it was said."""

from __future__ import annotations

import asyncio
import hashlib
import json

import pytest
from fakes.web_site import COOKIE, Site, read_answer

PIECE = 64 * 1024
MOST_ON_THE_WAY = 64 << 20
"""Bytes in all buffers between two ends, most of them the kernel's; far less than is sent."""
SETTLED_S = 0.5
"""In which a sender that is not stopped makes hundreds of steps."""


async def test_an_address_is_swapped_for_a_cookie_once(web: Site) -> None:
    """First visit: a cookie and on to the page. Second: only with that cookie. Neither may be kept by caches or told to other pages."""
    held = web.open()
    first = await web.get(f"/.serai/open/{held.secret}", Accept="text/html")
    assert first.status == 302
    assert first.header("location") == "/"
    cookie, *attributes = [part.strip() for part in first.header("set-cookie").split(";")]
    assert cookie == f"{COOKIE}={held.cookie}"
    assert sorted(attributes) == ["HttpOnly", "Path=/", "SameSite=Lax"]
    assert (first.header("referrer-policy"), first.header("cache-control")) == ("no-referrer", "no-store")
    again = await web.get(f"/.serai/open/{held.secret}", Accept="text/html")
    assert again.status == 401
    assert b"<h1>" in again.body
    with_cookie = await web.get(f"/.serai/open/{held.secret}", cookie=held.cookie)
    assert (with_cookie.status, with_cookie.header("location"), with_cookie.header("set-cookie")) == (302, "/", "")
    assert web.causes() == ["session_unknown"]
    page = await web.get("/", cookie=held.cookie)
    assert (page.status, page.header("set-cookie")) == (200, "_xsrf=2|a|b; Path=/")


async def test_the_target_and_the_cookies_arrive_as_they_were(web: Site) -> None:
    """Encoded slashes, doubled slashes, dots and odd queries are the application's; its own cookies are as the browser sent them."""
    cookie = await web.enter()
    for target in ("/tree/a%2Fb//c?x=1&y=%20", "//", "/a/../b", "/.seraix/y", "/%2e%2e/x", "/x;y=1?a=b?c", "/{|}^"):
        answer = await web.get(target, Cookie=f'a="1 2"; {COOKIE}={cookie};b=3;  c=Ã¼')
        assert answer.status == 200, (target, answer)
        assert answer.echo["target"] == target
        assert answer.got("cookie") == ['a="1 2";b=3;  c=Ã¼']
    assert (await web.get("/x", cookie=cookie)).got("cookie") == []


async def test_what_the_application_is_told_of_the_request(web: Site) -> None:
    """The Host of the browser's address, which it may compare with Origin; who asked, as we know it and not as the client says."""
    cookie = await web.enter()
    answer = await web.get(
        "/x", cookie=cookie, X_Forwarded_For="6.6.6.6", X_Forwarded_Host="evil", X_Real_IP="6.6.6.6", Forwarded="for=6.6.6.6"
    )
    assert answer.got("host") == [web.host()]
    assert answer.got("x-forwarded-for") == ["127.0.0.1"]
    assert answer.got("x-forwarded-host") == [web.host()]
    assert answer.got("x-forwarded-proto") == ["http"]
    assert answer.got("forwarded") == answer.got("x-real-ip") == []


@pytest.mark.parametrize("chunked", ["", "&chunked"])
async def test_large_answers_are_streamed(web: Site, chunked: str) -> None:
    """64 MiB, by length or in chunks, byte for byte."""
    cookie = await web.enter()
    size = 64 * 1024 * 1024
    answer = await web.get(f"/download?n={size}{chunked}", cookie=cookie)
    assert len(answer.body) == size
    assert hashlib.sha256(answer.body).digest() == hashlib.sha256(bytes(range(256)) * (size // 256)).digest()


async def test_large_requests_are_streamed(web: Site) -> None:
    """32 MiB by length and in chunks; a client that waits to be told to go on is told so."""
    cookie = await web.enter()
    body = bytes(range(256)) * 4_096 * 32
    digest = hashlib.sha256(body).hexdigest()
    head = f"POST /up HTTP/1.1\r\nHost: {web.host()}\r\nCookie: {COOKIE}={cookie}\r\n".encode()
    answer = await web.say(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    assert (answer.echo["length"], answer.echo["sha256"]) == (len(body), digest)
    answer = await web.say(head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
    assert (answer.echo["length"], answer.echo["sha256"]) == (len(body), digest)
    reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
    writer.write(head + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
    writer.write(b"abc")
    assert (await read_answer(reader)).echo["length"] == 3
    writer.close()


async def test_a_client_that_does_not_read_stops_the_application(web: Site) -> None:
    """Of a gigabyte only what fits into the buffers on the way is taken from the application, until the client reads."""
    cookie, size = await web.enter(), 1 << 30
    reader, writer = await asyncio.open_connection("127.0.0.1", web.port, limit=PIECE)
    writer.write(f"GET /download?n={size} HTTP/1.1\r\nHost: {web.host()}\r\nCookie: {COOKIE}={cookie}\r\n\r\n".encode())
    async with asyncio.timeout(60):
        await reader.readuntil(b"\r\n\r\n")
        taken = -1
        while web.app().sent != taken:
            taken = web.app().sent
            await asyncio.sleep(SETTLED_S)
        assert taken < MOST_ON_THE_WAY
        while web.app().sent == taken:
            await reader.read(PIECE)
    writer.close()


async def test_an_application_that_does_not_read_stops_the_client(web: Site) -> None:
    """The same for a body: it goes on, and arrives whole, when the application reads."""
    cookie, size = await web.enter(), 256 << 20
    reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
    writer.transport.set_write_buffer_limits(0)
    head = f"POST /asleep HTTP/1.1\r\nHost: {web.host()}\r\nCookie: {COOKIE}={cookie}\r\nContent-Length: {size}\r\n\r\n"
    writer.write(head.encode())
    sent = 0

    async def upload() -> None:
        nonlocal sent
        while sent < size:
            writer.write(bytes(PIECE))
            await writer.drain()
            sent += PIECE

    async with asyncio.timeout(60):
        uploading, before = asyncio.create_task(upload()), -1
        while sent != before:
            before = sent
            await asyncio.sleep(SETTLED_S)
        assert before < MOST_ON_THE_WAY
        web.app().awake.set()
        await uploading
        assert (await read_answer(reader)).echo["length"] == size
    writer.close()


async def test_answers_without_a_body(web: Site) -> None:
    """HEAD and 304 have none, and the connection goes on after them."""
    cookie = await web.enter()
    head = f"Host: {web.host()}\r\nCookie: {COOKIE}={cookie}\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
    writer.write(f"HEAD /x HTTP/1.1\r\n{head}".encode())
    answer = await read_answer(reader, head=True)
    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.header("content-length")) > 0
    writer.write(f"GET /none HTTP/1.1\r\n{head}".encode())
    assert (await read_answer(reader)).status == 304
    writer.write(f"GET /x HTTP/1.1\r\nRange: bytes=1-2\r\n{head}".encode())
    assert (await read_answer(reader)).got("range") == ["bytes=1-2"]
    writer.close()


async def test_pipelined_requests_keep_their_targets(web: Site) -> None:
    """Two requests in one packet are two requests, in order."""
    cookie = await web.enter()
    head = f"Host: {web.host()}\r\nCookie: {COOKIE}={cookie}\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
    writer.write(f"GET /one HTTP/1.1\r\n{head}GET /two?x HTTP/1.1\r\n{head}".encode())
    assert [(await read_answer(reader)).echo["target"] for _ in range(2)] == ["/one", "/two?x"]
    writer.close()


async def test_events_come_as_they_are_sent_and_end_when_the_client_leaves(web: Site) -> None:
    """The first event arrives while the answer goes on; the application is told when nobody listens any more."""
    cookie = await web.enter()
    reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
    writer.write(f"GET /events HTTP/1.1\r\nHost: {web.host()}\r\nCookie: {COOKIE}={cookie}\r\n\r\n".encode())
    async with asyncio.timeout(30):
        assert b"text/event-stream" in await reader.readuntil(b"\r\n\r\n")
        assert b"data: a tick" in await reader.readuntil(b"tick")
        assert web.app().streams == 1
        writer.close()
        while web.app().streams:
            await asyncio.sleep(0.02)


async def test_an_application_that_is_not_there_yet(web: Site) -> None:
    """A page for people that looks again by itself, UCloud's JSON for programs; both 502, which nobody repeats by itself."""
    cookie = await web.enter()
    await web.app().stop()
    page = await web.get("/x", cookie=cookie, Accept="text/html,*/*")
    assert page.status == 502
    assert b"job 1, rank 0" in page.body
    assert b'http-equiv="refresh"' in page.body
    told = await web.get("/x", cookie=cookie, Accept="application/json")
    assert (told.status, json.loads(told.body)["statusCode"]) == (502, 502)
    assert "may still be starting" in json.loads(told.body)["why"]


async def test_an_answer_that_breaks_off_is_not_taken_for_whole(web: Site) -> None:
    """The connection ends before the length that was promised."""
    cookie = await web.enter()
    with pytest.raises(asyncio.IncompleteReadError):
        await web.get("/short", cookie=cookie)


async def test_headers_of_one_connection_stay_there(web: Site) -> None:
    """Neither side sees what the other one said about its own connection."""
    cookie = await web.enter()
    answer = await web.get("/x", cookie=cookie, Connection="keep-alive, x-mine", X_Mine="1", Keep_Alive="timeout=5", TE="trailers")
    assert answer.got("x-mine") == answer.got("keep-alive") == []


async def test_the_application_cannot_set_our_cookies(web: Site) -> None:
    """Its own pass; those with our names, or for the whole domain by our names, do not."""
    answer = await web.get("/evil", cookie=await web.enter())
    assert [value for name, value in answer.headers if name == "set-cookie"] == ["own=1; Path=/"]
