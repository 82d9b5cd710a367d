"""Certificate, key and the clients' CA of a port with TLS.

Files are looked at again for each connection, so that a renewed certificate is used without a new start. While what was changed
cannot be used, what was there before stays.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import grpc
import structlog
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

log = structlog.get_logger("serai.tools")


class CertificateError(Exception):
    """A file of the port's TLS cannot be used; the text says which, and why."""


@dataclass(frozen=True, slots=True)
class Files:
    certificate: Path
    """PEM: the server's own, then those that lead to its CA."""
    key: Path
    """PEM, without a password."""
    client_ca: Path | None
    """PEM: CAs whose clients may connect, and nobody without a certificate of theirs; None = clients have no certificates."""


_Stamp = tuple[tuple[int, int, int], ...]


class Credentials:
    """For grpc's port. Raises CertificateError when made."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._stamp = self._look()
        first = self._read()
        # Called by a thread of grpc's own, one connection after the other.
        fetch = cast("Callable[[], grpc.ServerCertificateConfiguration]", self._changed)  # grpc's types do not know that None may come
        self.grpc = grpc.dynamic_ssl_server_credentials(first, fetch, require_client_authentication=files.client_ca is not None)

    def _changed(self) -> grpc.ServerCertificateConfiguration | None:
        """What is new since the last connection; None = nothing."""
        try:
            stamp = self._look()
            if stamp == self._stamp:
                return None
            self._stamp = stamp
            found = self._read()
        except CertificateError as error:
            log.error("certificate.not_renewed", why=str(error))  # noqa: TRY400 - the words say all
            return None
        log.info("certificate.renewed", file=str(self._files.certificate))
        return found

    def _look(self) -> _Stamp:
        stats = [_stat(file) for file in (self._files.certificate, self._files.key, self._files.client_ca) if file is not None]
        return tuple((s.st_ino, s.st_mtime_ns, s.st_size) for s in stats)

    def _read(self) -> grpc.ServerCertificateConfiguration:
        chain, key = _bytes(self._files.certificate), _bytes(self._files.key)
        roots = _bytes(self._files.client_ca) if self._files.client_ca is not None else None
        own = _certificates(chain, self._files.certificate)[0]
        if roots is not None:
            _certificates(roots, self._files.client_ca)
        try:
            private = load_pem_private_key(key, None)
        except (ValueError, TypeError) as error:
            raise CertificateError(f"{self._files.key}: expected a private key in PEM, without a password") from error
        if _public(private.public_key()) != _public(own.public_key()):
            raise CertificateError(f"{self._files.key}: this key is not that of the certificate {self._files.certificate}")
        return grpc.ssl_server_certificate_configuration([(key, chain)], roots)


def _public(key: object) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # pyright: ignore[reportAttributeAccessIssue,reportUnknownMemberType,reportUnknownVariableType] - every kind of key has it


def _stat(file: Path) -> os.stat_result:
    try:
        return file.stat()
    except OSError as error:
        raise CertificateError(f"{file}: {error.strerror}") from error


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise CertificateError(f"{file}: {error.strerror}") from error


def _certificates(pem: bytes, file: Path | None) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise CertificateError(f"{file}: expected certificates in PEM") from error
