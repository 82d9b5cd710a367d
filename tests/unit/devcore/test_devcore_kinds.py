"""Applications with a page or a desktop in the stand-in's requests: what the provider is told of them, in both generations."""

from __future__ import annotations

from dataclasses import replace

import pytest
from serai_devcore.applications import shell_request
from serai_devcore.documents import job_document
from serai_devcore.wire import Generation, Json, dig

SHELL = shell_request("true")


def invocation(generation: Generation, **changed: object) -> list[Json]:
    """What the request says of kind, web and vnc."""
    request = replace(SHELL, application=replace(SHELL.application, **changed))  # pyright: ignore[reportArgumentType] - by name
    document = job_document(request, "7", 0, generation)
    return [dig(document, "status", "resolvedApplication", "invocation", key) for key in ("applicationType", "web", "vnc")]


@pytest.mark.parametrize("generation", list(Generation))
def test_ports_and_passwords_are_told(generation: Generation) -> None:
    """Only those of its kind; the usual port is not written down (facts 2021 §8: port = 80, 5900)."""
    assert invocation(generation) == ["BATCH", None, None]
    assert invocation(generation, kind="WEB") == ["WEB", None, None]
    assert invocation(generation, kind="WEB", port=8888) == ["WEB", {"port": 8888}, None]
    assert invocation(generation, kind="VNC", port=5901, password="p") == ["VNC", None, {"password": "p", "port": 5901}]
    assert invocation(generation, kind="VNC", password="p") == ["VNC", None, {"password": "p"}]
    assert invocation(generation, kind="VNC") == ["VNC", None, None]
