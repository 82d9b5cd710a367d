"""The front door's ports are free, or it is said who has them and what to do."""

from __future__ import annotations

import socket
from collections.abc import Callable, Generator

import msgspec
import pytest
from serai_gateway.envoy.ports import GONE_WITHIN_MS, Port, PortTaken, ports, until_free
from serai_gateway.settings import GatewaySettings
from serai_gateway.web_settings import EnvoySettings, WebSettings


class Ticking:
    """Time passes only for who sleeps, and then at once; `then` happens meanwhile."""

    def __init__(self, then: Callable[[], object] = lambda: None) -> None:
        self.passed_ms = 0
        self._then = then

    def now_ms(self) -> int:
        return 1_700_000_000_000 + self.passed_ms

    async def sleep(self, seconds: float) -> None:
        self.passed_ms += int(seconds * 1_000)
        self._then()


@pytest.fixture
def sharing() -> Generator[socket.socket]:
    """A listener as Envoy's are: it shares its port with whoever wants to."""
    with socket.socket() as listener:
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
            listener.setsockopt(socket.SOL_SOCKET, option, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener


def port_of(listener: socket.socket, host: str = "127.0.0.1") -> Port:
    return Port("gateway.envoy.port", host, int(listener.getsockname()[1]))


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
async def test_a_port_that_somebody_shares_is_taken(sharing: socket.socket, host: str) -> None:
    """Also at one of the addresses only. The words name the setting, and what to do."""
    clock, port = Ticking(), port_of(sharing, host)
    with pytest.raises(PortTaken, match=rf"somebody else listens on {host} port {port.number}, which gateway.envoy.port names: .* Stop it"):
        await until_free((port,), clock)
    assert clock.passed_ms >= GONE_WITHIN_MS


async def test_who_is_about_to_end_is_waited_for(sharing: socket.socket) -> None:
    """Such as the Envoy of a Serai that was killed."""
    clock = Ticking(sharing.close)
    await until_free((port_of(sharing),), clock)
    assert 0 < clock.passed_ms < GONE_WITHIN_MS


async def test_connections_that_have_ended_are_nobody(sharing: socket.socket) -> None:
    """A port is free at once when its listener is gone, though the kernel remembers its connections for a minute."""
    with socket.create_connection(sharing.getsockname()):
        sharing.accept()[0].close()  # who closes first has what is remembered
    port = port_of(sharing)
    sharing.close()
    clock = Ticking()
    await until_free((port,), clock)
    assert clock.passed_ms == 0


async def test_what_cannot_be_had_at_all_is_told_at_once() -> None:
    """An address of no interface of this machine."""
    clock = Ticking()
    with pytest.raises(PortTaken, match=r"cannot listen on 192\.0\.2\.1 port 8443 \(gateway\.port\): Cannot assign requested address"):
        await until_free((Port("gateway.port", "192.0.2.1", 8443),), clock)
    assert clock.passed_ms == 0


def test_which_ports_there_are() -> None:
    """Pages have one of their own only without certificates; the gateway only where it is asked for."""
    envoy = EnvoySettings(host="127.0.0.1", port=8443, apps_port=8444)
    web = WebSettings(mode="host", domain="apps.test")
    plain = GatewaySettings(port=8889, envoy=envoy, web=web)
    secure = msgspec.structs.replace(plain, envoy=msgspec.structs.replace(envoy, certificate="c.pem", key="k.pem"))
    alone = msgspec.structs.replace(plain, web=WebSettings())
    wanted = {"gateway.envoy.port": 8443, "gateway.envoy.apps_port": 8444, "gateway.port": 8889}
    assert {port.setting: port.number for port in ports(plain, tcp=True)} == wanted
    assert [port.number for port in ports(plain, tcp=False)] == [8443, 8444]
    assert [port.number for port in ports(secure, tcp=False)] == [8443]
    assert [port.number for port in ports(alone, tcp=True)] == [8443, 8889]
