"""How a provider becomes known to Core.

2021 (facts 2021 §6.3): the provider asks, an administrator signs and approves, Core greets the provider with its secrets.
2026 (today §2 steps 6 and 7): an administrator creates it and reads its secrets.
There are no users here: who can reach the stand-in may sign and approve.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from serai_devcore.provider import Provider
from serai_devcore.wire import CoreError, Json, JsonObject, as_object, bad_request, boolean_or, integer_or, text

if TYPE_CHECKING:
    from serai_devcore.core import DevCore

VALID_MS = 5 * 60_000
"""How long a request waits for its signature."""
DEFAULT_PORT = {True: 443, False: 80}


@dataclass(slots=True)
class Asked:
    """A request that waits."""

    token: str
    specification: JsonObject
    at_ms: int
    signed: bool = False

    @property
    def provider_id(self) -> str:
        return str(self.specification["id"])

    def to_json(self) -> JsonObject:
        state = "awaiting_admin_approval" if self.signed else "requires_signature"
        return {"token": self.token, "state": state, "specification": self.specification}


class Registrations:
    def __init__(self, core: DevCore, new_token: Callable[[], str] = lambda: secrets.token_hex(20)) -> None:
        self._core = core
        self._new_token = new_token
        self._asked: dict[str, Asked] = {}

    def __len__(self) -> int:
        return len(self._asked)

    def waiting(self) -> list[Asked]:
        return list(self._asked.values())

    # --- 2021 -------------------------------------------------------------------------------------------------------------------------

    def request_approval(self, body: JsonObject) -> JsonObject:
        """`POST /api/providers/requestApproval`, both of its kinds."""
        match text(body, "type", ""):
            case "information":
                asked = Asked(self._new_token(), _specification(body.get("specification")), self._core.clock.now_ms())
                self._asked[asked.token] = asked
                self._core.changed()
                return {"type": "requires_signature", "token": asked.token}
            case "sign":
                return self.sign(text(body, "token", ""))
            case _:
                raise bad_request("type", "information or sign")

    def sign(self, token: str) -> JsonObject:
        """facts 2021 §0.2 #15: the answer is awaiting_admin_approval; unknown, expired or signed already is a 400."""
        asked = self._find(token)
        if asked.signed:
            raise CoreError(400, "This request is signed already")
        asked.signed = True
        self._core.changed()
        return {"type": "awaiting_admin_approval", "token": token}

    async def approve(self, token: str) -> JsonObject:
        """`POST /api/providers/approve`: make keys, and greet the provider, which must take them. It is not known if it does not."""
        asked = self._find(token)
        if not asked.signed:
            raise CoreError(400, "This request is not signed yet")
        if asked.provider_id in self._core.providers:
            raise CoreError(409, f"provider {asked.provider_id} exists")
        # Known before it is greeted: it may want an access token at once.
        provider = self._register(asked.specification, refresh_token=str(uuid.uuid4()))
        created: JsonObject = {"refreshToken": provider.issuer.refresh_token, "publicKey": provider.issuer.public_key_der_base64}
        body: JsonObject = {"token": token, "createdProvider": created}
        answer = await self._core.client.call_once(provider, "POST", "/integration/welcome", body, anonymous=True)
        if not 200 <= answer.status < 300:
            del self._core.providers[provider.id]
            said = answer.problem or f"it answered {answer.status} {answer.why}".rstrip()
            raise CoreError(400, f"The provider did not take the welcome at {provider.url}: {said}")
        del self._asked[token]
        self._core.changed()
        return {"id": provider.resource_id}

    def _find(self, token: str) -> Asked:
        asked = self._asked.get(token)
        if asked is not None and self._core.clock.now_ms() - asked.at_ms > VALID_MS and not asked.signed:
            del self._asked[token]
            asked = None
        if asked is None:
            raise CoreError(400, "Unknown or expired token; ask anew with requestApproval")
        return asked

    # --- 2026 -------------------------------------------------------------------------------------------------------------------------

    def create(self, specification: Json) -> Provider:
        """`POST /api/providers`, one item: 409 when the name exists."""
        read = _specification(specification)
        if str(read["id"]) in self._core.providers:
            raise CoreError(409, f"provider {read['id']} exists")
        provider = self._register(read)
        self._core.changed()
        return provider

    def retrieve(self, resource_id: str) -> JsonObject:
        """`GET /api/providers/retrieve?id=`: with its secrets."""
        provider = next((p for p in self._core.providers.values() if p.resource_id == resource_id), None)
        if provider is None:
            raise CoreError(404, "Core knows no such provider")
        return {
            "id": provider.resource_id,
            "specification": provider.specification,
            "refreshToken": provider.issuer.refresh_token,
            "publicKey": provider.issuer.public_key_der_base64,
        }

    def _register(self, specification: JsonObject, refresh_token: str | None = None) -> Provider:
        provider = self._core.add_provider(str(specification["id"]), url=url_of(specification), refresh_token=refresh_token)
        provider.specification = specification
        return provider


def url_of(specification: JsonObject) -> str:
    """Default ports are left out (today §3); a domain may be an address."""
    domain, https = str(specification["domain"]), specification["https"] is True
    host = f"[{domain}]" if ":" in domain else domain
    port = specification.get("port") or DEFAULT_PORT[https]
    shown = "" if port == DEFAULT_PORT[https] else f":{port}"
    return f"{'https' if https else 'http'}://{host}{shown}"


def registered_at(provider_id: str, url: str) -> JsonObject:
    """The specification of a provider whose address was given as a URL."""
    scheme, _, rest = url.rstrip("/").partition("://")
    domain, colon, port = rest.rpartition(":")
    if not colon or not port.isdecimal():
        domain, port = rest, ""
    return {"id": provider_id, "domain": domain.strip("[]"), "https": scheme == "https", "port": int(port) if port else None}


def _specification(value: Json) -> JsonObject:
    path = "specification"
    given = as_object(value, path)
    if not isinstance(given.get("https"), bool):
        raise bad_request(f"{path}.https", "true or false")
    port = None if given.get("port") is None else integer_or(given, "port", path, 0)
    if port is not None and not 0 < port < 65536:
        raise bad_request(f"{path}.port", "1 to 65535")
    provider_id, domain = text(given, "id", path), text(given, "domain", path)
    if not provider_id or not domain or "/" in domain + provider_id:
        raise bad_request(path, "id and domain are names, not empty and without a slash")
    return {"id": provider_id, "domain": domain, "https": boolean_or(given, "https", path, False), "port": port}
