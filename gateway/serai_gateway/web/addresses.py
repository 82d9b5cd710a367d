"""Where UCloud sends a user who opens a session: the addresses in the answer to openInteractiveSession.

The server knows secrets and no addresses, the gateway the other way round. Forms: facts 2021 §4, facts today §8.
"""

from __future__ import annotations

from serai.core.v1 import errors_pb2
from serai.jobs.v1 import jobs_service_pb2 as pb2

from serai_gateway.errors import GatewayError
from serai_gateway.web.names import NoAddress, Place
from serai_gateway.web.site import Site

METHOD = "/serai.jobs.v1.JobsService/OpenInteractiveSession"
DESKTOP = "/ucloud/{provider}/jobs/vnc/{secret}"
"""The path of desktops' WebSockets."""


class Addresses:
    """Fills in what the server left open."""

    def __init__(self, site: Site | None, provider: str) -> None:
        """`site` None = no pages; `provider`: our id in paths."""
        self._site = site
        self._provider = provider

    def fill_in(self, answer: bytes) -> bytes:
        """The wire of the answer with its addresses. GatewayError when one cannot be made."""
        response = pb2.OpenInteractiveSessionResponse.FromString(answer)
        for one in response.responses:
            match one.WhichOneof("session"):
                case "web":
                    one.web.redirect_client_to = self.page(one.web.job_id, one.web.rank, one.web.session_identifier)
                    one.web.ClearField("session_identifier")
                case "vnc":
                    # Without host: UCloud fills in the provider's, and makes http a WebSocket's scheme.
                    one.vnc.url = DESKTOP.format(provider=self._provider, secret=one.vnc.session_identifier)
                    one.vnc.ClearField("session_identifier")
                case _:
                    pass
        return response.SerializeToString()

    def page(self, job_id: str, rank: int, secret: str) -> str:
        """Of a session of kind WEB. GatewayError when there can be none."""
        if self._site is None:
            raise GatewayError(errors_pb2.ERROR_REASON_UNSUPPORTED, "This provider does not serve web pages of jobs")
        try:
            return self._site.address(Place(job_id, rank), secret)
        except NoAddress as error:
            raise GatewayError(errors_pb2.ERROR_REASON_UNSUPPORTED, str(error)) from error
