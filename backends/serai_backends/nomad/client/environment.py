"""Where Nomad is and how one gets in, as Nomad's own tools do it (api/api.go): the settings first, then the environment.

NOMAD_ADDR, NOMAD_REGION, NOMAD_NAMESPACE, NOMAD_TOKEN, NOMAD_HTTP_AUTH, NOMAD_CACERT, NOMAD_CAPATH, NOMAD_CLIENT_CERT, NOMAD_CLIENT_KEY,
NOMAD_TLS_SERVER_NAME and NOMAD_SKIP_VERIFY mean what they mean there. NOMAD_TOKEN_FILE is ours. Inside a Nomad task the agent's socket and
the token of the workload identity (`identity { file = true }`) are found in NOMAD_SECRETS_DIR without a word in the settings. The proxies
of HTTP_PROXY are not used.
"""

from __future__ import annotations

import base64
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from serai_backends.errors import BackendUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from serai_backends.nomad.settings import NomadSettings

DEFAULT_ADDRESS = "http://127.0.0.1:4646"
_TRUE, _FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")
"""As Go's strconv.ParseBool; anything else is passed over."""


class Token:
    """The ACL token, or none. Never printed. One from a file is read again when Nomad refuses it: workload identities are renewed there."""

    def __init__(self, text: str = "", file: Path | None = None, source: str = "") -> None:
        self._text, self._file = text, file
        self.source = source
        """Where it comes from, for a person; empty = there is none."""

    @property
    def text(self) -> str:
        return self._text

    def read(self) -> bool:
        """Read the file (again); True = the token is another one now. Blocking. Raises BackendUnavailable."""
        if self._file is None:
            return False
        try:
            text = self._file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no text"
            raise BackendUnavailable(f"the token for Nomad in {self.source} cannot be read: {why}") from error
        changed, self._text = text != self._text, text
        return changed


@dataclass(frozen=True, slots=True)
class Access:
    address: str
    """As a person wrote it."""
    base: str
    """`http://host:port` or `https://host:port`, without a slash at the end; behind a socket only the form of one."""
    socket: str
    """Path of the agent's unix socket; empty = none."""
    region: str
    namespace: str
    token: Token
    basic: str
    """`Authorization` for a proxy before Nomad (NOMAD_HTTP_AUTH); empty = none. A secret."""
    tls: ssl.SSLContext | None
    server_name: str
    """Name in the certificate, where it is another than the address has; empty = that one."""
    verified: bool

    def __repr__(self) -> str:
        return f"Access({self.address!r}, region={self.region!r}, namespace={self.namespace!r})"

    def headers(self) -> dict[str, str]:
        found = {"X-Nomad-Token": self.token.text} if self.token.text else {}
        return found | ({"Authorization": self.basic} if self.basic else {})

    def params(self) -> dict[str, str]:
        return {"namespace": self.namespace} | ({"region": self.region} if self.region else {})


def read(settings: NomadSettings, environ: Mapping[str, str]) -> Access:
    """Blocking. Raises BackendUnavailable with what is wrong."""
    secrets = environ.get("NOMAD_SECRETS_DIR", "")
    address = settings.address or environ.get("NOMAD_ADDR", "") or _task_socket(secrets) or DEFAULT_ADDRESS
    url = urlsplit(address)
    if url.scheme not in ("http", "https", "unix") or not (url.path if url.scheme == "unix" else url.hostname):
        raise BackendUnavailable(f"Nomad's address is http://host:port, https://host:port or unix:///path, not {address!r}")
    if url.username is not None:
        raise BackendUnavailable("Nomad's address has a password in it: give it by NOMAD_HTTP_AUTH=user:password")
    verified = environ.get("NOMAD_SKIP_VERIFY", "") not in _TRUE
    base = "http://127.0.0.1" if url.scheme == "unix" else f"{url.scheme}://{url.netloc}{url.path.rstrip('/')}"
    return Access(
        address=address,
        base=base,
        socket=unquote(url.path) if url.scheme == "unix" else "",
        region=settings.region or environ.get("NOMAD_REGION", ""),
        namespace=settings.namespace or environ.get("NOMAD_NAMESPACE", "") or "default",
        token=_token(settings, environ, secrets),
        basic=_basic(environ.get("NOMAD_HTTP_AUTH", "")),
        tls=_tls(settings, environ, verified=verified) if url.scheme == "https" else None,
        server_name=settings.tls_server_name or environ.get("NOMAD_TLS_SERVER_NAME", ""),
        verified=verified or url.scheme != "https",
    )


def _task_socket(secrets: str) -> str:
    path = Path(secrets, "api.sock") if secrets else None
    return f"unix://{path}" if path is not None and path.is_socket() else ""


def _token(settings: NomadSettings, environ: Mapping[str, str], secrets: str) -> Token:
    file = Path(settings.token_file) if settings.token_file else None
    if file is None and environ.get("NOMAD_TOKEN"):
        return Token(environ["NOMAD_TOKEN"].strip(), source="NOMAD_TOKEN")
    if file is None and environ.get("NOMAD_TOKEN_FILE"):
        file = Path(environ["NOMAD_TOKEN_FILE"])
    if file is None and secrets and Path(secrets, "nomad_token").exists():
        file = Path(secrets, "nomad_token")
    if file is None:
        return Token()
    token = Token(file=file, source=str(file))
    token.read()
    return token


def _basic(auth: str) -> str:
    return "Basic " + base64.b64encode((auth if ":" in auth else auth + ":").encode()).decode() if auth else ""


def _tls(settings: NomadSettings, environ: Mapping[str, str], *, verified: bool) -> ssl.SSLContext:
    """What settings or environment say. A CA of one's own replaces the machine's; a file goes before a folder (as Nomad's tools do)."""
    ca_file = settings.ca_cert or environ.get("NOMAD_CACERT", "")
    ca_folder = settings.ca_path or environ.get("NOMAD_CAPATH", "")
    certificate = settings.client_cert or environ.get("NOMAD_CLIENT_CERT", "")
    key = settings.client_key or environ.get("NOMAD_CLIENT_KEY", "")
    if bool(certificate) != bool(key):
        raise BackendUnavailable(
            "a client certificate for Nomad needs both client_cert and client_key (NOMAD_CLIENT_CERT, NOMAD_CLIENT_KEY)"
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not verified:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    elif not ca_file and not ca_folder:
        context.load_default_certs()
    for file in [ca_file] if ca_file else _files(ca_folder):
        try:
            context.load_verify_locations(file)
        except (OSError, ValueError) as error:
            raise BackendUnavailable(f"the CA for Nomad in {file} cannot be used: {_why(error)}") from error
    if certificate:
        try:
            context.load_cert_chain(certificate, key)
        except (OSError, ValueError) as error:
            raise BackendUnavailable(
                f"the client certificate for Nomad ({certificate} with {key}) cannot be used: {_why(error)}"
            ) from error
    return context


def _files(folder: str) -> list[str]:
    if not folder:
        return []
    try:
        found = sorted(str(path) for path in Path(folder).iterdir() if path.is_file())
    except OSError as error:
        raise BackendUnavailable(f"the folder of CAs for Nomad, {folder}, cannot be read: {_why(error)}") from error
    if not found:
        raise BackendUnavailable(f"the folder of CAs for Nomad, {folder}, is empty")
    return found


def _why(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
