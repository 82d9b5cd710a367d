"""What `retrieveProducts` says: Core believes it, and offers users what stands there."""

from __future__ import annotations

from serai_conformance.judge import accepted, rule
from serai_conformance.model import Broken, NotDeclared
from serai_conformance.support import FLAGS
from serai_conformance.visit import Visit
from serai_conformance.wire import JsonObject, dig, kind_of, objects_at, text_at

_SEED = "seed Jobs, Declaring support"


async def _entries(visit: Visit) -> list[JsonObject]:
    answer = await visit.client.get("/jobs/retrieveProducts")
    found = accepted(answer).get("responses")
    if not isinstance(found, list):
        raise Broken(f"{answer.call}: `responses` is {kind_of(found)}, where a list was expected")
    if not all(isinstance(entry, dict) for entry in found):
        raise Broken(f"{answer.call}: an element of `responses` is no object")
    return objects_at(answer.body, "responses")


@rule("products.answer", "jobs/retrieveProducts is answered with one entry for each product.", _SEED)
async def answer(visit: Visit) -> None:
    if not await _entries(visit):
        raise Broken("jobs/retrieveProducts names no product: Core takes that for an answer and offers nothing")


@rule("products.reference", "Each entry names its product with id, category and provider, all texts.", _SEED)
async def reference(visit: Visit) -> None:
    for at, entry in enumerate(await _entries(visit)):
        for key in ("id", "category", "provider"):
            if not text_at(entry, "product", key):
                raise Broken(f"responses[{at}].product.{key} is {kind_of(dig(entry, 'product', key))}, where a text was expected")


@rule("products.provider", "Each product is the provider's own.", f"{_SEED}; today §4")
async def provider(visit: Visit) -> None:
    for at, entry in enumerate(await _entries(visit)):
        named = text_at(entry, "product", "provider")
        if named and named != visit.target.provider:
            raise Broken(f"responses[{at}].product.provider is {named}, and this is {visit.target.provider}")


@rule("products.once", "No product has two entries.", f"{_SEED}: the support must be repeated for each product")
async def once(visit: Visit) -> None:
    seen: set[tuple[str, str]] = set()
    for at, entry in enumerate(await _entries(visit)):
        key = (text_at(entry, "product", "category"), text_at(entry, "product", "id"))
        if key in seen:
            raise Broken(f"responses[{at}] is about {'/'.join(key)}, as an entry before it is")
        seen.add(key)


@rule("products.flags", "What is supported is true or false, or null or absent, which mean no.", _SEED)
async def flags(visit: Visit) -> None:
    for at, entry in enumerate(await _entries(visit)):
        for block in FLAGS:
            found = entry.get(block)
            if found is not None and not isinstance(found, dict):
                raise Broken(f"responses[{at}].{block} is {kind_of(found)}, where an object was expected")
            for name in FLAGS[block]:
                value = dig(found, name)
                if value is not None and not isinstance(value, bool):
                    raise Broken(f"responses[{at}].{block}.{name} is {kind_of(value)}, where true, false or null was expected")


@rule("products.enabled", "What a product can do is only said of what it runs: no flag is true where `enabled` is not.", _SEED)
async def enabled(visit: Visit) -> None:
    for at, entry in enumerate(await _entries(visit)):
        for block in FLAGS:
            on = [name for name in FLAGS[block] if dig(entry, block, name) is True]
            if on and "enabled" not in on:
                raise Broken(f"responses[{at}].{block} says {', '.join(on)} without enabled: Core starts no job there")


@rule("products.steady", "Asked again, the provider says the same.", "2021 §1.4: Core keeps an answer for 15 minutes")
async def steady(visit: Visit) -> None:
    first, second = [[{key: entry.get(key) for key in ("product", *FLAGS)} for entry in await _entries(visit)] for _ in range(2)]
    if first != second:
        raise Broken("two calls of jobs/retrieveProducts in a row were answered differently")


@rule("products.licenses", "licenses/retrieveProducts names each license's product, if licenses are sold.", "2021 §5.2; today §4")
async def licenses(visit: Visit) -> None:
    answer = await visit.client.get("/licenses/retrieveProducts")
    if answer.status == 404:
        raise NotDeclared("licenses/retrieveProducts is not there")
    found = accepted(answer).get("responses")
    if not isinstance(found, list):
        raise Broken(f"{answer.call}: `responses` is {kind_of(found)}, where a list was expected")
    for at, entry in enumerate(found):
        for key in ("id", "category", "provider"):
            if not text_at(entry, "product", key):
                raise Broken(f"responses[{at}].product.{key} is {kind_of(dig(entry, 'product', key))}, where a text was expected")
        window = dig(entry, "maintenance")
        if window is not None and not isinstance(window, dict):
            raise Broken(f"responses[{at}].maintenance is {kind_of(window)}, where an object or null was expected")
    if not found:
        raise NotDeclared("no licenses are sold")


RULES = (answer, reference, provider, once, flags, enabled, steady, licenses)
