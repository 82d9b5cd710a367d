"""Types of what Nomad is asked to run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from serai_backends.model import ReplicaSpec
    from serai_backends.nomad.settings import NomadSettings, Placement

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"
JobFile: TypeAlias = "dict[str, JSON]"
"""The value of "Job" in Nomad's API JSON."""


NOBODY = 65_534


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the server made ready for a job, as far as the job file depends on it.

    Stored with the job: a job file is always made of the same.
    """

    uid: int | None
    """The user of the node that the job runs as; None = /work is not a folder of the server's, and it runs as nobody."""
    gid: int | None

    @property
    def user(self) -> tuple[int, int]:
        return (NOBODY if self.uid is None else self.uid, NOBODY if self.gid is None else self.gid)


@dataclass(frozen=True, slots=True)
class Rank:
    """One rank of a job, with all that its part of the job file is made of."""

    number: int
    spec: ReplicaSpec
    nomad_id: str
    prepared: Prepared
    settings: NomadSettings
    placement: Placement

    @property
    def script(self) -> str | None:
        """Text of its /etc/ucloud/script.sh."""
        scripts = self.spec.scripts
        if not scripts:
            return None
        text = scripts[self.number if len(scripts) > 1 else 0]
        return text if text.endswith("\n") else text + "\n"
