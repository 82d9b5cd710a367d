"""Following a job: UCloud's `jobs.provider.{provider}.follow`, as Core of both generations speaks it.

How a client shows that it is Core tells its generation: today's sends its token with the handshake and has one follow on a socket; that
of 2021 sends it in each frame and may have many (facts 2021 §3, facts today §8). Both get all of the output, and the end of it only when
Core has been told the job's own end: Core closes its user's view (today) or asks for everything once more (2021) when a follow ends
before that.
"""

from __future__ import annotations

from urllib.parse import parse_qs

from serai.core.v1 import errors_pb2

from serai_gateway.auth import AuthError, read_username
from serai_gateway.errors import GatewayError
from serai_gateway.ws.follow_2021 import Follows
from serai_gateway.ws.follow_2026 import OneFollow
from serai_gateway.ws.following import Following
from serai_gateway.ws.protocol import Rules
from serai_gateway.ws.socket import Socket
from serai_gateway.ws.unproven import Unproven

RULES = Rules(most_bytes=4 * 1024 * 1024, answers_pings=False)
"""A message of Core holds a whole job with all of its updates."""


class FollowCalls:
    """Serves the path of follows."""

    def __init__(self, following: Following) -> None:
        self._following = following
        self._waiting = Unproven()

    async def __call__(self, socket: Socket) -> None:
        authorization = socket.header(b"authorization")
        if authorization is None:
            await socket.accept()
            await Follows(socket, self._following, read_username(socket.header(b"ucloud-username"), "2021")).run()
            return
        try:
            self._following.token_check.check(authorization)
        except AuthError as error:
            await socket.refuse(GatewayError(errors_pb2.ERROR_REASON_UNAUTHENTICATED, str(error)))
            return
        await socket.accept()
        await OneFollow(socket, self._following, _hinted(socket.query), self._waiting).run()


def _hinted(query: bytes) -> str | None:
    """Whom Core follows for: base64 of the name, URL-safe alphabet (facts today §3)."""
    found = parse_qs(query.decode("ascii", "replace")).get("usernameHint")
    return None if not found else read_username(found[0].replace("-", "+").replace("_", "/").encode(), "2026")
