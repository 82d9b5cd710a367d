"""Who sees a license and may do what. Source: facts 2021 §5.1 (who needs what), §8.1 (what can be given)."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serai.core.v1.resources_pb2 import (
    PERMISSION_ADMIN,
    PERMISSION_EDIT,
    PERMISSION_READ,
    AclEntity,
    Permission,
    ProjectGroupEntity,
    ResourceAclEntry,
    UserEntity,
)
from serai_server.licenses.access import OPERATOR, Actor, permissions, readers_for, readers_of
from serai_server.licenses.requests import acl_bytes
from serai_server.store.license_model import AtCore, LicenseState, Payment, StoredLicense

READ, EDIT, ADMIN = PERMISSION_READ, PERMISSION_EDIT, PERMISSION_ADMIN
ALL = (READ, EDIT, ADMIN)


def license_of(owner: str, project: str, *others: ResourceAclEntry) -> StoredLicense:
    return StoredLicense(
        id="1",
        state=LicenseState.READY,
        version=1,
        digest=b"",
        owner=owner,
        project=project,
        product="example/l/l",
        created_at_ms=1,
        deleted_at_ms=0,
        at_core=AtCore.KNOWN,
        core_id="",
        payment=Payment.OPEN,
        charges=0,
        payment_at_ms=0,
        status="",
        body=b"",
        acl=acl_bytes(others),
    )


def to_user(name: str, *given_permissions: Permission.ValueType) -> ResourceAclEntry:
    return ResourceAclEntry(entity=AclEntity(user=UserEntity(username=name)), permissions=given_permissions)


def to_group(project: str, group: str, *given_permissions: Permission.ValueType) -> ResourceAclEntry:
    return ResourceAclEntry(
        entity=AclEntity(project_group=ProjectGroupEntity(project_id=project, group=group)), permissions=given_permissions
    )


@pytest.mark.parametrize(
    ("actor", "expected"),
    [
        (Actor("ann"), ALL),
        (Actor("bob"), ()),
        (Actor("ann", "p", "PI"), ()),
        (OPERATOR, ALL),
    ],
)
def test_a_personal_license_is_its_owners_alone(actor: Actor, expected: tuple[int, ...]) -> None:
    """And not seen from a project in which the owner works."""
    assert permissions(actor, license_of("ann", "")) == expected


@pytest.mark.parametrize(
    ("actor", "expected"),
    [
        (Actor("ann", "p", "USER"), ALL),
        (Actor("ann", "p", ""), ()),
        (Actor("pi", "p", "PI"), ALL),
        (Actor("admin", "p", "ADMIN"), ALL),
        (Actor("member", "p", "USER"), ()),
        (Actor("pi", "q", "PI"), ()),
        (Actor("ann"), ()),
    ],
)
def test_a_projects_license_is_its_leaders_and_its_makers(actor: Actor, expected: tuple[int, ...]) -> None:
    """As long as the one who made it is a member."""
    assert permissions(actor, license_of("ann", "p")) == expected


def test_what_is_given_is_given_to_that_person_or_group_only() -> None:
    """EDIT lets see too; what cannot be given is not taken from a list that has it."""
    shared = license_of("ann", "p", to_user("bob", EDIT), to_group("p", "g1", READ), to_group("q", "g2", READ), to_user("eve", ADMIN))
    assert permissions(Actor("bob", "p", "USER"), shared) == (READ, EDIT)
    assert permissions(Actor("cat", "p", "USER", frozenset({"g1"})), shared) == (READ,)
    assert permissions(Actor("cat", "p", "USER", frozenset({"g2"})), shared) == ()
    assert permissions(Actor("eve", "p", "USER"), shared) == ()
    assert permissions(Actor("bob"), shared) == ()


NAMES = st.sampled_from(["ann", "bob", "a/b", "p", "", "a\tb"])
SETS = st.sampled_from([(), (READ,), (EDIT,), (ADMIN,), (READ, EDIT)])
ENTRIES = st.lists(
    st.one_of(
        st.tuples(NAMES, SETS).map(lambda t: to_user(t[0], *t[1])), st.tuples(NAMES, NAMES, SETS).map(lambda t: to_group(*t[:2], *t[2]))
    ),
    max_size=4,
)
ACTORS = [
    Actor(user, project, role, frozenset(groups))
    for user, project, role, groups in product(["ann", "bob", "a/b"], ["", "p", "a/b"], ["", "USER", "PI"], [(), ("ann",), ("p", "bob")])
]


@given(st.sampled_from(["ann", "bob", "a/b"]), st.sampled_from(["", "p", "a/b"]), ENTRIES)
def test_lists_show_exactly_what_may_be_seen(owner: str, project: str, others: list[ResourceAclEntry]) -> None:
    """The keys under which a license stands and those under which an actor looks meet if and only if the actor may see it."""
    stored = replace(license_of(owner, project), acl=acl_bytes(others))
    keys = set(readers_of(owner, project, others))
    for actor in ACTORS:
        seen = bool(keys & set(readers_for(actor) or ()))
        assert seen == bool(permissions(actor, stored)), actor
    assert readers_for(OPERATOR) is None
