"""A job's secrets on their way from the server to a backend: what they may be called, and how a backend asks for them.

The content is held for as long as a replica is being started and is never stored: who was killed in between asks again.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from serai_backends.errors import BackendUnavailable, SubmissionRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from serai_backends.api import SecretSource
    from serai_backends.model import Secret

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

FOLDER = "/etc/ucloud/secrets"
MOST, LARGEST_BYTES = 16, 48 << 10
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")
_LONGEST_ANSWER_S = 30
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 30.0


def check_names(names: Sequence[str]) -> None:
    """Raises SubmissionRefused."""
    if len(names) > MOST:
        raise SubmissionRefused(f"a job has {MOST} secrets at most")
    for name in names:
        if not _NAME.fullmatch(name):
            raise SubmissionRefused(f"{name!r} cannot be the name of a secret: 1 to 64 of A-Z a-z 0-9 . _ -, no dot in front")
    if len(set(names)) != len(names):
        raise SubmissionRefused("two secrets of the job have the same name")


def in_order(names: Sequence[str], secrets: Sequence[Secret]) -> tuple[Secret, ...]:
    """What was given, in the order of the job's names. Raises SubmissionRefused when it is not what the job names, or is too large."""
    by_name = {secret.name: secret for secret in secrets}
    if len(by_name) != len(secrets) or set(by_name) != set(names):
        raise SubmissionRefused("the secrets that were given are not those that the job names")
    if (large := next((name for name in names if len(by_name[name].content) > LARGEST_BYTES), None)) is not None:
        raise SubmissionRefused(f"the secret {large} is larger than {LARGEST_BYTES >> 10} KiB")
    return tuple(by_name[name] for name in names)


class SecretDesk:
    """Where one backend asks for secrets."""

    def __init__(self) -> None:
        self._source: SecretSource | None = None
        self._there = asyncio.Event()

    def take_from(self, source: SecretSource) -> None:
        self._source = source
        self._there.set()

    @property
    def is_open(self) -> bool:
        """Whether there is anybody to be asked."""
        return self._source is not None

    async def ask(self, job_id: str, names: Sequence[str]) -> tuple[Secret, ...]:
        """Waits until there is a source. Raises BackendUnavailable when they cannot be had now, SubmissionRefused when never."""
        if not names:
            return ()
        await self._there.wait()
        assert self._source is not None  # noqa: S101 - for the type checker
        try:
            async with asyncio.timeout(_LONGEST_ANSWER_S):
                secrets = await self._source(job_id)
        except TimeoutError:
            raise BackendUnavailable(f"the job's secrets did not come within {_LONGEST_ANSWER_S} s") from None
        except (BackendUnavailable, SubmissionRefused):
            raise
        except Exception as error:  # its text may hold anything: only its kind is told
            raise BackendUnavailable(f"the job's secrets cannot be had: {type(error).__name__}") from None
        return in_order(names, secrets)

    async def ask_until(
        self, job_id: str, names: Sequence[str], stop: asyncio.Event, tell: Callable[[str], None]
    ) -> tuple[Secret, ...] | None:
        """Asks again and again until they are there; None = `stop` came first. `tell` hears why they are not, in words for the user.
        Raises SubmissionRefused."""
        pause_s = _FIRST_PAUSE_S
        while not stop.is_set():
            asking = asyncio.ensure_future(self.ask(job_id, names))
            stopped = asyncio.ensure_future(stop.wait())
            try:
                await asyncio.wait((asking, stopped), return_when=asyncio.FIRST_COMPLETED)
                if asking.done():
                    return asking.result()
            except BackendUnavailable as error:
                _log.warning("the secrets of a job cannot be had now", job=job_id, cause=str(error))
                tell(str(error))
            finally:
                for task in (asking, stopped):
                    task.cancel()
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), pause_s)
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
        return None
