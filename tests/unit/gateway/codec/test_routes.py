"""Which call of UCloud a request means."""

from __future__ import annotations

import pytest
from serai.control.v1 import control_pb2
from serai.jobs.v1 import jobs_service_pb2
from serai.wire.v1 import options_pb2
from serai_gateway.routes import ROUTES, Match, NoRoute, Route, Router, WrongVerb, match, routes_of

OURS = frozenset({"example", "ucloud"})


@pytest.mark.parametrize("route", [route for route in ROUTES if route.ingoing], ids=lambda route: route.method)
def test_every_ingoing_call_is_found_by_its_own_path(route: Route) -> None:
    """With each of our providers' ids, with and without a trailing slash."""
    for provider in OURS:
        path = route.path.replace("{provider}", provider)
        expected = Match(route, "" if path == route.path else provider)
        assert match(route.verb, path, OURS) == expected
        assert match(route.verb, f"{path}/", OURS) == expected


def test_create_is_the_seeds_call() -> None:
    """POST /ucloud/{provider}/jobs is a bulk call whose empty elements are null."""
    found = match("POST", "/ucloud/ucloud/jobs", OURS)
    assert isinstance(found, Match)
    assert found.route.method == "/serai.jobs.v1.JobsService/Create"
    assert found.route.request is jobs_service_pb2.CreateRequest.DESCRIPTOR
    assert found.route.response is jobs_service_pb2.CreateResponse.DESCRIPTOR
    assert (found.route.bulk, found.route.empty_element) == (True, options_pb2.EMPTY_ELEMENT_UNSPECIFIED)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "//",
        "/ucloud",
        "/ucloud/example",
        "/ucloud/stranger/jobs",
        "/ucloud//jobs",
        "/ucloud/{provider}/jobs",
        "/ucloud/example/jobs//",
        "/ucloud/example/jobs/extend/more",
        "/ucloud/example/Jobs",
        "/example/ucloud/jobs",
        "/api/jobs/control/update",
        "ucloud/example/jobs",
    ],
)
def test_other_paths_are_no_calls(path: str) -> None:
    """Foreign providers, near misses, the template itself, and calls that Serai makes and does not take."""
    assert match("POST", path, OURS) == NoRoute()


def test_calls_of_users_are_those_of_the_licenses_service() -> None:
    """They have no provider in their paths, and no call of Core is among them."""
    users = {(route.verb, route.path) for route in ROUTES if route.users}
    assert users == {
        ("GET", "/api/licenses/browse"),
        ("GET", "/api/licenses/retrieve"),
        ("GET", "/api/licenses/retrieveProducts"),
        ("POST", "/api/licenses"),
        ("POST", "/api/licenses/search"),
        ("POST", "/api/licenses/init"),
        ("POST", "/api/licenses/updateAcl"),
        ("DELETE", "/api/licenses"),
    }
    assert match("PUT", "/api/licenses", OURS) == WrongVerb(("DELETE", "POST"))


def test_a_wrong_verb_tells_the_right_ones() -> None:
    """For the header Allow."""
    assert match("GET", "/ucloud/example/jobs", OURS) == WrongVerb(("POST",))
    assert match("POST", "/ucloud/example/jobs/retrieveProducts", OURS) == WrongVerb(("GET",))


def test_a_call_claimed_twice_is_an_error() -> None:
    """Two methods with the same verb and path would hide one of them."""
    with pytest.raises(ValueError, match="claimed"):
        routes_of([jobs_service_pb2.DESCRIPTOR, jobs_service_pb2.DESCRIPTOR])


def test_outgoing_calls_are_routes_but_are_never_matched() -> None:
    """The gateway finds the paths of its own calls in the same table."""
    outgoing = {route.path: route.request for route in ROUTES if not route.ingoing}
    assert outgoing["/api/jobs/control/update"] is control_pb2.UpdateRequest.DESCRIPTOR
    assert set(outgoing) == {
        "/api/jobs/control/update",
        "/api/jobs/control/chargeCredits",
        "/api/jobs/control/browse",
        "/api/licenses/control/update",
        "/api/licenses/control/chargeCredits",
        "/api/licenses/control/register",
        "/api/licenses/control/browse",
        "/api/accounting/v2/reportUsage",
        "/api/providers/resources/checkExistence",
        "/api/providers/requestApproval",
        "/api/products",
        "/api/products/v2",
        "/auth/providers/refresh",
    }
    assert Router([]).match("POST", "/ucloud/example/jobs", OURS) == NoRoute()
