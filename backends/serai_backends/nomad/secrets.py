"""The secrets of jobs on their way to the nodes: asked for when a job is about to be given to Nomad, written where only its programs read.

Each rank has a variable of its own for them, at the path that the workload identity of its main task may read and that of no other task,
job or rank. They are in no job file, no row of ours and no log. Nomad keeps variables encrypted; whose token may read the namespace's
variables can read them.

kill -9 at any line: the job is not `prepared`, so they are asked for and written once more; what is there already is compared. They are
deleted when the job has ended, and again when it is forgotten or taken back.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from serai_backends.common.secrets import SecretDesk
from serai_backends.errors import BackendUnavailable, SubmissionRefused
from serai_backends.nomad import names
from serai_backends.nomad.client import VariableConflict
from serai_backends.nomad.doors import MOST_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from serai_backends.model import Secret
    from serai_backends.nomad.ground import Ground
    from serai_backends.nomad.view import View

_NOBODY_TO_ASK = "the server has not said yet where the job's secrets are"


class Secrets:
    def __init__(self, ground: Ground, held: Callable[[View], None]) -> None:
        """`held` hears of each job that cannot go to Nomad now because its secrets cannot be had: others may pass it."""
        self._client, self._board, self._held = ground.client, ground.board, held
        self.desk = SecretDesk()

    async def write(self, view: View) -> None:
        """Before anything of the job is registered. Raises BackendUnavailable, and SubmissionRefused when it can never have them."""
        if not view.spec.secrets:
            return
        try:
            items = items_of(await self._asked(view))
        except BackendUnavailable as error:
            self._held(view)
            view.reason = str(error)
            self._board.publish(view.observation())
            raise
        for path in _paths(view):
            await self._put(path, items)
        view.reason = ""

    async def _asked(self, view: View) -> tuple[Secret, ...]:
        if not self.desk.is_open:  # to wait here would keep a worker from other jobs
            raise BackendUnavailable(_NOBODY_TO_ASK)
        return await self.desk.ask(view.record.job_id, view.spec.secrets)

    async def _put(self, path: str, items: Mapping[str, str]) -> None:
        try:
            await self._client.put_variable(path, items, cas=0)
        except VariableConflict as conflict:
            if dict(conflict.stored.items) != items:
                await self._client.put_variable(path, items, cas=conflict.stored.modify_index)

    async def delete(self, view: View) -> None:
        """Of this attempt. Unknown: done."""
        if view.spec.secrets:
            for path in _paths(view):
                await self._client.delete_variable(path)
        elif view.record.adopted:  # nobody knows any more whether it had any
            for path in await self._client.variables(f"{names.variable(view.nomad_id)}/"):
                await self._client.delete_variable(path)


def _paths(view: View) -> list[str]:
    return [names.secrets_variable(view.nomad_id, rank) for rank in range(view.spec.replicas)]


def items_of(secrets: Sequence[Secret]) -> dict[str, str]:
    """What a variable of them holds: Nomad's values are text. Raises SubmissionRefused."""
    items = {names.secret(number): base64.b64encode(secret.content).decode() for number, secret in enumerate(secrets)}
    if sum(len(name) + len(value) for name, value in items.items()) > MOST_BYTES:
        raise SubmissionRefused("the job's secrets have no room in a variable of Nomad: they may have 48,000 bytes in all")
    return items
