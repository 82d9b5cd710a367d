"""The fault points: every place where a test can end a process of Serai with SIGKILL, and what is true there.

One table for `fakes/chaos/victim.py`, which does it, for the tests' parameters, and for tests/chaos/README.md, which is compared with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Dies(Enum):
    SERVER = "server"
    """`serai serve`, at the point itself."""
    LAUNCHER = "launcher"
    SUPERVISOR = "supervisor"
    """A job's own processes, while the server goes on; a while later the server follows."""


class Aim(Enum):
    """What users must ask for so that the point is passed."""

    ANY = "any"
    STOP = "stop"
    QUEUE = "queue"
    """A job is stopped while it waits for room."""
    EXTEND = "extend"
    PAUSE = "pause"
    BILL = "bill"


class Fate(Enum):
    """What becomes of the job whose launcher or supervisor ended there."""

    GOES_ON = "runs and ends as if nothing had happened"
    LOST = "ends as the provider's FAILURE"
    REST = "keeps the ends that are written; replicas that still ran are lost"
    EITHER = "one or the other, by chance"


@dataclass(frozen=True, slots=True)
class Point:
    name: str
    truth: str
    """What is so when the process ends there."""
    dies: Dies = Dies.SERVER
    aim: Aim = Aim.ANY
    fate: Fate = Fate.GOES_ON
    first: bool = False
    """Passed only at the very first start."""
    often: bool = True
    """Passed more than once in a life."""


def _both(seam: str, before: str, after: str, aim: Aim = Aim.ANY) -> tuple[Point, Point]:
    return Point(f"{seam}.before", before, aim=aim), Point(f"{seam}.after", after, aim=aim)


def _call(name: str, aim: Aim) -> tuple[Point, Point]:
    asked = f"Core's {name} is read and checked, the server has not seen it"
    return _both(f"http.{name}", asked, f"the server has stored the {name}, Core has no answer", aim)


def _sent(kind: str, what: str, aim: Aim = Aim.ANY, *, often: bool = True) -> tuple[Point, ...]:
    return (
        Point(f"core.{kind}.before", f"{what} is about to be sent to Core", aim=aim, often=often),
        Point(f"core.{kind}.sent", f"{what} is on its way, Core may have done it", aim=aim, often=often),
        Point(f"core.{kind}.answered", f"Core has answered for {what}, nobody has read it", aim=aim, often=often),
    )


def _line(kind: str, before: str, after: str, fate: tuple[Fate, Fate]) -> tuple[Point, Point]:
    return (
        Point(f"supervisor.{kind}.before", before, Dies.SUPERVISOR, fate=fate[0]),
        Point(f"supervisor.{kind}.after", after, Dies.SUPERVISOR, fate=fate[1]),
    )


TABLE: tuple[Point, ...] = (
    # The start
    Point("start.schema", "the tables are made, in a transaction that is still open", first=True),
    Point("start.store", "the store is open, nothing is read", often=False),
    Point("start.backend", "the local backend has adopted what runs", often=False),
    Point("start.loaded", "the active jobs are loaded, no worker has stepped one", often=False),
    Point("start.serving", "Core's calls are taken, events are handed out", often=False),
    # The store
    Point("store.begin.after", "a transaction is open and empty"),
    Point("store.jobs.inserted", "new jobs are written, their events are not, nothing is committed"),
    Point("store.jobs.updated", "changed jobs are written, their events are not, nothing is committed"),
    Point("store.events.inserted", "events are written, nothing is committed"),
    Point("store.ledger.inserted", "periods are written as charged, nothing is committed", aim=Aim.BILL),
    *_both("store.commit", "everything is written, nothing is committed", "all is stored, nobody is answered"),
    Point("store.answered", "all is stored, the answers wait in the loop"),
    # Core's calls in
    Point("http.request", "a request has come, its body is not read"),
    Point("http.body", "the body is read, nothing is checked"),
    *_call("create", Aim.ANY),
    *_call("terminate", Aim.STOP),
    *_call("extend", Aim.EXTEND),
    *_call("suspend", Aim.PAUSE),
    *_call("unsuspend", Aim.PAUSE),
    *_both("http.answer", "the answer is made, no byte of it is sent", "the answer is handed to the socket"),
    # Calls to Core
    Point("events.handed", "events are handed to the gateway, none is sent"),
    *_sent("token", "the wish for a new token", often=False),
    *_sent("update", "updates"),
    *_sent("charge", "charges", Aim.BILL),
    *_both("events.settled", "Core has the events, the server does not know it", "the settlement is stored, the gateway does not know it"),
    # The reconciler and its backend
    *_both("backend.submit", "the job is stored as submitted, the backend has not seen it", "the backend has it, nobody has looked"),
    *_both("backend.inspect", "a job is to be looked at", "it was seen, nothing of that is stored"),
    *_both("backend.cancel", "a stop is stored, the backend was not told", "the backend was told", Aim.STOP),
    *_both("backend.suspend", "a pause is wanted, the backend was not told", "the backend was told", Aim.PAUSE),
    *_both("backend.resume", "the job is to go on, the backend was not told", "the backend was told", Aim.PAUSE),
    *_both("backend.forget", "the end is stored, the backend still has the job", "the backend has forgotten it, the store does not know"),
    # The local backend's durable steps
    *_both("local.spec", "the job's folder is there, its specification is not", "the job is taken on, it is not in the queue"),
    *_both("local.plan", "the job's turn has come, nothing says so", "the plan is there, nothing is started"),
    *_both("local.cancel", "the cancel marker is not there", "the marker is there, the supervisor was not told", Aim.STOP),
    Point("local.rename", "a file is written under its temporary name"),
    *_both("local.launch", "the launcher is about to be started", "the launcher has ended, nobody follows the supervisor"),
    Point("local.launched", "the launcher lives, nobody waits for it"),
    Point("local.linked", "the supervisor is followed, nothing of it is read"),
    *_both("local.writeoff", "a job is to be written off, its journal does not say so", "the journal says so, nobody was told", Aim.QUEUE),
    Point("local.remove.before", "a job is to be forgotten, all of its folder is there"),
    Point("local.remove.halfway", "its specification is gone, and whatever else a removal in the worst order takes first"),
    Point("local.remove.after", "its folder is gone"),
    # The processes of a job
    Point("launcher.started", "the launcher has just been started", Dies.LAUNCHER),
    Point("launcher.anywhen", "up to 60 ms after the launcher's start", Dies.LAUNCHER, fate=Fate.EITHER),
    Point("launcher.begun.before", "the supervisor waits for its go, `begun` is not written", Dies.LAUNCHER),
    Point("launcher.begun.after", "`begun` is written, the supervisor has no go", Dies.LAUNCHER, fate=Fate.LOST),
    *_line("start", "a program runs, the journal does not say so", "the journal says that it runs", (Fate.LOST, Fate.LOST)),
    *_line("end", "a program has ended, the journal does not say so", "the journal says how it ended", (Fate.LOST, Fate.REST)),
    *_line("done", "all is gone, the last line is missing", "the last line is written", (Fate.GOES_ON, Fate.GOES_ON)),
    Point("supervisor.running", "the job is RUNNING and the server knows it", Dies.SUPERVISOR, fate=Fate.LOST),
)

MOMENT = Point("moment", "anything: some time after the start, by the clock")
"""No place in the code: the server is ended from outside."""

POINTS = {point.name: point for point in (*TABLE, MOMENT)}
