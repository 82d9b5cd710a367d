"""Whether certificates can be used, before Envoy is started.

It reads them by itself when it is running. Without them it takes connections and drops them, which neither its own check nor its readiness
tells."""

from __future__ import annotations

import ssl
from pathlib import Path

from serai_gateway.settings import GatewaySettings


def certificate_problems(gateway: GatewaySettings) -> list[str]:
    """A line for each thing that is wrong with the files of [gateway.envoy], with the key's path; this user must be able to read them."""
    envoy = gateway.envoy
    pairs = {"certificate": (envoy.certificate, "key", envoy.key)}
    if gateway.web.mode == "host":
        pairs["apps_certificate"] = (envoy.apps_certificate, "apps_key", envoy.apps_key)
    problems: list[str] = []
    for setting, (certificate, key_setting, key) in pairs.items():
        if not (certificate and key):
            continue
        unreadable = [
            f"gateway.envoy.{name}: {why}"
            for name, file in ((setting, certificate), (key_setting, key))
            if (why := _unreadable(Path(file)))
        ]
        problems += unreadable
        if not unreadable and not _is_pair(certificate, key):
            words = f"{certificate} is no certificate in PEM, or {key} is not its key, in PEM and without a password"
            problems.append(f"gateway.envoy.{setting} and gateway.envoy.{key_setting}: {words}")
    return problems


def _unreadable(file: Path) -> str:
    """Why it cannot be read; empty = it can."""
    try:
        with file.open("rb"):
            return ""
    except OSError as error:
        return f"{file} cannot be read: {error.strerror}"


def _is_pair(certificate: str, key: str) -> bool:
    try:
        # Without a password's giver OpenSSL would ask at the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=lambda: "")
    except (ssl.SSLError, OSError):
        return False
    return True
