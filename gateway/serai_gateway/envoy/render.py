"""Envoy's configuration from serai.toml.

Values are data: each is written as a JSON string or a number, which is YAML too, so no setting can change the structure. What Envoy itself
does not find wrong (facts on Envoy §6) is checked here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import jinja2

from serai_gateway.settings import Settings
from serai_gateway.web import pages

TEMPLATE = Path(__file__).with_name("envoy.yaml")
_PLACE = "%DYNAMIC_METADATA(envoy.filters.http.ext_authz:x-serai-place)%"


class CannotRender(Exception):
    """The settings do not make a front door; `problems` has one line for each thing, with the key's path."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def render(settings: Settings) -> str:
    """The whole file. CannotRender."""
    if problems := _problems(settings):
        raise CannotRender(problems)
    environment = jinja2.Environment(
        variable_start_string="<<",
        variable_end_string=">>",
        block_start_string="<%",
        block_end_string="%>",
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # noqa: S701 - YAML, and every value is quoted in _values
    )
    text = TEMPLATE.read_text(encoding="utf-8")
    # Macros stand at the end, where they are out of the reader's way; Jinja wants them first.
    body, mark, macros = text.partition("<% macro ")
    return environment.from_string(mark + macros + body).render(_values(settings)).lstrip()


def _values(settings: Settings) -> Mapping[str, object]:
    gateway = settings.gateway
    web, envoy, public = gateway.web, gateway.envoy, urlsplit(gateway.public_url)
    name = public.hostname or ""
    ports = sorted({public.port or envoy.port, envoy.port})
    quoted = {
        "host": envoy.host,
        "certificate": envoy.certificate,
        "key": envoy.key,
        "apps_certificate": envoy.apps_certificate,
        "apps_key": envoy.apps_key,
        "admin_socket": envoy.admin_socket,
        "access_log": envoy.access_log,
        "authz_socket": web.authz_socket,
        "gateway_host": gateway.host,
        "wildcard": f"*.{web.domain}",
        "not_yet": _not_yet(),
    }
    return {
        **{key: json.dumps(value) for key, value in quoted.items()},
        "tls": bool(envoy.certificate),
        "mode": web.mode,
        "port": envoy.port,
        "apps_port": envoy.apps_port,
        "gateway_port": gateway.port,
        "domain_text": web.domain,
        "idle": f"{envoy.idle_ms / 1_000:g}s",
        "connect": f"{web.connect_timeout_ms / 1_000:g}s",
        "api_domains": json.dumps([name, *(f"{name}:{port}" for port in ports)]),
    }


def _not_yet() -> str:
    """The gateway's own page for an application that does not answer, as a format of Envoy's."""
    page = pages.told(502, "The application of {place} does not answer yet; it may still be starting", html=True, reload=True)
    return page.body.decode().replace("%", "%%").replace("{place}", _PLACE)


def _problems(settings: Settings) -> list[str]:
    gateway = settings.gateway
    web, envoy = gateway.web, gateway.envoy
    problems: list[str] = []
    if not gateway.public_url:
        problems.append("gateway.public_url: Envoy must know under which name it is reached")
    if not gateway.port:
        problems.append("gateway.port: Envoy must know where the gateway listens, so it cannot be any free one")
    if (envoy.certificate == "") != (envoy.key == ""):
        problems.append("gateway.envoy.certificate and gateway.envoy.key: one does nothing without the other")
    if web.mode != "host":
        return problems
    if envoy.certificate and not (envoy.apps_certificate and envoy.apps_key):
        problems.append(f"gateway.envoy.apps_certificate and gateway.envoy.apps_key: the certificate for *.{web.domain} and its key")
    if envoy.certificate and envoy.certificate == envoy.apps_certificate:
        # A browser would send requests for the one name on a connection that was made for the other.
        problems.append("gateway.envoy.apps_certificate: it must be another one than gateway.envoy.certificate")
    if not envoy.certificate and envoy.apps_port in (0, envoy.port):
        problems.append("gateway.envoy.apps_port: without certificates applications' pages need a port of their own")
    return problems
