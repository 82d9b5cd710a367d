"""Reads what Core sends: strictly where a value is used, not at all where it is not."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any, cast

import msgspec
from msgspec import Meta, Struct

from fakes.broken_provider.faults import Fault

PRODUCT = {"id": "fake-1", "category": "fake", "provider": "fake"}
LICENSE = {"id": "fake-license", "category": "fake-license", "provider": "fake"}


class Refusal(Exception):
    """An error of the provider's: status, words, code."""

    def __init__(self, status: int, why: str, code: str | None = None) -> None:
        super().__init__(why)
        self.status, self.why, self.code = status, why, code


def unsupported(why: str, faults: Fault | None) -> Refusal:
    return Refusal(400, why, None if faults is Fault.NO_ERROR_CODE else "FEATURE_NOT_SUPPORTED_BY_PROVIDER")


class Owner(Struct):
    createdBy: str
    project: str | None = None


class Reference(Struct):
    id: str
    category: str
    provider: str


class Named(Struct):
    name: str
    version: str


class Span(Struct):
    hours: Annotated[int, Meta(ge=0)]
    minutes: Annotated[int, Meta(ge=0, le=59)]
    seconds: Annotated[int, Meta(ge=0, le=59)]

    @property
    def total_s(self) -> int:
        return self.hours * 3600 + self.minutes * 60 + self.seconds


class Specification(Struct):
    application: Named
    product: Reference
    replicas: Annotated[int, Meta(ge=1, le=64)] = 1
    parameters: dict[str, dict[str, Any]] | None = None
    timeAllocation: Span | None = None


class Option(Struct):
    name: str
    value: str


class Declared(Struct):
    """A parameter of an application."""

    type: str
    name: str
    trueValue: str = "true"
    falseValue: str = "false"
    options: list[Option] | None = None


class Element(Struct):
    """One of an invocation, of any kind."""

    type: str
    word: str | None = None
    variableNames: list[str] | None = None


class Invocation(Struct):
    invocation: list[Element] | None = None
    parameters: list[Declared] | None = None


class Status(Struct):
    state: str = "IN_QUEUE"
    resolvedApplication: dict[str, Any] | None = None


class WireJob(Struct):
    id: Annotated[str, Meta(min_length=1, max_length=64)]
    owner: Owner
    specification: Specification
    status: Status
    createdAt: int = 0


class LicenseSpecification(Struct):
    product: Reference


class WireLicense(Struct):
    id: str
    specification: LicenseSpecification
    owner: Owner


@dataclass(frozen=True)
class Wanted:
    """A job as the provider keeps it."""

    job: WireJob
    digest: str
    argv: tuple[str, ...]

    @property
    def limit_s(self) -> int:
        span = self.job.specification.timeAllocation
        return 3600 if span is None else span.total_s


def items_of(raw: bytes, *, fault: Fault | None, fewest: int = 1) -> list[dict[str, Any]]:
    """The items of a bulk; 400 for anything else."""
    try:
        body: object = json.loads(raw.decode())
    except (ValueError, RecursionError):
        raise Refusal(400, "the body is no JSON") from None
    items = cast("dict[str, object]", body).get("items") if isinstance(body, dict) else None
    if not isinstance(items, list):
        raise Refusal(400, "items: expected a list")
    found = cast("list[object]", items)
    if not (0 if fault is Fault.EMPTY_BULK else fewest) <= len(found) <= (2000 if fault is Fault.LONG_BULK else 1000):
        raise Refusal(400, "items: expected 1 to 1000")
    for item in found:
        if not isinstance(item, dict):
            if fault is Fault.ITEM_NULL_FAILS:
                raise Refusal(500, "Internal error")
            raise Refusal(400, "items: expected objects")
    return cast("list[dict[str, Any]]", found)


def read(value: dict[str, Any], kind: type[Any], *, strict: bool = True) -> Any:
    try:
        return msgspec.convert(value, kind, strict=strict)
    except msgspec.ValidationError as error:
        raise Refusal(400, str(error)) from None


_JOB_KEYS = {"id", "owner", "updates", "specification", "status", "createdAt", "output", "permissions", "acl", "billing"}


def wanted(item: dict[str, Any], fault: Fault | None) -> Wanted:
    """Refusal 400 when it is no job of ours."""
    if fault is Fault.NO_OWNER:
        item = {"owner": {"createdBy": ""}} | item
    if fault is Fault.UNKNOWN_KEYS and set(item) - _JOB_KEYS:
        raise Refusal(400, f"unknown keys: {sorted(set(item) - _JOB_KEYS)}")
    if fault is Fault.NULLS and "permissions" in item and item["permissions"] is None:
        raise Refusal(400, "permissions: expected an object, found null")
    if fault is Fault.SMALL_NUMBERS and item.get("createdAt", 0) > 2**53:
        raise Refusal(400, "createdAt: expected a number up to 2^53")
    if fault is Fault.TEXT_NUMBERS and isinstance(item.get("id"), int):
        item = item | {"specification": item["specification"] | {"replicas": 1}, "id": str(item["id"])}
    job: WireJob = read(item, WireJob)
    reference = msgspec.to_builtins(job.specification.product)
    if reference != PRODUCT and fault is not Fault.ANY_PRODUCT:
        raise Refusal(400, "specification.product: not sold here")
    if fault is Fault.NO_LIMIT and job.specification.timeAllocation is None:
        raise Refusal(400, "specification.timeAllocation: expected an object")
    application = job.status.resolvedApplication
    if not application:
        raise Refusal(400, "status.resolvedApplication: expected an object")
    invocation = cast("dict[str, Any]", application.get("invocation") or {})
    backend = invocation.get("tool", {}).get("tool", {}).get("description", {}).get("backend")
    if backend != "DOCKER":
        raise unsupported(f"tools of kind {backend} do not run here", fault)
    return Wanted(job, json.dumps(item, sort_keys=True), tuple(_argv(job, read(invocation, Invocation), fault)))


def _argv(job: WireJob, application: Invocation, fault: Fault | None) -> list[str]:
    declared = {one.name: one for one in application.parameters or []}
    texts: dict[str, str] = {}
    for name, value in (job.specification.parameters or {}).items():
        if fault is Fault.TYPE_FIRST and next(iter(value)) != "type":
            raise Refusal(400, f"{name}: expected the type first")
        if name in declared:
            texts[name] = _text(declared[name], value)
        elif name != "ucMetricSampleRate" or fault is Fault.SAMPLE_RATE:
            raise Refusal(400, f"{name}: not declared")
    argv: list[str] = []
    for element in application.invocation or []:
        if element.type == "jinja":
            return ["true"]
        if element.type == "word":
            argv.append(element.word or "")
        for text in [texts[name] for name in element.variableNames or [] if name in texts]:
            argv += text.split() if fault is Fault.SPLIT_ARGUMENTS and "quotes" in text else [text]
    return argv


def _text(declared: Declared, value: dict[str, Any]) -> str:
    kind = "text" if declared.type == "enumeration" else declared.type
    given: object = value.get("value")
    kinds: dict[str, type | tuple[type, ...]] = {"text": str, "integer": int, "floating_point": (int, float), "boolean": bool}
    if value.get("type") != kind or not isinstance(given, kinds.get(kind, str)):
        raise Refusal(400, f"{declared.name}: expected a value of type {kind}")
    if kind == "boolean":
        return declared.trueValue if given else declared.falseValue
    chosen = {option.name: option.value for option in declared.options or []}
    return chosen.get(str(given), str(given))
