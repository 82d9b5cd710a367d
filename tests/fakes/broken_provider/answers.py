"""How the provider writes what it says."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from fakes.broken_provider.faults import Fault
from fakes.broken_provider.reading import PRODUCT, Refusal

_CAN = {
    "enabled": True,
    "web": True,
    "vnc": None,
    "logs": True,
    "terminal": True,
    "peers": None,
    "timeExtension": True,
    "utilization": True,
}
_CANNOT = dict.fromkeys(("enabled", "logs", "vnc", "terminal", "timeExtension", "suspension", "utilization"))


def good(body: dict[str, Any], fault: Fault | None, path: str) -> web.Response:
    if fault is Fault.EMPTY_ANSWER and path.endswith("terminate"):
        return web.Response(status=204)
    return web.json_response(body)


def bad(error: Refusal, fault: Fault | None, path: str) -> web.Response:
    if fault is Fault.PLAIN_ERRORS and path.endswith("extend"):
        return web.Response(status=error.status, text=error.why)
    return web.json_response({"why": error.why, "errorCode": error.code}, status=error.status)


def products(fault: Fault | None, asked: int) -> dict[str, Any]:
    """The answer to retrieveProducts, when it is asked for the `asked`. time."""
    docker: dict[str, object] = dict(_CAN)
    if fault is Fault.FLAG_AS_TEXT:
        docker["peers"] = "no"
    entry = {"product": PRODUCT, "docker": docker, "virtualMachine": _CANNOT}
    entries = [entry]
    if fault is Fault.FOREIGN_PRODUCT:
        entries.append(entry | {"product": PRODUCT | {"id": "fake-2", "provider": "other"}})
    if fault is Fault.PRODUCTS_CHANGE:
        entries.append(entry | {"product": PRODUCT | {"id": f"fake-of-call-{asked}"}})
    if fault is Fault.PRODUCT_TWICE:
        entries.append(entry)
    return {"responses": entries}
