"""Our own line: order of arrival, what is worth a try, and what people are told of their place."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import msgspec
import pytest
from fakes.nomad_words import spec_of, view_of
from serai_backends.model import ReplicaSpec, Waiting
from serai_backends.nomad.jobfile import Prepared, build
from serai_backends.nomad.line import TRY_ANYWAY_MS, Lines
from serai_backends.nomad.records import Stage
from serai_backends.nomad.room import Need, Room, need_of
from serai_backends.nomad.settings import Firewall, NomadSettings, Placement
from serai_backends.nomad.view import View
from serai_backends.nomad.wire import Allocation, Node

SETTINGS = NomadSettings(
    state_dir="/x", provider="p", drives_dir="/d", placements=(Placement(), Placement(product="gpu/g1", node_pool="gpus"))
)


def node(name: str, cores: int = 4, memory_mib: int = 4096, *, pool: str = "default", status: str = "ready", eligible: bool = True) -> Node:
    return msgspec.convert(
        {
            "ID": name,
            "Name": name,
            "NodePool": pool,
            "Datacenter": "dc1",
            "Status": status,
            "SchedulingEligibility": "eligible" if eligible else "ineligible",
            "Drivers": {"docker": {"Detected": True, "Healthy": True}},
            "NodeResources": {"Cpu": {"CpuShares": cores * 1000 + 100}, "Memory": {"MemoryMB": memory_mib + 64}},
            "ReservedResources": {"Cpu": {"CpuShares": 100}, "Memory": {"MemoryMB": 64}},
        },
        Node,
    )


def holds(node_id: str, cores: int, memory_mib: int) -> Allocation:
    tasks = {"main": {"Cpu": {"CpuShares": cores * 1000}, "Memory": {"MemoryMB": memory_mib}}}
    return msgspec.convert({"NodeID": node_id, "AllocatedResources": {"Tasks": tasks}}, Allocation)


@dataclass
class Site:
    room: Room = field(default_factory=Room)
    now_ms: int = 0

    def __post_init__(self) -> None:
        self.lines = Lines(SETTINGS, self.room)

    def add(self, sequence: int, *, replicas: int = 1, cpu: int = 1, product: str = "") -> View:
        view = view_of(Stage.QUEUED, job_id=f"job-{sequence}", replicas=replicas, cpu=cpu, sequence=sequence)
        spec = msgspec.structs.replace(view.record, spec=_with_product(view, product))
        view.record = spec
        self.lines.add(view)
        return view

    def release(self) -> list[int]:
        """All that may go now, as the engine does it."""
        gone: list[int] = []
        while (view := self.lines.next_released(self.now_ms)) is not None:
            view.record = msgspec.structs.replace(view.record, stage=Stage.RELEASED)
            self.lines.released(view)
            gone.append(view.record.sequence)
        return gone


def _with_product(view: View, product: str) -> ReplicaSpec:
    return replace(view.spec, product=product)


@pytest.fixture
def site() -> Site:
    site = Site()
    site.room.look([node("a"), node("b"), node("off", status="down"), node("shut", eligible=False), node("g", pool="gpus")], [])
    return site


def test_jobs_go_in_order_of_arrival_while_there_is_room(site: Site) -> None:
    """What is on its way counts; a lone rank that has no room is tried all the same, by Nomad, and only one."""
    for sequence in (3, 1, 2):
        site.add(sequence, cpu=4)
    assert site.release() == [1, 2]
    site.lines.placed(site.lines._lines[next(iter(site.lines._lines))].on_their_way["job-1"])
    assert site.release() == []


def test_one_that_lacks_room_holds_up_those_behind_it(site: Site) -> None:
    """Though they would fit; and not those that want another kind of place."""
    first = site.add(1, cpu=3)
    assert site.release() == [1]
    first.reason = "waiting for free cores"
    site.add(2)
    site.add(3, product="gpu/g1")
    assert site.release() == [3]
    first.reason = ""
    assert site.lines.placed(first)
    assert site.release() == [2]


def test_a_gang_waits_until_all_of_it_fits_or_a_minute_is_over(site: Site) -> None:
    """A part of it would hold its places for nothing; but an estimate can be wrong."""
    site.room.look([node("a"), node("b")], [holds("a", 2, 100)])
    site.add(1, replicas=2, cpu=4)
    site.add(2)
    assert site.release() == []
    assert site.lines.next_try_ms(0) == TRY_ANYWAY_MS
    site.now_ms = TRY_ANYWAY_MS
    assert site.release() == [1]
    other = Site()
    other.room.look([node("a"), node("b")], [holds("a", 2, 100)])
    other.add(1, replicas=2, cpu=4)
    assert other.release() == []
    other.room.look([node("a"), node("b")], [])
    assert other.release() == [1]


def test_no_more_are_on_their_way_than_the_settings_say(site: Site) -> None:
    """A bulk of a thousand does not flood Nomad."""
    site.room.look([node("a", cores=1000, memory_mib=1 << 20)], [])
    for sequence in range(1, 40):
        site.add(sequence)
    assert site.release() == list(range(1, SETTINGS.releases + 1))


def test_what_is_on_its_way_keeps_its_room(site: Site) -> None:
    """A look at the cluster that comes before all of it is placed does not show it: nobody goes past it into that room."""
    first = site.add(1, replicas=2, cpu=4)
    site.add(2)
    assert site.release() == [1]
    site.room.look([node("a"), node("b")], [holds("a", 4, 64)])
    site.lines.reserve_again({first.nomad_id: 1})
    assert site.release() == []
    site.room.look([node("a"), node("b"), node("c")], [holds("a", 4, 64), holds("b", 4, 64)])
    site.lines.reserve_again({first.nomad_id: 2})
    assert site.release() == [2]


def test_people_are_told_what_is_missing_and_who_is_before_them(site: Site) -> None:
    """Each once, until it changes."""
    site.room.look([node("a"), node("b")], [holds("a", 3, 4000), holds("b", 2, 100)])
    first, second = site.add(1, replicas=3, cpu=2), site.add(2)
    assert site.release() == []
    told = list(site.lines.tell_places(again=True))
    assert told == [first, second]
    assert first.waiting == Waiting(ahead=0, cpu=6, free_cpu=3, all_cpu=8)
    assert second.waiting == Waiting(ahead=1)
    assert list(site.lines.tell_places(again=True)) == []
    site.lines.remove(first)
    assert [view.waiting for view in site.lines.tell_places(again=True)] == [Waiting(ahead=0)]


def test_a_job_that_was_taken_back_gets_its_old_place(site: Site) -> None:
    """Not the last one."""
    views = [site.add(sequence, cpu=4, replicas=2) for sequence in (1, 2)]
    assert site.release() == [1]
    views[0].record = msgspec.structs.replace(views[0].record, stage=Stage.QUEUED)
    site.lines.remove(views[0])
    site.lines.add(views[0])
    assert [entry[0] for entry in next(iter(site.lines._lines.values())).waiting] == [1, 2]


@pytest.mark.parametrize(
    ("replicas", "cpu", "memory_mib", "fits"), [(2, 4, 1, True), (3, 4, 1, False), (1, 5, 1, False), (8, 1, 1, True), (3, 1, 3000, False)]
)
def test_what_the_whole_cluster_could_hold(site: Site, replicas: int, cpu: int, memory_mib: int, *, fits: bool) -> None:
    """Rank by rank, since none is spread over two nodes; whatever runs there now."""
    site.room.look([node("a"), node("b"), node("g", pool="gpus")], [holds("a", 4, 4096)])
    spec = spec_of(replicas=replicas, cpu=cpu, memory_mib=memory_mib)
    assert site.room.could_ever_fit(spec, SETTINGS.placements[0], SETTINGS) is fits


def test_a_cluster_that_nobody_looked_at_is_no_reason_to_refuse(site: Site) -> None:
    """Nor one without a suitable node: one may come."""
    assert Room().could_ever_fit(spec_of(cpu=99), SETTINGS.placements[0], SETTINGS)
    assert Room().fits_now(spec_of(cpu=99), SETTINGS.placements[0], SETTINGS)
    site.room.look([node("g", pool="gpus")], [])
    assert site.room.could_ever_fit(spec_of(cpu=99), SETTINGS.placements[0], SETTINGS)


def test_firewalls_take_room_too() -> None:
    """What the estimate calls a rank's need is what the job file asks for, so that no job is tried for ever that lacks just that."""
    settings = msgspec.structs.replace(SETTINGS, firewall=Firewall(enabled=True))
    for spec in (spec_of(cpu=4, memory_mib=1), spec_of(cpu=1, memory_mib=2048)):
        job = msgspec.json.decode(msgspec.json.encode(build(spec, 1, Prepared(None, None), settings)), type=_Job)
        asked = [task.resources for group in job.task_groups for task in group.tasks]
        assert need_of(spec.resources, settings) == Need(sum(one.cpu for one in asked), sum(one.memory_mb for one in asked))
    room = Room()
    room.look([node("a")], [])
    assert not room.could_ever_fit(spec_of(cpu=4), settings.placements[0], settings)
    assert not room.fits_now(spec_of(replicas=4), settings.placements[0], settings)


class _Asked(msgspec.Struct):
    cpu: int = msgspec.field(name="CPU")
    memory_mb: int = msgspec.field(name="MemoryMB")


class _Task(msgspec.Struct, rename="pascal"):
    resources: _Asked


class _Group(msgspec.Struct, rename="pascal"):
    tasks: list[_Task]


class _Job(msgspec.Struct, rename="pascal"):
    task_groups: list[_Group]


def test_a_job_that_was_taken_back_is_passed_until_its_next_try(site: Site) -> None:
    """It held places in vain; then it is the first again."""
    first, second = site.add(1, cpu=4), site.add(2, cpu=4)
    first.not_before_ms = 5_000
    assert site.release() == [2]
    assert site.lines.next_try_ms(0) == 5_000
    site.lines.placed(second)
    site.now_ms = 5_000
    assert site.release() == [1]


def test_room_is_given_back_once_and_only_where_it_was_taken(site: Site) -> None:
    """A job that a look at the cluster counted no more holds nothing."""
    spec = spec_of(replicas=2, cpu=4)
    site.room.reserve("ucloud-job", spec, SETTINGS.placements[0], SETTINGS)
    assert not site.room.fits_now(spec_of(), SETTINGS.placements[0], SETTINGS)
    for _ in range(2):
        site.room.give_back("ucloud-job", ["a", "b"], spec, SETTINGS)
        assert site.room.totals(SETTINGS.placements[0])[1] == 8_000
    site.room.look([node("a"), node("b")], [holds("a", 3, 64)])
    site.room.give_back("ucloud-job", ["a", "b"], spec, SETTINGS)
    assert site.room.totals(SETTINGS.placements[0])[1] == 5_000
