"""Addresses of applications' pages: one job and rank has one name, and no name means two."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serai_gateway.settings import GatewaySettings
from serai_gateway.web.names import NoAddress, Place, label_of, place_of_host, place_of_path, plain_host
from serai_gateway.web.site import Site
from serai_gateway.web_settings import WebSettings

DOMAIN = "apps.example.org"
JOB_IDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", fullmatch=True)


@given(job=JOB_IDS, rank=st.integers(0, 99_999))
def test_a_name_leads_back_to_its_place_or_is_not_made(job: str, rank: int) -> None:
    """For every id that a job may have: its host name, in any case, means it and nothing else, or there is none; its path always does."""
    place = Place(job, rank)
    try:
        label = label_of(place)
    except NoAddress:
        assert job != job.lower() or "_" in job or job.endswith("-") or len(job) > 50
    else:
        name, port = plain_host(f"{label.upper()}.{DOMAIN}:8443".encode())
        assert (place_of_host(name, DOMAIN), port) == (place, ":8443")
    assert place_of_path(f"/app/{job}/{rank}/x%2Fy".encode()) == (place, f"/app/{job}/{rank}")


@given(st.binary(max_size=80))
def test_any_host_is_read_or_refused(host: bytes) -> None:
    """Whatever a client sends as Host, there is an answer, and what is read is a name."""
    name, port = plain_host(host)
    assert name == name.lower()
    assert port == "" or port[1:].isdigit()


@pytest.mark.parametrize(
    "target", [b"/app/1/0", b"/app/1/00/", b"/app//0/", b"/app/1/-1/", b"/app/%31/0/", b"/App/1/0/", b"//app/1/0/", b"/x/app/1/0/"]
)
def test_paths_that_mean_no_page(target: bytes) -> None:
    assert place_of_path(target) is None


@pytest.mark.parametrize(
    ("web", "public_url", "address"),
    [
        (WebSettings(mode="host", domain=DOMAIN), "https://p.example.org", f"https://app-1-0.{DOMAIN}/.serai/open/S"),
        (WebSettings(mode="host", domain=DOMAIN), "https://p.example.org:8443", f"https://app-1-0.{DOMAIN}:8443/.serai/open/S"),
        (WebSettings(mode="host", domain=DOMAIN, port=444), "https://p.example.org", f"https://app-1-0.{DOMAIN}:444/.serai/open/S"),
        (WebSettings(mode="host", domain=DOMAIN, scheme="https"), "http://p.example.org:80", f"https://app-1-0.{DOMAIN}/.serai/open/S"),
        (WebSettings(mode="host", domain="localhost"), "", "http://app-1-0.localhost:8889/.serai/open/S"),
        (WebSettings(mode="path"), "https://p.example.org/", "https://p.example.org/app/1/0/.serai/open/S"),
        (WebSettings(mode="path"), "", "/app/1/0/.serai/open/S"),
    ],
)
def test_addresses_as_browsers_see_them(web: WebSettings, public_url: str, address: str) -> None:
    """Scheme and port are those of the provider's own address unless the settings say others; nothing is said twice."""
    site = Site.of(GatewaySettings(web=web, public_url=public_url), 8889)
    assert site is not None
    assert site.address(Place("1", 0), "S") == address
    assert site.cookie.startswith("__Host-" if address.startswith("https://app-") else "__Secure-" if "https" in address else "serai-")


def test_without_pages_there_is_no_site() -> None:
    assert Site.of(GatewaySettings(), 8889) is None
