"""The gateway's sections of serai.toml: [provider], [gateway] and [core].

Each section refuses keys that it does not know, and each limit is checked while it is read, so a wrong file is found at
start and the error names the key.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from serai_gateway.web_settings import EnvoySettings, WebSettings

_NAME = "a text of 1 to 250 characters without slash, comma and blank"
Name = Annotated[str, Meta(min_length=1, max_length=250, pattern="^[^/,\\s]+$", description=_NAME)]
"""A provider's id: part of a path, so without slash; Core refuses commas (facts 2021 §1.1)."""

Generation = Literal["2021", "2026"]


class ProviderSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """[provider]: who we are to Core."""

    id: Name
    """The id under which Core knows this provider; products carry it too."""
    aliases: tuple[Name, ...] = ()
    """Other ids that may stand in a request's path (the seed's own example calls `ucloud` with a product of `example`)."""
    title: Annotated[str, Meta(max_length=200)] = ""
    """The provider's name as users of UCloud see it; empty = its id."""
    description: Annotated[str, Meta(max_length=10_000)] = ""
    """What users read of the provider; its first line stands alone where there is little room."""
    url: Annotated[str, Meta(pattern="^(|https?://.+)$", description="nothing, or an address like https://example.org")] = ""
    """The provider's web page."""

    @property
    def names(self) -> frozenset[str]:
        return frozenset((self.id, *self.aliases))


class UsersSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """[gateway.users]: calls that users make themselves, with tokens of their own (`/api/licenses/…`)."""

    public_key_file: str = ""
    """Key with which users' tokens are checked: PEM, or one line of base64 (DER SPKI). Read again when it changes; empty = such calls are
    not served."""
    issuer: Annotated[str, Meta(min_length=1)] = "cloud.sdu.dk"
    """Who must have made the tokens (`iss`)."""


class GatewaySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """[gateway]: where Core's calls come in."""

    host: str = ""
    """Address to listen on; empty = 127.0.0.1, but with `serai up` and a public_url there is no TCP port, for all come through Envoy."""
    port: Annotated[int, Meta(ge=0, le=65535)] = 8889
    """TCP port; 0 = any free one, told at start."""
    socket: str = ""
    """Unix socket for Envoy; empty = `gateway.sock` in state_dir with `serai up`, else none, and Envoy comes by the TCP port."""
    socket_mode: Annotated[str, Meta(pattern="^0[0-7]{3}$", description="three octal digits behind a 0, like 0660")] = "0600"
    """Who may connect to it, in octal digits; 0660 with socket_group lets a group in."""
    socket_group: str = ""
    """Group of the socket, as a name or a number; empty = the gateway's own. A missing folder is made so that the group may enter it."""
    body_limit_bytes: Annotated[int, Meta(ge=1024, le=1 << 30)] = 16 * 1024 * 1024
    """Bytes; a longer request body is 413."""
    request_timeout_ms: Annotated[int, Meta(ge=100, le=3_600_000)] = 30_000
    """ms within which a request must have come whole; a connection that is slower is closed."""
    upstream_timeout_ms: Annotated[int, Meta(ge=1, le=600_000)] = 4_500
    """ms; Core itself gives up after 5 s (facts today §6.1), so a later answer reaches nobody."""
    stop_grace_ms: Annotated[int, Meta(ge=0, le=600_000)] = 10_000
    """ms that requests in flight have to end after a stop was asked for."""
    access_log: bool = True
    """One JSON line for each request; without Core's token 300 a minute, of those that are refused 20, and how many were left out."""
    public_url: Annotated[str, Meta(pattern="^(|https?://[^/?#@\\s]+/?)$", description="nothing, or an address without a path")] = ""
    """Where Core and browsers reach this gateway from outside, like https://provider.example.org; `serai register` tells it to Core."""
    console: bool = True
    """Serai's own pages at /console; who may see what there is decided by sessions that `serai console` and UCloud open."""
    trust_traces: bool = False
    """Whether callers' own `traceparent` and `tracestate` count; false = Envoy takes them away, the gateway looks at none, and traces begin
    here."""
    users: UsersSettings = UsersSettings()
    web: WebSettings = WebSettings()
    envoy: EnvoySettings = EnvoySettings()

    @property
    def address(self) -> str:
        """What to listen on by TCP."""
        return self.host or "127.0.0.1"

    def relative_to(self, folder: Path, state_dir: Path) -> GatewaySettings:
        """The same settings with file names that are not absolute taken from `folder` (that of serai.toml); sockets without a name are in
        `state_dir`."""
        replace = msgspec.structs.replace
        key, web, envoy = self.users.public_key_file, self.web, self.envoy.relative_to(folder)
        admin, authz = envoy.admin_socket, web.authz_socket
        return replace(
            self,
            socket=str(folder / self.socket) if self.socket else "",
            users=replace(self.users, public_key_file=str(folder / key) if key else ""),
            web=replace(web, authz_socket=str(folder / authz if authz else state_dir / "authz.sock")),
            envoy=replace(envoy, admin_socket=str(folder / admin if admin else state_dir / "envoy-admin.sock")),
        )


class CoreSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """[core]: the UCloud/Core that we serve."""

    url: Annotated[str, Meta(pattern="^https?://[^/]+(/.*)?$", description="an address like https://cloud.example.org")]
    """Base address of Core; the paths of its API are added to it."""
    public_key_file: str
    """Core's public key for this provider: PEM, or one line of base64 (DER SPKI) as Core shows it. Read again when it changes."""
    refresh_token_file: str
    """File that holds the provider's refresh token, and nothing else. Read at each renewal."""
    generation: Generation = "2021"
    """Which Core: decides what goes out, and how `UCloud-Username` is read."""
    timeout_ms: Annotated[int, Meta(ge=1, le=600_000)] = 10_000
    """ms for one whole call to Core."""
    batch_size: Annotated[int, Meta(ge=1, le=1_000)] = 1_000
    """Most items in one call; Core takes at most 1,000 (facts 2021 §7)."""
    window: Annotated[int, Meta(ge=1, le=1_000_000)] = 10_000
    """Most events that wait in memory for Core's answer; the rest stays in the server's log."""
    retry_base_ms: Annotated[int, Meta(ge=1, le=600_000)] = 200
    """ms; first pause after Core could not be reached, doubled for each further one."""
    retry_cap_ms: Annotated[int, Meta(ge=1, le=3_600_000)] = 30_000
    """ms; longest such pause."""
    reconcile_every_ms: Annotated[int, Meta(ge=0, le=86_400_000)] = 900_000
    """ms between two comparisons with Core: of licenses, and with generation 2026 of jobs too (Core of 2021 asks about them by itself);
    0 = never."""
    end_lost_jobs: bool = False
    """Generation 2026: true = jobs that Core has as active and that are unknown here are ended at Core however many they are; false = not
    when they are most of many, because then the store is likelier to be the wrong one. For one start, after a loss of the store."""

    def relative_to(self, folder: Path) -> CoreSettings:
        """The same settings with file names that are not absolute taken from `folder` (that of serai.toml)."""
        return msgspec.structs.replace(
            self,
            public_key_file=str(folder / self.public_key_file),
            refresh_token_file=str(folder / self.refresh_token_file),
        )


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All that the gateway needs; composed from the sections above by whoever reads serai.toml."""

    provider: ProviderSettings
    core: CoreSettings
    gateway: GatewaySettings = GatewaySettings()
    tcp: bool = True
    """False = the gateway is reached at its socket only, which must be set."""
    tools_socket: str = ""
    """Unix socket of the server's door for tools, for Envoy; empty = Envoy leads no tool to it."""
    registration_file: str = ""
    """Where a registration that waits for Core's welcome is kept; empty = this gateway takes no welcome."""
