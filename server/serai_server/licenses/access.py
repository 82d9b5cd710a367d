"""Who may see a license, and do what with it. Pure.

A license belongs to one workspace: a project, or a person's own. It is seen from there and from nowhere else. In a project its PI and its
admins may do everything, whoever made a license too, and others what they were given by name or by group. Only READ and EDIT can be given
(facts 2021 §8.1). Source of who needs what for which call: facts 2021 §5.1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from serai.core.v1.resources_pb2 import (
    PERMISSION_ADMIN,
    PERMISSION_EDIT,
    PERMISSION_READ,
    AclEntity,
    Permission,
    ResourceAclEntry,
    ResourcePermissions,
)

from serai_server.store.license_model import StoredLicense

GRANTABLE = frozenset({PERMISSION_READ, PERMISSION_EDIT})
_ALL = (PERMISSION_READ, PERMISSION_EDIT, PERMISSION_ADMIN)
_LEADERS = frozenset({"PI", "ADMIN"})


@dataclass(frozen=True, slots=True)
class Actor:
    """Who calls."""

    user: str = ""
    project: str = ""
    """The workspace; empty = their own."""
    role: str = ""
    """In that project; empty = no member of it."""
    groups: frozenset[str] = frozenset()
    """Of that project."""
    operator: bool = False
    """A tool of the operator: sees everything and may do everything."""

    @property
    def member(self) -> bool:
        """Whether they may act in their workspace at all."""
        return self.operator or not self.project or bool(self.role)


OPERATOR = Actor(operator=True)


def permissions(actor: Actor, stored: StoredLicense) -> tuple[Permission.ValueType, ...]:
    """What the actor may do with the license, READ first; () = it does not exist for them."""
    if actor.operator:
        return _ALL
    if not actor.member or actor.project != stored.project:
        return ()
    if actor.user == stored.owner or (stored.project and actor.role in _LEADERS):
        return _ALL
    given: set[Permission.ValueType] = set()
    for entry in others_of(stored):
        if _is(actor, stored.project, entry.entity):
            given.update(entry.permissions)
    if given & GRANTABLE:
        given.add(PERMISSION_READ)  # who may change it may see it
    return tuple(p for p in _ALL if p in given and p in GRANTABLE)


def others_of(stored: StoredLicense) -> Iterable[ResourceAclEntry]:
    return ResourcePermissions.FromString(stored.acl).others


def _is(actor: Actor, project: str, entity: AclEntity) -> bool:
    if entity.WhichOneof("entity") == "user":
        return entity.user.username == actor.user
    return bool(project) and entity.project_group.project_id == project and entity.project_group.group in actor.groups


# Lists find licenses by keys: of workspaces, and of persons and groups that were given something. No part of a key can hold a line feed
# (requests.check_name), so no two of them are ever the same by accident.


def readers_of(owner: str, project: str, others: Iterable[ResourceAclEntry]) -> tuple[str, ...]:
    """The keys under which a license stands."""
    keys = [_all(project), _made(project, owner)] if project else [_made("", owner)]
    for entry in others:
        if GRANTABLE & set(entry.permissions):
            entity = entry.entity
            if entity.WhichOneof("entity") == "user":
                keys.append(_user(project, entity.user.username))
            elif project and entity.project_group.project_id == project:
                keys.append(_group(project, entity.project_group.group))
    return tuple(dict.fromkeys(keys))


def readers_for(actor: Actor) -> tuple[str, ...] | None:
    """The keys under which an actor finds licenses; None = all there are, () = none."""
    if actor.operator:
        return None
    if not actor.member:
        return ()
    if actor.project and actor.role in _LEADERS:
        return (_all(actor.project),)
    groups = [_group(actor.project, group) for group in sorted(actor.groups)] if actor.project else []
    return (_made(actor.project, actor.user), _user(actor.project, actor.user), *groups)


def made_by(user: str, project: str) -> str:
    """The key of what somebody made in a workspace."""
    return _made(project, user)


def _all(project: str) -> str:
    return f"project\n{project}"


def _made(project: str, user: str) -> str:
    return f"made\n{project}\n{user}"


def _user(project: str, user: str) -> str:
    return f"user\n{project}\n{user}"


def _group(project: str, group: str) -> str:
    return f"group\n{project}\n{group}"
