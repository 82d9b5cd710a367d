"""Licenses that users made here, made known to Core: one at a time, and never twice.

Core of 2026 dies of an id of ours that it has seen (facts today §6.1), and Core of 2021 answers 500 to one that its creator has registered
before. So Core is always asked first whether it has the license. That is not enough where an earlier call was cut off: Core may still be
at work on it when it says that it has nothing. Such a license waits a while, is looked for again, and only then registered. A kill at any
place looks the same from here: the event comes again as one that may have been delivered.

One at a time, because 2021 answers a call for many with ids by number, in no order of ours, and fails all of them for one.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlencode

import msgspec
from serai.control.v1 import control_pb2
from serai.events.v1 import events_service_pb2 as events_pb2

from serai_gateway.clock import Clock
from serai_gateway.codec import Codec, WireError
from serai_gateway.control.calls import Calls
from serai_gateway.control.queues import key_of
from serai_gateway.control.results import REGISTER_PATH, Accepted, Failed, Rejected, Result, Success, is_word, meaning
from serai_gateway.control.transport import CoreUnreachable
from serai_gateway.settings import Generation
from serai_gateway.tokens import TokenError

BROWSE_PATH = "/api/licenses/control/browse"
REST_MS = 60_000
"""Longer than any call of Core goes on after its caller has given up (facts 2021 §1: its own limits are seconds)."""
_PAGE_SIZE = 250
_MOST_PAGES = 1_000


_SEVERAL_VERSIONS = "Core of 2021 also answers so when the product has more than one version there"


class _Owner(msgspec.Struct):
    createdBy: str
    project: str | None = None


class _Product(msgspec.Struct):
    id: str
    category: str
    provider: str


class _Specification(msgspec.Struct):
    product: _Product


class _Known(msgspec.Struct):
    id: str
    owner: _Owner
    specification: _Specification
    providerGeneratedId: str | None = None


class _Page(msgspec.Struct):
    items: list[_Known]
    next: str | None = None


_page_decoder = msgspec.json.Decoder(_Page)


class Registrations:
    def __init__(self, calls: Calls, codec: Codec, generation: Generation, clock: Clock) -> None:
        self._calls = calls
        self._codec = codec
        self._generation: Generation = generation
        self._clock = clock
        self._unanswered: dict[str, int] = {}
        """When a registration was sent that Core has not answered, ms since epoch, by our id."""

    async def register(self, event: events_pb2.Event) -> Result:
        """Accepted with Core's id, whether it had the license already or has it now."""
        our_id = event.license_registration.provider_generated_id
        if event.maybe_delivered:
            self._unanswered.setdefault(our_id, self._clock.now_ms())
        try:
            found = await self._find(event.license_registration)
            if isinstance(found, str):
                return self._done(event, found)
            if found is not None:
                return found
            if self._clock.now_ms() < self._unanswered.get(our_id, -REST_MS) + REST_MS:
                return Failed("an earlier registration was not answered; Core is given time to end it", by_content=True)
            return await self._send(event)
        except (CoreUnreachable, TokenError) as error:
            return Failed(str(error), by_content=False)

    async def _find(self, registration: events_pb2.LicenseRegistration) -> str | Rejected | Failed | None:
        """Core's id; None = Core does not have it, as far as it tells."""
        our_id = registration.provider_generated_id
        query = {"itemsPerPage": str(_PAGE_SIZE), "filterProviderIds": our_id}
        for _ in range(_MOST_PAGES):
            answer = meaning(await self._calls.get(f"{BROWSE_PATH}?{urlencode(query)}"), BROWSE_PATH)
            if not isinstance(answer, Success):
                # Without a page nobody knows whether it is there: whatever Core says of our question, it is no word on the license.
                return Failed(f"Core cannot be asked for its licenses: {answer.why}", by_content=False)
            try:
                page = _page_decoder.decode(answer.body)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                return Failed("the page of Core's licenses cannot be read", by_content=False)
            for license_ in page.items:
                if license_.providerGeneratedId == our_id:
                    return license_.id
            if "next" not in query and page.next is None and self._is_only_one(page.items, registration):
                return page.items[0].id
            if page.next is None:
                return None
            query["next"] = page.next
        return Failed("the pages of Core's licenses do not end", by_content=False)

    def _is_only_one(self, items: Sequence[_Known], registration: events_pb2.LicenseRegistration) -> bool:
        """Core of 2021 tells no id of ours, but finds licenses by it (facts 2021 §2.4): the one that it finds is the one. Several are none
        that it has filtered, and of them nothing can be told; registering again does no harm there."""
        if self._generation != "2021" or len(items) != 1 or items[0].providerGeneratedId is not None:
            return False
        product, owner, found = registration.spec.product, registration.owner, items[0]
        return (
            found.specification.product == _Product(product.id, product.category, product.provider)
            # Also a Core that passes over the filter and has only one license so far must not give us somebody else's.
            and found.owner == _Owner(owner.created_by, owner.project or None)
        )

    async def _send(self, event: events_pb2.Event) -> Result:
        registration = event.license_registration
        our_id, owner = registration.provider_generated_id, registration.owner
        request = control_pb2.LicensesControlServiceRegisterRequest(
            items=[
                control_pb2.RegisteredLicense(
                    spec=registration.spec,
                    provider_generated_id=our_id,
                    created_by=owner.created_by or None,
                    project=owner.project or None,
                )
            ]
        )
        self._unanswered[our_id] = self._clock.now_ms()
        body = self._codec.write(request)
        answer = meaning(await self._calls.post(REGISTER_PATH, body, is_word=lambda found: is_word(REGISTER_PATH, found)), REGISTER_PATH)
        if isinstance(answer, Rejected):
            del self._unanswered[our_id]
        if isinstance(answer, Failed) and self._generation == "2021" and answer.why.startswith("500:"):
            return Failed(f"{answer.why} ({_SEVERAL_VERSIONS})", by_content=answer.by_content)
        if not isinstance(answer, Success):
            return answer
        try:
            wire = self._codec.read(control_pb2.LicensesControlServiceRegisterResponse.DESCRIPTOR, answer.body)
        except WireError as error:
            return Failed(f"the answer cannot be read: {error}", by_content=True)
        ids = [one.id for one in control_pb2.LicensesControlServiceRegisterResponse.FromString(wire).responses]
        if len(ids) != 1 or not ids[0]:
            return Failed(f"the answer has {len(ids)} ids for one license", by_content=True)
        return self._done(event, ids[0])

    def _done(self, event: events_pb2.Event, core_id: str) -> Accepted:
        self._unanswered.pop(event.license_registration.provider_generated_id, None)
        return Accepted(core_ids={key_of(event): core_id})
