"""The way in for calls from the same process: wire bytes in, wire bytes out, through the same chain as the socket."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import aclosing

from google.rpc import code_pb2, status_pb2

from serai_server.rpc.chain import Calls
from serai_server.rpc.methods import Method, Shape
from serai_server.rpc.status import RpcFailure


class Dispatcher:
    """The methods that are served, and how to call them. Also what the gRPC server serves."""

    def __init__(self, chain: Calls, methods: Iterable[Method]) -> None:
        self.chain = chain
        self.methods: Mapping[str, Method] = {method.path: method for method in methods}

    async def unary(self, method: str, request: bytes, metadata: Mapping[str, str]) -> bytes:
        """`method` like "/serai.jobs.v1.JobsService/Create". Raises RpcFailure, which has `.status`."""
        return await self.chain.once(self._find(method, Shape.UNARY_UNARY), request, metadata)

    async def stream(self, method: str, request: bytes, metadata: Mapping[str, str]) -> AsyncGenerator[bytes, None]:
        """One request, many answers. Raises RpcFailure, at the first step of the iteration or later."""
        async with aclosing(self.chain.many(self._find(method, Shape.UNARY_STREAM), request, metadata)) as answers:
            async for answer in answers:
                yield answer

    async def exchange(self, method: str, requests: AsyncIterator[bytes], metadata: Mapping[str, str]) -> AsyncGenerator[bytes, None]:
        """Many requests, many answers, each way as they come. Raises RpcFailure, at the first step of the iteration or later."""
        async with aclosing(self.chain.many(self._find(method, Shape.STREAM_STREAM), requests, metadata)) as answers:
            async for answer in answers:
                yield answer

    def _find(self, path: str, shape: Shape) -> Method:
        method = self.methods.get(path)
        if method is None or method.shape is not shape:
            # The words that grpc itself uses on the wire have no reason of our table either.
            raise RpcFailure(status_pb2.Status(code=code_pb2.UNIMPLEMENTED, message="Method not found!"))
        return method
