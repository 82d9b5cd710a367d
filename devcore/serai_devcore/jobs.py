"""Core's book of jobs: what a provider's updates do to it, and what a provider may read from it.

No I/O. The rules are those of facts 2021 §2.1 and §2.4, and of today §9 where Core has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from serai_devcore.clock import Clock
from serai_devcore.own_ids import OwnIds
from serai_devcore.wire import (
    CoreError,
    Generation,
    Json,
    JsonObject,
    as_object,
    bad_request,
    boolean_or,
    dig,
    dig_text,
    integer,
    integer_or,
    text,
    text_or_none,
)

FINAL = frozenset({"SUCCESS", "FAILURE", "EXPIRED"})
STATES_2021 = FINAL | {"IN_QUEUE", "RUNNING", "CANCELING"}


@dataclass(frozen=True, slots=True)
class Arrival:
    """One update of one job as it came."""

    at_ms: int
    """Core's clock."""
    update: JsonObject
    kept: bool
    """False = today's Core drops it whole; it is not in the job's history."""
    applied: bool
    """True = state or output folder changed by it, or it asked for neither."""

    @property
    def state(self) -> str:
        """The state it asked for; empty = none."""
        return dig_text(self.update, "state")

    @property
    def status(self) -> str:
        return dig_text(self.update, "status")


@dataclass(slots=True)
class Job:
    """A job as Core knows it. `document` is what never changes of its JSON."""

    id: str
    provider: str
    category: str
    product: str
    username: str
    project: str | None
    replicas: int
    time_allocation_ms: int | None
    created_at_ms: int
    document: JsonObject
    state: str = "IN_QUEUE"
    started_at_ms: int | None = None
    expires_at_ms: int | None = None
    output_folder: str | None = None
    confirmed: bool = False
    """The provider has said yes to its create."""
    provider_generated_id: str | None = None
    arrivals: list[Arrival] = field(default_factory=list[Arrival])

    labels: JsonObject = field(default_factory=dict[str, Json])
    others: list[Json] = field(default_factory=list[Json])
    """Who else may do what: entries `{entity, permissions}`."""

    @property
    def key(self) -> tuple[str, str, str]:
        """Of its product."""
        return self.provider, self.category, self.product

    @property
    def owner(self) -> str:
        """Who pays: `project:{id}` if there is one, else `user:{name}`."""
        return f"project:{self.project}" if self.project else f"user:{self.username}"

    @property
    def final(self) -> bool:
        return self.state in FINAL

    @property
    def states(self) -> list[str]:
        """The states that Core went through, in order, each change once."""
        return [a.state for a in self.arrivals if a.applied and a.state]


@dataclass(frozen=True, slots=True)
class Change:
    """One item of `jobs/control/update`, read."""

    job_id: str
    update: JsonObject
    state: str | None
    output_folder: str | None
    expected_state: str | None
    expected_different_state: bool
    new_time_allocation_ms: int | None


class JobBook:
    def __init__(self, generation: Generation, clock: Clock, first_id: int = 1000) -> None:
        self._generation = generation
        self._clock = clock
        self._next_id = first_id
        self._jobs: dict[str, Job] = {}
        self.owners: set[str] = set()
        """Everybody who ever had a job or a license; they stay known when it is forgotten."""
        self.own_ids = OwnIds(generation, clock)
        self.on_end: Callable[[Job], None] = lambda job: None
        """What else happens when a job's state becomes final."""

    def __iter__(self) -> Iterator[Job]:
        return iter(list(self._jobs.values()))

    def __len__(self) -> int:
        return len(self._jobs)

    def new_id(self) -> str:
        """Core's numbers, as text, never used twice."""
        self._next_id += 1
        return str(self._next_id - 1)

    def now_ms(self) -> int:
        return self._clock.now_ms()

    def get(self, job_id: str) -> Job | None:
        return self._jobs.get(job_id)

    def __getitem__(self, job_id: str) -> Job:
        return self._jobs[job_id]

    def insert(self, document: JsonObject) -> Job:
        """A new, unconfirmed job (facts 2021 §1.1 step 2: stored before the provider is called). Raises CoreError 409 for a known id."""
        job = _job_from(document, self._clock.now_ms())
        if job.id in self._jobs:
            raise CoreError(409, f"job {job.id} exists")
        self._jobs[job.id] = job
        self.owners.add(job.owner)
        return job

    def confirm(self, job_id: str, provider_generated_id: str | None = None) -> None:
        job = self._jobs.get(job_id)
        if job is not None:
            job.confirmed = True
            job.provider_generated_id = provider_generated_id
            if provider_generated_id:
                self.own_ids.answered(job.provider, provider_generated_id, job_id)

    def forget(self, job_id: str) -> bool:
        """As when a create failed on Core's side: nothing of it is left. False = it was not known."""
        self.own_ids.free(job_id)
        return self._jobs.pop(job_id, None) is not None

    def register(self, provider: str, items: Sequence[JsonObject]) -> list[str]:
        """`jobs/control/register`: jobs that the provider started by itself, confirmed at once (facts 2021 §2.3, today §9)."""
        now_ms = self._clock.now_ms()
        wishes = [_registered(item, f"items[{index}]", now_ms, self._generation) for index, item in enumerate(items)]
        named = {dig_text(document, "specification", "product", "provider") for document, _ in wishes}
        if self._generation is Generation.G2021 and len(named) > 1:
            raise CoreError(400, "all items must be of one provider")
        if named != {provider}:
            raise CoreError(403, "Forbidden")
        ids: list[str] = []
        for document, own_id in wishes:
            known = next((job for job in self if own_id is not None and job.provider_generated_id == own_id), None)
            if known is None or self._generation is Generation.G2026:
                job_id = self.new_id()
                if own_id:
                    self.own_ids.register(provider, own_id, job_id)
                known = self.insert(document | {"id": job_id})
                known.confirmed, known.provider_generated_id = True, own_id
            ids.append(known.id)
        return ids

    def owned(self, provider: str, job_ids: Sequence[str]) -> list[Job]:
        """The jobs of one bulk call. One that is unknown or another provider's fails all: facts 2021 §2.1 (400), today §9 (404)."""
        jobs = [job for job_id in job_ids if (job := self._jobs.get(job_id)) is not None and job.provider == provider]
        if len(jobs) != len(job_ids):
            if self._generation is Generation.G2021:
                raise CoreError(400, "Unable to use all requested resources")
            raise CoreError(404, "Not found")
        return jobs

    def update(self, provider: str, items: Sequence[JsonObject]) -> None:
        """`jobs/control/update`: all or nothing as to ids; each item is compared with the state from before the bulk."""
        changes = [self._read(item, f"items[{index}]") for index, item in enumerate(items)]
        jobs = self.owned(provider, [change.job_id for change in changes])
        before = {job.id: job.state for job in jobs}
        now_ms = self._clock.now_ms()
        for job, change in zip(jobs, changes, strict=True):
            if self._generation is Generation.G2021:
                self._apply_2021(job, before[job.id], change, now_ms)
            else:
                self._apply_2026(job, before[job.id], change, now_ms)
        for job in {job.id: job for job in jobs}.values():
            if job.final and job.state != before[job.id]:
                self.on_end(job)

    def _read(self, item: JsonObject, path: str) -> Change:
        update = as_object(item.get("update"), f"{path}.update")
        path_update = f"{path}.update"
        state = text_or_none(update, "state", path_update)
        expected = text_or_none(update, "expectedState", path_update)
        if self._generation is Generation.G2021:
            # A reader that knows the names only: other text is no state at all (facts 2021 §2.1 "Unknown enum text").
            state = state if state in STATES_2021 else None
            expected = expected if expected in STATES_2021 else None
            integer_or(update, "timestamp", path_update, 0)
            new_allocation_ms = None
        else:
            if "timestamp" in update:
                integer(update, "timestamp", path_update)
            new_allocation_ms = None if update.get("newTimeAllocation") is None else integer(update, "newTimeAllocation", path_update)
        return Change(
            job_id=text(item, "id", path),
            update=update,
            state=state,
            output_folder=text_or_none(update, "outputFolder", path_update),
            expected_state=expected,
            expected_different_state=boolean_or(update, "expectedDifferentState", path_update, False),
            new_time_allocation_ms=new_allocation_ms,
        )

    def _apply_2021(self, job: Job, before: str, change: Change, now_ms: int) -> None:
        """facts 2021 §2.1: history always; state and folder only while not final and as expected."""
        applies = before not in FINAL and _as_expected(change, before)
        if applies:
            if change.state == "RUNNING" and job.started_at_ms is None:
                _start(job, now_ms)
            _change(job, change)
        asks = change.state is not None or change.output_folder is not None
        job.arrivals.append(Arrival(now_ms, change.update, kept=True, applied=applies or not asks))

    def _apply_2026(self, job: Job, before: str, change: Change, now_ms: int) -> None:
        """today §9: what does not fit is dropped without a word; a final state may replace a final one, and RUNNING restarts the time."""
        becomes_unfinal = before in FINAL and change.state is not None and change.state not in FINAL
        applies = _as_expected(change, before) and not becomes_unfinal
        if applies:
            if change.state == "RUNNING" and before != "RUNNING":
                _start(job, now_ms)
            if change.new_time_allocation_ms is not None:
                job.time_allocation_ms = change.new_time_allocation_ms
                if job.started_at_ms is not None:
                    job.expires_at_ms = job.started_at_ms + change.new_time_allocation_ms
            _change(job, change)
        job.arrivals.append(Arrival(now_ms, change.update, kept=applies, applied=applies))


def _as_expected(change: Change, before: str) -> bool:
    if change.expected_state is not None and change.expected_state != before:
        return False
    return not (change.expected_different_state and change.state == before)


def _start(job: Job, now_ms: int) -> None:
    job.started_at_ms = now_ms
    job.expires_at_ms = None if job.time_allocation_ms is None else now_ms + job.time_allocation_ms


def _change(job: Job, change: Change) -> None:
    if change.state is not None:
        job.state = change.state
    if change.output_folder is not None:
        job.output_folder = change.output_folder


def _job_from(document: JsonObject, now_ms: int) -> Job:
    specification = as_object(document.get("specification"), "specification")
    allocation = dig(specification, "timeAllocation")
    replicas = integer_or(specification, "replicas", "specification", 1)
    if replicas < 1:
        raise bad_request("specification.replicas", "1 or more")
    return Job(
        id=text(document, "id", ""),
        provider=dig_text(specification, "product", "provider"),
        category=dig_text(specification, "product", "category"),
        product=dig_text(specification, "product", "id"),
        username=dig_text(document, "owner", "createdBy"),
        project=dig_text(document, "owner", "project") or None,
        replicas=replicas,
        time_allocation_ms=_duration_ms(allocation) if isinstance(allocation, dict) else None,
        created_at_ms=integer_or(document, "createdAt", "", now_ms),
        document=document,
        labels=dict(labels) if isinstance(labels := specification.get("labels"), dict) else {},
    )


def _registered(item: JsonObject, path: str, now_ms: int, generation: Generation) -> tuple[JsonObject, str | None]:
    """The job's JSON without its id, and the provider's own id."""
    own_id = text_or_none(item, "providerGeneratedId", path)
    if own_id is not None and "," in own_id:
        raise bad_request(f"{path}.providerGeneratedId", "no comma")
    document: JsonObject = {
        "owner": {"createdBy": text_or_none(item, "createdBy", path) or "_ucloud", "project": text_or_none(item, "project", path)},
        "updates": [],
        "specification": as_object(item.get("spec"), f"{path}.spec"),
        "status": {"state": "IN_QUEUE", "startedAt": None, "expiresAt": None, "resolvedApplication": None},
        "createdAt": now_ms,
        "output": {"outputFolder": None},
        "permissions": {"myself": [], "others": []},
    }
    return document | ({"acl": None, "billing": {}} if generation is Generation.G2021 else {}), own_id


def _duration_ms(duration: JsonObject) -> int:
    """SimpleDuration in ms (facts 2021 §8.1)."""
    hours, minutes, seconds = (integer_or(duration, unit, "timeAllocation", 0) for unit in ("hours", "minutes", "seconds"))
    return ((hours * 60 + minutes) * 60 + seconds) * 1000
