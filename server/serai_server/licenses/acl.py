"""Lists of who else may do what, and changes of them."""

from __future__ import annotations

from collections.abc import Iterable

from serai.core.v1.resources_pb2 import AclEntity, ResourceAclEntry


def changed(before: Iterable[ResourceAclEntry], added: Iterable[ResourceAclEntry], deleted: Iterable[AclEntity]) -> list[ResourceAclEntry]:
    """The list after a change. An entity that is added again has the permissions of the last entry alone."""
    entries = {_key(entry.entity): entry for entry in before}
    for entity in deleted:
        entries.pop(_key(entity), None)
    for entry in added:
        entries[_key(entry.entity)] = entry
    return [*entries.values()]


def _key(entity: AclEntity) -> bytes:
    return entity.SerializeToString(deterministic=True)
