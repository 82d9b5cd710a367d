"""Users and what they own beside jobs: licenses, drives, links, addresses; Core's calls to the provider for them.

Each returns what the user would see. facts 2021 §5; today §5, §6.
"""

from __future__ import annotations

from collections.abc import Sequence

from serai_devcore import licenses
from serai_devcore.outcomes import Outcome, Wants, created_ids, outcome
from serai_devcore.provider import Answer, items_body
from serai_devcore.resources import LICENSES, Resource, ResourceRequest
from serai_devcore.submissions import Submissions
from serai_devcore.wire import Generation, Json, JsonObject, dig

G2021, G2026 = Generation.G2021, Generation.G2026
VERIFY_AT_MOST = 100
"""facts 2021 §1.5."""


class Ownership(Submissions):
    """By generation; a call that the generation does not have is a CoreError 404."""

    async def create_resource(self, request: ResourceRequest) -> tuple[Resource, Outcome]:
        """As with a job: stored, told, and forgotten when the provider does not take it."""
        resource = self.resources.insert(request, self.jobs.new_id(), self.clock.now_ms())
        try:
            ended = await self._send(resource, "POST", licenses.for_provider(self, resource, is_new=True))
        except BaseException:
            # Also when this call is cancelled: a Core that does not know the answer does not know the license.
            self.resources.forget(resource.id)
            raise
        ids = created_ids(ended.body, 1, self.generation) if ended.accepted else None
        if ids is None:
            self.resources.forget(resource.id)
            ended = Outcome(502, answer=ended.answer) if ended.accepted else ended
        else:
            self.resources.confirm(resource, ids[0])
        self.changed()
        return resource, ended

    async def delete_resource(self, resource_id: str) -> Outcome:
        """DELETE with a body. Core deletes only what the provider has let go: any error, 404 too, keeps it alive (today §5, 2021 §5.1)."""
        resource = self.resources.known(resource_id)
        ended = await self._send(resource, "DELETE", licenses.for_provider(self, resource))
        if ended.accepted:
            self.resources.forget(resource_id)
            self.changed()
        return ended

    async def update_license_acl(self, license_id: str, added: Sequence[JsonObject], deleted: Sequence[JsonObject] = ()) -> Outcome:
        """Who else may see or use it. 2021: the provider sees the raw lists, and an error of it rolls the change back (2021 §1.6, §5.2);
        2026: Core's alone, nobody is told (today §4)."""
        found = self.resources.known_license(license_id)
        ended = Outcome(200, body={"responses": [{}]})
        if self.generation is G2021:
            item: JsonObject = {"resource": licenses.for_provider(self, found), "added": list(added), "deleted": list(deleted)}
            ended = await self._license_call(found, "updateAcl", [item])
        if ended.accepted:
            found.others = changed_acl(found.others, added, deleted)
            self.changed()
        return ended

    async def update_license_labels(self, license_id: str, labels: JsonObject) -> Outcome:
        """2026: the provider is told of the new labels first; 404 = it does not care, any other error and they stay as they were
        (core2/pkg/orchestrator/resources_orchestration.go)."""
        self.only(G2026, "labels")
        found = self.resources.known_license(license_id)
        before, found.labels = found.labels, dict(labels)
        document = licenses.for_provider(self, found)
        found.labels = before
        ended = await self._license_call(found, "onUpdatedLabels", [document], also_fine=(404,))
        if ended.accepted:
            found.labels = dict(labels)
            self.changed()
        return ended

    async def init_licenses(self, username: str = "user", project: str | None = None, *, provider_id: str = "example") -> Outcome:
        """A user opened the page of licenses: `licenses/init` of the seed (2023). Failures are ignored (2021 §5.1); today's Core has no
        such call (today §10)."""
        self.only(G2021, "licenses/init")
        body: JsonObject = {"principal": {"createdBy": username, "project": project}}
        answer = await self.client.call(self.provider_named(provider_id), "POST", "/licenses/init", body, username=username)
        return Outcome(200, body={}, answer=answer)

    async def verify_licenses(self, *license_ids: str, provider_id: str = "example") -> Answer:
        """2021: the provider's API has it, though Core itself never called it (2021 §5.2). All licenses, at most 100, when none is named;
        no user is behind it."""
        self.only(G2021, "verify")
        found = [self.resources.known_license(license_id) for license_id in license_ids]
        if not license_ids:
            found = [one for one in self.resources if one.namespace == LICENSES and one.provider == provider_id][:VERIFY_AT_MOST]
        body = items_body(*[licenses.for_provider(self, one) for one in found])
        return await self.client.call(self.provider_named(provider_id), "POST", "/licenses/verify", body)

    @property
    def _bulk_wants(self) -> Wants:
        return Wants.RESPONSES if self.generation is G2021 else Wants.OBJECT

    async def _license_call(self, found: Resource, call: str, items: list[JsonObject], *, also_fine: Sequence[int] = ()) -> Outcome:
        provider, body = self.provider_named(found.provider), items_body(*items)
        answer = await self.client.call(provider, "POST", f"/licenses/{call}", body, username=found.username)
        return outcome(answer, self.generation, self._bulk_wants, also_fine=also_fine)

    async def _send(self, resource: Resource, method: str, document: JsonObject) -> Outcome:
        provider = self.provider_named(resource.provider)
        answer = await self.client.call(provider, method, f"/{resource.namespace}", items_body(document), username=resource.username)
        return outcome(answer, self.generation, self._bulk_wants)


def changed_acl(others: list[Json], added: Sequence[JsonObject], deleted: Sequence[JsonObject]) -> list[Json]:
    """The entries after a change; an entity that is added again has the new permissions only."""
    gone = [entry.get("entity") for entry in added] + list(deleted)
    kept = [entry for entry in others if dig(entry, "entity") not in gone]
    return kept + [stored for entry in added if (stored := _grantable(entry)) is not None]


def _grantable(entry: JsonObject) -> JsonObject | None:
    """READ and EDIT are all that Core stores (2021 §1.6)."""
    permissions = entry.get("permissions")
    kept: list[Json] = [p for p in permissions if p in {"READ", "EDIT"}] if isinstance(permissions, list) else []
    return {"entity": entry.get("entity"), "permissions": kept} if kept else None
