"""Jobs and licenses as Core sends them, in the form of each generation.

2021: the seed's batch example, without the product and the support that Core of that time never sends (2021 §0.2); licenses: 2021 §5.4.
2026: flat unions with every key, labels, the product in its second version (today §7).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from serai_conformance.model import Generation
from serai_conformance.wire import Json, JsonObject, merged

VALUE_KEYS: JsonObject = {
    "type": "",
    "path": "",
    "mountPath": "",
    "readOnly": False,
    "value": None,
    "hostname": "",
    "jobId": "",
    "id": "",
    "specification": {"applicationName": "", "language": "", "init": None, "job": None, "readme": None, "inputs": None},
    "modules": None,
    "port": 0,
    "tls": False,
    "server": "",
    "token": "",
    "tokenType": "",
}
INVOCATION_KEYS: JsonObject = {
    "type": "",
    "variable": "",
    "word": "",
    "variableNames": None,
    "prefixGlobal": "",
    "suffixGlobal": "",
    "prefixVariable": "",
    "suffixVariable": "",
    "isPrefixVariablePartOfArg": False,
    "isSuffixVariablePartOfArg": False,
    "variableName": "",
    "flag": "",
    "template": "",
}
PARAMETER_KEYS: JsonObject = {
    "type": "",
    "name": "",
    "optional": False,
    "defaultValue": None,
    "title": "",
    "description": "",
    "min": None,
    "max": None,
    "step": None,
    "unitName": "",
    "trueValue": "",
    "falseValue": "",
    "options": None,
    "tagged": None,
    "supportedModules": None,
}


@dataclass(frozen=True, slots=True)
class Product:
    """A reference to what a provider sells."""

    id: str
    category: str
    provider: str

    @property
    def reference(self) -> JsonObject:
        return {"id": self.id, "category": self.category, "provider": self.provider}

    @property
    def key(self) -> str:
        return f"{self.category}/{self.id}"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the application and the value that the user gave it."""

    name: str
    declared: str
    """Type of the declaration."""
    value: JsonObject
    """`{"type": …, "value": …}`."""
    more: JsonObject = field(default_factory=dict[str, Json])
    """Further keys of the declaration."""


@dataclass(frozen=True, slots=True)
class Program:
    """What a user asks for: a line of shell on some replicas."""

    script: str
    replicas: int = 1
    limit_s: int | None = 3600
    """s; None = the user named no limit."""
    parameters: tuple[Parameter, ...] = ()
    """Each becomes an argument behind the script."""
    kind: str = "BATCH"
    """Or WEB, VNC: then the application has port 8000."""
    backend: str = "DOCKER"
    name: str | None = None
    username: str = "kit"
    image: str = "debian:stable-slim"


def word(value: str) -> JsonObject:
    return {"type": "word", "word": value}


def variable(name: str) -> JsonObject:
    affixes: JsonObject = {"prefixGlobal": "", "suffixGlobal": "", "prefixVariable": "", "suffixVariable": ""}
    flags: JsonObject = {"isPrefixVariablePartOfArg": False, "isSuffixVariablePartOfArg": False}
    return merged({"type": "var", "variableNames": [name]}, affixes, flags)


def items(*documents: Json) -> JsonObject:
    return {"items": list(documents)}


def job_document(program: Program, job_id: str, product: Product, at_ms: int, generation: Generation) -> JsonObject:
    """A Job of a create."""
    todays = generation is Generation.G2026
    application = _application(program, at_ms, todays=todays)
    values: JsonObject = {one.name: _flat(one.value, VALUE_KEYS, todays=todays) for one in (_script(program), *program.parameters)}
    span: JsonObject | None = None
    if program.limit_s is not None:
        span = {"hours": program.limit_s // 3600, "minutes": program.limit_s // 60 % 60, "seconds": program.limit_s % 60}
    specification: JsonObject = {
        "application": {"name": "conformance", "version": "1"},
        "product": product.reference,
        "name": program.name,
        "replicas": program.replicas,
        "allowDuplicateJob": False,
        "parameters": values,
        "resources": [],
        "timeAllocation": span,
    }
    status: JsonObject = {"state": "IN_QUEUE", "jobParametersJson": None, "startedAt": None, "expiresAt": None}
    status |= {"resolvedApplication": application, "resolvedSupport": None, "resolvedProduct": None}
    job: JsonObject = {"id": job_id, "owner": {"createdBy": program.username, "project": None}, "updates": []}
    job |= {"specification": specification, "status": status, "createdAt": at_ms, "output": {"outputFolder": None}}
    if not todays:
        return merged(job, {"permissions": {"myself": ["ADMIN"], "others": None}, "acl": None, "billing": {}})
    if program.name is None:
        del specification["name"]
    specification |= {"labels": {}, "hostname": None}
    status |= {"resolvedProduct": product_document(product, "compute"), "allowRestart": False}
    return merged(job, {"permissions": {"myself": [], "others": []}})


def license_document(license_id: str, product: Product, at_ms: int, generation: Generation, username: str = "kit") -> JsonObject:
    """A License of a create."""
    status: JsonObject = {"resolvedSupport": None, "resolvedProduct": None}
    found: JsonObject = {"id": license_id, "owner": {"createdBy": username, "project": None}, "createdAt": at_ms}
    if generation is Generation.G2021:
        found |= {"specification": {"product": product.reference}, "status": status | {"state": "PREPARING", "boundTo": []}}
        return merged(found, {"updates": [], "permissions": {"myself": ["ADMIN"], "others": None}, "billing": {}, "acl": None})
    status |= {"state": "READY", "boundTo": None, "resolvedProduct": product_document(product, "license")}
    found |= {"specification": {"product": product.reference, "labels": {}}, "status": status}
    return merged(found, {"permissions": {"myself": [], "others": []}})


def product_document(product: Product, kind: str) -> JsonObject:
    """A product in its second version."""
    unit: JsonObject = {"name": "DKK", "namePlural": "DKK", "floatingPoint": True, "displayFrequencySuffix": False}
    category: JsonObject = {"name": product.category, "provider": product.provider, "productType": kind.upper(), "accountingUnit": unit}
    category |= {"accountingFrequency": "PERIODIC_MINUTE", "allowSubAllocations": True}
    found: JsonObject = {"type": kind, "category": category, "name": product.id, "description": "", "productType": kind.upper()}
    found |= {"price": 1, "fraction": {"numerator": 1, "denominator": 1}, "hiddenInGrantApplications": False, "usage": None}
    machine: JsonObject = {"cpu": 1, "memoryInGigs": 1} if kind == "compute" else {}
    return found | machine | {"balance": 0, "maxUsableBalance": 0, "pricePerUnit": 0}


def _script(program: Program) -> Parameter:
    return Parameter("script", "text", {"type": "text", "value": program.script})


def _application(program: Program, at_ms: int, *, todays: bool) -> JsonObject:
    called = (word("/bin/sh"), word("-c"), variable("script"))
    given = (word("kit"), *(variable(one.name) for one in program.parameters)) if program.parameters else ()
    declared = [
        {"type": one.declared, "name": one.name, "optional": False, "defaultValue": None, "title": "", "description": one.name} | one.more
        for one in (_script(program), *program.parameters)
    ]
    port: JsonObject = {"port": 8000}
    invocation: JsonObject = {
        "tool": _tool(program, at_ms),
        "invocation": [_flat(one, INVOCATION_KEYS, todays=todays) for one in (*called, *given)],
        "parameters": [_flat(one, PARAMETER_KEYS, todays=todays) for one in declared],
        "outputFileGlobs": ["*"],
        "applicationType": program.kind,
        "vnc": {"password": None} | port if program.kind == "VNC" else None,
        "web": port if program.kind == "WEB" else None,
        "container": {"changeWorkingDirectory": True, "runAsRoot": False, "runAsRealUser": False} if todays else None,
        "environment": {} if todays else None,
        "allowAdditionalMounts": None,
        "allowAdditionalPeers": None,
        "allowMultiNode": True,
        "fileExtensions": [],
        "licenseServers": [],
    }
    metadata: JsonObject = {"name": "conformance", "version": "1", "authors": ["UCloud"], "title": "Conformance"}
    metadata |= {"description": "A job of the conformance kit", "website": None, "public": True}
    return {"metadata": metadata, "invocation": invocation}


def _tool(program: Program, at_ms: int) -> JsonObject:
    description: JsonObject = {
        "info": {"name": "conformance", "version": "1"},
        "container": program.image,
        "defaultNumberOfNodes": 1,
        "defaultTimeAllocation": {"hours": 1, "minutes": 0, "seconds": 0},
        "requiredModules": [],
        "authors": ["UCloud"],
        "title": "Conformance",
        "description": "",
        "backend": program.backend,
        "license": "None",
        "image": program.image,
        "supportedProviders": None,
    }
    tool: JsonObject = {"owner": "_ucloud", "createdAt": at_ms, "modifiedAt": at_ms, "description": description}
    return {"name": "conformance", "version": "1", "tool": tool}


def _flat(value: JsonObject, keys: JsonObject, *, todays: bool) -> JsonObject:
    """A union as today's Core writes it: the keys of every member, empty where they are not the member's own."""
    return keys | value if todays else value
