"""The JSON of a job as Core sends it to a provider.

The shape of 2021 is that of the seed's batch example; of 2026, that of a request seen from today's Core (unions flat with
every key, product in its second version). Sources: seed (life-cycle example), facts 2021 §8, today §7.
"""

from __future__ import annotations

from serai_devcore.accounts import Product
from serai_devcore.applications import Application, JobRequest
from serai_devcore.wire import Generation, Json, JsonObject, as_object

FREQUENCIES = {"PER_UNIT": "ONCE", "CREDITS_PER_HOUR": "PERIODIC_HOUR", "CREDITS_PER_DAY": "PERIODIC_DAY"}
"""`unitOfPrice` of 2021 → `accountingFrequency` of 2026; anything else is by the minute."""


def job_document(request: JobRequest, job_id: str, created_at_ms: int, generation: Generation) -> JsonObject:
    """The Job as it stands in `POST /ucloud/{provider}/jobs`."""
    return (
        _document_2021(request, job_id, created_at_ms) if generation is Generation.G2021 else _document_2026(request, job_id, created_at_ms)
    )


def _specification(request: JobRequest) -> JsonObject:
    product = request.product
    duration: JsonObject = {"hours": request.hours, "minutes": request.minutes, "seconds": request.seconds}
    return {
        "application": {"name": request.application.name, "version": request.application.version},
        "product": {"id": product.id, "category": product.category, "provider": product.provider},
        "name": request.name,
        "replicas": request.replicas,
        "allowDuplicateJob": False,
        "parameters": request.parameters,
        "resources": list(request.resources),
        "timeAllocation": duration if any(duration.values()) else None,
    }


def _tool(application: Application, created_at_ms: int) -> JsonObject:
    return {
        "name": application.name,
        "version": application.version,
        "tool": {
            "owner": "_ucloud",
            "createdAt": created_at_ms,
            "modifiedAt": created_at_ms,
            "description": {
                "info": {"name": application.name, "version": application.version},
                "container": None,
                "defaultNumberOfNodes": 1,
                "defaultTimeAllocation": {"hours": 1, "minutes": 0, "seconds": 0},
                "requiredModules": [],
                "authors": ["UCloud"],
                "title": application.title,
                "description": "An example tool",
                "backend": "DOCKER",
                "license": "None",
                "image": application.image,
                "supportedProviders": None,
            },
        },
    }


def _resolved_application(application: Application, created_at_ms: int) -> JsonObject:
    return {
        "metadata": {
            "name": application.name,
            "version": application.version,
            "authors": ["UCloud"],
            "title": application.title,
            "description": application.description,
            "website": None,
            "public": True,
        },
        "invocation": {
            "tool": _tool(application, created_at_ms),
            "invocation": list(application.invocation),
            "parameters": list(application.parameters),
            "outputFileGlobs": ["*"],
            "applicationType": application.kind,
            "vnc": _vnc(application),
            "web": {"port": application.port} if application.kind == "WEB" and application.port is not None else None,
            "container": None,
            "environment": application.environment,
            "allowAdditionalMounts": None,
            "allowAdditionalPeers": None,
            "allowMultiNode": application.allow_multi_node,
            "fileExtensions": [],
            "licenseServers": [],
        },
    }


def _vnc(application: Application) -> JsonObject | None:
    if application.kind != "VNC" or (application.port is None and application.password is None):
        return None
    port: JsonObject = {} if application.port is None else {"port": application.port}
    return {"password": application.password} | port


def _document_2021(request: JobRequest, job_id: str, created_at_ms: int) -> JsonObject:
    """The seed's form; product and support are null as Core really sends them (facts 2021 §0.2 #1)."""
    return {
        "id": job_id,
        "owner": {"createdBy": request.username, "project": request.project},
        "updates": [],
        "specification": _specification(request),
        "status": {
            "state": "IN_QUEUE",
            "jobParametersJson": None,
            "startedAt": None,
            "expiresAt": None,
            "resolvedApplication": _resolved_application(request.application, created_at_ms),
            "resolvedSupport": None,
            "resolvedProduct": None,
        },
        "createdAt": created_at_ms,
        "output": {"outputFolder": None},
        "permissions": {"myself": ["ADMIN"], "others": None},
        "acl": None,
        "billing": {},
    }


def _document_2026(request: JobRequest, job_id: str, created_at_ms: int) -> JsonObject:
    """Today's form: flat unions, labels, product in its second version, the undeclared sample rate (today §7)."""
    specification = _specification(request)
    sample_rate: JsonObject = {"type": "text", "value": "0ms"}
    specification |= {
        "labels": {},
        "hostname": None,
        "parameters": {
            name: _flat(value, _VALUE_KEYS) for name, value in (request.parameters | {"ucMetricSampleRate": sample_rate}).items()
        },
        "resources": [_flat(value, _VALUE_KEYS) for value in request.resources],
    }
    if request.name is None:
        del specification["name"]
    application = _resolved_application(request.application, created_at_ms)
    environment = request.application.environment or {}
    flat: JsonObject = {
        "invocation": [_flat(element, _INVOCATION_KEYS) for element in request.application.invocation],
        "parameters": [_flat(parameter, _PARAMETER_KEYS) for parameter in request.application.parameters],
        "container": {"changeWorkingDirectory": True, "runAsRoot": True, "runAsRealUser": False},
        "environment": {name: _flat(element, _INVOCATION_KEYS) for name, element in environment.items()},
    }
    application["invocation"] = as_object(application["invocation"], "invocation") | flat
    return {
        "id": job_id,
        "createdAt": created_at_ms,
        "owner": {"createdBy": request.username, "project": request.project},
        "permissions": {"myself": [], "others": []},
        "updates": [],
        "specification": specification,
        "status": {
            "state": "IN_QUEUE",
            "jobParametersJson": {"siteVersion": 3, "request": {"replicas": request.replicas}},
            "startedAt": None,
            "expiresAt": None,
            "resolvedApplication": application,
            "resolvedProduct": _product_2026(request.product),
            "resolvedSupport": None,
            "allowRestart": False,
        },
        "output": {"outputFolder": None},
    }


def product_document(product: Product, generation: Generation) -> JsonObject:
    """`resolvedProduct` (facts 2021 §8.4, today §7)."""
    return _product_2021(product) if generation is Generation.G2021 else _product_2026(product)


def _product_2021(product: Product) -> JsonObject:
    machine: JsonObject = {"cpu": product.cpu, "memoryInGigs": product.memory_gib, "gpu": product.gpu}
    own: JsonObject = {"tags": list(product.tags)} if product.kind == "license" else machine
    return {
        "balance": None,
        "name": product.id,
        "pricePerUnit": product.price_per_unit,
        "category": {"name": product.category, "provider": product.provider},
        "description": product.description,
        "priority": 0,
        **own,
        "version": product.version,
        "freeToUse": False,
        "unitOfPrice": product.unit,
        "chargeType": "ABSOLUTE",
        "hiddenInGrantApplications": False,
        "productType": product.kind.upper(),
    }


KRONER: JsonObject = {"name": "DKK", "namePlural": "DKK", "floatingPoint": True, "displayFrequencySuffix": False}
LICENSES: JsonObject = {"name": "License", "namePlural": "Licenses", "floatingPoint": False, "displayFrequencySuffix": True}
"""As in core-wire/POST_licenses.json."""


def _product_2026(product: Product) -> JsonObject:
    is_license = product.kind == "license"
    return {
        "type": product.kind,
        "category": {
            "name": product.category,
            "provider": product.provider,
            "productType": product.kind.upper(),
            "accountingUnit": LICENSES if is_license else KRONER,
            "accountingFrequency": FREQUENCIES.get(product.unit, "PERIODIC_MINUTE"),
            "allowSubAllocations": True,
        },
        "name": product.id,
        "description": product.description,
        "productType": product.kind.upper(),
        "price": product.price_per_unit,
        "fraction": {"numerator": 1, "denominator": 1},
        "hiddenInGrantApplications": False,
        "usage": None,
        **({} if is_license else {"cpu": product.cpu, "memoryInGigs": product.memory_gib}),
        "balance": 0,
        "maxUsableBalance": 0,
        "pricePerUnit": 0,
    }


_VALUE_KEYS: JsonObject = {
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

_INVOCATION_KEYS: JsonObject = {
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

_PARAMETER_KEYS: JsonObject = {
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


def _flat(value: Json, keys: JsonObject) -> Json:
    """A union as Go writes it: every key of every member, zero where it is not the member's own (today §7)."""
    return keys | value if isinstance(value, dict) else value
