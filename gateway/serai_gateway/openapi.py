"""The OpenAPI documents, as anybody may read them: UCloud's wire at `/openapi.json`, what tools ask at `/v1/openapi.json`.

`make generate` made them from the protos, and they are packaged beside the generated code. Here they get this provider's address and id.
Their bytes are made at the first request and kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import cast

import msgspec

from serai_gateway.http import Headers
from serai_gateway.settings import Settings

UCLOUD = "/openapi.json"
TOOLS = "/v1/openapi.json"
_USERS = "/api/"
_CACHE = (b"cache-control", b"public, max-age=300")


class Document(msgspec.Struct, frozen=True):
    """One document's bytes and their mark."""

    body: bytes
    etag: bytes

    def extra(self) -> tuple[tuple[bytes, bytes], ...]:
        """Headers of the answer."""
        return ((b"etag", self.etag), _CACHE)

    def is_known(self, headers: Headers) -> bool:
        """The request shows the mark: whoever asks has these bytes."""
        return any(name == b"if-none-match" and self.etag in _marks(value) for name, value in headers)


class Documents:
    """Finds them by path."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._made: dict[str, Document] = {}

    def find(self, path: str) -> Document | None:
        """None = no document is there."""
        made = self._made.get(path)
        if made is None and path in {UCLOUD, TOOLS}:
            made = self._made[path] = self._make(path)
        return made

    def _make(self, path: str) -> Document:
        settings = self._settings
        name = f"ucloud-{settings.core.generation}.json" if path == UCLOUD else "v1.json"
        document = cast("dict[str, object]", msgspec.json.decode((files("serai") / "openapi" / name).read_bytes()))
        if settings.gateway.public_url:
            document["servers"] = [{"url": settings.gateway.public_url}]
        if path == UCLOUD:
            _of_this_provider(document, settings)
        body = msgspec.json.encode(document)
        return Document(body, b'"%s"' % hashlib.sha256(body).hexdigest()[:32].encode())


def _of_this_provider(document: dict[str, object], settings: Settings) -> None:
    """The ids that the gateway answers for; no calls of users where they are not served."""
    parameters = cast("Mapping[str, dict[str, dict[str, object]]]", cast("dict[str, object]", document["components"])["parameters"])
    parameters["provider"]["schema"]["enum"] = sorted(settings.provider.names)
    if not settings.gateway.users.public_key_file:
        paths = cast("dict[str, object]", document["paths"])
        document["paths"] = {path: calls for path, calls in paths.items() if not path.startswith(_USERS)}


def _marks(value: bytes) -> Iterator[bytes]:
    """Of a header If-None-Match; weak ones count as strong here, as the standard has it for this header."""
    return (mark.strip().removeprefix(b"W/") for mark in value.split(b","))
