"""Targets `frames`, `settings` and `pages`: smaller things that come from outside, each with the one error in which it may end."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from pathlib import Path

from serai_gateway.console.calls import Query
from serai_gateway.console.guard import check_source, cookie_of
from serai_gateway.errors import GatewayError
from serai_gateway.web.cookies import is_secret, sets_ours, take_apart
from serai_gateway.web.headers import to_application, to_client
from serai_gateway.web.names import place_of_host, place_of_path, plain_host
from serai_gateway.ws import frames as wire
from serai_gateway.ws.text import Text
from serai_server.cli.config import ConfigError, parse
from serai_server.cli.plan import local_settings, nomad_settings, plan_of

from fuzz.reader import Reader, Wrong, choosing, chosen
from fuzz.seeds import frames as golden_frames
from fuzz.trees import SPLICES, Trees

_ROOT = Path(__file__).parent.parent
_FILE = Path("/etc/serai/serai.toml")
_ENVIRONMENT = {"SERAI_ENVOY_HOST": "127.0.0.1"}


def frames() -> Reader:
    """An input: a WebSocket's message. Rules: it is a frame or none; its payload is a request or a text in words; the answers to it can be
    sent; a frame of which only what is known is spelled out is the same frame."""

    def change(chance: random.Random) -> Callable[[bytes], bytes]:
        return Trees(chance, golden_frames()).body

    return Reader("frames", golden_frames(), change, _read_frame)


def _read_frame(content: bytes) -> str:
    for piece in Text().pieces(content):
        piece.encode()
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return "refused"  # the WebSocket's own layer ends such a connection
    frame = wire.read_frame(text)
    if frame is None:
        return "refused"
    found = (wire.read_follow(frame), wire.read_shell(frame))
    wire.unknown_call(frame).encode()
    for words in found:
        if isinstance(words, str):
            wire.response(frame.stream_id, wire.ErrorPayload(words), 400).encode()
    if all(isinstance(words, str) for words in found):
        return "refused"
    return "read"


def settings() -> Reader:
    """An input: a settings file. Rules: it is good, or ConfigError says in lines what is wrong; of a good one every plan can be made."""
    example = (_ROOT / "server" / "serai_server" / "cli" / "example.toml").read_bytes()
    whole = b"\n".join(line.removeprefix(b"# ").removeprefix(b"#") for line in example.splitlines())
    seeds = [_MINIMAL, example, whole]

    def change(chance: random.Random) -> Callable[[bytes], bytes]:
        trees = Trees(chance, [b'{"a": 1}'])
        lines = [line for seed in seeds for line in seed.splitlines()]

        def changed(content: bytes) -> bytes:
            if chance.random() < 0.2:
                return trees.bytes(content)
            return b"\n".join(_changed_lines(chance, trees, content.splitlines() or [b""], lines))

        return changed

    return Reader("settings", seeds, change, _read_settings)


_MINIMAL = b"""[provider]
id = "example"
[core]
url = "https://cloud.example.org"
public_key_file = "core.pem"
refresh_token_file = "/run/secrets/refresh"
[[products]]
id = "c1"
category = "c"
cpu = 2
memory_gib = 1.5
price_unit = "hour"
"""


def _changed_lines(chance: random.Random, trees: Trees, lines: list[bytes], others: list[bytes]) -> list[bytes]:
    at = chance.randrange(len(lines))
    key = lines[at].partition(b"=")[0]
    match chance.randrange(7):
        case 0:
            del lines[at]
        case 6:
            section = chance.choice([b"gateway", b"server", b"gateway.envoy", b"products", b"licenses", b"backend.nomad", b"core"])
            lines.insert(0, section + b" = " + trees.written(trees.leaf()))
        case 1:
            lines.insert(at, chance.choice(others))
        case 2 | 3:
            lines[at] = key + b"= " + trees.written(trees.leaf())
        case 4:
            lines[at] = (
                key + b"= " + chance.choice([b"''", b"1979-05-27T07:32:00Z", b"{a=1}", b"[1,2]", b"inf", b"-1", b"[[1],[2]]", *SPLICES])
            )
        case _:
            lines.append(lines[at])
    return lines


def _read_settings(content: bytes) -> str:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return "refused"  # told by `load`, which reads files only
    try:
        good = parse(text, _FILE)
    except ConfigError as refused:
        if not refused.problems:
            raise Wrong("refused without a word") from refused
        with contextlib.suppress(ConfigError):
            parse(text, _FILE, _ENVIRONMENT)
        return "refused"
    try:
        parse(text, _FILE, _ENVIRONMENT)
    except ConfigError as refused:
        raise Wrong(f"good as it is, not with what the environment adds: {refused}") from refused
    plan_of(good)
    local_settings(good)
    nomad_settings(good)
    good.for_gateway()
    return "read"


def pages() -> Reader:
    """An input: which reader, then its text. Queries, cookies, names, headers and origins of the console and of applications' pages."""
    readers = (_query, _cookies, _names, _source, _headers)
    seeds = [bytes([at]) + text for at, texts in enumerate(_PAGES) for text in texts]
    words = [text for texts in _PAGES for text in texts]

    def change(chance: random.Random) -> Callable[[bytes], bytes]:
        trees = Trees(chance, [b'{"a": 1}'])

        def changed(text: bytes) -> bytes:
            if chance.random() < 0.3:
                at = chance.randint(0, len(text))
                return text[:at] + chance.choice(words) + text[at:]
            return trees.bytes(text)

        return choosing(changed, len(readers), chance)

    def read(content: bytes) -> str:
        at, text = chosen(content, len(readers))
        return readers[at](text)

    return Reader("pages", seeds, change, read, most_bytes=16 * 1024)


_PAGES = (
    (
        b"id=1&ranks=0,1,2&from=0.1.500,0.2.10&tail=1000&job=2",
        b"page=x&state=RUNNING&state=SUCCESS&owner=a&active=1",
        b"tail=00000000000" + b"1" * 12,
    ),
    (b"serai-session=" + b"a" * 43 + b"; x=1", b"__Host-serai-session=a; serai-console=b; __secure-SERAI-x=c", b"a=b; Path=/; HttpOnly"),
    (b"app-54112-0.apps.example.org:8443", b"/app/54112/0/lab?token=1", b"APP-a-b-12.apps.example.org.", b"/app/a_B-9/999999/"),
    (b"http://provider.example.org", b"https://[::1]:8443", b"null", b"http://a\\@b"),
    (
        b"connection: close, x-a\nx-a: b\nset-cookie: serai-session=1\ncontent-length: 4",
        b"x-forwarded-for: 1\nhost: a\nupgrade: websocket\nx_y: z",
    ),
)


def _query(text: bytes) -> str:
    try:
        query = Query(text)
        query.list_request()
        query.numbers("ranks")
        if not 1 <= query.number("tail", 5, 1, 1_000_000) <= 1_000_000:
            raise Wrong("a number outside of its bounds")
    except GatewayError as refused:
        refused.why.encode()
        return "refused"
    return "read"


def _cookies(text: bytes) -> str:
    found = take_apart((text,), "serai-session")
    if found.rest is not None and any(sets_ours(pair) for pair in found.rest.split(b";")):
        raise Wrong("an application would get one of our cookies")
    cookie_of(((b"cookie", text),))
    return "read" if any(is_secret(value) for value in found.session) else "refused"


def _names(text: bytes) -> str:
    name, _ = plain_host(text)
    place = place_of_host(name, "apps.example.org")
    return "refused" if place is None and place_of_path(text) is None else "read"


def _source(text: bytes) -> str:
    try:
        check_source(((b"origin", text), (b"host", b"provider.example.org")), changing=True)
    except GatewayError:
        return "refused"
    return "read"


def _headers(text: bytes) -> str:
    pairs = [(name.strip().lower(), value.strip()) for name, _, value in (line.partition(b":") for line in text.split(b"\n"))]
    kept = to_application(pairs, host="a", cookie=None, client="127.0.0.1", scheme="http", prefix="")
    back = to_client(pairs, shared_origin=True)
    if sum(name == b"host" for name, _ in kept) != 1:
        raise Wrong("an application would get two names of its host")
    if any(name == b"set-cookie" and sets_ours(value) for name, value in back):
        raise Wrong("an application would set one of our cookies")
    return "read"
