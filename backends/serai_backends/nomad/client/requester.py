"""Plain calls to Nomad: python-nomad's requester on threads of our own, the bytes of the answers read by msgspec on the same threads.

python-nomad hides headers, has few of the parameters that we need and turns JSON into dicts, so its requester is used one step lower: any
path, any parameter, the whole answer. What it reads from the environment by itself (token, client certificate, no verification of the
server) is replaced by what `environment.Access` says. This is the one module that knows python-nomad and requests.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec
import requests
from nomad.api.base import Requester as NomadRequester
from nomad.api.exceptions import BaseNomadException
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from serai_backends.common.threads import Threads
from serai_backends.errors import BackendUnavailable
from serai_backends.nomad.client.errors import Answered, Asked, unavailable, unreachable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from urllib3._base_connection import BaseHTTPConnection

    from serai_backends.nomad.client.environment import Access

_T = TypeVar("_T")
THREADS = 16
"""Calls at the same time; Nomad allows 100 connections from one address."""


@dataclass(frozen=True, slots=True)
class Answer(Generic[_T]):
    value: _T
    index: int
    """X-Nomad-Index: how new the answer is; 0 = it says nothing of that."""
    next_token: str
    """Where the next page begins; empty = this is the last."""


class Requester:
    def __init__(self, access: Access, timeout_ms: int) -> None:
        self.access = access
        self._threads = Threads(THREADS, "nomad")
        self._session = _Session(access)
        self._timeout_s = timeout_ms / 1000

    async def call(
        self,
        method: str,
        path: str,
        read: msgspec.json.Decoder[_T],
        *,
        need: str = "",
        params: Mapping[str, str] | None = None,
        body: object = None,
    ) -> Answer[_T]:
        """Ask `path` (below /v1/, quoted by the caller). Raises BackendUnavailable for trouble, and Answered for any other answer than 2xx
        of which the caller may know more. A token that Nomad refuses is read again from its file, and then asked with once more."""
        asked = Asked(f"{method} /v1/{path}", need)
        data = None if body is None else msgspec.json.encode(body)
        all_params = self.access.params() | dict(params or {})

        def step() -> Answer[_T]:
            try:
                return self._ask(method, path, read, all_params, data)
            except Answered as answer:
                if answer.status == 403 and self.access.token.read():
                    return self._ask(method, path, read, all_params, data)
                raise

        try:
            return await self._threads.run(step)
        except Answered as answer:
            if answer.status in (400, 404, 409, 500):
                raise
            raise self.trouble(answer, asked) from None

    async def ask(
        self,
        method: str,
        path: str,
        read: msgspec.json.Decoder[_T],
        *,
        need: str = "",
        params: Mapping[str, str] | None = None,
        body: object = None,
    ) -> Answer[_T] | None:
        """The same for calls whose only special answer is "there is no such thing": None."""
        try:
            return await self.call(method, path, read, need=need, params=params, body=body)
        except Answered as answer:
            if answer.says_missing:
                return None
            raise self.trouble(answer, Asked(f"{method} /v1/{path}", need)) from None

    async def refresh(self) -> None:
        """Read the token from its file, before a stream is opened with it."""
        await self._threads.run(self.access.token.read)

    def trouble(self, answer: Answered, asked: Asked) -> BackendUnavailable:
        return unavailable(answer, asked, self.access.address, self.access.token.source)

    def close(self) -> None:
        self._threads.close()
        self._session.close()

    def _ask(self, method: str, path: str, read: msgspec.json.Decoder[_T], params: dict[str, str], data: bytes | None) -> Answer[_T]:
        """Blocking."""
        endpoint, _, rest = path.partition("/")
        try:
            response = _Endpoint(endpoint, self.access.base, self._session).send(method, rest, params, data, self._timeout_s)
        except BaseNomadException as error:
            answer: object = error.nomad_resp
            if isinstance(answer, requests.Response):
                raise Answered(answer.status_code, answer.content) from None
            raise unreachable(answer if isinstance(answer, BaseException) else error, self.access.address) from error
        try:
            value = read.decode(response.content or b"null")
        except msgspec.DecodeError as error:
            raise BackendUnavailable(f"the answer of {self.access.address} to {method} /v1/{path} is not Nomad's: {error}") from error
        return Answer(value, int(response.headers.get("X-Nomad-Index") or 0), response.headers.get("X-Nomad-NextToken") or "")


class _Endpoint(NomadRequester):
    """python-nomad has such a class for each kind of thing, and they differ in this name."""

    def __init__(self, name: str, base: str, session: requests.Session) -> None:
        super().__init__(address=base, session=session, verify=True)  # pyright: ignore[reportUnknownMemberType]  # python-nomad has no types
        self.ENDPOINT = name  # pyright: ignore[reportAttributeAccessIssue]  # its type is read off the empty default

    def send(self, method: str, path: str, params: dict[str, str], data: bytes | None, timeout_s: float) -> requests.Response:
        headers = {"Content-Type": "application/json"} if data is not None else {}
        answer: object = self.request(  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  # python-nomad has no types
            *([path] if path else []), method=method, params=dict(params), data=data, headers=headers, timeout=timeout_s
        )
        if not isinstance(answer, requests.Response):
            raise TypeError("python-nomad's requester answers with a requests.Response")
        return answer


class _Session(requests.Session):
    """One pool of connections whose TLS, token and socket are what Access says, whatever the environment or a caller has set."""

    def __init__(self, access: Access) -> None:
        super().__init__()
        self._access = access
        self.trust_env = False  # no proxies, no .netrc, no other CA
        self.max_redirects = 0  # followed, the token would go along
        adapter = _Adapter(access)
        self.mount("http://", adapter)
        self.mount("https://", adapter)

    def send(self, request: requests.PreparedRequest, **kwargs: object) -> requests.Response:
        for name in ("X-Nomad-Token", "Authorization"):
            request.headers.pop(name, None)
        request.headers.update(self._access.headers())
        return super().send(request, **kwargs)


class _Adapter(HTTPAdapter):
    def __init__(self, access: Access) -> None:
        self._access = access
        super().__init__(pool_connections=1, pool_maxsize=THREADS, pool_block=True)
        self._socket_pool = _SocketPool(access.socket) if access.socket else None

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **kwargs: object) -> None:
        access = self._access
        if access.tls is not None:
            kwargs["ssl_context"] = access.tls
            if access.server_name and access.verified:
                kwargs["server_hostname"] = access.server_name  # the name that the context looks for in the certificate
        super().init_poolmanager(connections, maxsize, block, **kwargs)
        if not access.verified:
            self.poolmanager.pool_classes_by_scheme = {"http": HTTPConnectionPool, "https": _UnverifiedPool}

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: bool | str, cert: object = None
    ) -> tuple[dict[str, object], dict[str, object]]:
        host, _ = super().build_connection_pool_key_attributes(request, verify, None)
        return host, {}  # the context of init_poolmanager has all there is to say

    def get_connection_with_tls_context(
        self, request: requests.PreparedRequest, verify: bool | str, proxies: object = None, cert: object = None
    ) -> HTTPConnectionPool:
        if self._socket_pool is not None:
            return self._socket_pool
        return super().get_connection_with_tls_context(request, verify, None, None)

    def cert_verify(self, conn: object, url: str, verify: object, cert: object) -> None:
        """It would put certifi's CAs beside the one that was asked for."""

    def close(self) -> None:
        super().close()
        if self._socket_pool is not None:
            self._socket_pool.close()


class _UnverifiedPool(HTTPSConnectionPool):
    def _validate_conn(self, conn: BaseHTTPConnection) -> None:
        """Without urllib3's warning at each connection: doctor says it once, and better."""
        if conn.is_closed:
            conn.connect()


class _SocketPool(HTTPConnectionPool):
    def __init__(self, path: str) -> None:
        self._path = path
        super().__init__("127.0.0.1", maxsize=THREADS, block=True)

    def _new_conn(self) -> HTTPConnection:  # pyright: ignore[reportIncompatibleMethodOverride]  # urllib3's own protocol is narrower
        return _SocketConnection(self._path)


class _SocketConnection(HTTPConnection):
    def __init__(self, path: str) -> None:
        self._path = path
        super().__init__("127.0.0.1")

    def _new_conn(self) -> socket.socket:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        timeout = self.timeout
        made.settimeout(timeout if isinstance(timeout, (int, float)) else None)
        try:
            made.connect(self._path)
        except OSError:
            made.close()
            raise
        return made
