"""What the server needs from a backend. One conformance suite (tests/conformance) runs against every implementation.

All calls of Backend are coroutines that may be cancelled at any await; none blocks the event loop. All may raise BackendUnavailable.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Protocol, runtime_checkable

from serai_backends.model import (
    Capacity,
    CheckReport,
    Endpoint,
    Features,
    JobObservation,
    LogChunk,
    ReplicaSpec,
    Secret,
    Stream,
    TerminalSize,
    WatchEvent,
)


class Backend(Protocol):
    """Runs jobs of one or more replicas."""

    @property
    def name(self) -> str:
        """One word, as settings and logs say it: "local", "nomad"."""
        ...

    @property
    def features(self) -> Features: ...

    async def submit(self, spec: ReplicaSpec) -> None:
        """Take the job on, durably: after the answer it runs, or waits to run, whatever happens to the server.

        Idempotent by `spec.job_id`: a job that was taken on before is never started again, also when it has ended.
        A job that was cancelled before it was submitted is ENDED (CANCELED) and never starts.
        Raises SubmissionRefused when it can never run here.
        """
        ...

    async def cancel(self, job_id: str, grace_ms: int = 0) -> None:
        """Have every replica ended: SIGTERM, after `grace_ms` SIGKILL; 0 = SIGKILL at once. Answers when that is stored, not when it has
        happened (`watch` tells). Unknown or ended: done. Durable: also a crash does not forget it."""
        ...

    async def inspect(self, job_id: str) -> JobObservation | None:
        """What is known of the job now; None = not known here."""
        ...

    async def list(self) -> Sequence[JobObservation]:
        """Every job known here, ended ones that were not forgotten included."""
        ...

    def watch(self, after: int | None = None) -> AsyncIterator[WatchEvent]:
        """Observations as they change, for ever. None = from now. Observations of one job may be merged into its newest.

        Raises CursorExpired when changes after `after` are no longer known one by one.
        """
        ...

    async def forget(self, job_id: str) -> None:
        """The server has stored all it needs of an ENDED job: facts may be dropped; its output folder stays. Unknown: done."""
        ...

    def logs(
        self,
        job_id: str,
        rank: int,
        stream: Stream,
        offset: int = 0,
        *,
        tail: int | None = None,
        follow: bool = False,
        output_folder: str = "",
    ) -> AsyncIterator[LogChunk]:
        """The stream's bytes from `offset`, exactly as written. Ends at the present end, or with `follow` when the replica has ended
        and all of its output was given. `tail`: begin no further than so many bytes before the end that the stream has when it is first
        seen, without handing out what is before; None = all from `offset`. `output_folder` as in ReplicaSpec: with it, what was
        forgotten can be read too, as long as the folder has it. Raises JobNotThere when there is nothing to read from."""
        ...

    async def capacity(self) -> Capacity: ...

    async def check(self) -> CheckReport:
        """Try what is needed to run jobs and say in words what is not as it should be. Never raises for what it finds."""
        ...

    async def close(self) -> None:
        """Let go of everything but the running jobs. They go on and are adopted by the next instance."""
        ...


@runtime_checkable
class Suspends(Protocol):
    """A backend whose `features.suspension` is True."""

    async def suspend(self, job_id: str) -> None:
        """Have every process of a RUNNING job stopped. Answers when that was asked for, not when it has happened (`watch` tells, Phase
        SUSPENDED). Not RUNNING, unknown: done. Whoever wants it asks again until it is seen."""
        ...

    async def resume(self, job_id: str) -> None:
        """The other way round: RUNNING again."""
        ...


@runtime_checkable
class TellsLimits(Protocol):
    """A backend that estimates when waiting jobs start."""

    def tell_limit(self, job_id: str, time_limit_ms: int) -> None:
        """The job's limit is another one now. Only for estimates; nothing is stored."""
        ...


@runtime_checkable
class NeedsImages(Protocol):
    """A backend on which some machine types run nothing but images of containers."""

    def needs_image(self, product: str) -> bool:
        """Whether a job of this machine type, `{category}/{id}`, that names no image can never run."""
        ...


@runtime_checkable
class TellsTrouble(Protocol):
    """A backend that follows something which may be away."""

    @property
    def trouble(self) -> str:
        """Why that cannot be followed now; empty = it can."""
        ...


SecretSource = Callable[[str], Awaitable[tuple[Secret, ...]]]
"""Id of a job → its secrets, all that its ReplicaSpec names. Raises BackendUnavailable when they cannot be had now, and SubmissionRefused
when they never can be."""


@runtime_checkable
class TakesSecrets(Protocol):
    """A backend whose `features.secrets` is True."""

    def take_secrets_from(self, source: SecretSource) -> None:
        """Called once, after the backend was opened. Jobs with secrets that it took over from earlier wait until then."""
        ...


class Shell(Protocol):
    """An open shell, or another program beside a replica's own. Closed by `close`; then the program is ended too."""

    def output(self) -> AsyncIterator[bytes]:
        """What it writes, both streams in one as a terminal shows them; ends when the program has ended. Raises BackendUnavailable when
        the connection broke."""
        ...

    @property
    def exit_code(self) -> int | None:
        """Known when `output` has ended by itself; None = nobody saw it."""
        ...

    async def write(self, data: bytes) -> None: ...

    async def resize(self, size: TerminalSize) -> None: ...

    async def close(self) -> None: ...


@runtime_checkable
class OpensShells(Protocol):
    """A backend whose `features.terminal` is True."""

    async def open_shell(self, job_id: str, rank: int, argv: tuple[str, ...], size: TerminalSize) -> Shell:
        """A terminal in the running replica; empty `argv` = a shell. Raises JobNotThere when no such replica runs."""
        ...


@runtime_checkable
class Endpoints(Protocol):
    """A backend whose replicas can be reached from this machine, at the ports of their ReplicaSpec."""

    async def endpoint(self, job_id: str, rank: int, port: int) -> Endpoint:
        """Where that port of the running replica is reached. Raises JobNotThere when no such replica runs or it has no such port."""
        ...
