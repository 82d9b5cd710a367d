"""Addresses and times of `serai licenses`, as people write them."""

from __future__ import annotations

import re

import click
import pytest
from serai.licenses.v1 import license_servers_service_pb2 as pb
from serai_server.cli import license_words


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("lic1", "lic1", 0),
        ("lic1:27001", "lic1", 27001),
        ("27001@lic1", "lic1", 27001),
        ("@lic1", "lic1", 0),
        ("::1", "::1", 0),
        ("[::1]:27001", "::1", 27001),
        ("[::1]", "::1", 0),
    ],
)
def test_addresses(text: str, host: str, port: int) -> None:
    """As people write them, and as FlexNet does."""
    assert license_words.Address().convert(text, None, None) == pb.LicenseServerAddress(host=host, port=port)


@pytest.mark.parametrize(
    ("text", "begin_ms", "expected_ms"),
    [
        ("now", None, 1_000_000),
        ("+2h", None, 1_000_000 + 7_200_000),
        ("+1d12h30m5s", None, 1_000_000 + 131_405_000),
        ("+2h", 5_000_000, 5_000_000 + 7_200_000),
        ("2026-12-24T18:00+01:00", None, 1_798_131_600_000),
        ("2026-12-24T17:00Z", None, 1_798_131_600_000),
    ],
)
def test_times(text: str, begin_ms: int | None, expected_ms: int) -> None:
    """With a zone, or from now, or from the start."""
    assert license_words.time_of("--starts", text, 1_000_000, begin_ms) == expected_ms


@pytest.mark.parametrize(
    ("text", "words"),
    [
        *((text, r"is not a time like .* or \+2h$") for text in ("", "+", "+2", "tomorrow")),
        *((text, r"\+2h; a span goes forward and begins with \+$") for text in ("2h", "-2h", "1d12h")),
        *((text, "does not say how far from UTC it is; add Z, or a distance like") for text in ("2026-12-24T18:00", "2026-12-24")),
    ],
)
def test_what_is_no_time(text: str, words: str) -> None:
    """Said with the option; a time without zone is nobody's."""
    with pytest.raises(click.ClickException, match=f"^--ends {re.escape(repr(text))} .*{words}"):
        license_words.time_of("--ends", text, 1_000_000)
