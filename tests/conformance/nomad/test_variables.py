"""Variables: create-if-absent, limits, paths."""

from __future__ import annotations

from urllib.parse import quote

from fakes.nomad_calls import Calls
from fakes.nomad_golden import Golden


async def test_create_if_absent(calls: Calls, golden: Golden) -> None:
    """`cas=0` succeeds once; then 409 with what is stored. The right index changes it."""
    first = await calls.call("PUT", "/v1/var/nomad/jobs/v?cas=0", {"Items": {"a": "1"}})
    again = await calls.call("PUT", "/v1/var/nomad/jobs/v?cas=0", {"Items": {"a": "2"}})
    absent = await calls.call("PUT", "/v1/var/nomad/jobs/w?cas=7", {"Items": {"a": "2"}})
    right = await calls.call("PUT", f"/v1/var/nomad/jobs/v?cas={first.json['ModifyIndex']}", {"Items": {"a": "3"}})
    read = await calls.get("/v1/var/nomad/jobs/v")
    golden.check("variable-cas", [[a.status, a.json] for a in (first, again, absent, right, read)])


async def test_unknown_and_deleted(calls: Calls, golden: Golden) -> None:
    """404 for a read, 204 for a deletion, also of what is not there."""
    await calls.call("PUT", "/v1/var/nomad/jobs/v", {"Items": {"a": "1"}})
    answers = [await calls.call(m, "/v1/var/nomad/jobs/v") for m in ("DELETE", "DELETE", "GET")]
    golden.check("variable-gone", [[a.status, a.text] for a in answers])


async def test_limits(calls: Calls, golden: Golden) -> None:
    """64 KiB, free keys, but few characters in a path."""
    answers = [
        await calls.call("PUT", "/v1/var/nomad/jobs/big", {"Items": {"a": "x" * 65_530}}),
        await calls.call("PUT", "/v1/var/nomad/jobs/bigger", {"Items": {"a": "x" * 65_536}}),
        await calls.call("PUT", "/v1/var/nomad/jobs/key", {"Items": {"a.b-c": "1"}}),
        await calls.call("PUT", f"/v1/var/nomad/jobs/{quote('a!b')}", {"Items": {"a": "1"}}),
        await calls.call("PUT", "/v1/var/nomad/jobs/a.b", {"Items": {"a": "1"}}),
        await calls.call("PUT", "/v1/var/nomad/jobs/a~b", {"Items": {"a": "1"}}),
        await calls.call("PUT", "/v1/var/nomad/jobs/none", {"Items": {}}),
    ]
    golden.check("variable-limits", [[a.status, "" if a.status == 200 else a.text] for a in answers])


async def test_lists_by_prefix_and_page(calls: Calls) -> None:
    """Sorted by path, without the items; the next page begins at the token."""
    for name in ("c", "a", "b", "other"):
        path = name if name == "other" else f"nomad/jobs/{name}"
        await calls.call("PUT", f"/v1/var/{path}", {"Items": {"a": "1"}})
    page = await calls.get("/v1/vars?prefix=nomad/jobs/&per_page=2")
    token = page.headers["X-Nomad-Nexttoken"]
    rest = await calls.get(f"/v1/vars?prefix=nomad/jobs/&per_page=2&next_token={quote(token)}")
    assert [r["Path"] for r in page.rows + rest.rows] == ["nomad/jobs/a", "nomad/jobs/b", "nomad/jobs/c"]
    assert "Items" not in page.rows[0]
    assert "X-Nomad-Nexttoken" not in rest.headers
