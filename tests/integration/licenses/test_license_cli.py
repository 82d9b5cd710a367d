"""`serai licenses` as an operator uses it, against a real server with SQLite: output, exit codes, words, and keys in clear nowhere."""

from __future__ import annotations

import re

import grpc
import pytest
from fakes.license_cli import Serai, add, front, serai, until
from fakes.license_front import LicenseFront
from fakes.license_servers import PROVIDER
from serai.core.v1.resources_pb2 import ProductReference, ResourceOwner
from serai.licenses.v1 import license_servers_service_pb2 as pb
from serai.licenses.v1.license_pb2 import LicenseSpecification
from serai.licenses.v1.license_servers_service_pb2_grpc import LicenseServersServiceStub
from serai.licenses.v1.licenses_service_pb2 import CreateRequest
from serai.licenses.v1.licenses_service_pb2_grpc import LicensesServiceStub
from serai_server.cli import license_server
from serai_server.cli.exits import Exit
from serai_server.store.license_model import LicenseChange

CANARY = "canary-e3b0c44298fc1c149afbf4c8996fb924"


__all__ = ["add", "front", "serai"]  # fixtures


class TestLicenses:
    def test_found_by_both_ids(self, front: LicenseFront, serai: Serai) -> None:
        """One that was made here has an id of UCloud's too, which users see there: both find it, and both are shown."""
        product = ProductReference(id="mesher", category="licenses", provider=PROVIDER)
        with grpc.insecure_channel(f"unix:{front.socket}") as channel:
            create = LicensesServiceStub(channel).Create
            wanted = CreateRequest(items=[LicenseSpecification(product=product)], owner=ResourceOwner(created_by="alice"))
            (made,) = [one.id for one in create(wanted, timeout=20).responses]
        before = serai("show", made)
        assert (before.code, "at UCloud" in before.out) == (Exit.OK, False)
        assert serai("show", made, "--json").json["core_id"] is None
        front.do(front.store.licenses.decide([made], lambda _, row: LicenseChange(made, row.version if row else 0, core_id="1795665940")))
        for name in (made, "1795665940"):
            assert re.search(rf"license +{made} *\nat UCloud +1795665940 *\n", serai("show", name).out)
            shown = serai("show", name, "--json").json
            assert (shown["id"], shown["core_id"]) == (made, "1795665940")
            assert [one["id"] for one in serai("list", "--text", name, "--json").json["licenses"]] == [made]
        assert serai("show", "1795665941").words == "serai: no license '1795665941' is known here"

    def test_of_a_product(self, serai: Serai) -> None:
        """None of one that is sold; one that is not is said, as when a server is added."""
        assert serai("list", "--product", "licenses/mesher").out == "no licenses\n"
        assert serai("list", "--product", "licenses/nope", "--json").code == Exit.USAGE


class TestServers:
    def test_none(self, serai: Serai) -> None:
        """Words on stderr, an empty list for programs."""
        assert serai("server", "list").words == "no license servers"
        assert serai("server", "list", "--json").json == {"servers": []}

    def test_from_nothing_to_a_server_that_is_up(self, front: LicenseFront, add: Serai, serai: Serai) -> None:
        """Added, looked at, asked for its seats, shown; what others use is seen."""
        front.lmgrd.check_out("solver", "somebody", 2)
        added = add("--json")
        assert added.code == Exit.OK
        assert added.json["name"] == "solver"
        until(lambda: serai("server", "show", "solver", "--json").json["seats"][0]["observed_used"] is not None)
        shown = serai("server", "show", "solver", "--json").json
        assert shown == {
            "name": "solver",
            "product": {"id": "solver", "category": "licenses", "provider": PROVIDER},
            "addresses": [{"host": "127.0.0.1", "port": front.lmgrd.port}],
            "vendor_port": None,
            "seats_per": "job",
            "has_key": False,
            "state": "UP",
            "words": "",
            "probed_at_ms": shown["probed_at_ms"],
            "observed_at_ms": shown["observed_at_ms"],
            "seats": [{"feature": "solver", "seats": 4, "held": 0, "observed_used": 2, "observed_total": 5}],
            "waiting_jobs": 0,
            "licenses": 0,
        }
        card = serai("server", "show", "solver").out
        assert re.search(r"seats +one for each job *\n", card)
        assert "not asked" not in card
        assert min(shown["probed_at_ms"], shown["observed_at_ms"]) > 1_600_000_000_000
        people = serai("server", "show", "solver").out
        assert [word in people for word in ("UP", front.lmgrd.port_at_host, "FEATURE", "example/licenses/solver")] == [True] * 4
        table = serai("server", "list").out.splitlines()
        assert table[0].split() == ["SERVER", "STATE", "PRODUCT", "ADDRESS", "HELD", "WAITING", "KEY", "WORDS"]
        assert table[1].split()[:3] == ["solver", "UP", "licenses/solver"]

    def test_probe(self, front: LicenseFront, add: Serai, serai: Serai) -> None:
        """The answer is of now, with what does not answer and why."""
        add()
        assert serai("server", "probe", "solver", "--json").json["state"] == "UP"
        front.do(front.lmgrd.go_away())
        down = serai("server", "probe", "solver", "--json").json
        assert down["state"] == "DOWN"
        assert down["words"].startswith(f"127.0.0.1:{front.lmgrd.port} refused the connection")
        front.do(front.lmgrd.come_back())
        assert "UP" in serai("server", "probe", "solver").out

    def test_seats(self, add: Serai, serai: Serai) -> None:
        """Replaced as a whole, or not counted."""
        add()
        changed = serai("server", "set-seats", "solver", "--feature", "solver=8", "--feature", "gui=2", "--json").json
        assert [(s["feature"], s["seats"]) for s in changed["seats"]] == [("solver", 8), ("gui", 2)]
        assert "not counted" in serai("server", "set-seats", "solver", "--not-counted").out
        assert serai("server", "set-seats", "solver").code == Exit.USAGE

    def test_removed(self, add: Serai, serai: Serai) -> None:
        """And can be added again."""
        add()
        assert serai("server", "remove", "solver").out == "license server solver is removed\n"
        assert serai("server", "show", "solver").code == Exit.NOT_FOUND
        assert add().code == Exit.OK

    @pytest.mark.parametrize(
        ("arguments", "code", "words"),
        [
            (["server", "show", "other"], Exit.NOT_FOUND, "no license server is called 'other'; `serai licenses server list` shows all"),
            (["server", "remove", "other"], Exit.NOT_FOUND, "no license server is called 'other'"),
            (["server", "probe", "other"], Exit.NOT_FOUND, "no license server is called 'other'"),
            (["server", "set-key", "other", "--no-key"], Exit.NOT_FOUND, "no license server is called 'other'"),
            (["server", "set-seats", "other", "--feature", "a=1"], Exit.NOT_FOUND, "no license server is called 'other'"),
            (["server", "set-address", "other", "--address", "h"], Exit.NOT_FOUND, "no license server is called 'other'"),
            (["maintenance", "remove", "abc"], Exit.NOT_FOUND, "no maintenance window 'abc' is planned"),
            (
                ["server", "add", "X", "--address", "h", "--product", "licenses/mesher", "--provider", PROVIDER],
                Exit.USAGE,
                "name 'X': expected 1 to 64",
            ),
            (
                ["server", "add", "x", "--address", "h", "--product", "licenses/nope", "--provider", PROVIDER],
                Exit.USAGE,
                "no license product",
            ),
            (["server", "add", "x", "--address", "h", "--product", "mesher", "--provider", PROVIDER], Exit.USAGE, "not a product like"),
            (["server", "add", "x", "--address", "h:x", "--product", "licenses/mesher"], Exit.USAGE, "is not an address like"),
            (["server", "set-seats", "x", "--feature", "solver"], Exit.USAGE, "is not a feature with its seats like solver=5"),
            (["server", "set-key", "x"], Exit.USAGE, "one of --key-file, --key-stdin, --ask-key and --no-key is needed"),
            (["server", "set-key", "x", "--key-stdin", "--ask-key"], Exit.USAGE, "--key-stdin and --ask-key: only one of them"),
            (["server", "set-key", "x", "--ask-key", "--no-key"], Exit.USAGE, "--ask-key and --no-key: only one of them"),
            (
                ["server", "set-key", "x", "--ask-key"],
                Exit.USAGE,
                "--ask-key: there is no terminal to ask on; use --key-file or --key-stdin",
            ),
            (
                ["server", "set-seats", "x", "--feature", "a=1", "--not-counted"],
                Exit.USAGE,
                "--feature and --not-counted: only one of them",
            ),
            (["server", "set-seats", "x", "--feature", "a=0"], Exit.USAGE, "'a=0': seats are 1 to 1,000,000"),
            (["server", "set-address", "x", "--address", "h:65536"], Exit.USAGE, "'--address': 'h:65536': a port is 1 to 65535"),
            (
                ["server", "set-address", "x", "--address", "1@a_b"],
                Exit.USAGE,
                "'--address': '1@a_b': 'a_b' is neither a host name nor an IP",
            ),
            (["list", "--product", "solver"], Exit.USAGE, "--product 'solver' is not a product like CATEGORY/ID"),
            (
                ["list", "--product", "licenses/nope"],
                Exit.USAGE,
                "no license product licenses/nope is in the settings ([[licenses.products]]",
            ),
            (["server", "set-key", "x", "--key-stdin"], Exit.USAGE, "there is no key in stdin"),
            (["server", "set-key", "x", "--key-file", "/nowhere"], Exit.USAGE, "/nowhere cannot be read"),
        ],
    )
    def test_what_is_wrong_is_said(self, serai: Serai, arguments: list[str], code: Exit, words: str) -> None:
        """With the exit code of the table."""
        ran = serai(*arguments)
        assert ran.code == code
        assert words in ran.err

    def test_one_server_for_a_product(self, add: Serai, serai: Serai) -> None:
        """The second is refused."""
        add()
        way_out = "set-address, set-seats and set-key change it, remove takes it away"
        words = f"there is a license server 'solver' already (`serai licenses server show solver`); {way_out}"
        assert words in add().err
        ran = serai("server", "add", "b", "--address", "h", "--product", "licenses/solver", "--provider", PROVIDER)
        words = f"serai: product licenses/solver has the license server 'solver' already, and a product has one; {way_out}"
        assert (ran.code, ran.words) == (Exit.ERROR, words)

    def test_one_that_moves(self, front: LicenseFront, add: Serai, serai: Serai) -> None:
        """Key, seats and the vendor's port stay; it is looked at where it is now."""
        add("--key-stdin", "--vendor-port", str(front.lmgrd.port), stdin=CANARY.encode())
        moved = serai(
            "server", "set-address", "solver", "--address", "lic1:1", "--address", "lic2", "--address", "27009@lic3", "--json"
        ).json
        assert moved["addresses"] == [{"host": "lic1", "port": 1}, {"host": "lic2", "port": 27000}, {"host": "lic3", "port": 27009}]
        assert (moved["vendor_port"], moved["has_key"], moved["seats"][0]["seats"]) == (front.lmgrd.port, True, 4)
        again = serai("server", "set-address", "solver", "--address", "127.0.0.1:1", "--vendor-port", "0", "--json").json
        assert (again["addresses"], again["vendor_port"]) == ([{"host": "127.0.0.1", "port": 1}], None)
        until(lambda: "127.0.0.1:1" in serai("server", "show", "solver", "--json").json["words"])
        serai("server", "set-address", "solver", "--address", front.lmgrd.port_at_host)
        until(lambda: "127.0.0.1:1" not in serai("server", "show", "solver", "--json").json["words"])
        refused = serai("server", "set-address", "solver", "--address", "lic1", "--address", "lic2")
        assert (refused.code, "expected 1 address, or the 3 of a triad, found 2" in refused.words) == (Exit.USAGE, True)


class TestMaintenance:
    def test_a_window_comes_and_goes(self, serai: Serai) -> None:
        """Planned, listed, dropped."""
        plan = (
            "licenses/solver",
            "New machine",
            "--provider",
            PROVIDER,
            "--starts",
            "+1h",
            "--ends",
            "+2h",
            "--availability",
            "no_service",
        )
        planned = serai("maintenance", "add", *plan, "--json").json
        assert planned["estimated_ends_at_ms"] - planned["starts_at_ms"] == 7_200_000
        assert planned["availability"] == "NO_SERVICE"
        open_now = ("licenses/solver", "Slow", "--provider", PROVIDER, "--availability", "MINOR_DISRUPTION")
        assert "not known" in serai("maintenance", "add", *open_now).out
        listed = serai("maintenance", "list", "--json").json["windows"]
        assert [w["description"] for w in listed] == ["Slow", "New machine"]
        assert listed[1] == planned
        assert "New machine" in serai("maintenance", "list").out
        assert serai("maintenance", "remove", planned["id"]).code == Exit.OK
        assert serai("maintenance", "remove", listed[0]["id"], "--json").json == {}
        assert serai("maintenance", "list").words == "no maintenance is planned"

    def test_one_that_ends_before_it_starts(self, serai: Serai) -> None:
        """Refused, and so is one that is over already; in the words of the command line."""
        plan = ("maintenance", "add", "licenses/solver", "x", "--provider", PROVIDER, "--availability", "NO_SERVICE")
        ran = serai(*plan, "--ends", "2020-01-01T00:00Z")
        words = "serai: --ends '2020-01-01T00:00Z': the window must end after its start, --starts 'now'"
        assert (ran.code, ran.words) == (Exit.USAGE, words)
        ran = serai(*plan, "--starts", "2020-01-01T00:00Z", "--ends", "+2h")
        assert (ran.code, ran.words) == (Exit.USAGE, "serai: --ends '+2h': the window is over already")

    def test_two_at_the_same_time(self, serai: Serai) -> None:
        """Both are planned, and the operator is told; one that only comes after another is not meant."""
        plan = ("maintenance", "add", "licenses/solver", "x", "--provider", PROVIDER, "--availability", "NO_SERVICE", "--json")
        first = serai(*plan, "--starts", "+1h", "--ends", "+1h")
        assert (first.code, first.words) == (Exit.OK, "")
        ran = serai(*plan, "--starts", "+90m")
        words = f"window is open at the same time for this product: {first.json['id']}; the worst of those that are open counts"
        assert (ran.code, ran.words) == (Exit.OK, f"serai: {words}")
        assert serai(*plan, "--ends", "+30m").words == ""


@pytest.mark.parametrize("method", [m.name for m in pb.DESCRIPTOR.services_by_name["LicenseServersService"].methods])
@pytest.mark.parametrize("caller", ["core", "user"])
def test_nobody_but_the_operators_tools(front: LicenseFront, method: str, caller: str) -> None:
    """Core and users are refused before anything else is looked at."""
    with grpc.insecure_channel(f"unix:{front.socket}") as channel:
        call = getattr(LicenseServersServiceStub(channel), method)
        request = getattr(pb, f"{method}Request")()
        with pytest.raises(grpc.RpcError) as raised:
            call(request, metadata=(("serai-caller", caller), ("serai-user", "alice")), timeout=20)
    assert isinstance(raised.value, grpc.Call)
    assert raised.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_every_command_is_tried_here() -> None:
    """A command that is added needs its canary too."""
    assert set(license_server.group.commands) == {
        "add",
        "list",
        "show",
        "remove",
        "probe",
        "set-key",
        "set-seats",
        "set-address",
        "rotate-key",
    }
