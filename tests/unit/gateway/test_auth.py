"""Core's token: what is let in and what is not (facts 2021 §6.1, facts today §3)."""

from __future__ import annotations

import base64
import errno
import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from fakes.clock import FakeClock
from fakes.gateway_tokens import b64, bearer, claims, forged_hs256, key, pem, sign, spki
from serai_gateway.auth import REMEMBERED, AuthError, KeyFileError, PublicKeyFile, TokenCheck, parse_public_key, read_username
from serai_gateway.settings import Generation


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "core.pem"
    path.write_bytes(pem(key()))
    return path


@pytest.fixture
def check(key_file: Path, clock: FakeClock) -> TokenCheck:
    return TokenCheck(PublicKeyFile(key_file, clock), clock)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"aud": ["all:write"]},
        {"aud": ["other", "all:write"]},
        {"uid": None, "extendedByChain": None},
        {"role": "ADMIN"},
    ],
    ids=["2021", "2026-array", "several", "2026-claims", "admin"],
)
def test_cores_token_is_accepted(check: TokenCheck, clock: FakeClock, changes: dict[str, Any]) -> None:
    """Both generations' claims, `aud` as text or array."""
    check.check(bearer(sign(claims(clock.now_ms(), **changes))))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"iss": "elsewhere"}, "issuer"),
        ({"iss": None}, "issuer"),
        ({"sub": "_ucloud"}, "subject"),
        ({"sub": "#P_example"}, "subject"),
        ({"sub": None}, "subject"),
        ({"role": "USER"}, "role"),
        ({"role": "PROVIDER"}, "role"),
        ({"role": ["SERVICE"]}, "role"),
        ({"role": None}, "role"),
        ({"aud": "all:read"}, "audience"),
        ({"aud": []}, "audience"),
        ({"aud": None}, "audience"),
        ({"exp": None}, "exp"),
        ({"exp": "tomorrow"}, "exp"),
        ({"exp": True}, "exp"),
        ({"exp": 1e300}, "exp"),
        ({"iat": None}, "iat"),
        ({"iat": 1_700_000_011}, "future"),
        ({"nbf": 1_700_000_100}, "not hold yet"),
        ({"exp": 1_699_999_989}, "expired"),
    ],
)
def test_claims_that_are_not_cores_are_refused(check: TokenCheck, clock: FakeClock, changes: dict[str, Any], words: str) -> None:
    """Signed by Core's key, but not with Core's claims: refused in words that name the claim."""
    with pytest.raises(AuthError, match=words):
        check.check(bearer(sign(claims(clock.now_ms(), **changes))))


def test_other_algorithms_are_refused(check: TokenCheck, clock: FakeClock) -> None:
    """Only RS256 counts, whatever the header says: not `none`, not HS256 with the public key, not RS512 or PS256 with the right key."""
    content = claims(clock.now_ms())
    none = b64(json.dumps({"alg": "none", "typ": "JWT"}).encode())
    unsigned = f"{none}.{b64(json.dumps(content).encode())}."
    for token in (
        unsigned,
        forged_hs256(content, pem(key())),
        forged_hs256(content, spki(key())),
        sign(content, algorithm="RS512"),
        sign(content, algorithm="PS256"),
    ):
        with pytest.raises(AuthError, match="RS256"):
            check.check(bearer(token))


def test_another_key_is_refused(check: TokenCheck, clock: FakeClock) -> None:
    """Right claims, signed by somebody else; and a right signature under changed claims."""
    with pytest.raises(AuthError, match="signature"):
        check.check(bearer(sign(claims(clock.now_ms()), key("somebody else"))))
    head, _, signature = sign(claims(clock.now_ms(), sub="nobody")).split(".")
    changed = b64(json.dumps(claims(clock.now_ms())).encode())
    with pytest.raises(AuthError, match="signature"):
        check.check(bearer(f"{head}.{changed}.{signature}"))


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"Bearer",
        b"Bearer ",
        b"Basic dXNlcjpwdw==",
        b"Bearer x.y",
        b"Bearer \xff\xfe.a.b",
        b"Bearer " + b"a" * 100_000,
        b"Bearer a.b.c d",
    ],
)
def test_what_is_no_token_is_refused(check: TokenCheck, value: bytes | None) -> None:
    """Any bytes end in words, never in another exception (Core itself sends calls without a token after its start)."""
    with pytest.raises(AuthError, match="Unauthorized"):
        check.check(value)


def test_deeply_nested_claims_are_refused(check: TokenCheck) -> None:
    """A header that nests without end is no way to crash."""
    deep = b64(b'{"alg":' + b"[" * 5_000)
    with pytest.raises(AuthError):
        check.check(bearer(f"{deep}.{deep}.{deep}"))


def test_a_token_counts_until_it_expires(check: TokenCheck, clock: FakeClock) -> None:
    """A remembered token is refused once its time and the leeway are over."""
    token = bearer(sign(claims(clock.now_ms())))
    check.check(token)
    clock.move(900_000 + 9_000)
    check.check(token)
    clock.move(2_000)
    with pytest.raises(AuthError, match="expired"):
        check.check(token)


def test_words_never_hold_the_token(check: TokenCheck, clock: FakeClock) -> None:
    """What is told and logged of a bad token is its fault, not its text."""
    token = sign(claims(clock.now_ms(), sub="secret-subject"))
    with pytest.raises(AuthError) as caught:
        check.check(bearer(token))
    assert token[-20:] not in str(caught.value)
    assert "secret-subject" not in str(caught.value)


def test_more_tokens_than_are_remembered(check: TokenCheck, clock: FakeClock) -> None:
    """The memory of tokens is bounded, and a forgotten one is checked anew."""
    first = bearer(sign(claims(clock.now_ms(), n=-1)))
    check.check(first)
    for n in range(REMEMBERED + 5):
        # A right token with other spelling of its scheme is another entry; no need to sign so many.
        check.check(first + b" " * n)
    assert len(check._tokens._remembered) == REMEMBERED
    check.check(first)


def test_a_new_key_in_the_file_counts_at_once(check: TokenCheck, key_file: Path, clock: FakeClock) -> None:
    """When Core's key is replaced, old tokens are refused, remembered ones too, and new ones accepted; no restart."""
    old = bearer(sign(claims(clock.now_ms())))
    check.check(old)
    replacement = key_file.with_suffix(".new")
    replacement.write_bytes(spki(key("new")))
    replacement.rename(key_file)
    clock.move(1_000)
    with pytest.raises(AuthError, match="signature"):
        check.check(old)
    check.check(bearer(sign(claims(clock.now_ms()), key("new"))))


def test_a_key_file_that_went_bad_leaves_the_last_key(check: TokenCheck, key_file: Path, clock: FakeClock) -> None:
    """A half-written or missing file does not lock Core out; a good one afterwards is read."""
    for content in (b"nonsense", None):
        if content is None:
            key_file.unlink()
        else:
            key_file.write_bytes(content)
        clock.move(1_000)
        check.check(bearer(sign(claims(clock.now_ms()))))
    key_file.write_bytes(pem(key("new")))
    os.utime(key_file, ns=(1, 1))
    clock.move(1_000)
    check.check(bearer(sign(claims(clock.now_ms()), key("new"))))


def test_a_key_that_could_not_be_read_is_read_later(
    check: TokenCheck, key_file: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file was there and whole, but the process had no descriptor left just then: the next look finds the new key."""
    key_file.write_bytes(pem(key("new")))

    def exhausted(_: Path) -> bytes:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", exhausted)
        clock.move(1_000)
        check.check(bearer(sign(claims(clock.now_ms()))))
    clock.move(1_000)
    check.check(bearer(sign(claims(clock.now_ms()), key("new"))))


@pytest.mark.parametrize("form", [pem, spki, lambda private: b"\n" + spki(private)[:64] + b"\n" + spki(private)[64:] + b"\n"])  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
def test_both_forms_of_the_public_key_are_read(tmp_path: Path, clock: FakeClock, form: Any) -> None:
    """PEM, and base64 of DER in one line or several, as Core shows it (facts 2021 §6.2)."""
    path = tmp_path / "key"
    path.write_bytes(form(key()))
    TokenCheck(PublicKeyFile(path, clock), clock).check(bearer(sign(claims(clock.now_ms()))))


def test_a_file_without_a_good_key_is_refused_at_start(tmp_path: Path, clock: FakeClock) -> None:
    """No file, nonsense, another kind of key, a short key: the start fails in words."""
    path = tmp_path / "key"
    with pytest.raises(KeyFileError, match=rf"core\.public_key_file: there is no {re.escape(str(path))} yet; `serai register`"):
        PublicKeyFile(path, clock)
    curve = ec.generate_private_key(ec.SECP256R1()).public_key()
    for content, words in (
        (b"nonsense!", "neither PEM nor"),
        (b"-----BEGIN PUBLIC KEY-----\nxx\n-----END PUBLIC KEY-----\n", "neither PEM nor"),
        (curve.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo), "not an RSA key"),
        (pem(key("short", 1024)), "1024 bits"),
    ):
        path.write_bytes(content)
        with pytest.raises(KeyFileError, match=words) as caught:
            PublicKeyFile(path, clock)
        assert str(caught.value).startswith(f"core.public_key_file {path}: the public key ")


@pytest.mark.parametrize(
    ("value", "generation", "name"),
    [
        (None, "2021", None),
        (b"user", "2021", "user"),
        (b"UserName#1234", "2021", "UserName#1234"),
        (b"dXNlcg==", "2021", "dXNlcg=="),
        (b"dXNlcg==", "2026", "user"),
        ("Bjørn".encode(), "2021", "Bjørn"),
        ("Bjørn".encode("latin-1"), "2021", "Bjørn"),
        (base64.b64encode("Bjørn".encode()), "2026", "Bjørn"),
        (b"UserName#1234", "2026", "UserName#1234"),
        (b"a\x07b", "2021", None),
        (b"  ", "2021", None),
        (b"x" * 600, "2021", None),
    ],
)
def test_the_users_name_is_read_as_its_generation_writes_it(value: bytes | None, generation: Generation, name: str | None) -> None:
    """Raw text in 2021, base64 in 2026, and what is not base64 there is taken as it is (facts 2021 §6.5, facts today §3)."""
    assert read_username(value, generation) == name


def certificate(private: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "core")])
    since, until = datetime(2020, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, private.public_key(), 1, since, until)
    return builder.sign(private, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def test_a_certificate_holds_a_key_too() -> None:
    """Core keeps its users' key as one. What is no RSA key, or no certificate at all, is refused in words."""
    assert parse_public_key(certificate(key())).public_numbers() == key().public_key().public_numbers()
    with pytest.raises(KeyFileError, match="not an RSA key"):
        parse_public_key(certificate(ec.generate_private_key(ec.SECP256R1())))
    with pytest.raises(KeyFileError, match="neither PEM nor"):
        parse_public_key(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
