"""Target `rpc`, the process (`python -m fuzz.dispatching`): every method of the server's Dispatcher, on a whole server with jobs in memory.

An input is one call: its request, or the few of a stream, and its metadata. A call that answers with a stream is left after some answers.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import structlog
from google.protobuf.descriptor import Descriptor, ServiceDescriptor
from google.protobuf.descriptor_pool import Default
from google.rpc import code_pb2
from serai_backends.clock import open_clock
from serai_server.cli.config import parse
from serai_server.cli.plan import plan_of
from serai_server.main import running_server
from serai_server.rpc.dispatch import Dispatcher
from serai_server.rpc.methods import Method, Shape
from serai_server.rpc.status import RpcFailure

from fuzz.counting import Counting
from fuzz.memory import Watch
from fuzz.messages import Messages
from fuzz.reader import Reader, Wrong
from fuzz.server import PassingBackend

WRONG = {code_pb2.INTERNAL, code_pb2.UNKNOWN, code_pb2.DATA_LOSS, code_pb2.DEADLINE_EXCEEDED}
ANSWERS = 3
"""Of a stream, before it is left."""
_SILENT_S = 0.02
"""A stream that says nothing for so long has nothing to say now."""
_HANG_S = 30.0
_AT_A_TIME = 16
_LOOKS = 80
METADATA: list[Mapping[str, str]] = [
    *[{}] * 12, *[{"serai-caller": "core", "serai-user": "user"}] * 4, {"serai-caller": "core"},
    {"serai-caller": "core", "serai-user": "%ff%00%zz"},
    {"serai-caller": "user"},
    {"serai-caller": "user", "serai-user": "user", "serai-project": "p", "serai-role": "PI", "serai-groups": "a,,b%2c"},
    {"serai-caller": "session"}, {"serai-caller": "console"}, {"serai-caller": "x"}, {"serai-request-id": "x" * 900},
    {"authorization": "Bearer serai_x_y"}, {"serai-user": "x" * 5_000},
]  # fmt: skip
_SETTINGS = """
[provider]
id = "example"
[core]
url = "http://127.0.0.1:9"
public_key_file = "none"
refresh_token_file = "none"
[[products]]
id = "example-compute-1"
category = "example-compute"
cpu = 1
memory_gib = 2
[[licenses.products]]
id = "example-license"
category = "example-license"
"""


@asynccontextmanager
async def server(folder: Path) -> AsyncGenerator[Dispatcher]:
    """Without a gateway: nobody but these calls changes anything."""
    settings = parse(_SETTINGS, folder / "serai.toml")
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    clock = open_clock(settings.state_dir)
    async with running_server(plan_of(settings), PassingBackend(9), clock, settings.socket, 0) as running:
        yield running.dispatcher


_SERVICES = (
    "serai.jobs.v1.JobsService", "serai.events.v1.EventsService", "serai.licenses.v1.LicensesService",
    "serai.licenses.v1.LicensesProviderService", "serai.licenses.v1.LicenseServersService", "serai.sessions.v1.SessionsService",
    "serai.tokens.v1.TokensService", "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection",
)  # fmt: skip

Shapes = tuple[bool, bool]
"""Whether the request is a stream, and the answer."""


def shapes() -> Mapping[str, tuple[Descriptor, Shapes]]:
    """A method's path to what it takes, and its shape."""
    found: dict[str, tuple[Descriptor, Shapes]] = {}
    for name in _SERVICES:
        service: ServiceDescriptor = Default().FindServiceByName(name)
        for method in service.methods:
            found[f"/{name}/{method.name}"] = (method.input_type, (method.client_streaming, method.server_streaming))
    return found


class _Calls:
    """Makes calls and judges their answers."""

    def __init__(self, dispatcher: Dispatcher, chance: random.Random) -> None:
        self._dispatcher = dispatcher
        self._chance = chance
        self._messages = Messages(chance)
        self._methods = [(dispatcher.methods[path], takes) for path, (takes, _) in shapes().items()]

    async def one(self) -> tuple[str, bytes]:
        """Class of answer, or what was wrong with it; and the input."""
        method, descriptor = self._chance.choice(self._methods)
        metadata = self._chance.choice(METADATA)
        requests = [
            self._messages.request(descriptor) for _ in range(self._chance.choice([0, 1, 2, 4]) if method.shape.many_requests else 1)
        ]
        content = b"\n".join([method.path.encode(), repr(dict(metadata)).encode(), *requests])
        try:
            async with asyncio.timeout(_HANG_S):
                await self._call(method, requests, metadata)
        except RpcFailure as failure:
            code = code_pb2.Code.ValueType(failure.status.code)
            if code in WRONG:
                return f"wrong: {failure}", content
            return code_pb2.Code.Name(code), content
        except TimeoutError:
            return f"wrong: no answer within {_HANG_S:g} s", content
        except Exception as error:
            return f"wrong: {type(error).__name__}: {error}", content
        return "OK", content

    async def _call(self, method: Method, requests: list[bytes], metadata: Mapping[str, str]) -> None:
        if method.shape is Shape.UNARY_UNARY:
            await self._dispatcher.unary(method.path, requests[0], metadata)
            return
        if method.shape.many_requests:
            stream = self._dispatcher.exchange(method.path, _each(requests), metadata)
        else:
            stream = self._dispatcher.stream(method.path, requests[0], metadata)
        async with aclosing(stream) as answers:
            for _ in range(ANSWERS):
                reading = asyncio.ensure_future(anext(answers, None))
                done, _ = await asyncio.wait({reading}, timeout=_SILENT_S)
                if not done:
                    reading.cancel()
                    await asyncio.wait({reading})
                    return
                if reading.result() is None:
                    return


async def _each(requests: list[bytes]) -> AsyncIterator[bytes]:
    for request in requests:
        yield request


async def _run(inputs: int, seed: int, folder: Path) -> None:
    count = Counting(Reader("rpc", (), lambda _: lambda content: content, _judge), folder, inputs)
    watch = Watch(os.getpid())
    unseen: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: unseen.append(str(context)))
    async with server(folder / "server") as dispatcher:
        gc.collect()
        gc.freeze()  # as `serai serve` does once it has started
        left = iter(range(inputs))

        async def call(chance: random.Random) -> None:
            calls = _Calls(dispatcher, chance)
            for at in left:
                answer, content = await calls.one()
                count(answer.encode() + b"\n" + content)
                if at % max(1, inputs // _LOOKS) == 0:
                    watch.look_closely(at)

        async with asyncio.TaskGroup() as group:
            for at in range(_AT_A_TIME):
                group.create_task(call(random.Random(f"{seed} {at}")))
        watch.look_closely(inputs)
    for words in unseen:
        count(f"wrong: nobody caught: {words}".encode())
    count.save(watch.growth_bytes(), watch.limit_bytes())


def _judge(content: bytes) -> str:
    answer = content.partition(b"\n")[0].decode(errors="replace")
    if answer.startswith("wrong: "):
        raise Wrong(answer.removeprefix("wrong: "))
    return answer


def _only_this_machine(event: str, arguments: tuple[object, ...]) -> None:
    """The server would connect to license servers that are made up here; none of them may be anybody's."""
    if event == "socket.connect" and isinstance(arguments[1], tuple) and arguments[1][0] not in ("127.0.0.1", "::1", "localhost"):  # pyright: ignore[reportUnknownMemberType] -- of a hook
        raise PermissionError(f"not from here: {arguments[1]}")
    if event == "socket.getaddrinfo" and arguments[0] not in (None, "127.0.0.1", "::1", "localhost"):
        raise PermissionError(f"not from here: {arguments[0]}")


def main(inputs: int, seed: int, folder: Path) -> None:
    sys.addaudithook(_only_this_machine)
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR), logger_factory=structlog.WriteLoggerFactory(sys.stderr)
    )
    asyncio.run(_run(inputs, seed, folder))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
