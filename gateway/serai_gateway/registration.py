"""How a provider becomes known to Core: asking for approval, Core's welcome, and whether what came of it works.

Core of 2021 (facts 2021 §6.3): we ask for approval and get a token; a user signs it in the browser, an administrator approves it, and
Core calls our `integration/welcome` with the token, a refresh token and its public key. Today's Core has no such way: an administrator
makes the provider there and reads both from its page (facts today §2, steps 6 and 7).

The token is kept in a file from the moment on that we have it, so that whoever serves our address when the welcome comes can take it:
a running gateway or `serai register` itself. It is a secret until it is used: who knows it could welcome us with keys of his own.
"""

from __future__ import annotations

import asyncio
import hmac
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

import jwt
import msgspec
import structlog
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from serai.control.v1 import control_pb2
from serai.core.v1 import errors_pb2, resources_pb2

from serai_gateway.auth import KeyFileError, parse_public_key
from serai_gateway.codec import Codec, WireError
from serai_gateway.control.transport import CoreUnreachable, Transport
from serai_gateway.durable import write_durably
from serai_gateway.errors import GatewayError
from serai_gateway.settings import CoreSettings
from serai_gateway.tokens import TokenError, Tokens, is_token

APPROVAL_PATH = "/api/providers/requestApproval"
SIGN_PATH = "/app/admin/providers/register"
"""The page of UCloud's web interface where a request is signed and approved; it was there from 2021 to January 2026."""
SIGN_WITHIN_MS = 5 * 60 * 1_000
"""Core forgets a request that nobody has signed by then."""
_NO_REGISTRATION = "No registration of this provider waits for this token; `serai register` begins one"

_log = structlog.stdlib.get_logger("serai_gateway.registration")


class RegistrationError(Exception):
    """It cannot go on; the text says why and what to do, and holds no secret."""


class State(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is kept between the steps."""

    provider: str
    core_url: str
    requested_at_ms: int
    token: str
    """What Core's welcome has to show; '' = the welcome came."""

    @property
    def waits(self) -> bool:
        return bool(self.token)

    def __repr__(self) -> str:
        return f"<registration of {self.provider}, {'waits' if self.waits else 'done'}>"


@dataclass(frozen=True, slots=True)
class Files:
    """Where the steps and what comes of them are kept."""

    state: Path
    public_key: Path
    refresh_token: Path

    @classmethod
    def of(cls, state: str, core: CoreSettings) -> Files:
        return cls(Path(state), Path(core.public_key_file), Path(core.refresh_token_file))

    def load(self) -> State | None:
        """None = none was begun. RegistrationError for a file that is none of ours."""
        try:
            return msgspec.json.decode(self.state.read_bytes(), type=State)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise RegistrationError(f"{self.state} cannot be read: {error.strerror}") from error
        except msgspec.DecodeError as error:
            raise RegistrationError(f"{self.state} does not hold a registration; delete it to begin anew") from error

    def save(self, state: State) -> None:
        write_durably(self.state, msgspec.json.encode(state))

    def install(self, refresh_token: str, public_key: str) -> None:
        """The refresh token first: a key without it would look like a provider that is set up."""
        write_durably(self.refresh_token, refresh_token.encode() + b"\n")
        write_durably(self.public_key, public_key.encode() + b"\n")


class Welcomes:
    """Takes Core's welcome when a registration waits for it, and only one."""

    def __init__(self, files: Files | None) -> None:
        """None = this gateway takes none."""
        self._files = files
        self._lock = asyncio.Lock()
        self.taken = asyncio.Event()

    async def take(self, token: str, refresh_token: str, public_key: str) -> None:
        """GatewayError: FORBIDDEN unless the token is the one that is waited for, INVALID_REQUEST when what comes with it is unusable."""
        async with self._lock:  # two at the same time must not both find it waiting
            await asyncio.to_thread(self._take, token, refresh_token, public_key)
        self.taken.set()

    def _take(self, token: str, refresh_token: str, public_key: str) -> None:
        files = self._files
        try:
            state = None if files is None else files.load()
        except RegistrationError as error:
            _log.warning("a welcome came and the registration cannot be read", cause=str(error))
            state = None
        if files is None or state is None or not state.waits or not hmac.compare_digest(state.token.encode(), token.encode()):
            raise GatewayError(errors_pb2.ERROR_REASON_FORBIDDEN, _NO_REGISTRATION)
        try:
            parse_public_key(public_key.encode())
        except KeyFileError as error:
            raise GatewayError(errors_pb2.ERROR_REASON_INVALID_REQUEST, f"createdProvider.publicKey: {error}") from error
        if not is_token(refresh_token):
            raise GatewayError(errors_pb2.ERROR_REASON_INVALID_REQUEST, "createdProvider.refreshToken: expected a token")
        # Killed in between, the registration still waits: Core has no answer, and a repeated approval brings another pair.
        files.install(refresh_token, public_key.strip())
        files.save(msgspec.structs.replace(state, token=""))
        _log.info("Core has welcomed this provider", provider=state.provider)


@dataclass(frozen=True, slots=True)
class Address:
    """Where Core reaches us."""

    domain: str
    https: bool
    port: int | None
    """None = the scheme's own."""

    @classmethod
    def of(cls, url: str) -> Address:
        """RegistrationError for what is no address without a path."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise RegistrationError(f"{url!r} is not an address") from error
        rest = (parts.path.rstrip("/"), parts.query, parts.fragment, parts.username)
        if parts.scheme not in {"http", "https"} or not parts.hostname or any(rest):
            raise RegistrationError(f"{url!r} is not an address like https://provider.example.org (a path cannot be told to Core)")
        # Core puts the domain into addresses as it is.
        domain = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        return cls(domain, parts.scheme == "https", port)


async def request_approval(transport: Transport, codec: Codec, provider: str, address: Address) -> str:
    """The token of a new request. RegistrationError when Core gives none."""
    request = control_pb2.RequestApprovalRequest(
        information=control_pb2.ApprovalInformation(
            specification=control_pb2.ProviderSpecification(
                id=provider,
                domain=address.domain,
                https=address.https,
                port=address.port,
                # Every resource of Core has a product; a provider's is this one.
                product=resources_pb2.ProductReference(provider="ucloud_core"),
            )
        )
    )
    try:
        answer = await transport.post(APPROVAL_PATH, codec.write(request), None)
    except CoreUnreachable as error:
        raise RegistrationError(f"Core cannot be reached: {error}; is core.url right?") from error
    if answer.status == 404:
        raise RegistrationError(
            "This Core takes no requests for approval (404), as that of 2026 does not: "
            'set core.generation = "2026", and `serai register --help` says how it goes there'
        )
    if not 200 <= answer.status < 300:
        raise RegistrationError(f"Core refuses the request for approval ({answer.status}); is a provider of this id there already?")
    try:
        wire = codec.read(control_pb2.RequestApprovalResponse.DESCRIPTOR, answer.body)
    except WireError as error:
        raise RegistrationError(f"Core's answer cannot be read: {error}") from error
    response = control_pb2.RequestApprovalResponse.FromString(wire)
    token = (response.awaiting_admin_approval if response.HasField("awaiting_admin_approval") else response.requires_signature).token
    if not is_token(token):
        raise RegistrationError("Core's answer holds no token")
    return token


def sign_link(core_url: str, token: str) -> str:
    """Where a user signs the request, and an administrator approves it."""
    parts = urlsplit(core_url)
    return f"{parts.scheme}://{parts.netloc}{SIGN_PATH}?token={quote(token, safe='')}"


async def try_out(tokens: Tokens, key: RSAPublicKey) -> None:
    """Whether the refresh token gives an access token, of our provider and signed with the pair of this public key. RegistrationError."""
    try:
        access = await tokens.current()
    except (TokenError, CoreUnreachable) as error:
        raise RegistrationError(f"trying the refresh token: {error}") from error
    try:
        # Only who signed it: what the token says is Core's own business.
        jwt.decode(
            access,
            key,
            algorithms=["RS256"],
            options={"verify_signature": True, "verify_exp": False, "verify_iat": False, "verify_nbf": False, "verify_aud": False},
        )
    except jwt.PyJWTError as error:
        # Core signs its own calls with the same pair (facts 2021 §6.2): with another key every call of Core's would be a 401.
        raise RegistrationError("the public key does not belong to the refresh token: they are of two providers, or one is old") from error
