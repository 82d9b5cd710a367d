"""A CA of a test's own, and certificates of servers and clients, as files."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_NOW = datetime.datetime.now(datetime.UTC)


@dataclass(frozen=True)
class Pair:
    cert: str
    key: str


class Authority:
    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(f"test {name}")
        made = _build(self._name, self._name, self._key.public_key())
        made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(self._key, hashes.SHA256())
        self.file = str(folder / f"{name}.pem")
        Path(self.file).write_bytes(made.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, *, ip: str = "", alternative: Sequence[x509.GeneralName] | None = None) -> Pair:
        """For a server or client of that name. `alternative`: its names beside the common one; None = the same as DNS, and the address."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = alternative
        if names is None:
            names = [x509.DNSName(name), *([x509.IPAddress(ipaddress.ip_address(ip))] if ip else [])]
        made = _build(_named(name), self._name, key.public_key())
        if names:
            made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
        cert, private = self._folder / f"{name}.pem", self._folder / f"{name}-key.pem"
        cert.write_bytes(made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        private.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        return Pair(str(cert), str(private))


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _build(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    day = datetime.timedelta(days=1)
    return builder.serial_number(x509.random_serial_number()).not_valid_before(_NOW - day).not_valid_after(_NOW + day)
