"""What Core knows of licenses without a wire, to test the stand-in's rules with."""

from __future__ import annotations

from serai_devcore import EXAMPLE_LICENSE, Generation, Product, ResourceRequest, Settings
from serai_devcore import licenses as rules
from serai_devcore.resources import Resource
from serai_devcore.state import State
from serai_devcore.wire import Json, JsonObject

from fakes.devcore_time import StillClock

OTHER = Product("other-license", "other-license", "other", kind="license", unit="PER_UNIT")
REFERENCE: JsonObject = {"id": "example-license", "category": "example-license", "provider": "example"}


def core_with_license(generation: Generation) -> State:
    """With one confirmed license, 5123."""
    state = State(Settings(generation=generation), StillClock())
    state.accounts.add_product(OTHER)
    own(state)
    return state


def own(
    state: State, license_id: str = "5123", *, product: Product = EXAMPLE_LICENSE, username: str = "user", project: str | None = None
) -> Resource:
    request = ResourceRequest("licenses", product, {}, username, project)
    made = state.resources.insert(request, license_id, 1_633_329_776_235)
    state.resources.confirm(made, None)
    return made


def item(license_id: str = "5123", **update: Json) -> JsonObject:
    return {"id": license_id, "update": update}


def updated(state: State, *items: JsonObject) -> Resource:
    rules.update(state.resources, "example", items, state.clock.now_ms())
    return state.resources.known_license("5123")
