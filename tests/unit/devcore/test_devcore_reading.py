"""What a provider reads of Core: retrieve and browse, the job's JSON, and the record of what went over the wire."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random
from typing import cast

import pytest
from fakes.devcore_time import StillClock
from serai_devcore import EXAMPLE_PRODUCT, CoreError, Direction, Effect, Fault, Generation, acme_request, queries
from serai_devcore.applications import UCLOUD_ETC, JobRequest
from serai_devcore.documents import job_document, product_document
from serai_devcore.faults import Faults
from serai_devcore.jobs import Job, JobBook
from serai_devcore.records import Recorder
from serai_devcore.wire import Json, JsonObject, as_list, as_object, dig, parse, read_items

G2021, G2026 = Generation.G2021, Generation.G2026
BATCH = Path(__file__).parents[3] / "examples" / "requests" / "batch.json"


def product_of(job: Job) -> Json:
    return product_document(EXAMPLE_PRODUCT, G2021)


def book(generation: Generation, count: int) -> JobBook:
    jobs = JobBook(generation, StillClock())
    for number in range(1, count + 1):
        jobs.insert(job_document(acme_request(), str(number), number * 1000, generation))
        jobs.confirm(str(number), f"own-{number}")
    return jobs


def ids(page: JsonObject) -> list[Json]:
    return [dig(item, "id") for item in as_list(page["items"], "items")]


@pytest.mark.parametrize(("generation", "status"), [(G2021, 404), (G2026, 403)])
def test_retrieve_refuses_what_is_not_the_callers(generation: Generation, status: int) -> None:
    """2021 §2.4: 404; today §9: 403."""
    jobs = book(generation, 1)
    for provider, job_id in (("example", "9"), ("other", "1"), ("example", "")):
        with pytest.raises(CoreError) as caught:
            queries.retrieve(jobs, generation, provider, {"id": job_id}, product_of)
        assert caught.value.status == status


def test_retrieve_shows_the_job_as_it_is_now() -> None:
    """2021 §2.4: updates and product only when asked for, the application always."""
    jobs = book(G2021, 1)
    jobs.update("example", [{"id": "1", "update": {"state": "RUNNING", "outputFolder": "/1/x", "timestamp": 5}}])
    plain = queries.retrieve(jobs, G2021, "example", {"id": "1"}, product_of)
    assert plain["updates"] == []
    assert plain["output"] == {"outputFolder": "/1/x"}
    assert dig(plain, "status", "state") == "RUNNING"
    assert dig(plain, "status", "expiresAt") == jobs["1"].expires_at_ms
    assert dig(plain, "status", "resolvedProduct") is None
    assert dig(plain, "status", "resolvedApplication", "metadata", "name") == "acme-batch"
    full = queries.retrieve(jobs, G2021, "example", {"id": "1", "includeUpdates": "true", "includeProduct": "true"}, product_of)
    assert full["updates"] == [{"state": "RUNNING", "outputFolder": "/1/x", "timestamp": jobs["1"].arrivals[0].at_ms}]
    assert dig(full, "status", "resolvedProduct", "pricePerUnit") == 1_000_000


def test_today_the_application_must_be_asked_for() -> None:
    """today §9 browse: application and parameters only with their flags; the provider's own id is shown."""
    jobs = book(G2026, 1)
    hidden = queries.retrieve(jobs, G2026, "example", {"id": "1"}, product_of)
    assert dig(hidden, "status", "resolvedApplication") is None
    assert hidden["providerGeneratedId"] == "own-1"
    shown = queries.retrieve(jobs, G2026, "example", {"id": "1", "includeApplication": "true"}, product_of)
    assert dig(shown, "status", "resolvedApplication", "metadata", "name") == "acme-batch"


@pytest.mark.parametrize("generation", [G2021, G2026])
def test_browse_pages_newest_first(generation: Generation) -> None:
    """2021 §7.2: sizes 10, 25, 50, 100, 250, else 50; today §9: next is the last id."""
    jobs = book(generation, 23)
    seen: list[Json] = []
    query = {"itemsPerPage": "10"}
    for expected in (10, 10, 3):
        page = queries.browse(jobs, generation, "example", query, product_of)
        assert page["itemsPerPage"] == 10
        assert len(ids(page)) == expected
        seen += ids(page)
        following = page["next"]
        if expected == 3:
            assert following is None
        else:
            assert following == (f"{len(seen)}-" if generation is G2021 else seen[-1])
            query["next"] = cast("str", following)
    assert seen == [str(n) for n in range(23, 0, -1)]
    assert queries.browse(jobs, generation, "example", {"itemsPerPage": "7"}, product_of)["itemsPerPage"] == 50


@pytest.mark.parametrize("bad", [{"next": "soon"}, {"next": "-"}, {"consistency": "MAYBE"}])
def test_browse_refuses_bad_paging(bad: dict[str, str]) -> None:
    """2021 §7.2."""
    with pytest.raises(CoreError) as caught:
        queries.browse(book(G2021, 1), G2021, "example", bad, product_of)
    assert caught.value.status == 400


def test_browse_filters_and_leaves_out_unconfirmed_jobs() -> None:
    """2021 §1.1 step 2 (browse does not see a job whose create is in flight), §8.5 filters."""
    jobs = book(G2021, 4)
    jobs.insert(job_document(acme_request(), "5", 5000, G2021))
    jobs.update("example", [{"id": "2", "update": {"state": "RUNNING"}}])

    def found(**query: str) -> list[Json]:
        return ids(queries.browse(jobs, G2021, "example", query, product_of))

    assert found() == ["4", "3", "2", "1"]
    assert found(filterState="RUNNING") == ["2"]
    assert found(filterIds="1,3,77") == ["3", "1"]
    assert found(filterProviderIds="own-4") == ["4"]
    assert found(filterCreatedAfter="2000", filterCreatedBefore="3000") == ["3", "2"]
    assert found(filterCreatedBy="nobody") == []
    assert ids(queries.browse(jobs, G2021, "other", {}, product_of)) == []


def test_a_job_of_2021_is_the_seeds_job_as_core_really_sends_it() -> None:
    """Seed (life-cycle example) with 2021 §0.2 #1, #13: no product and support, a list of resources, output and permissions."""
    seed = read_items(parse(BATCH.read_bytes()))[0]
    made = job_document(acme_request(), "54112", 1_633_329_776_235, G2021)
    as_object(seed["specification"], "")["resources"] = []
    as_object(seed["status"], "").update({"resolvedProduct": None, "resolvedSupport": None})
    seed |= {"output": {"outputFolder": None}, "permissions": {"myself": ["ADMIN"], "others": None}}
    assert made == seed


def test_a_product_of_2021_is_the_seeds_product() -> None:
    """Seed, `resolvedProduct`."""
    assert product_document(EXAMPLE_PRODUCT, G2021) == dig(read_items(parse(BATCH.read_bytes()))[0], "status", "resolvedProduct")


def test_a_job_of_today_has_flat_unions_and_the_undeclared_parameter() -> None:
    """today §7: every key of every member, ucMetricSampleRate, labels, product in its second version."""
    made = job_document(replace(acme_request(), replicas=2), "1", 0, G2026)
    value = as_object(dig(made, "specification", "parameters", "value"), "")
    assert value["value"] == "Hello, World!"
    assert {"path", "jobId", "modules", "tokenType"} <= value.keys()
    assert dig(made, "specification", "parameters", "ucMetricSampleRate", "value") == "0ms"
    assert dig(made, "specification", "labels") == {}
    assert "name" not in as_object(made["specification"], "")
    words = as_list(dig(made, "status", "resolvedApplication", "invocation", "invocation"), "")
    assert [dig(w, "template") for w in words] == ["", "", ""]
    assert dig(made, "status", "resolvedProduct", "category", "accountingFrequency") == "PERIODIC_MINUTE"


def test_no_time_at_all_is_no_limit() -> None:
    """today §7: `timeAllocation` is null when the user gave none."""
    made = job_document(JobRequest(UCLOUD_ETC, EXAMPLE_PRODUCT, hours=0), "1", 0, G2026)
    assert dig(made, "specification", "timeAllocation") is None


def test_a_record_holds_no_token() -> None:
    """Neither the header's value nor tokens in bodies, at any depth, are kept; what is no JSON is kept as text."""
    recorder = Recorder()
    exchange = recorder.add(
        at_ms=1,
        direction=Direction.TO_CORE,
        method="POST",
        path="/auth/providers/refresh",
        headers={"authorization": "Bearer s3cret", "X": "y"},
        body=b'{"items":[{"refreshToken":"s3cret"}]}',
        status=200,
        answer=b'{"responses":[{"accessToken":"s3cret"}]}',
    )
    assert "s3cret" not in str(exchange.to_json())
    assert exchange.headers == {"authorization": "Bearer (hidden)", "X": "y"}
    plain = recorder.add(
        at_ms=2, direction=Direction.TO_PROVIDER, method="GET", path="/x", headers={}, body=b"\xff<", status=502, answer=b""
    )
    assert (plain.body, plain.answer) == ("�<", None)
    assert [e.number for e in recorder.find(path="/x", after=1)] == [2]
    assert recorder.find(direction=Direction.TO_CORE) == [exchange]


def test_faults_strike_as_often_as_they_were_told() -> None:
    """By number, by path, by chance; the first that fits takes the call, and a used-up one is gone."""
    faults = Faults(Random(1))
    faults.fail_next(2, 503, "/api/")
    faults.add(Fault(Effect.DROP, path="/auth/", times=1))
    assert faults.take("/other") is None
    assert [f.status if (f := faults.take("/api/jobs")) else 0 for _ in range(4)] == [503, 503, 0, 0]
    taken = faults.take("/auth/x")
    assert taken is not None
    assert taken.effect is Effect.DROP
    assert len(faults) == 0
    faults.fail_often(0.5)
    hits = sum(faults.take("/") is not None for _ in range(1000))
    assert 400 < hits < 600
    faults.clear()
    assert faults.take("/") is None
    assert faults.injected == 3 + hits
