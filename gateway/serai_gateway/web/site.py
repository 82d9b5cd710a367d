"""Where the pages of jobs are, as browsers see it: made once from the settings and the port that was bound."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from serai_gateway.settings import GatewaySettings
from serai_gateway.web.cookies import name_of
from serai_gateway.web.names import OPEN, Place, label_of

_USUAL = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Site:
    scheme: str
    """"http" or "https", as browsers see it."""
    domain: str
    """Of the pages' host names; empty = they are told apart by path."""
    base: str
    """Before a page's path when they are told apart by path: scheme, host and port, or nothing, which UCloud fills in."""
    port: int
    """Of the pages' host names, as browsers see it."""

    @classmethod
    def of(cls, gateway: GatewaySettings, bound_port: int) -> Site | None:
        """None = pages are not served."""
        web = gateway.web
        if web.mode == "off":
            return None
        public = urlsplit(gateway.public_url)
        if web.mode == "path":
            return cls(public.scheme or "http", "", gateway.public_url.rstrip("/"), 0)
        scheme = web.scheme or public.scheme or "http"
        inherited = (public.port or _USUAL[public.scheme]) if public.scheme == scheme else 0
        return cls(scheme, web.domain, "", web.port or inherited or (_USUAL[scheme] if public.scheme else bound_port))

    @property
    def by_path(self) -> bool:
        return not self.domain

    @property
    def cookie(self) -> str:
        """The name of the session's cookie."""
        return name_of(secure=self.scheme == "https", whole_host=not self.by_path)

    def address(self, place: Place, secret: str) -> str:
        """Where UCloud sends the user who opens a page. NoAddress when this job cannot have one."""
        if self.by_path:
            return f"{self.base}/app/{place.job_id}/{place.rank}{OPEN}{secret}"
        port = "" if self.port == _USUAL[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{label_of(place)}.{self.domain}{port}{OPEN}{secret}"
