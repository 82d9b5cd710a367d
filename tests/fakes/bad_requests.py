"""Requests that a provider must refuse, as tables: bodies, places of the seed's job, HTTP that is odd or broken, and tokens."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from serai_devcore.tokens import TokenIssuer

from fakes.raw_http import chunked
from fakes.stack import ROOT

SEED = (ROOT / "examples" / "requests" / "batch.json").read_bytes()
JOBS = "/ucloud/example/jobs"
MIB = 1 << 20
LIMIT = 16 * MIB
DEEP = 100_000


def seed(path: str = "", value: object = None, *, drop: bool = False) -> bytes:
    """The seed's request with the value at `path` (below its only item) replaced or dropped."""
    document: Any = json.loads(SEED)
    if path:
        *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
        at: Any = document["items"][0]
        for part in way:
            at = at[part]
        if drop:
            del at[last]
        else:
            at[last] = value
    return json.dumps(document).encode()


def spliced(before: bytes, after: bytes) -> bytes:
    """The seed's request with a piece of its text replaced: for what no JSON writer writes."""
    compact = json.dumps(json.loads(SEED), separators=(",", ":")).encode()
    assert before in compact
    return compact.replace(before, after, 1)


def items(*changes: Mapping[str, object]) -> bytes:
    """One request with the seed's job once for each of `changes`, changed like that."""
    item = json.loads(SEED)["items"][0]
    return json.dumps({"items": [{**item, **change} for change in changes]}).encode()


NESTED = b"[" * DEEP + b"]" * DEEP
NESTED_OBJECTS = b'{"a":' * DEEP + b"1" + b"}" * DEEP
REPLICAS = "items[0].specification.replicas"
SPAN = "items[0].specification.timeAllocation"

BODIES: dict[str, tuple[bytes, str]] = {
    "words": (b"hello", "expected JSON"),
    "empty": (b"", "expected JSON: found an empty body"),
    "blanks": (b"  \n ", "expected JSON"),
    "truncated": (SEED[:500], "expected JSON"),
    "more behind": (SEED + b"{}", "expected JSON"),
    "not UTF-8": (SEED.replace(b"Hello", b"\xff\xfe"), "expected UTF-8"),
    "UTF-16": (SEED.decode().encode("utf-16"), "expected"),
    "half a surrogate": (SEED.replace(b"Hello", b"\\ud800"), "expected JSON"),
    "gzip": (b"\x1f\x8b\x08\x00", "expected"),
    "deep lists": (NESTED, "expected JSON of a sensible depth"),
    "deep and open": (b"[" * DEEP, "expected JSON"),
    "deep objects": (NESTED_OBJECTS, "expected JSON of a sensible depth"),
    "deep in an item": (b'{"items":[' + NESTED + b"]}", "expected JSON of a sensible depth"),
    "deep in a key nobody knows": (spliced(b'"id":"54112"', b'"id":"54112","x":' + NESTED_OBJECTS), "expected JSON of a sensible depth"),
    "deep in free JSON": (spliced(b'"jobParametersJson":null', b'"jobParametersJson":' + NESTED), "expected JSON of a sensible depth"),
    "NaN": (spliced(b'"replicas":1', b'"replicas":NaN'), "expected JSON"),
    "Infinity in a key nobody knows": (spliced(b'"replicas":1', b'"replicas":1,"x":-Infinity'), "expected JSON"),
    "a key twice, the last one wrong": (spliced(b'"replicas":1', b'"replicas":1,"replicas":0'), f"{REPLICAS}: expected 1 to 64"),
    "1e400": (spliced(b'"replicas":1', b'"replicas":1e400'), "expected"),
    "10^30": (spliced(b'"replicas":1', b'"replicas":1' + b"0" * 30), f"{REPLICAS}: expected a whole number"),
    "10^5000": (spliced(b'"replicas":1', b'"replicas":1' + b"0" * 5000), "expected"),
    "1.5 replicas": (seed("specification.replicas", 1.5), f"{REPLICAS}: expected a whole number"),
    "a list": (b"[]", "expected an object, found a list"),
    "null": (b"null", "expected an object, found null"),
    "no items": (b"{}", "items: expected a list of 1 to 1000 items"),
    "items null": (b'{"items":null}', "items: expected a list of 1 to 1000 items"),
    "items an object": (b'{"items":{}}', "items: expected a list, found an object"),
    "0 items": (b'{"items":[]}', "items: expected 1 to 1000 items, found 0"),
    "an item null": (b'{"items":[null]}', "items[0]: expected an object, found null"),
    "1,001 items": (items(*({"id": str(n)} for n in range(1001))), "items: expected 1 to 1000 items, found 1001"),
    "0 replicas": (seed("specification.replicas", 0), f"{REPLICAS}: expected 1 to 64, found 0"),
    "-1 replicas": (seed("specification.replicas", -1), f"{REPLICAS}: expected 1 to 64, found -1"),
    "a million replicas": (seed("specification.replicas", 10**6), f"{REPLICAS}: expected 1 to 64, found 1000000"),
    "2^31 replicas": (seed("specification.replicas", 2**31), f"{REPLICAS}: expected a whole number"),
    "-1 hours": (seed("specification.timeAllocation.hours", -1), f"{SPAN}.hours: expected 0 or more, found -1"),
    "-1 minutes": (seed("specification.timeAllocation.minutes", -1), f"{SPAN}.minutes: expected 0 to 59, found -1"),
    "60 seconds": (seed("specification.timeAllocation.seconds", 60), f"{SPAN}.seconds: expected 0 to 59, found 60"),
    "no time at all": (seed("specification.timeAllocation.hours", 0), f"{SPAN}: expected 1 second to"),
    "2^31-1 hours": (seed("specification.timeAllocation.hours", 2**31 - 1), f"{SPAN}: expected 1 second to"),
    "another product": (seed("specification.product.id", "nope"), "items[0].specification.product: example/example-compute/nope is not"),
    "another's product": (seed("specification.product.provider", "other"), "items[0].specification.product: other/"),
    "id with slashes": (seed("id", "../../etc/passwd"), "items[0].id: expected an id"),
    "id of dots": (seed("id", ".."), "items[0].id: expected an id"),
    "id empty": (seed("id", ""), "items[0].id: expected an id"),
    "id too long": (seed("id", "x" * 65), "items[0].id: expected an id"),
    "id with NUL": (seed("id", "a\0b"), "items[0].id: expected an id"),
    "id twice in a bulk": (items({"id": "t1"}, {"id": "t2"}, {"id": "t1"}), "items[2].id: job t1 is in the request twice"),
    "last item's form is wrong": (items({"id": "t1"}, {"id": "t2", "owner": 5}), "items[1].owner: expected an object"),
    "last item's content is wrong": (items({"id": "t1"}, {"id": "t/2"}), "items[1].id: expected an id"),
    "owner without a name": (seed("owner.createdBy", ""), "items[0].owner.createdBy: expected"),
    "NUL in the owner": (seed("owner.createdBy", "a\0b"), "items[0].owner.createdBy: expected a text without NUL"),
    "NUL in the project": (seed("owner.project", "a\0b"), "items[0].owner.project: expected a text without NUL"),
    "NUL in the name": (seed("specification.name", "a\0b"), "items[0].specification.name: expected a text without NUL"),
    "NUL in an argument": (
        seed("specification.parameters.value.value", "a\0b"),
        'items[0].specification.parameters["value"]: expected a text without NUL',
    ),
    "an argument of 3 MB": (seed("specification.parameters.value.value", "a" * 3_000_000), "items[0].specification.parameters: "),
    "a kind of value nobody knows": (
        seed("specification.parameters.value.type", "magic"),
        'items[0].specification.parameters["value"].type: expected one of',
    ),
    "a value of another kind": (
        seed("specification.parameters.value", {"type": "integer", "value": 5}),
        'items[0].specification.parameters["value"]: expected a value of type text, found integer',
    ),
    "a parameter nobody declared": (
        seed("specification.parameters.more", {"type": "text", "value": "x"}),
        'items[0].specification.parameters["more"]: the application declares no parameter',
    ),
    "no application": (seed("status.resolvedApplication", None), "items[0].status.resolvedApplication: expected"),
    "an empty invocation": (seed("status.resolvedApplication.invocation.invocation", []), "items[0].specification.parameters: "),
    "a kind of invocation nobody knows": (
        seed("status.resolvedApplication.invocation.invocation.0.type", "magic"),
        "items[0].status.resolvedApplication.invocation.invocation[0].type: expected one of",
    ),
}
"""Body → how `why` begins. All of them are 400."""

OBJECT, LIST, TEXT, WHOLE, WORD = "an object", "a list", "a text", "a whole number", "a word"
TYPES: dict[str, str] = {
    "id": TEXT,
    "owner": OBJECT,
    "owner.createdBy": TEXT,
    "owner.project": TEXT,
    "updates": LIST,
    "specification": OBJECT,
    "specification.application": OBJECT,
    "specification.application.name": TEXT,
    "specification.application.version": TEXT,
    "specification.product": OBJECT,
    "specification.product.id": TEXT,
    "specification.product.category": TEXT,
    "specification.product.provider": TEXT,
    "specification.name": TEXT,
    "specification.replicas": WHOLE,
    "specification.parameters": OBJECT,
    "specification.parameters.debug": OBJECT,
    "specification.parameters.value.value": TEXT,
    "specification.resources": LIST,
    "specification.timeAllocation": OBJECT,
    "specification.timeAllocation.hours": WHOLE,
    "status": OBJECT,
    "status.state": WORD,
    "status.resolvedApplication": OBJECT,
    "status.resolvedApplication.metadata": OBJECT,
    "status.resolvedApplication.metadata.title": TEXT,
    "status.resolvedApplication.invocation": OBJECT,
    "status.resolvedApplication.invocation.tool": OBJECT,
    "status.resolvedApplication.invocation.applicationType": WORD,
    "status.resolvedApplication.invocation.parameters": LIST,
    "status.resolvedApplication.invocation.invocation": LIST,
    "status.resolvedApplication.invocation.invocation.0": OBJECT,
    "status.resolvedApplication.invocation.invocation.0.word": TEXT,
    "status.resolvedApplication.invocation.invocation.1.variableNames": LIST,
    "status.resolvedProduct": OBJECT,
    "createdAt": WHOLE,
    "permissions": OBJECT,
    "output": OBJECT,
}
"""What stands at each place of the seed's job."""
REQUIRED = [
    "id",
    "owner",
    "owner.createdBy",
    "specification",
    "specification.application",
    "specification.application.name",
    "specification.application.version",
    "specification.product",
    "specification.product.id",
    "specification.product.category",
    "specification.product.provider",
    "status.resolvedApplication",
    "status.resolvedApplication.invocation",
    "specification.parameters.debug.type",
    "specification.parameters.debug.value",
]


def told(path: str) -> str:
    """The path as an error writes it."""
    text = "items[0]"
    names_follow = False
    for part in path.split("."):
        text += f"[{part}]" if part.isdigit() else f'["{part}"]' if names_follow else f".{part}"
        names_follow = part == "parameters" and text.endswith("specification.parameters")
    return text


@dataclass(frozen=True)
class Odd:
    """A request as raw as it gets. `{token}` in it is Core's."""

    content: bytes
    status: int
    """0 = the connection just ends."""


_POST = f"POST {JOBS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {{token}}\r\n".encode()
ODD: dict[str, Odd] = {
    "another protocol": Odd(b"\x16\x03\x01\x02\x00hello\r\n\r\n", 400),
    "HTTP/2": Odd(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "HTTP/9.9": Odd(b"GET /healthz HTTP/9.9\r\n\r\n", 400),
    "HTTP/1.0": Odd(_POST.replace(b"HTTP/1.1", b"HTTP/1.0") + b"Content-Length: 2\r\n\r\n{}", 400),
    "a tunnel": Odd(b"CONNECT other:1 HTTP/1.1\r\nHost: other:1\r\n\r\n", 400),
    "a proxy's request": Odd(b"GET http://other/ HTTP/1.1\r\nHost: other\r\n\r\n", 404),
    "chunks without sense": Odd(_POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n", 400),
    "a chunk of 2^160 bytes": Odd(_POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 40 + b"\r\n", 400),
    "an encoding nobody knows": Odd(_POST + b"Transfer-Encoding: rot13\r\n\r\n{}", 400),
    "a length of 10^30": Odd(_POST + b"Content-Length: 1" + b"0" * 30 + b"\r\n\r\n", 400),
    "a negative length": Odd(_POST + b"Content-Length: -1\r\n\r\n", 400),
    "a length in words": Odd(_POST + b"Content-Length: two\r\n\r\n{}", 400),
    "two lengths": Odd(_POST + b"Content-Length: 2\r\nContent-Length: 5\r\n\r\n{}   ", 400),
    "length and chunks": Odd(_POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"{}"), 400),
    "a control character": Odd(_POST + b"X: a\x01b\r\n\r\n", 400),
    "a path that is not ASCII": Odd(b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "a path of 100,000 characters": Odd(b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "a header of 1 MB": Odd(_POST + b"X: " + b"a" * 1_000_000 + b"\r\n\r\n", 413),
    "headers without end": Odd(_POST + b"X: a\r\n" * 500_000, 413),
    "an upgrade": Odd(_POST + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\n{}", 400),
}


def _b64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _by_hand(algorithm: str, claims: dict[str, Any], secret: bytes) -> str:
    """A token that no careful library would make."""
    message = f"{_b64(json.dumps({'alg': algorithm, 'typ': 'JWT'}).encode())}.{_b64(json.dumps(claims).encode())}"
    signature = hmac.new(secret, message.encode(), hashlib.sha256).digest() if secret else b""
    return f"{message}.{_b64(signature)}"


def wrong_tokens(issuer: TokenIssuer) -> dict[str, str | None]:
    """`Authorization` headers that are not Core's; None = no header."""
    claims = cast("dict[str, Any]", issuer.core_claims())
    good = issuer.core_token()
    now_s = int(time.time())
    found: dict[str, str | None] = {
        "none": None,
        "empty": "",
        "no token": "Bearer ",
        "no scheme": good,
        "another scheme": "Basic dXNlcjpwYXNzd29yZA==",
        "not a JWT": "Bearer abc",
        "HS256 with the public key (PEM)": "Bearer " + _by_hand("HS256", claims, issuer.public_key_pem.encode()),
        "HS256 with the public key (one line)": "Bearer " + _by_hand("HS256", claims, issuer.public_key_der_base64.encode()),
        "algorithm none": "Bearer " + _by_hand("none", claims, b""),
        "algorithm nOnE": "Bearer " + _by_hand("nOnE", claims, b""),
        "signature cut off": "Bearer " + good.rpartition(".")[0] + ".",
        "signature cut short": "Bearer " + good[:-6],
        "other claims under the signature": "Bearer "
        + ".".join([good.split(".")[0], _b64(json.dumps(claims | {"exp": now_s + 9999}).encode()), good.split(".")[2]]),
        "the provider's own": "Bearer " + issuer.access_token(),
        "deep JSON": f"Bearer {_b64(b'[' * 10_000)}.{_b64(b'{}')}.xx",
        "long": "Bearer " + "a" * 40_000,
    }
    for name, change in {
        "expired": {"exp": now_s - 600, "iat": now_s - 1200},
        "never expires": {"exp": None},
        "expiry in words": {"exp": "tomorrow"},
        "expiry true": {"exp": True},
        "of the future": {"iat": now_s + 86_400, "exp": now_s + 90_000},
        "another issuer": {"iss": "cloud.example.com"},
        "no issuer": {"iss": None},
        "a user": {"sub": "user"},
        "another service": {"sub": "_orchestrator"},
        "no subject": {"sub": None},
        "role USER": {"role": "USER"},
        "role PROVIDER": {"role": "PROVIDER"},
        "no role": {"role": None},
        "another audience": {"aud": "files:read"},
        "other audiences": {"aud": ["files:read", "x"]},
        "no audience": {"aud": None},
    }.items():
        changed: dict[str, Any] = {key: value for key, value in (claims | change).items() if value is not None}
        found[name] = "Bearer " + issuer.sign(changed)
    return found
