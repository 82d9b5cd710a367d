"""The table of WebSocket paths."""

from __future__ import annotations

import pytest
from serai_gateway.ws.paths import FOLLOW, SHELL, SocketPath, SocketPaths
from serai_gateway.ws.protocol import Rules
from serai_gateway.ws.socket import Socket

PROVIDERS = frozenset({"example", "a.b+c"})


async def nothing(socket: Socket) -> None:
    pass


def entry(template: str) -> SocketPath:
    return SocketPath(template, nothing, Rules(most_bytes=1))


VNC = "/ucloud/{provider}/jobs/vnc/{secret}"
PATHS = SocketPaths([entry(FOLLOW), entry(SHELL), entry(VNC)], PROVIDERS)


@pytest.mark.parametrize(
    ("path", "template", "names"),
    [
        ("/ucloud/jobs.provider.example/websocket", FOLLOW, {"provider": "example"}),
        ("/ucloud/jobs.provider.a.b+c/websocket", FOLLOW, {"provider": "a.b+c"}),
        ("/ucloud/example/websocket", SHELL, {"provider": "example"}),
        ("/ucloud/example/jobs/vnc/s-1_2", VNC, {"provider": "example", "secret": "s-1_2"}),
    ],
)
def test_a_path_finds_its_entry(path: str, template: str, names: dict[str, str]) -> None:
    """With what stands at the names of its template."""
    found = PATHS.find(path)
    assert found is not None
    assert (found[0].template, dict(found[1])) == (template, names)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/ucloud/other/websocket",
        "/ucloud/axb+c/websocket",
        "/ucloud/jobs.provider.other/websocket",
        "/ucloud/jobsxprovider.example/websocket",
        "/ucloud/example/websocket/",
        "/ucloud/example/websocket\n",
        "/x/ucloud/example/websocket",
        "/ucloud/example/jobs/vnc/",
        "/ucloud/example/jobs/vnc/a/b",
    ],
)
def test_other_paths_find_nothing(path: str) -> None:
    """Also those of other providers, and those that only look alike."""
    assert PATHS.find(path) is None


def test_a_template_stands_once() -> None:
    """Two parts of the gateway cannot claim the same path."""
    with pytest.raises(ValueError, match=r"two WebSocket calls"):
        SocketPaths([entry(SHELL), entry(SHELL)], PROVIDERS)
