"""Core's licenses are handed to the server, all of them, in both generations, and nothing else is done for them.

Core's pages are made by the stand-in's own rules (serai_devcore.licenses.browse).
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import structlog
from fakes.gateway_core import error
from fakes.gateway_deliveries import CODEC, LeapingClock
from google.protobuf import text_format
from google.rpc import code_pb2
from serai.licenses.v1 import license_pb2
from serai.licenses.v1 import licenses_provider_service_pb2 as licenses_pb2
from serai_devcore import EXAMPLE_LICENSE, ResourceRequest, licenses
from serai_devcore.settings import Settings as DevCoreSettings
from serai_devcore.state import State
from serai_devcore.wire import Generation as CoreGeneration
from serai_gateway.control.calls import Calls
from serai_gateway.control.compare_licenses import VERIFY, LicenseComparison
from serai_gateway.control.questions import CoreQuestions
from serai_gateway.control.reconcile import YOUNG_MS, Reconciliation
from serai_gateway.control.transport import Answer, AnswerTooLong, CoreUnreachable
from serai_gateway.settings import CoreSettings, Generation
from serai_gateway.tokens import Tokens
from serai_gateway.upstream import UpstreamError, status


class OneToken(Tokens):
    """Always the same."""

    def __init__(self) -> None:
        pass

    async def current(self) -> str:
        return "token"

    async def renewed(self, *, instead_of: str) -> str:
        return "token"


class Core:
    """A Transport: the stand-in's pages of licenses, or what the next answers are said to be."""

    def __init__(self, generation: Generation) -> None:
        self.state = State(DevCoreSettings(generation=CoreGeneration(generation)))
        self.answers: list[Answer | Exception] = []
        self.odd: list[Any] = []
        """What stands on the first page besides."""
        self.longest = 1 << 30
        self.sizes: list[str] = []

    def add(self, license_id: str, created_at_ms: int) -> None:
        made = self.state.resources.insert(ResourceRequest("licenses", EXAMPLE_LICENSE), license_id, created_at_ms)
        made.confirmed = True

    async def get(self, path: str, bearer: str | None) -> Answer:
        address = urlsplit(path)
        assert (address.path, bearer) == ("/api/licenses/control/browse", "token")
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        query = {key: values[0] for key, values in parse_qs(address.query, strict_parsing=True).items()}
        self.sizes.append(query["itemsPerPage"])
        page: dict[str, Any] = dict(licenses.browse(self.state, "example", query))
        page["items"] += [] if "next" in query else self.odd
        body = json.dumps(page).encode()
        if len(body) > self.longest:
            raise AnswerTooLong("too long")
        return Answer(200, body)

    async def post(self, path: str, body: bytes, bearer: str | None) -> Answer:
        raise AssertionError(path)


class Ours:
    """An Upstream that is told of licenses and of nothing else."""

    def __init__(self) -> None:
        self.calls: list[list[license_pb2.License]] = []
        self.away = False

    async def unary(self, method: str, request: bytes, metadata: Mapping[str, str], timeout_s: float) -> bytes:
        assert (method, metadata) == (VERIFY, {"serai-caller": "core"})
        if self.away:
            raise UpstreamError(status(code_pb2.UNAVAILABLE, "away"))
        items = list(licenses_pb2.LicensesProviderServiceVerifyRequest.FromString(request).items)
        assert 1 <= len(items) <= 1_000
        self.calls.append(items)
        return b""

    async def stream(self, method: str, request: bytes, metadata: Mapping[str, str]) -> AsyncIterator[bytes]:
        raise AssertionError(method)
        yield b""


class Site:
    def __init__(self, generation: Generation) -> None:
        settings = CoreSettings(url="http://core", public_key_file="-", refresh_token_file="-", generation=generation)
        self.every_ms = settings.reconcile_every_ms
        self.clock = LeapingClock()
        self.core = Core(generation)
        self.ours = Ours()
        questions = CoreQuestions(Calls(self.core, OneToken()), CODEC)
        comparison = LicenseComparison(self.ours, questions, settings, self.clock)
        self.reconciliation = Reconciliation(comparison, settings, self.clock, random=lambda: 0.5)
        self.old = self.clock.now_ms() - YOUNG_MS - 1

    def verified(self) -> list[str]:
        return sorted((one.id for call in self.ours.calls for one in call), key=int)


@pytest.fixture(params=["2021", "2026"])
def site(request: pytest.FixtureRequest) -> Site:
    return Site(request.param)


async def test_all_licenses_of_core_are_handed_to_verify(site: Site) -> None:
    """From all pages."""
    for n in range(600):
        site.core.add(str(n), site.old)
    assert await site.reconciliation.attempt() == site.every_ms
    assert site.verified() == [str(n) for n in range(600)]


async def test_the_server_is_told_whose_they_are_and_how_they_stand(site: Site) -> None:
    """Owner, product, labels, who else may use them, our own id where Core tells it; the state only where Core has one: today's says READY
    of each (facts today §7)."""
    site.core.add("5", site.old)
    made = site.core.state.resources.known_license("5")
    made.project, made.labels, made.provider_generated_id, made.state = "p-1", {"a": "b"}, "1000000000000001", "UNAVAILABLE"
    made.others = [{"entity": {"type": "user", "username": "bob"}, "permissions": ["READ"]}]
    await site.reconciliation.attempt()
    [[found]] = site.ours.calls
    today = site.core.state.generation is CoreGeneration.G2026
    expected = f"""
        id: "5"
        owner {{ created_by: "user" project: "p-1" }}
        created_at: {site.old}
        specification {{ product {{ id: "example-license" category: "example-license" provider: "example" }} }}
        permissions {{ others {{ entity {{ user {{ username: "bob" }} }} permissions: PERMISSION_READ }} }}
        status {{ {"" if today else "state: LICENSE_STATE_UNAVAILABLE"} }}
    """
    wanted = text_format.Parse(expected, license_pb2.License())
    if today:
        wanted.specification.labels["a"] = "b"
        wanted.provider_generated_id = "1000000000000001"
    found.permissions.ClearField("myself")
    assert found == wanted


async def test_a_license_that_is_just_being_made_is_left_for_the_next_time(site: Site) -> None:
    """And one of which nobody knows how old it is."""
    site.core.add("1", site.clock.now_ms() - YOUNG_MS + 1)
    site.core.add("2", site.old)
    site.core.add("3", 0)
    await site.reconciliation.attempt()
    assert site.verified() == ["2"]
    site.clock.time_ms += 1_000
    await site.reconciliation.attempt()
    assert site.verified() == ["1", "2", "2"]


async def test_what_cannot_be_read_is_left_out_and_counted(site: Site) -> None:
    """The others of its page and all other pages are looked at."""
    for n in range(300):
        site.core.add(str(n), site.old)
    site.core.odd = [5, None, {"id": 7}, {"id": "x", "specification": {}}]
    with structlog.testing.capture_logs() as logs:
        assert await site.reconciliation.attempt() == site.every_ms
    assert site.verified() == [str(n) for n in range(300)]
    assert [(line["log_level"], line["licenses"]) for line in logs if "licenses" in line] == [("warning", 4)]


async def test_pages_that_are_too_long_are_asked_for_in_pieces(site: Site) -> None:
    """A page of 250 licenses with long lists of permissions may be more than we read; 25 are not."""
    for n in range(300):
        site.core.add(str(n), site.old)
    site.core.longest = 40_000
    await site.reconciliation.attempt()
    assert site.verified() == [str(n) for n in range(300)]
    assert "25" in site.core.sizes


@pytest.mark.parametrize(
    "answer",
    [
        CoreUnreachable("away"),
        error(404, "Not found"),
        error(500, "oops"),
        Answer(200, b"[]"),
        Answer(200, b'{"next":null}'),
        Answer(200, b"\xff"),
        Answer(200, b'{"items":[],"next":"1-"}'),
    ],
    ids=str,
)
async def test_pages_that_do_not_come_are_asked_for_again(site: Site, answer: Answer | Exception) -> None:
    """Core that is away, has no such call or goes round in circles: a warning, a pause that grows, and then all of it once more."""
    site.core.add("1", site.old)
    site.core.answers = [answer] * 4
    with structlog.testing.capture_logs() as logs:
        assert [await site.reconciliation.attempt(), await site.reconciliation.attempt()] == [750, 1_500]
    site.core.answers = []
    assert [line["log_level"] for line in logs] == ["warning", "warning"]
    assert await site.reconciliation.attempt() == site.every_ms
    assert site.verified() == ["1"]


async def test_a_server_that_is_away_is_waited_for(site: Site) -> None:
    """`serai serve gateway` may be up before the server."""
    site.core.add("1", site.old)
    site.ours.away = True
    assert [await site.reconciliation.attempt() for _ in range(2)] == [750, 1_500]
    site.ours.away = False
    assert await site.reconciliation.attempt() == site.every_ms
    assert site.verified() == ["1"]


async def test_without_licenses_the_server_is_told_nothing(site: Site) -> None:
    """Most providers have none."""
    assert await site.reconciliation.attempt() == site.every_ms
    assert site.ours.calls == []
