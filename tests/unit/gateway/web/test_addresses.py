"""The answer to openInteractiveSession as UCloud gets it: addresses filled in, what is internal gone."""

from __future__ import annotations

import pytest
from serai.jobs.v1 import jobs_service_pb2 as pb2
from serai_gateway.codec import Codec
from serai_gateway.errors import GatewayError
from serai_gateway.routes import ROUTES
from serai_gateway.settings import GatewaySettings
from serai_gateway.web.addresses import METHOD, Addresses
from serai_gateway.web.site import Site
from serai_gateway.web_settings import WebSettings

SITE = Site.of(GatewaySettings(web=WebSettings(mode="host", domain="apps.example.org"), public_url="https://p.example.org"), 1)


def filled_in(site: Site | None, **session: object) -> str:
    """As JSON, as UCloud reads it."""
    response = pb2.OpenInteractiveSessionResponse(responses=[pb2.OpenSession(**session)])  # pyright: ignore[reportArgumentType]
    answer = Addresses(site, "example").fill_in(response.SerializeToString())
    message = pb2.OpenInteractiveSessionResponse.FromString(answer)
    route = next(route for route in ROUTES if route.method == METHOD and route.ingoing)
    return Codec().write_bulk(message, route.empty_element).decode()


def test_a_page_a_desktop_and_a_shell() -> None:
    """Forms: facts 2021 §4.1. The page's address is whole, the desktop's is below the provider's own, a shell has none."""
    assert filled_in(SITE, web=pb2.WebSession(job_id="5", rank=1, session_identifier="S")) == (
        '{"responses":[{"type":"web","jobId":"5","rank":1,"redirectClientTo":"https://app-5-1.apps.example.org/.serai/open/S"}]}'
    )
    assert filled_in(None, vnc=pb2.VncSession(job_id="5", rank=1, session_identifier="S", password="p")) == (
        '{"responses":[{"type":"vnc","jobId":"5","rank":1,"url":"/ucloud/example/jobs/vnc/S","password":"p"}]}'
    )
    assert filled_in(None, shell=pb2.ShellSession(job_id="5", rank=1, session_identifier="S")) == (
        '{"responses":[{"type":"shell","jobId":"5","rank":1,"sessionIdentifier":"S"}]}'
    )


def test_a_job_without_an_address_is_an_error_in_words() -> None:
    """An id that could not be told apart in a host name; pages that are not served."""
    with pytest.raises(GatewayError, match="the id A_b cannot be part"):
        filled_in(SITE, web=pb2.WebSession(job_id="A_b", session_identifier="S"))
    with pytest.raises(GatewayError, match="does not serve web pages"):
        filled_in(None, web=pb2.WebSession(job_id="5", session_identifier="S"))
