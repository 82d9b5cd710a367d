"""Where Nomad is and how one gets in: as Nomad's own tools have it."""

from __future__ import annotations

import socket
from pathlib import Path

import msgspec
import pytest
from fakes.nomad_pages import settings
from serai_backends.errors import BackendUnavailable
from serai_backends.nomad.client.environment import read

SECRET = "e4d5-secret"


def test_without_a_word_it_is_the_agent_of_this_machine() -> None:
    access = read(settings(), {})
    assert (access.base, access.namespace, access.region, access.headers(), access.params()) == (
        "http://127.0.0.1:4646",
        "default",
        "",
        {},
        {"namespace": "default"},
    )


def test_the_environment_says_what_the_settings_leave_open() -> None:
    environ = {
        "NOMAD_ADDR": "http://nomad.example.org:4646/",
        "NOMAD_REGION": "north",
        "NOMAD_NAMESPACE": "ucloud",
        "NOMAD_TOKEN": SECRET,
        "NOMAD_HTTP_AUTH": "me:pw",
    }
    access = read(settings(), environ)
    assert (access.base, access.params()) == ("http://nomad.example.org:4646", {"namespace": "ucloud", "region": "north"})
    assert access.headers() == {"X-Nomad-Token": SECRET, "Authorization": "Basic bWU6cHc="}


def test_settings_go_before_the_environment(tmp_path: Path) -> None:
    """Also a token file before NOMAD_TOKEN."""
    (tmp_path / "token").write_text(SECRET + "\n")
    mine = msgspec.structs.replace(settings("http://10.0.0.1:4646"), namespace="mine", region="south", token_file=str(tmp_path / "token"))
    access = read(mine, {"NOMAD_ADDR": "http://x:1", "NOMAD_NAMESPACE": "n", "NOMAD_REGION": "r", "NOMAD_TOKEN": "other"})
    assert (access.base, access.params()) == ("http://10.0.0.1:4646", {"namespace": "mine", "region": "south"})
    assert access.headers() == {"X-Nomad-Token": SECRET}


def test_inside_a_task_its_socket_and_identity_are_used(tmp_path: Path) -> None:
    """Nomad puts both into the task's folder of secrets."""
    (tmp_path / "nomad_token").write_text(SECRET)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "api.sock"))
        access = read(settings(), {"NOMAD_SECRETS_DIR": str(tmp_path)})
    assert (access.socket, access.token.text) == (str(tmp_path / "api.sock"), SECRET)
    assert access.token.source == str(tmp_path / "nomad_token")


def test_in_a_task_without_an_identity_the_usual_address_is_used(tmp_path: Path) -> None:
    access = read(settings(), {"NOMAD_SECRETS_DIR": str(tmp_path)})
    assert (access.base, access.socket, access.token.text) == ("http://127.0.0.1:4646", "", "")


def test_a_renewed_token_is_found_in_its_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("one")
    token = read(settings(token_file=str(file)), {}).token
    file.write_text("two\n")
    assert (token.text, token.read(), token.text, token.read()) == ("one", True, "two", False)


def test_no_secret_is_printed(tmp_path: Path) -> None:
    """Neither in a repr nor with an error."""
    access = read(settings(), {"NOMAD_TOKEN": SECRET, "NOMAD_HTTP_AUTH": f"me:{SECRET}"})
    assert SECRET not in f"{access!r} {access.token!r} {access}"


@pytest.mark.parametrize(
    ("value", "verified"), [("1", False), ("true", False), ("T", False), ("0", True), ("false", True), ("yes", True), ("", True)]
)
def test_verification_is_given_up_only_for_a_clear_yes(value: str, verified: bool) -> None:
    """What Go's ParseBool does not take for true is passed over."""
    access = read(settings("https://127.0.0.1:4646"), {"NOMAD_SKIP_VERIFY": value})
    assert access.tls is not None
    assert (access.verified, access.tls.check_hostname) == (verified, verified)


@pytest.mark.parametrize("address", ["127.0.0.1:4646", "ftp://x", "http://", "unix://", "nomad"])
def test_an_address_that_is_none_is_told_with_the_forms_that_are(address: str) -> None:
    with pytest.raises(BackendUnavailable, match=r"http://host:port, https://host:port or unix:///path"):
        read(settings(address), {})


def test_a_password_in_the_address_is_refused_and_not_printed() -> None:
    with pytest.raises(BackendUnavailable, match="NOMAD_HTTP_AUTH") as refused:
        read(settings(f"http://me:{SECRET}@nomad:4646"), {})
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"NOMAD_CACERT": "/no/ca.pem"}, r"the CA for Nomad in /no/ca\.pem cannot be used: No such file"),
        ({"NOMAD_CAPATH": "/no"}, r"folder of CAs for Nomad, /no, cannot be read: No such file"),
        ({"NOMAD_CLIENT_CERT": "/c.pem"}, "needs both client_cert and client_key"),
        ({"NOMAD_CLIENT_CERT": "/c.pem", "NOMAD_CLIENT_KEY": "/k.pem"}, r"client certificate for Nomad \(/c\.pem with /k\.pem\) cannot"),
        ({"NOMAD_TOKEN_FILE": "/no/token"}, "token for Nomad in /no/token cannot be read: No such file"),
    ],
)
def test_files_that_cannot_be_used_are_named(environ: dict[str, str], words: str) -> None:
    with pytest.raises(BackendUnavailable, match=words):
        read(settings("https://127.0.0.1:4646"), environ)


def test_a_file_that_is_no_certificate_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(BackendUnavailable, match=r"ca\.pem cannot be used"):
        read(settings("https://127.0.0.1:4646", ca_cert=str(tmp_path / "ca.pem")), {})
    with pytest.raises(BackendUnavailable, match=r"ca\.pem cannot be used"):
        read(settings("https://127.0.0.1:4646"), {"NOMAD_CAPATH": str(tmp_path)})
