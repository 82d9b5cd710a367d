"""Calls that the gateway answers by itself, because they are about UCloud's wire and not about jobs: users' connections, the provider's
looks, SSH keys, and types of resources that this provider does not have.

A refusal says in words what is so. Deleting is never refused: Core keeps for ever what a provider does not delete (facts today §5), and
what a user wants gone was never here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from google.protobuf.message import Message
from serai.core.v1 import errors_pb2
from serai.integration.v1 import integration_pb2 as pb2

from serai_gateway.errors import GatewayError
from serai_gateway.registration import Files, Welcomes
from serai_gateway.routes import Route
from serai_gateway.settings import Settings

Handler = Callable[[bytes], Awaitable[bytes]]
"""From the wire of a request to the wire of its answer. Raises GatewayError."""

_PACKAGE = "/serai.integration.v1."
_SHORT_TEXT = 200
_NOBODY_CONNECTS = "Nobody needs to connect to this provider: it knows UCloud's users by their names, and jobs can be started at once"
_NO_SSH = "Jobs of this provider cannot be reached by SSH, so it has no use for keys; open a terminal in UCloud instead"
_TYPES: Mapping[str, str] = {
    "ingresses": "public links",
    "networkips": "public IP addresses",
    "private-networks": "private networks",
    "files/collections": "drives that users create",
    "shares": "shared folders",
}
"""Last part of a path to what it is to a user."""


class Answers:
    """The handlers, found by a route's method."""

    def __init__(self, settings: Settings) -> None:
        self._provider = settings.provider
        self._welcomes = Welcomes(Files.of(settings.registration_file, settings.core) if settings.registration_file else None)
        self._handlers: Mapping[str, Handler] = {
            "IntegrationService/RetrieveManifest": _always(pb2.RetrieveManifestResponse(enabled=False)),
            "IntegrationService/Init": _always(pb2.InitResponse()),
            "IntegrationService/Connect": _refusal(_NOBODY_CONNECTS),
            "IntegrationService/Unlinked": _always(pb2.UnlinkedResponse()),
            "IntegrationService/Welcome": self._welcome,
            "BrandingService/RetrieveInfo": _always(self._branding()),
            "SshService/KeyUploaded": _refusal(_NO_SSH),
            "OtherTypesService/RetrieveProducts": _always(pb2.RetrieveProductsResponse()),
            "OtherTypesService/Delete": _deleted,
        }

    def handler(self, route: Route) -> Handler | None:
        """None = the server answers this call."""
        method = route.method.removeprefix(_PACKAGE)
        if method == "OtherTypesService/Create":
            return _refusal(f"This provider has no {_TYPES[route.path.partition('{provider}/')[2]]}")
        return self._handlers.get(method)

    def _branding(self) -> pb2.RetrieveInfoResponse:
        provider = self._provider
        first_line = provider.description.strip().partition("\n")[0]
        return pb2.RetrieveInfoResponse(
            id=provider.id,
            title=provider.title or provider.id,
            short_title=provider.id,
            short_description=first_line[:_SHORT_TEXT],
            description=provider.description,
            url=provider.url,
        )

    async def _welcome(self, request: bytes) -> bytes:
        welcome = pb2.WelcomeRequest.FromString(request)
        created = welcome.created_provider
        await self._welcomes.take(welcome.token, created.refresh_token, created.public_key)
        return pb2.WelcomeResponse().SerializeToString()


def _always(answer: Message) -> Handler:
    wire = answer.SerializeToString()

    async def handle(_request: bytes) -> bytes:
        return wire

    return handle


def _refusal(why: str) -> Handler:
    async def handle(_request: bytes) -> bytes:
        raise GatewayError(errors_pb2.ERROR_REASON_UNSUPPORTED, why)

    return handle


async def _deleted(request: bytes) -> bytes:
    items = pb2.DeleteRequest.FromString(request).items
    return pb2.DeleteResponse(responses=[pb2.Deleted() for _ in items]).SerializeToString()
