"""Target `tokens`: what shows who calls. Tokens of Core and of users, names of users, the file with a public key.

A token's claims are signed for each input, so that what stands behind the signature is reached too.
"""

from __future__ import annotations

import base64
import json
import random
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import jwt
from fakes.gateway_tokens import claims, key, pem
from golden.load import RECORDED
from serai_gateway.auth import AuthError, KeyFileError, PublicKeyFile, TokenCheck, parse_public_key, read_username
from serai_gateway.clock import SystemClock
from serai_gateway.errors import GatewayError
from serai_gateway.routes import ROUTES
from serai_gateway.users import User, UserCheck, metadata_of, project_of

from fuzz.reader import Reader, Wrong, choosing, chosen
from fuzz.trees import Trees

_USERS = next(route for route in ROUTES if route.users)


def tokens() -> Reader:
    """An input: which reader, then its text."""
    readers = (_header, _claims, _username, _key_file, _project)
    signed = jwt.encode(_good(), key(), algorithm="RS256").encode()
    named = [base64.b64encode("Å user".encode()), b"user#1234", "Å".encode()]
    seeds = [
        b"\0Bearer " + signed,
        b"\0Bearer " + _unsigned({"alg": "none"}) + b".",
        b"\0bEARER " + _unsigned({"alg": "RS256", "crit": ["b64"], "b64": False}) + b".AAAA",
        *(b"\1" + text for text in _claim_sets()),
        *(b"\2" + name for name in named),
        b"\3" + pem(key()),
        b"\3" + b"".join(pem(key()).splitlines()[1:-1]),
        *(b"\4" + name for name in named),
    ]

    def change(chance: random.Random) -> Callable[[bytes], bytes]:
        return choosing(Trees(chance, _claim_sets()).body, len(readers), chance)

    def read(content: bytes) -> str:
        at, text = chosen(content, len(readers))
        try:
            readers[at](text)
        except (AuthError, KeyFileError, GatewayError) as refused:
            str(refused).encode()
            return "refused"
        return "read"

    return Reader("tokens", seeds, change, read, most_bytes=24 * 1024)


def _good() -> dict[str, object]:
    return claims(SystemClock().now_ms())


def _claim_sets() -> list[bytes]:
    now_s = SystemClock().now_ms() // 1_000
    user = {"sub": "user", "role": "USER", "iss": "cloud.sdu.dk", "aud": ["all:write"], "iat": now_s, "exp": now_s + 10**6}
    member = {"membership": {"p": "PI", "q": "USER"}, "groups": {"g": "p", "h": "q"}, "nbf": now_s}
    recorded = json.loads(RECORDED[0].read_text())["jwt"]["claims"]
    return [json.dumps(one).encode() for one in (_good(), user, {**user, **member}, recorded)]


def _unsigned(head: object) -> bytes:
    return b".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (head, _good()))


@cache
def _checks() -> tuple[TokenCheck, UserCheck]:
    """Both with the same key, so that one signature does for both."""
    clock = SystemClock()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "key.pem")
        file.write_bytes(pem(key()))
        kept = PublicKeyFile(file, clock)
    return TokenCheck(kept, clock), UserCheck(kept, clock, "cloud.sdu.dk")


def _header(text: bytes) -> None:
    of_core, of_users = _checks()
    try:
        of_core.check(text)
    except AuthError:
        of_users.user(text, _USERS)


def _claims(text: bytes) -> None:
    header = b"Bearer " + jwt.api_jws.PyJWS().encode(text, key(), algorithm="RS256", headers={"typ": "JWT"}).encode()
    of_core, of_users = _checks()
    try:
        of_core.check(header)
    except AuthError:
        user: User = of_users.user(header, _USERS)
        for project in ["", *list(user.membership)[:3]]:
            for value in metadata_of(user, project).values():
                value.encode("ascii")  # as gRPC's metadata wants it


def _username(text: bytes) -> None:
    for generation in ("2021", "2026"):
        name = read_username(text, generation)
        if name is not None and (not name.isprintable() or not name):
            raise Wrong("a name that cannot be shown")


def _key_file(text: bytes) -> None:
    parse_public_key(text)


def _project(text: bytes) -> None:
    project_of((text,)).encode()
