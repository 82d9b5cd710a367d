"""The parts of a registration that need no Core: addresses, the link, the file of its steps, and files that are not lost."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from serai_gateway.durable import write_durably
from serai_gateway.registration import Address, Files, RegistrationError, State, sign_link

STATE = State(provider="example", core_url="https://cloud.example.org", requested_at_ms=5, token="secret-token")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://provider.example.org", Address("provider.example.org", https=True, port=None)),
        ("https://provider.example.org/", Address("provider.example.org", https=True, port=None)),
        ("http://10.0.0.7:8889", Address("10.0.0.7", https=False, port=8889)),
        ("http://[::1]:8889", Address("[::1]", https=False, port=8889)),
    ],
)
def test_an_address_is_told_in_cores_parts(url: str, expected: Address) -> None:
    """Domain, whether it is HTTPS, and a port only when it is not the scheme's own."""
    assert Address.of(url) == expected


@pytest.mark.parametrize(
    "url", ["", "x", "ftp://x", "https://", "https://x/y", "https://x?y", "https://u:p@x", "https://x:99999", "https://[::1"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    """In words, before Core is asked."""
    with pytest.raises(RegistrationError, match="address"):
        Address.of(url)


def test_the_link_is_that_of_the_web_interface() -> None:
    """Whatever path Core's API has; the token is quoted."""
    assert sign_link("https://cloud.example.org/api/", "a b&c") == "https://cloud.example.org/app/admin/providers/register?token=a%20b%26c"


def test_the_steps_are_kept(tmp_path: Path) -> None:
    """What was saved is read again; no file is no registration; another file is an error that says what to do. No repr has the token."""
    files = Files(tmp_path / "registration.json", tmp_path / "key", tmp_path / "token")
    assert files.load() is None
    files.save(STATE)
    assert files.load() == STATE
    assert "secret-token" not in repr(STATE)
    for spoiled in (b"", b"{", b"[]", b'{"provider":"example"}', b"\xff"):
        files.state.write_bytes(spoiled)
        with pytest.raises(RegistrationError, match="delete it"):
            files.load()


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readable for its owner only, whatever was there before; a failure leaves the old one and nothing beside it."""
    file = tmp_path / "token"
    file.write_text("before")
    file.chmod(0o644)
    write_durably(file, b"after")
    assert (file.read_bytes(), oct(file.stat().st_mode & 0o777)) == (b"after", "0o600")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            write_durably(file, b"lost")
    assert file.read_bytes() == b"after"
    assert [one.name for one in tmp_path.iterdir()] == ["token"]


def test_a_link_in_the_place_of_a_file_is_replaced_and_not_followed(tmp_path: Path) -> None:
    """A secret never lands where somebody else points."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("theirs")
    file = tmp_path / "token"
    file.symlink_to(elsewhere)
    write_durably(file, b"ours")
    assert (elsewhere.read_text(), file.read_bytes(), file.is_symlink()) == ("theirs", b"ours", False)
