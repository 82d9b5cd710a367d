"""The codec's face: UCloud's JSON to protobuf's wire and back, compiled once from the descriptors.

Source of the rules: the options of `serai.wire.v1` on the messages themselves.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from serai.core.v1 import resources_pb2

from serai_gateway.codec.query import QueryReader
from serai_gateway.codec.reader import Readers
from serai_gateway.codec.shape import Shapes
from serai_gateway.codec.writer import Writers
from serai_gateway.routes import ROUTES, Route


class Codec:
    """Reads and writes every message of the routes, and the body of errors. Holds no state but the bounded cache of subtrees.

    For one thread at a time.

    `cache_entries` bounds each field's cache, 0 switches caching off; `cache_bytes` bounds the bytes of each.
    """

    def __init__(self, routes: Iterable[Route] = ROUTES, *, cache_entries: int = 256, cache_bytes: int = 8 << 20) -> None:
        self._shapes = Shapes()
        self._readers = Readers(most_entries=cache_entries, most_bytes=cache_bytes)
        self._writers = Writers()
        self._queries: dict[str, QueryReader] = {}
        known = {resources_pb2.CommonErrorMessage.DESCRIPTOR.full_name: (resources_pb2.CommonErrorMessage.DESCRIPTOR, False)}
        for route in routes:
            known[route.request.full_name] = (route.request, route.bulk)
            known[route.response.full_name] = (route.response, False)
        shapes = [(self._shapes.message(descriptor), is_bulk) for descriptor, is_bulk in known.values()]
        self._readers.add(shapes)
        self._writers.add([shape for shape, _ in shapes])

    def read(self, message_descriptor: Descriptor, json_bytes: bytes) -> bytes:
        """Protobuf's wire of a message for its JSON. Raises WireError with the path of what is wrong, and nothing else for any bytes."""
        name = message_descriptor.full_name
        if name not in self._readers:
            self._readers.add([(self._shapes.message(message_descriptor), False)])
        return self._readers.read(name, json_bytes)

    def read_query(self, message_descriptor: Descriptor, query: bytes) -> bytes:
        """As `read`, for the query of a GET, without its question mark; see `codec.query`."""
        name = message_descriptor.full_name
        reader = self._queries.get(name)
        if reader is None:
            reader = self._queries[name] = QueryReader(self._shapes.message(message_descriptor), message_descriptor)
        return reader.read(query)

    def write(self, message: Message) -> bytes:
        """UCloud's JSON of a message: explicit nulls, numbers, short names, keys in the order of the fields; compact."""
        try:
            return self._writers.write(message)
        except KeyError:
            descriptor = cast("Descriptor", message.DESCRIPTOR)
            if descriptor.full_name in self._writers:
                raise
            self._writers.add([self._shapes.message(descriptor)])
        return self._writers.write(message)

    def write_bulk(self, response_message: Message, empty_element: int) -> bytes:
        """As `write`, for `{"responses":[...]}`: an element with no field set is null or {} as the route's `empty_element` says."""
        return self._writers.write_bulk(response_message, empty_element)

    def source(self, descriptor: Descriptor) -> str:
        """The generated functions of one message, for people who debug. Raises KeyError for a message that no route uses."""
        shape = self._shapes.message(descriptor)
        return self._readers.source(shape) + "\n\n" + self._writers.source(shape)

    def clear(self) -> None:
        """Forgets the cached subtrees; for measurements of the cold path."""
        self._readers.clear()

    @property
    def cached_bytes(self) -> int:
        """Bytes held by the caches of subtrees."""
        return self._readers.cached_bytes
