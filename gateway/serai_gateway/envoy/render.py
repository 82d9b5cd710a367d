"""Envoy's configuration from serai.toml.

Values are data: each is written as a JSON string or a number, which is YAML too, so no setting can change the structure. What Envoy itself
does not find wrong (facts on Envoy §6) is checked here.

Beside the configuration stand files that it names: where the certificates are and how tokens are checked, both read again when they change,
how many requests of strangers are logged, and the descriptors by which JSON becomes gRPC. They are copies, so that Envoy's user need not
reach into the Python environment.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from importlib import resources
from ipaddress import ip_network
from pathlib import Path
from urllib.parse import urlsplit

import jinja2
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from serai_gateway.auth import KeyFileError
from serai_gateway.durable import write_durably
from serai_gateway.envoy import paths
from serai_gateway.envoy.keys import key_set
from serai_gateway.envoy.tokens import token_filter
from serai_gateway.settings import GatewaySettings, Settings
from serai_gateway.web import pages

TEMPLATES = Path(__file__).parent
_PLACE = "%DYNAMIC_METADATA(envoy.filters.http.ext_authz:x-serai-place)%"
_ENCODING_MS = 300
"""What the gateway may need around its call to the server; with its 4.5 s that is less than the 5 s after which Core gives up."""
_OPEN_BODY_MS = 2_000
"""In which the body of a call has come that nobody's token is asked for."""
_IDLE_LEAST_MS = 75_000
"""Silence that a WebSocket or stream may keep even when Envoy's memory is short."""
TOOLS_MESSAGE_BYTES = 16 * 1024 * 1024
"""What the tools' door of the server takes at most as one message."""
V1_BODY_BYTES = 256 * 1024
"""Of what at /v1 brings no whole job: several times the longest text of a license file, and some thousand jobs' ids."""
V1_JOB_BYTES = 4 * 1024 * 1024
"""Of what does: its command line and environment, and what is around them."""
_STDOUT = "/dev/stdout"


class CannotRender(Exception):
    """The settings do not make a front door; `problems` has one line for each thing, with the key's path."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def render(settings: Settings, file: Path) -> Mapping[Path, bytes]:
    """What is to stand in `file`, and in those beside it that it names: contents by absolute path, `file` the last. CannotRender.

    Without a key of Core, which there is none of before the registration, all calls that need its token are refused.
    """
    if problems := _problems(settings):
        raise CannotRender(problems)
    file = file.absolute()
    envoy = settings.gateway.envoy
    beside: dict[str, tuple[Path, bytes]] = {}
    if envoy.certificate:
        beside["api_secret"] = _certificate("api", file, envoy.certificate, envoy.key)
    if envoy.certificate and settings.gateway.web.mode == "host":
        beside["apps_secret"] = _certificate("apps", file, envoy.apps_certificate, envoy.apps_key)
    beside["jwt"] = token_filter(file, settings)
    beside["strangers"] = _stranger_lines(file, envoy.stranger_lines)
    descriptors = resources.files("serai").joinpath("descriptors.binpb").read_bytes()
    if envoy.tools and settings.tools_socket:
        beside["descriptors"] = file.with_suffix(".binpb"), descriptors
    values = {**_values(settings, descriptors), **{name: json.dumps(str(path)) for name, (path, _) in beside.items()}}
    text = _templates().get_template("envoy.yaml").render(values)
    return {**dict(beside.values()), file: text.encode()}


def write(rendered: Mapping[Path, bytes]) -> None:
    """Writes the files, each whole or not at all, in their order. OSError."""
    for path, content in rendered.items():
        write_durably(path, content, 0o644)


def _certificate(name: str, file: Path, certificate: str, key: str) -> tuple[Path, bytes]:
    """A secret of Envoy's SDS. It is read anew when a file is moved into the certificate's folder."""
    pair = {"certificate_chain": {"filename": certificate}, "private_key": {"filename": key}}
    watched = {"watched_directory": {"path": str(Path(certificate).parent)}}
    kind = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
    content = {"resources": [{"@type": kind, "name": name, "tls_certificate": pair | watched}]}
    return file.with_suffix(f".{name}.json"), json.dumps(content, indent=1).encode() + b"\n"


def _stranger_lines(file: Path, per_s: int) -> tuple[Path, bytes]:
    """How many requests of strangers have a line in the access log, all in all; Envoy takes that from a file only."""
    bucket = {"max_tokens": 20 * per_s, "tokens_per_fill": per_s, "fill_interval": "1s"}
    resource = {"@type": "type.googleapis.com/envoy.type.v3.TokenBucket", **bucket}
    kind = "type.googleapis.com/envoy.service.discovery.v3.Resource"
    content = {"resources": [{"@type": kind, "name": "strangers", "version": "1", "resource": resource}]}
    return file.with_suffix(".strangers.json"), json.dumps(content, indent=1).encode() + b"\n"


def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        variable_start_string="<<",
        variable_end_string=">>",
        block_start_string="<%",
        block_end_string="%>",
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - YAML, and every value is quoted in _values
    )


def _values(settings: Settings, descriptors: bytes) -> Mapping[str, object]:
    gateway = settings.gateway
    web, envoy = gateway.web, gateway.envoy
    names = settings.provider.names
    short, long = min(gateway.body_limit_bytes, V1_BODY_BYTES), min(gateway.body_limit_bytes, V1_JOB_BYTES)
    quoted = {
        "host": envoy.host,
        "admin_socket": envoy.admin_socket,
        "access_log": envoy.access_log,
        "authz_socket": web.authz_socket,
        "tools_socket": settings.tools_socket,
        "gateway_host": gateway.address,
        "api_folder": str(Path(envoy.certificate).parent),
        "apps_folder": str(Path(envoy.apps_certificate).parent),
        "wildcard": f"*.{web.domain}",
        "not_yet": _not_yet(),
        "grpc_paths": paths.GRPC,
        "health_paths": paths.HEALTH,
        "tools_token": paths.TOOLS_TOKEN,
        "tools_paths": paths.TOOLS,
        "long_paths": paths.LONG,
        "long_and_query": rf"{paths.LONG}(\?.*)?",
        "too_long_jobs": _too_long(long),
        "too_long_for_v1": _too_long(short),
        "stream_paths": paths.streams(descriptors),
        "services": _services(descriptors),
        "api_domains": _domains(gateway),
        "origins": [{"exact": origin} for origin in envoy.allowed_origins],
        "unlimited": _ranges(envoy.unlimited),
    }
    return {
        **{key: json.dumps(value) for key, value in quoted.items()},
        "gateway_socket": json.dumps(gateway.socket) if gateway.socket else "",
        "tls": bool(envoy.certificate),
        "mode": web.mode,
        "tools": envoy.tools and bool(settings.tools_socket),
        "has_origins": bool(envoy.allowed_origins),
        "has_unlimited": bool(envoy.unlimited),
        "log_to_stdout": envoy.access_log == _STDOUT,
        "port": envoy.port,
        "apps_port": envoy.apps_port,
        "gateway_port": gateway.port,
        "domain_text": web.domain,
        "rate": envoy.rate,
        "flood_rate": envoy.flood_rate,
        "trust_traces": gateway.trust_traces,
        "heap_bytes": envoy.heap_bytes,
        "v1_within": _seconds(envoy.v1_timeout_ms),
        "core_rate": envoy.core_rate,
        "max_connections": envoy.max_connections,
        "share_of_strangers": share_of_strangers(envoy.max_connections, ways=2 if web.mode == "host" else 1),
        "max_calls": envoy.max_calls,
        "open_calls_at_a_time": envoy.open_calls,
        "open_within": _seconds(gateway.upstream_timeout_ms + _ENCODING_MS + _OPEN_BODY_MS),
        "idle_least": _seconds(min(envoy.idle_ms, _IDLE_LEAST_MS)),
        "body_limit_bytes": gateway.body_limit_bytes,
        "short_bytes": short,
        "long_bytes": long,
        "short_at_a_time": _at_a_time(envoy.heap_bytes, short),
        "long_at_a_time": _at_a_time(envoy.heap_bytes, long),
        "idle": _seconds(envoy.idle_ms),
        "connect": _seconds(web.connect_timeout_ms),
        "drain": _seconds(max(100, envoy.drain_ms)),
        "answer_within": _seconds(gateway.upstream_timeout_ms + _ENCODING_MS),
        "origin_texts": [json.dumps(origin.replace("%", "%%")) for origin in envoy.allowed_origins],
        "sockets": paths.sockets(names),
        "open_calls": paths.open_calls(names),
        "users_prefixes": [json.dumps(prefix) for prefix in paths.users_prefixes()],
        "words": [(status, json.dumps(why)) for status, why in _words(gateway)],
    }


def _words(gateway: GatewaySettings) -> Iterable[tuple[int, str]]:
    """What people read when Envoy refuses by itself; the log has the cause."""
    return (
        (401, "Unauthorized: a valid token for this call is expected"),
        (403, "Forbidden: the token, or this kind of connection, is not for this path"),
        (404, "Not found: nothing is served at this path"),
        (408, "The request did not come whole in time"),
        (413, _too_long(gateway.body_limit_bytes)),
        (429, "Too many requests, try again in a moment"),
        (431, "The request's headers are longer than what is taken"),
        (502, "The provider cannot be reached right now, try again"),
        (504, "The provider did not answer in time, try again"),
    )


def _too_long(limit_bytes: int) -> str:
    return f"The request's body is longer than the limit of {limit_bytes} bytes"


def _at_a_time(heap_bytes: int, body_bytes: int) -> int:
    """Bodies of JSON that may be under way, so that they take a quarter of Envoy's memory."""
    return max(10, heap_bytes // 4 // body_bytes)


def share_of_strangers(max_connections: int, *, ways: int) -> int:
    """Connections that all addresses may have together which are not in gateway.envoy.unlimited, at each of the ways in: a quarter is for
    those that are."""
    return (max_connections - max_connections // 4) // ways


def _domains(gateway: GatewaySettings) -> list[str]:
    """Host names of Core's way in, with and without a port."""
    public = urlsplit(gateway.public_url)
    name, ports = public.hostname or "", sorted({public.port or gateway.envoy.port, gateway.envoy.port})
    names = [name, "127.0.0.1", "[::1]"] if name == "localhost" else [name]
    return [domain for name in names for domain in (name, *(f"{name}:{port}" for port in ports))]


def _services(descriptors: bytes) -> list[str]:
    """All of ours; which of their methods have a way in /v1, and who may call them, stands in the descriptors."""
    files = FileDescriptorSet.FromString(descriptors).file
    return [f"{file.package}.{service.name}" for file in files if file.package.startswith("serai.") for service in file.service]


def _ranges(texts: Iterable[str]) -> list[Mapping[str, str | int]]:
    """Each network once, however it was written: Envoy takes none twice."""
    networks = dict.fromkeys(ip_network(text, strict=False) for text in texts)
    return [{"address_prefix": str(network.network_address), "prefix_len": network.prefixlen} for network in networks]


def _seconds(ms: int) -> str:
    return f"{ms / 1_000:g}s"


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
    if not gateway.port and not gateway.socket:
        problems.append("gateway.port: Envoy must know where the gateway listens, so it cannot be any free one; gateway.socket will do too")
    if (envoy.certificate == "") != (envoy.key == ""):
        problems.append("gateway.envoy.certificate and gateway.envoy.key: one does nothing without the other")
    if envoy.tools and settings.tools_socket and gateway.body_limit_bytes > TOOLS_MESSAGE_BYTES:
        most = f"the tools' door takes {TOOLS_MESSAGE_BYTES} bytes a message, so /v1 could not keep what it says"
        problems.append(f"gateway.body_limit_bytes: {most}; set no more than that, or gateway.envoy.tools = false")
    problems += _key_problems(settings)
    for index, text in enumerate(envoy.unlimited):
        try:
            ip_network(text, strict=False)
        except ValueError:
            problems.append(f"gateway.envoy.unlimited[{index}]: {text} is neither an address nor a network like 192.0.2.0/24")
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


def _key_problems(settings: Settings) -> list[str]:
    problems: list[str] = []
    users = settings.gateway.users.public_key_file
    for setting, file in (("core.public_key_file", settings.core.public_key_file), ("gateway.users.public_key_file", users)):
        try:
            if file and key_set(Path(file)) is None and file == users:
                problems.append(f"{setting}: there is no {file}")
        except KeyFileError as error:
            problems.append(f"{setting}: {error}")
    return problems
